#include "worker/embedding/embed.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/rank.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/common/test_images.h"
#include "tests/unit/worker/embedding/test_data.h"
#include "worker/embedding/image_properties.h"

namespace dermis {
namespace {

constexpr uint32_t kImages = 150, kComponents = 6;

// Six directions of falling strength, and a little noise.
ImageData Images() {
  ImageData data;
  data.size = 6;
  data.classes = 2;
  for (uint32_t i = 0; i < kImages; ++i) {
    data.labels.push_back(i % 2);
    data.split.training.push_back(i);
    for (size_t j = 0; j < data.image_bytes(); ++j) {
      double value = 127 + Drawn(3, i, j);
      for (size_t c = 0; c < kComponents; ++c) {
        value += 20 * std::pow(.8, static_cast<double>(c)) * Drawn(1, i, c) * Drawn(2, c, j);
      }
      data.pixels.push_back(static_cast<uint8_t>(std::lround(value)));
    }
  }
  return data;
}

v1::PcaTask Task() {
  v1::PcaTask task;
  task.set_components(kComponents);
  return task;
}

// The largest angle between the spaces that the columns of both scores span, centred as they are.
double LargestAngle(const v1::PcaOutput& a, const v1::PcaOutput& b) {
  const auto basis = [](const v1::PcaOutput& pca) {
    std::vector<std::vector<double>> columns;
    for (uint32_t c = 0; c < kComponents; ++c) {
      std::vector<double> column;
      for (uint32_t i = 0; i < kImages; ++i) {
        column.push_back(pca.scores(static_cast<int>(i * kComponents + c)));
      }
      const double norm =
          std::sqrt(std::inner_product(column.begin(), column.end(), column.begin(), 0.0));
      for (double& value : column) value /= norm;
      columns.push_back(std::move(column));
    }
    return columns;
  };
  // sin of the angle is at most the length of what is left of a unit vector, over all of them.
  double square = 0;
  const auto of = basis(a), in = basis(b);
  for (const auto& column : of) {
    std::vector<double> left = column;
    for (const auto& other : in) {
      const double share = std::inner_product(column.begin(), column.end(), other.begin(), 0.0);
      for (size_t i = 0; i < left.size(); ++i) left[i] -= share * other[i];
    }
    square += std::inner_product(left.begin(), left.end(), left.begin(), 0.0);
  }
  return std::sqrt(square);
}

TEST(RunPca, WithoutProducts_FindsTheSpaceThatProductsGive) {
  const ImageData data = Images();
  std::vector<const uint8_t*> rows;
  for (uint32_t i = 0; i < kImages; ++i) rows.push_back(data.image(i));
  EmbeddedValues products;
  products.pixels = std::make_shared<const Gram>(
      *Gram::FromValues(kImages, GramRows(rows, data.image_bytes(), 0, kImages)));
  const auto exact = RunPca(Task(), data, products), drawn = RunPca(Task(), data, {});
  ASSERT_TRUE(exact.ok() && drawn.ok()) << drawn.status();
  EXPECT_LT(LargestAngle(*drawn, *exact), 1e-4);
  for (int c = 0; c < static_cast<int>(kComponents); ++c) {
    EXPECT_NEAR(drawn->variance(c), exact->variance(c), 1e-6);
  }
  const auto again = RunPca(Task(), data, {});
  EXPECT_EQ(drawn->SerializeAsString(), again->SerializeAsString());
}

TEST(RunPca, WithoutProducts_NeedsAllImagesInMemory) {
  ImageData data = Images();
  data.chunks = std::make_shared<ChunkCache>(std::vector<uint64_t>{}, 0, nullptr);
  EXPECT_EQ(RunPca(Task(), data, {}).status().code(), absl::StatusCode::kUnavailable);
}

// Sites far apart, each of four images beside each other: a test image and its `twin`, a training
// image of the same lesion at the same place; a validation image close by; and a training image of
// no lesion, a little further off, which alone has the other label. The set's first image, and each
// fifth after it, is in no part.
class Sites {
 public:
  static constexpr uint32_t kSites = 12, kMembers = 4, kAll = kSites * kMembers * 5 / 4, kSide = 4;
  enum Member { kTest, kTwin, kValidation, kOther };
  struct Place {
    uint32_t site = 0;
    Member member = kTest;
  };

