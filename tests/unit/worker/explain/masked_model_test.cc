// What stands in the place of hidden superpixels, and superpixels that need no colours.
#include "worker/explain/masked_model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/background.h"
#include "common/metrics.h"
#include "common/resize.h"
#include "tests/unit/worker/explain/test_data.h"
#include "worker/explain/explain.h"
#include "worker/pictures/inpaint.h"
#include "worker/pictures/smooth.h"

namespace dermis {
namespace {

constexpr uint32_t kSide = 45, kSize = 16;  // A ratio that is not whole.
constexpr v1::HiddenValue kAll[] = {
    v1::HIDDEN_VALUE_TRAINING_MEAN, v1::HIDDEN_VALUE_SUPERPIXEL_MEAN, v1::HIDDEN_VALUE_CONSTANT,
    v1::HIDDEN_VALUE_BLUR,          v1::HIDDEN_VALUE_INPAINT,         v1::HIDDEN_VALUE_BACKGROUND};

class MaskedModelTest : public testing::Test {
 protected:
  MaskedModelTest() : data_(TestImageData(9, kSide, kSide, kSize)) {
    for (uint32_t i = 0; i < 9; ++i) data_.labels.push_back(i % 2);
    data_.split.training = {1, 2, 3, 4, 5, 6, 7};
    segmentation_ = Rectangles(kSide, kSide, 3, 4);
    for (const double c : {10.0, 20.5, 200.0}) hiding_.add_color(c);
    hiding_.set_blur(0.1);
    hiding_.mutable_background()->set_per_class(2);
    hiding_.mutable_background()->set_seed(3);
  }
  MaskedImage Masked(v1::HiddenValue hidden) {
    auto masked = MaskedImageOf(v1::ImageSource(), 0, hidden, hiding_, segmentation_, data_, plan_);
    EXPECT_TRUE(masked.ok()) << masked.status();
    return *std::move(masked);
  }
  std::vector<float> Compose(const Composer& composer, const Mask& mask) const {
    std::vector<float> input(kSize * kSize * 3);
    composer.Compose(mask, input.data());
    return input;
  }
  // A display-size picture as the model would see it.
  std::vector<float> Seen(const std::vector<float>& picture) const {
    std::vector<float> out(kSize * kSize * 3);
    AreaResize(picture.data(), kSide, kSide, 3, out.data(), kSize, kSize);
    const Normalisation normalise = NormalisationOf(data_);
    for (float& v : out) v = normalise(v);
    return out;
  }
  const uint8_t* Rgb(uint32_t image) const {
    return reinterpret_cast<const uint8_t*>(data_.set->Pixels(image)->data());
  }

