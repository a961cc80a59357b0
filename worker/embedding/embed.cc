#include "worker/embedding/embed.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/baselines.h"
#include "common/bootstrap.h"
#include "common/rank.h"
#include "common/status_macros.h"
#include "worker/embedding/affinities.h"
#include "worker/embedding/dense.h"
#include "worker/embedding/distances.h"
#include "worker/embedding/image_properties.h"
#include "worker/embedding/neighbours.h"
#include "worker/embedding/pca.h"
#include "worker/embedding/tsne.h"

namespace dermis {
namespace {

constexpr double kByte = 255;
constexpr int kThreads = 1;             // A unit has one.
constexpr uint32_t kExaggerated = 250;  // Of t-SNE's iterations.
constexpr uint32_t kAssociated = 5;     // Principal components that are compared with properties.

std::vector<double> InDouble(absl::Span<const float> values) {
  return {values.begin(), values.end()};
}

std::vector<double> ScoresOf(const v1::PcaOutput& pca) {
  return InDouble({pca.scores().data(), static_cast<size_t>(pca.scores_size())});
}

// n x n, of pixels / 255 or of features.
std::vector<double> SquaredDistances(const std::vector<uint32_t>& images,
                                     const EmbeddedValues& values) {
  const size_t n = images.size();
  std::vector<double> squared(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      squared[i * n + j] = static_cast<double>(values.pixels->at(images[i], images[j]));
    }
  }
  // Still whole numbers here, so that the differences are exact.
  GramToDistances(absl::MakeSpan(squared), n);
  for (double& value : squared) value /= kByte * kByte;
  return squared;
}

// A space of points, as rows of distances; what they refer to lives here.
class Space {
 public:
  static Space OfPoints(std::vector<double> points, size_t dimensions) {
    Space space;
    space.points_ = std::move(points);
    space.dimensions_ = dimensions;
    return space;
  }
  static Space OfDistances(std::vector<double> squared, size_t n) {
    Space space;
    space.squared_ = std::move(squared);
    space.n_ = n;
    return space;
  }

  DistanceRows All() const {
    return dimensions_ > 0 ? DistanceRows::OfPoints(points_, dimensions_)
                           : DistanceRows::OfMatrix(squared_, n_, n_);
  }
  // Of points only.
  DistanceRows Between(const std::vector<size_t>& from, const std::vector<size_t>& to) const {
    return DistanceRows::OfPoints(Rows(from), Rows(to), dimensions_);
  }

 private:
  std::vector<double> Rows(const std::vector<size_t>& which) const {
    std::vector<double> rows;
    for (const size_t row : which) {
      const auto begin = points_.begin() + static_cast<std::ptrdiff_t>(row * dimensions_);
      rows.insert(rows.end(), begin, begin + static_cast<std::ptrdiff_t>(dimensions_));
    }
    return rows;
  }