  Sites() {
    std::vector<PackedImage> packed = TestImages(kAll, kSide, kSide);
    data_.size = kSide;
    data_.classes = 2;
    uint32_t k = 0;
    for (uint32_t i = 0; i < kAll; ++i) {
      v1::ImageEntry& entry = packed[i].entry;
      if (i % 3 != 1) {  // A lesion of 1 .. 15 pixels, some of them of a region within it.
        packed[i].mask.assign(size_t{kSide} * kSide, '\0');
        for (uint32_t p = 0; p < 1 + i * 7 % 15; ++p)
          packed[i].mask[p] = static_cast<char>(1 + p % 2);
      }
      std::optional<Place>& place = places_.emplace_back();
      if (i % 5 != 0) {
        // Far from the order of sites and members.
        const uint32_t at = k++ * 29 % (kSites * kMembers);
        place = Place{at / kMembers, static_cast<Member>(at % kMembers)};
        auto& part = place->member == kTest         ? data_.split.test
                     : place->member == kValidation ? data_.split.validation
                                                    : data_.split.training;
        part.push_back(i);
        // Of every second site the validation image is of the lesion, too.
        if (place->member == kTest || place->member == kTwin ||
            (place->member == kValidation && place->site % 2 == 0)) {
          entry.set_group(absl::StrCat("lesion ", place->site));
        }
      }
      entry.set_label(place ? (place->site / 2 + (place->member == kOther)) % 2 : 0);
      data_.labels.push_back(entry.label());
    }
    for (const PackedImage& image : packed) {
      data_.pixels.insert(data_.pixels.end(), image.pixels.begin(), image.pixels.end());
    }
    EXPECT_TRUE(WriteImageSet(folder_ / "x", TestHeader(kSide, kSide), std::move(packed)).ok());
    data_.set = *ImageSet::OpenFile(folder_ / "x");
  }

  const ImageData& data() const { return data_; }
  std::vector<uint32_t> images() const { return EmbeddedImages(data_.split); }
  // Two coordinates of each embedded image.
  std::vector<float> AtTheirSites() const {
    constexpr float kOff[] = {0, 0, .05f, .12f};
    std::vector<float> points;
    for (const uint32_t image : images()) {
      const Place& place = *places_[image];
      points.push_back(1000 * static_cast<float>(place.site % 4) + kOff[place.member]);
      points.push_back(1000 * static_cast<float>(place.site / 4));
    }
    return points;
  }
  std::vector<float> ByLabel() const {
    std::vector<float> points;
    for (const uint32_t image : images()) {
      points.push_back(100 * static_cast<float>(data_.labels[image]));
      points.push_back(static_cast<float>(image));
    }
    return points;
  }

 private:
  TestFolder folder_;
  ImageData data_;
  std::vector<std::optional<Place>> places_;  // By image.
};

v1::PcaOutput PcaOf(const std::vector<uint32_t>& images, const std::vector<float>& scores) {
  v1::PcaOutput pca;
  pca.mutable_images()->Add(images.begin(), images.end());
  pca.set_components(static_cast<uint32_t>(scores.size() / images.size()));
  pca.mutable_scores()->Add(scores.begin(), scores.end());
  return pca;
}

// t-SNE of the raw values and of the components.
v1::SeparationTask NearestOne() {
  v1::SeparationTask task;
  task.add_tsne()->set_input(v1::TSNE_INPUT_RAW);
  task.add_tsne()->set_input(v1::TSNE_INPUT_PCA);
  task.set_neighbours(1);
  task.set_draws(50);
  task.set_seed(4);
  return task;
}

v1::TsneOutput TsneOf(const std::vector<float>& points) {
  v1::TsneOutput output;
  output.mutable_points()->Add(points.begin(), points.end());
  return output;
}

TEST(RunSeparation, OfFeatures_ScoresTestImagesAgainstTrainingImagesOfOtherLesions) {
  const Sites sites;
  v1::SeparationTask task = NearestOne();
  task.mutable_pca()->mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  EmbeddedValues features;
  features.features = sites.AtTheirSites();
  features.dimensions = 2;
  const v1::TsneOutput at_sites = TsneOf(sites.AtTheirSites()), by_label = TsneOf(sites.ByLabel());
  const auto output = RunSeparation(task, PcaOf(sites.images(), sites.ByLabel()),
                                    {&by_label, &at_sites}, sites.data(), features);
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->spaces_size(), 4);
  const std::pair<const char*, double> kDue[] = {
      {"raw", 0}, {"pca", 1}, {"tsne of raw", 1}, {"tsne of pca", 0}};
  for (int k = 0; k < 4; ++k) {
    const v1::Separation& space = output->spaces(k);
    EXPECT_EQ(space.space(), kDue[k].first);
    EXPECT_EQ(space.images(), Sites::kSites) << "test images alone";
    // At a site each other image has the test image's label, but for the one that counts.
    EXPECT_EQ(space.area(), kDue[k].second) << space.space();
    EXPECT_EQ(space.accuracy(), kDue[k].second) << space.space();
  }
}

TEST(RunSeparation, OfPixels_ScoresEachImageAgainstAllOfOtherLesions) {
  const Sites sites;
  const v1::TsneOutput at_sites = TsneOf(sites.AtTheirSites()), by_label = TsneOf(sites.ByLabel());
  const auto output = RunSeparation(NearestOne(), PcaOf(sites.images(), sites.AtTheirSites()),
                                    {&by_label, &at_sites}, sites.data(), {});
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->spaces_size(), 3) << "without products there is no space of raw pixels";
  // Where the validation image is of the lesion none is right, else three of four: test image and
  // twin by the validation image, and that by them; the other one never.
  const std::pair<const char*, double> kDue[] = {
      {"pca", .375}, {"tsne of raw", 1}, {"tsne of pca", .375}};
  for (int k = 0; k < 3; ++k) {
    const v1::Separation& space = output->spaces(k);
    EXPECT_EQ(space.space(), kDue[k].first);
    EXPECT_EQ(space.images(), Sites::kSites * Sites::kMembers) << "each image of the split";
    EXPECT_DOUBLE_EQ(space.accuracy(), kDue[k].second) << space.space();
    EXPECT_DOUBLE_EQ(space.area(), kDue[k].second) << space.space();
  }
}