  ImageData data_;
  Segmentation segmentation_;
  v1::Hiding hiding_;
  FunctionPlan plan_{kSize, nullptr};
};

TEST_F(MaskedModelTest, AllShownIsTheEvaluatedInputBitForBit) {
  const Normalisation normalise = NormalisationOf(data_);
  for (const v1::HiddenValue hidden : kAll) {
    for (const Composer& composer : Masked(hidden).composers) {
      const std::vector<float> input = Compose(composer, Mask(segmentation_.count, 1));
      for (size_t i = 0; i < input.size(); ++i) {
        ASSERT_EQ(input[i], normalise(data_.image(0)[i])) << v1::HiddenValue_Name(hidden);
      }
    }
  }
}

TEST_F(MaskedModelTest, AllHiddenIsTheOtherPicture) {
  std::vector<float> constant;
  for (uint32_t i = 0; i < kSide * kSide; ++i) constant.insert(constant.end(), {10, 20.5, 200});
  const std::vector<std::pair<v1::HiddenValue, std::vector<float>>> pictures = {
      {v1::HIDDEN_VALUE_CONSTANT, constant},
      {v1::HIDDEN_VALUE_BLUR, Blurred(Rgb(0), kSide, kSide, 4.5)},
      {v1::HIDDEN_VALUE_INPAINT, Inpaint(Rgb(0), segmentation_.labels, kSide, kSide)}};
  for (const auto& [hidden, picture] : pictures) {
    const std::vector<float> expected = Seen(picture);
    const std::vector<float> input =
        Compose(Masked(hidden).composers[0], Mask(segmentation_.count, 0));
    for (size_t i = 0; i < input.size(); ++i) {
      EXPECT_NEAR(input[i], expected[i], 2e-5) << v1::HiddenValue_Name(hidden);
    }
  }
}

TEST_F(MaskedModelTest, IsLinearInTheMask) {
  for (const v1::HiddenValue hidden : kAll) {
    const Composer composer = Masked(hidden).composers[0];
    const Mask all(segmentation_.count, 1);
    Mask a = all, b = all, both = all;
    a[2] = both[2] = 0;
    b[7] = both[7] = 0;
    const auto x = Compose(composer, all), xa = Compose(composer, a), xb = Compose(composer, b),
               xab = Compose(composer, both);
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(xab[i] - x[i], (xa[i] - x[i]) + (xb[i] - x[i]), 1e-5);
    }
  }
}

TEST_F(MaskedModelTest, BackgroundIsTheMeanOverTrainingImages_AsManyOfEachClass) {
  const MaskedImage masked = Masked(v1::HIDDEN_VALUE_BACKGROUND);
  const std::vector<uint32_t> images = BackgroundImages(data_.split.training, data_.labels, 3, 2);
  ASSERT_EQ(images.size(), 4u);
  ASSERT_EQ(masked.composers.size(), 4u);
  EXPECT_EQ(masked.background, BackgroundDigest(data_.set->manifest(), images));
  for (size_t b = 0; b < images.size(); ++b) {
    const std::vector<float> expected =
        Seen(std::vector<float>(Rgb(images[b]), Rgb(images[b]) + kSide * kSide * 3));
    const auto input = Compose(masked.composers[b], Mask(segmentation_.count, 0));
    for (size_t i = 0; i < input.size(); ++i) EXPECT_NEAR(input[i], expected[i], 2e-5);
  }
}

TEST_F(MaskedModelTest, OutputsOfABackgroundAreMeans_OfLogitsOrOfProbabilities) {
  FunctionPlan plan(kSize, [](const std::vector<float>& input) {
    return std::pair(std::tanh(input[0]), 5 * input[400] - input[7]);
  });
  MaskedImage masked = Masked(v1::HIDDEN_VALUE_BACKGROUND);
  std::vector<Mask> masks = {Mask(segmentation_.count, 0), Mask(segmentation_.count, 1)};
  masks.push_back(masks[0]);
  masks[2][0] = 1;
  std::vector<float> mean(6), logs(6);
  ASSERT_TRUE(RunMasks(masks, masked, plan, mean.data()).ok());
  masked.probabilities = true;
  ASSERT_TRUE(RunMasks(masks, masked, plan, logs.data()).ok());
  for (size_t m = 0; m < masks.size(); ++m) {
    double logit = 0, probability = 0;
    for (const Composer& composer : masked.composers) {
      MaskedImage one;
      one.composers.push_back(composer);
      std::vector<float> row(2);
      ASSERT_TRUE(RunMasks({masks[m]}, one, plan, row.data()).ok());
      logit += (row[1] - row[0]) / 4.0;
      probability += Softmax(row)[1] / 4;
    }
    EXPECT_NEAR(mean[2 * m + 1] - mean[2 * m], logit, 1e-5);
    EXPECT_NEAR(Softmax(absl::MakeConstSpan(logs).subspan(2 * m, 2))[1], probability, 1e-6);
  }
}

TEST_F(MaskedModelTest, SuperpixelsMayBeOfTheModelsOwnPixels) {
  segmentation_ = Rectangles(kSize, kSize, 4, 4);
  for (const v1::HiddenValue hidden : kAll) {
    const MaskedImage masked = Masked(hidden);
    Mask mask(16, 1);
    mask[5] = 0;  // Rows 4..7, columns 4..7 and nothing else change.
    const auto whole = Compose(masked.composers[0], Mask(16, 1));
    const auto part = Compose(masked.composers[0], mask);
    for (uint32_t i = 0; i < kSize * kSize; ++i) {
      if (segmentation_.labels[i] == 5) continue;
      EXPECT_EQ(part[3 * i], whole[3 * i]);
    }
    EXPECT_NE(part, whole);
  }
  segmentation_ = Rectangles(20, 20, 4, 4);
  EXPECT_FALSE(MaskedImageOf(v1::ImageSource(), 0, v1::HIDDEN_VALUE_BLUR, hiding_, segmentation_,
                             data_, plan_)
                   .ok());
}

TEST_F(MaskedModelTest, RefusesAValueWithoutItsNumbers) {
  const v1::Hiding none;
  for (const v1::HiddenValue hidden : {v1::HIDDEN_VALUE_CONSTANT, v1::HIDDEN_VALUE_BLUR,
                                       v1::HIDDEN_VALUE_BACKGROUND, v1::HIDDEN_VALUE_UNSPECIFIED}) {
    EXPECT_EQ(MaskedImageOf(v1::ImageSource(), 0, hidden, none, segmentation_, data_, plan_)
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

// A set of one image with a disc of a lesion and a label map of its own.
class AnnotatedSet final : public ImageSet {
 public:
  AnnotatedSet() {
    manifest_.set_height(kSide);
    manifest_.set_width(kSide);
    manifest_.add_images();
    pixels_ = TestPixels(1, kSide, kSide);
    for (uint32_t y = 0; y < kSide; ++y) {
      for (uint32_t x = 0; x < kSide; ++x) {
        mask_.push_back(std::hypot(y - 22.0, x - 22.0) < 12);
        const uint32_t label = x < 20 ? 7 : y < 20 ? 300 : 65535;
        labels_.push_back(static_cast<char>(label & 0xFF));
        labels_.push_back(static_cast<char>(label >> 8));
      }
    }
  }
  absl::StatusOr<std::string_view> Pixels(uint32_t) const override { return pixels_; }
  absl::StatusOr<std::string_view> Mask(uint32_t) const override { return mask_; }
  absl::StatusOr<std::string_view> Labels(uint32_t) const override { return labels_; }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::NotFoundError("no chunk");
  }

 private:
  std::string pixels_, mask_, labels_;
};

TEST(Superpixels, OfAGridAreRectanglesOfEqualSize) {
  v1::SuperpixelTask task;
  task.mutable_superpixels()->mutable_grid()->set_rows(4);
  task.mutable_superpixels()->mutable_grid()->set_columns(7);
  const Segmentation grid = *FromProto(*RunSuperpixels(task, AnnotatedSet()));
  ASSERT_EQ(grid.count, 28u);
  std::vector<int> sizes(28, 0);
  for (const uint32_t label : grid.labels) ++sizes[label];
  EXPECT_EQ(std::set<int>(sizes.begin(), sizes.end()), (std::set<int>{66, 72, 77, 84}));
  EXPECT_EQ(grid.labels[0], 0u);
  EXPECT_EQ(grid.labels.back(), 27u);
  task.mutable_superpixels()->mutable_grid()->set_rows(46);
  EXPECT_FALSE(RunSuperpixels(task, AnnotatedSet()).ok()) << "more rows than pixels";
}

TEST(Superpixels, OfALabelMapAreItsLabels_NumberedAnew) {
  v1::SuperpixelTask task;
  task.mutable_superpixels()->mutable_label_map();
  const Segmentation map = *FromProto(*RunSuperpixels(task, AnnotatedSet()));
  ASSERT_EQ(map.count, 3u);
  EXPECT_EQ(map.labels[0], 0u);
  EXPECT_EQ(map.labels[44], 1u);
  EXPECT_EQ(map.labels.back(), 2u);
  EXPECT_EQ(RunSuperpixels(task, TestImageSet(1, 8, 8)).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(Superpixels, OfLesionZonesHoldTheMask) {
  v1::SuperpixelTask task;
  task.mutable_superpixels()->mutable_lesion_zones()->set_band(0.1);
  const Segmentation zones = *FromProto(*RunSuperpixels(task, AnnotatedSet()));
  EXPECT_EQ(zones.count, 4u);
  EXPECT_EQ(zones.labels[22 * kSide + 22], 0u);
  EXPECT_EQ(zones.labels[0], 3u);
  task.mutable_superpixels()->mutable_lesion_zones()->set_band(0);
  EXPECT_EQ(RunSuperpixels(task, AnnotatedSet())->count(), 2u);
}

TEST(Superpixels, AtModelSizeAreOfTheResizedImage) {
  v1::SuperpixelTask task;
  task.set_size(kSize);
  const AnnotatedSet set;
  for (const int kind : {0, 1, 2, 3, 4}) {
    task.clear_superpixels();
    v1::SuperpixelSpec& spec = *task.mutable_superpixels();
    if (kind == 0) spec.mutable_slic()->set_count(6);
    if (kind == 1) spec.mutable_quickshift();
    if (kind == 2)
      *spec.mutable_grid() = [] {
        v1::GridSpec g;
        g.set_rows(2);
        g.set_columns(2);
        return g;
      }();
    if (kind == 3) spec.mutable_label_map();
    if (kind == 4) spec.mutable_lesion_zones()->set_band(0.1);
    const auto output = RunSuperpixels(task, set);
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_EQ(output->height(), kSize);
    EXPECT_EQ(output->width(), kSize);
    EXPECT_GE(output->count(), kind <= 1 ? 1u : 2u);
  }
  task.set_size(kSide + 1);
  EXPECT_FALSE(RunSuperpixels(task, set).ok());
}

}  // namespace
}  // namespace dermis