  std::vector<double> points_, squared_;
  size_t dimensions_ = 0, n_ = 0;
};

Space RawSpace(const std::vector<uint32_t>& images, const EmbeddedValues& values) {
  if (values.pixels != nullptr) {
    return Space::OfDistances(SquaredDistances(images, values), images.size());
  }
  return Space::OfPoints(InDouble(values.features), values.dimensions);
}

struct Judged {
  std::vector<uint32_t> label, group;  // Of all embedded images.
  std::vector<size_t> test, training;  // Rows of them. Empty: all are judged by the others.
};

template <typename T>
std::vector<T> Select(const std::vector<T>& values, const std::vector<size_t>& which) {
  std::vector<T> selected;
  for (const size_t i : which) selected.push_back(values[i]);
  return selected;
}

absl::StatusOr<v1::Separation> Separate(const std::string& name, const Space& space,
                                        const Judged& judged, const v1::SeparationTask& task) {
  NeighbourOptions options;
  options.neighbours = task.neighbours();
  options.draws = task.draws();
  options.seed = task.seed();
  options.threads = kThreads;
  const auto judge = [&]() -> absl::StatusOr<Separation> {
    if (judged.test.empty()) return LeaveGroupOut(space.All(), judged.label, judged.group, options);
    return ByTraining(space.Between(judged.test, judged.training),
                      Select(judged.label, judged.test), Select(judged.group, judged.test),
                      Select(judged.label, judged.training), Select(judged.group, judged.training),
                      options);
  };
  ASSIGN_OR_RETURN(const Separation found, judge());
  v1::Separation separation;
  separation.set_space(name);
  separation.set_area(found.area);
  separation.set_low(found.area_interval.low);
  separation.set_high(found.area_interval.high);
  separation.set_accuracy(found.balanced_accuracy);
  separation.set_images(static_cast<uint32_t>(found.score.size()));
  return separation;
}

// By image; nullopt: it does not have it.
struct Property {
  std::string name;
  std::vector<std::optional<double>> values;
};

absl::StatusOr<std::vector<Property>> PropertiesOfImages(const ImageData& data,
                                                         const std::vector<uint32_t>& images) {
  std::vector<Property> properties = {{"lesion area", {}}, {"L*", {}}, {"a*", {}}, {"b*", {}}};
  for (const uint32_t image : images) {
    std::optional<double> area;
    if (data.set->manifest().images(static_cast<int>(image)).has_mask()) {
      ASSIGN_OR_RETURN(const std::string_view mask, data.set->Mask(image));
      const auto outside = std::count(mask.begin(), mask.end(), '\0');
      area = 1 - static_cast<double>(outside) / static_cast<double>(mask.size());
    }
    properties[0].values.push_back(area);
    // Of the pixels that were embedded: their mean is that of the image as displayed.
    ASSIGN_OR_RETURN(const PinnedImage pinned, data.Pin(image));
    ASSIGN_OR_RETURN(const ImageProperties found,
                     PropertiesOf({pinned.data(), data.image_bytes()}, {}));
    for (size_t c = 0; c < 3; ++c) properties[1 + c].values.emplace_back(found.colour[c]);
  }
  return properties;
}

void Associate(const Property& property, const v1::PcaOutput& pca, uint32_t component,
               const Judged& judged, const v1::SeparationTask& task, v1::SeparationOutput& output) {
  std::vector<double> scores, values;
  std::vector<uint32_t> group;
  for (size_t i = 0; i < property.values.size(); ++i) {
    if (!property.values[i]) continue;
    scores.push_back(pca.scores(static_cast<int>(i * pca.components() + component)));
    values.push_back(*property.values[i]);
    group.push_back(judged.group[i]);
  }
  // Groups are numbered without gaps among those that are left.
  std::set<uint32_t> left(group.begin(), group.end());
  for (uint32_t& g : group) {
    g = static_cast<uint32_t>(std::distance(left.begin(), left.find(g)));
  }
  const RankCorrelation found = SpearmanByGroup(scores, values, group, task.draws(), task.seed());
  if (!found.rho) return;
  v1::Association& association = *output.add_associations();
  association.set_component(component + 1);
  association.set_property(property.name);
  association.set_correlation(*found.rho);
  association.set_low(found.interval.low);
  association.set_high(found.interval.high);
  association.set_images(static_cast<uint32_t>(values.size()));
}

Judged JudgedOf(const v1::SeparationTask& task, const ImageData& data,
                const std::vector<uint32_t>& images) {
  Judged judged;
  judged.group = GroupsOf(data.set->manifest(), images);
  for (size_t i = 0; i < images.size(); ++i) {
    judged.label.push_back(data.labels[images[i]] + 1 == data.classes ? 1 : 0);
    if (!task.pca().has_model()) continue;
    const auto in = [&](const std::vector<uint32_t>& part) {
      return std::binary_search(part.begin(), part.end(), images[i]);
    };
    if (in(data.split.test)) judged.test.push_back(i);
    if (in(data.split.training)) judged.training.push_back(i);
  }
  return judged;
}

template <typename T>
absl::StatusOr<Pca> Randomised(const std::vector<const T*>& rows, size_t columns,
                               PcaOptions options) {
  options.components = std::min({options.components, rows.size(), columns});
  // Images' variances fall slowly: with the usual ten more, the last of 50 components lay 10
  // degrees off on real ones; with twice as many 1e-6 (docs/benchmarks.md).
  const size_t more = 2 * options.components;
  ASSIGN_OR_RETURN(
      RandomisedPcaResult found,
      RandomisedPca(PixelRows<T>{rows, columns}, {.pca = options, .oversampling = more}));
  return std::move(found.pca);
}

absl::StatusOr<Pca> ComponentsOf(const v1::PcaTask& task, const ImageData& data,
                                 const std::vector<uint32_t>& images,
                                 const EmbeddedValues& values) {
  const size_t n = images.size(), dimensions = values.dimensions;
  PcaOptions options;
  options.components = task.components();
  options.threads = kThreads;
  if (values.pixels != nullptr) {
    options.components = std::min({options.components, n, data.image_bytes()});
    return PcaOfGram(CentredKernel(*values.pixels, images).values, n, options);
  }
  if (dimensions == 0) {
    if (data.chunks != nullptr) {
      return absl::UnavailableError(
          absl::StrCat("principal components: all images must be in memory, ",
                       (data.labels.size() * data.image_bytes()) >> 20, " MiB at ", data.size,
                       " px; start the worker with a larger --image-memory"));
    }
    std::vector<const uint8_t*> rows;
    for (const uint32_t image : images) rows.push_back(data.image(image));
    return Randomised(rows, data.image_bytes(), options);
  }
  if (n > kMostProducts) {
    std::vector<const float*> rows;
    for (size_t i = 0; i < n; ++i) rows.push_back(&values.features[i * dimensions]);
    return Randomised(rows, dimensions, options);
  }
  std::vector<double> gram(n * n);
  const std::vector<double> rows = InDouble(values.features);
  DotRows(rows.data(), n, rows.data(), n, dimensions, gram.data(), n, kThreads);
  CentreGram(absl::MakeSpan(gram), n);
  options.components = std::min({options.components, n, dimensions});
  return PcaOfGram(gram, n, options);
}

}  // namespace

