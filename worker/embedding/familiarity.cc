#include "worker/embedding/familiarity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/progress.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

// So many of a hundred validation images may lie beyond the threshold.
constexpr size_t kBeyond = 1, kOf = 100;

absl::Status CheckFinite(absl::Span<const float> values) {
  if (std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("familiarity: features are not finite: the model diverged");
}

// Each row to length 1, in double.
void Normalise(absl::Span<float> rows, size_t features) {
  for (size_t at = 0; at < rows.size(); at += features) {
    double squares = 0;
    for (size_t k = 0; k < features; ++k) {
      squares += static_cast<double>(rows[at + k]) * rows[at + k];
    }
    if (squares == 0) continue;
    const double length = std::sqrt(squares);
    for (size_t k = 0; k < features; ++k) {
      rows[at + k] = static_cast<float>(rows[at + k] / length);
    }
  }
}

// Training images by their distance from `point`, the nearest first; the first `count` are in
// order.
std::vector<std::pair<double, size_t>> Nearest(absl::Span<const float> point,
                                               absl::Span<const float> rows, size_t count) {
  const size_t features = point.size();
  std::vector<std::pair<double, size_t>> found(rows.size() / features);
  for (size_t i = 0; i < found.size(); ++i) {
    const float* row = rows.data() + i * features;
    double squares = 0;  // In this order: the bits are to be the same everywhere.
    for (size_t k = 0; k < features; ++k) {
      const double difference = static_cast<double>(point[k]) - row[k];
      squares += difference * difference;
    }
    found[i] = {std::sqrt(squares), i};
  }
  const auto middle = found.begin() + static_cast<std::ptrdiff_t>(std::min(count, found.size()));
  std::partial_sort(found.begin(), middle, found.end());
  return found;
}

double DistanceOf(absl::Span<const float> point, absl::Span<const float> rows, size_t neighbours) {
  const auto nearest = Nearest(point, rows, neighbours);
  return nearest[std::min(neighbours, nearest.size()) - 1].first;
}

}  // namespace

double FamiliarityThreshold(absl::Span<const double> validation) {
  if (validation.empty()) return std::numeric_limits<double>::max();
  return validation[validation.size() - 1 - validation.size() * kBeyond / kOf];
}

absl::StatusOr<FeatureSpace> MakeFeatureSpace(std::vector<uint32_t> images, uint32_t features,
                                              std::vector<float> training,
                                              std::vector<float> validation, uint32_t neighbours) {
  if (images.empty() || features == 0 || neighbours == 0 ||
      training.size() != images.size() * features || validation.size() % features != 0) {
    return absl::InvalidArgumentError(absl::StrCat("familiarity: ", images.size(),
                                                   " training images of ", features, " features, ",
                                                   neighbours, " neighbours"));
  }
  RETURN_IF_ERROR(CheckFinite(training));
  RETURN_IF_ERROR(CheckFinite(validation));
  Normalise(absl::MakeSpan(training), features);
  Normalise(absl::MakeSpan(validation), features);
  FeatureSpace space{std::move(images), features, std::move(training), {}};
  for (size_t at = 0; at < validation.size(); at += features) {
    NoteProgress();
    space.validation.push_back(DistanceOf(absl::MakeConstSpan(validation).subspan(at, features),
                                          space.values, neighbours));
  }
  std::sort(space.validation.begin(), space.validation.end());
  return space;
}

absl::StatusOr<v1::Familiarity> FamiliarityOf(const FeatureSpace& space,
                                              std::vector<float> features, uint32_t neighbours,
                                              uint32_t nearest) {
  if (space.images.empty() || features.size() != space.features || neighbours == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("familiarity: ", features.size(), " features in a space of ", space.features,
                     " with ", space.images.size(), " images, ", neighbours, " neighbours"));
  }
  RETURN_IF_ERROR(CheckFinite(features));
  Normalise(absl::MakeSpan(features), features.size());
  const auto found = Nearest(features, space.values, std::max(neighbours, nearest));
  v1::Familiarity familiarity;
  familiarity.set_distance(found[std::min<size_t>(neighbours, found.size()) - 1].first);
  familiarity.set_threshold(FamiliarityThreshold(space.validation));
  familiarity.set_validation_images(static_cast<uint32_t>(space.validation.size()));
  for (size_t k = 0; k < std::min<size_t>(nearest, found.size()); ++k) {
    v1::NearImage& near = *familiarity.add_nearest();
    near.set_image(space.images[found[k].second]);
    near.set_distance(found[k].first);
  }
  return familiarity;
}

}  // namespace dermis