TEST(RunSeparation, ComparesEachOfFiveComponentsWithEachProperty_ImageByImage) {
  const Sites sites;
  const std::vector<uint32_t> images = sites.images();
  constexpr uint32_t kScores = 7;
  std::vector<float> scores;
  for (size_t i = 0; i < images.size(); ++i) {
    for (uint32_t c = 0; c < kScores; ++c) scores.push_back(static_cast<float>(Drawn(8, i, c)));
  }
  v1::SeparationTask task = NearestOne();
  task.clear_tsne();
  const auto output = RunSeparation(task, PcaOf(images, scores), {}, sites.data(), {});
  ASSERT_TRUE(output.ok()) << output.status();

  // By hand, from the set's own masks and pixels. Lesions are numbered as they come.
  std::map<std::string, uint32_t> numbers;
  std::vector<uint32_t> lesion;
  std::vector<std::map<std::string, double>> properties;
  for (const uint32_t image : images) {
    const v1::ImageEntry& entry = sites.data().set->manifest().images(static_cast<int>(image));
    const std::string name = entry.group().empty() ? entry.name() : entry.group();
    lesion.push_back(
        numbers.try_emplace(name, static_cast<uint32_t>(numbers.size())).first->second);
    auto& found = properties.emplace_back();
    const std::string_view pixels = *sites.data().set->Pixels(image);
    const ImageProperties colours =
        *PropertiesOf({reinterpret_cast<const uint8_t*>(pixels.data()), pixels.size()}, {});
    found["L*"] = colours.colour[0];
    found["a*"] = colours.colour[1];
    found["b*"] = colours.colour[2];
    if (!entry.has_mask()) continue;
    const std::string_view mask = *sites.data().set->Mask(image);
    found["lesion area"] =
        static_cast<double>(std::count_if(mask.begin(), mask.end(), [](char m) { return m != 0; }));
  }
  ASSERT_LT(numbers.size(), images.size());
  int next = 0;
  for (uint32_t component = 0; component < 5; ++component) {
    for (const std::string property : {"lesion area", "L*", "a*", "b*"}) {
      std::vector<double> a, b;
      std::vector<uint32_t> of;
      for (size_t i = 0; i < images.size(); ++i) {
        const auto value = properties[i].find(property);
        if (value == properties[i].end()) continue;
        a.push_back(scores[i * kScores + component]);
        b.push_back(value->second);
        of.push_back(lesion[i]);
      }
      // Without gaps among those that are left.
      std::vector<uint32_t> left = of;
      std::sort(left.begin(), left.end());
      left.erase(std::unique(left.begin(), left.end()), left.end());
      for (uint32_t& group : of) {
        group =
            static_cast<uint32_t>(std::lower_bound(left.begin(), left.end(), group) - left.begin());
      }
      ASSERT_LT(next, output->associations_size());
      const v1::Association& found = output->associations(next++);
      EXPECT_EQ(found.component(), component + 1);
      EXPECT_EQ(found.property(), property);
      EXPECT_EQ(found.images(), a.size());
      EXPECT_NEAR(found.correlation(), Spearman(a, b).value(), 1e-12);
      const RankCorrelation due = SpearmanByGroup(a, b, of, task.draws(), task.seed());
      EXPECT_NEAR(found.low(), due.interval.low, 1e-12);
      EXPECT_NEAR(found.high(), due.interval.high, 1e-12);
    }
  }
  EXPECT_EQ(next, output->associations_size());
}

}  // namespace
}  // namespace dermis