std::vector<uint32_t> EmbeddedImages(const Split& split) {
  std::vector<uint32_t> images;
  for (const auto* part : {&split.training, &split.validation, &split.test}) {
    images.insert(images.end(), part->begin(), part->end());
  }
  std::sort(images.begin(), images.end());
  return images;
}

absl::StatusOr<v1::PcaOutput> RunPca(const v1::PcaTask& task, const ImageData& data,
                                     const EmbeddedValues& values) {
  const std::vector<uint32_t> images = EmbeddedImages(data.split);
  ASSIGN_OR_RETURN(const Pca pca, ComponentsOf(task, data, images, values));
  v1::PcaOutput output;
  output.mutable_images()->Add(images.begin(), images.end());
  output.set_components(static_cast<uint32_t>(pca.components));
  for (const double score : pca.scores) output.add_scores(static_cast<float>(score));
  for (const double ratio : pca.explained_variance_ratio) output.add_variance(ratio);
  output.set_residual(pca.largest_residual);
  return output;
}

absl::StatusOr<v1::TsneOutput> RunTsne(const v1::TsneTask& task, const v1::PcaOutput& pca,
                                       const EmbeddedValues& values) {
  const std::vector<uint32_t> images(pca.images().begin(), pca.images().end());
  const std::vector<double> scores = ScoresOf(pca);
  const Space space = task.input() == v1::TSNE_INPUT_PCA ? Space::OfPoints(scores, pca.components())
                                                         : RawSpace(images, values);
  AffinityOptions affinity;
  affinity.perplexity = task.perplexity();
  affinity.threads = kThreads;
  ASSIGN_OR_RETURN(const Affinities p, AffinitiesOf(space.All(), affinity));
  TsneOptions options;
  options.exaggerated_iterations = std::min(kExaggerated, task.iterations());
  options.iterations = task.iterations() - options.exaggerated_iterations;
  options.threads = kThreads;
  ASSIGN_OR_RETURN(const Tsne tsne, RunTsne(p, PcaStart(scores, images.size()), options));
  v1::TsneOutput output;
  output.mutable_images()->Add(images.begin(), images.end());
  for (const double value : tsne.embedding) output.add_points(static_cast<float>(value));
  output.set_divergence(tsne.kl);
  return output;
}

absl::StatusOr<v1::SeparationOutput> RunSeparation(const v1::SeparationTask& task,
                                                   const v1::PcaOutput& pca,
                                                   absl::Span<const v1::TsneOutput* const> tsne,
                                                   const ImageData& data,
                                                   const EmbeddedValues& values) {
  const std::vector<uint32_t> images(pca.images().begin(), pca.images().end());
  const Judged judged = JudgedOf(task, data, images);
  v1::SeparationOutput output;
  const auto add = [&](const std::string& name, const Space& space) -> absl::Status {
    ASSIGN_OR_RETURN(*output.add_spaces(), Separate(name, space, judged, task));
    return absl::OkStatus();
  };
  if (values.pixels != nullptr || values.dimensions > 0) {
    RETURN_IF_ERROR(add("raw", RawSpace(images, values)));
  }
  RETURN_IF_ERROR(add("pca", Space::OfPoints(ScoresOf(pca), pca.components())));
  for (int k = 0; k < task.tsne_size(); ++k) {
    const v1::TsneOutput& embedded = *tsne[static_cast<size_t>(k)];
    RETURN_IF_ERROR(add(
        absl::StrCat("tsne of ", task.tsne(k).input() == v1::TSNE_INPUT_PCA ? "pca" : "raw"),
        Space::OfPoints(
            InDouble({embedded.points().data(), static_cast<size_t>(embedded.points_size())}), 2)));
  }
  ASSIGN_OR_RETURN(const std::vector<Property> properties, PropertiesOfImages(data, images));
  for (uint32_t component = 0; component < std::min(kAssociated, pca.components()); ++component) {
    for (const Property& property : properties) {
      Associate(property, pca, component, judged, task, output);
    }
  }
  return output;
}

}  // namespace dermis
