// The lesion task and its summary on drawn images, by plans that are functions of their input.
#include "worker/explain/lesion/lesion.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/explain/test_data.h"
#include "worker/pictures/lesion_zones.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kImages = 6, kSide = 48;

// Each image has a disc of its own; the last one has no mask.
class MaskedSet final : public ImageSet {
 public:
  MaskedSet() {
    manifest_.set_height(kSide);
    manifest_.set_width(kSide);
    manifest_.add_classes("benign");
    manifest_.add_classes("malignant");
    for (uint32_t i = 0; i < kImages; ++i) {
      v1::ImageEntry& entry = *manifest_.add_images();
      entry.set_label(i % 2);
      entry.set_has_mask(i + 1 < kImages);
      entry.set_mask_origin("expert");
      entry.set_digest(std::string(32, static_cast<char>(i)));
      pixels_.push_back(TestPixels(i, kSide, kSide));
      std::string& mask = masks_.emplace_back();
      for (uint32_t y = 0; y < kSide; ++y) {
        for (uint32_t x = 0; x < kSide; ++x) {
          mask.push_back(std::hypot(y - 20.0 - i, x - 22.0 - i) < 9.0 + i);
        }
      }
    }
  }
  v1::ImageSetManifest& manifest_to_change() { return manifest_; }
  absl::StatusOr<std::string_view> Pixels(uint32_t i) const override { return pixels_.at(i); }
  absl::StatusOr<std::string_view> Mask(uint32_t i) const override {
    if (!manifest_.images(static_cast<int>(i)).has_mask()) return absl::NotFoundError("no mask");
    return masks_.at(i);
  }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::NotFoundError("no chunk");
  }

 private:
  std::vector<std::string> pixels_, masks_;
};

class LesionTest : public testing::Test {
 protected:
  LesionTest() : data_(TestImageData(kImages, kSide, kSide, kSide)) {
    set_ = std::make_shared<MaskedSet>();
    data_.set = set_;
    for (uint32_t i = 0; i < kImages; ++i) {
      data_.labels.push_back(i % 2);
      data_.split.test.push_back(i);
    }
    task_.set_image(1);
    task_.set_band(0.1);
    task_.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
    task_.set_placements(2);
    task_.set_seed(4);
  }

  // The margin is the sum of the input over one zone of image 1: linear.
  FunctionPlan ZonePlan(uint8_t zone) const {
    const std::string_view bytes = *set_->Mask(1);
    const std::vector<uint8_t> zones =
        LesionZones(std::vector<uint8_t>(bytes.begin(), bytes.end()), kSide, kSide, 0.1);
    return FunctionPlan(kSide, [zones, zone](const std::vector<float>& input) {
      double sum = 0;
      for (size_t i = 0; i < input.size(); ++i) sum += zones[i / 3] == zone ? input[i] : 0;
      return std::pair(0.0, sum / 100);
    });
  }

  std::shared_ptr<MaskedSet> set_;
  ImageData data_;
  v1::LesionTask task_;
  uint64_t evaluations_ = 0;
};

TEST_F(LesionTest, OnlyTheZoneThatTheModelReadsHasAValue) {
  for (uint8_t zone = 0; zone < kZones; ++zone) {
    FunctionPlan plan = ZonePlan(zone);
    const auto output = RunLesion(task_, data_, plan, &evaluations_);
    ASSERT_TRUE(output.ok()) << output.status();
    const v1::LesionPlacement& own = output->placements(0);
    for (uint8_t z = 0; z < kZones; ++z) {
      const double alone = own.logits((1 << z) * 2 + 1) - own.logits(1);
      if (z == zone) {
        EXPECT_GT(std::abs(alone), 0.1);
      } else {
        EXPECT_NEAR(alone, 0, 1e-4);
      }
    }
  }
}

TEST_F(LesionTest, RunsSixteenMasksAPlacement_OfEachKind) {
  FunctionPlan plan = ZonePlan(kCore);
  const v1::LesionOutput output = *RunLesion(task_, data_, plan, &evaluations_);
  ASSERT_EQ(output.placements_size(), 1 + 3 * 2);
  EXPECT_EQ(evaluations_, 16u * 7);
  EXPECT_EQ(plan.inputs.size(), 16u * 7);
  const std::vector<v1::LesionNull> kinds = {v1::LESION_NULL_UNSPECIFIED, v1::LESION_NULL_SHIFTED,
                                             v1::LESION_NULL_SHIFTED,     v1::LESION_NULL_ROTATED,
                                             v1::LESION_NULL_ROTATED,     v1::LESION_NULL_EXCHANGED,
                                             v1::LESION_NULL_EXCHANGED};
  for (int p = 0; p < output.placements_size(); ++p) {
    EXPECT_EQ(output.placements(p).kind(), kinds[p]);
    // All shown is the image itself, wherever the zones lie.
    EXPECT_EQ(output.placements(p).logits(31), output.placements(0).logits(31));
    double sum = 0;
    for (const double area : output.placements(p).areas()) sum += area;
    EXPECT_NEAR(sum, 1, 1e-12);
  }
  for (int p = 1; p <= 4; ++p) {
    for (int z = 0; z < kZones; ++z) {
      EXPECT_EQ(output.placements(p).areas(z), output.placements(0).areas(z))
          << "moved, not changed";
    }
  }
  EXPECT_NE(output.placements(5).areas(0), output.placements(0).areas(0)) << "another lesion's";
}

TEST_F(LesionTest, IsTheSameTwice_AndAnotherWithAnotherSeed) {
  FunctionPlan plan = ZonePlan(kInnerBand);
  const auto run = [&] {
    return RunLesion(task_, data_, plan, &evaluations_)->SerializeAsString();
  };
  const std::string first = run();
  EXPECT_EQ(run(), first);
  task_.set_seed(5);
  EXPECT_NE(run(), first);
}

TEST_F(LesionTest, NeverExchangesWithAnImageOfTheSameLesion) {
  for (uint32_t i : {0u, 2u, 3u}) set_->manifest_to_change().mutable_images(i)->set_group("L1");
  set_->manifest_to_change().mutable_images(1)->set_group("L1");
  FunctionPlan plan = ZonePlan(kCore);
  const v1::LesionOutput output = *RunLesion(task_, data_, plan, &evaluations_);
  // Image 4 alone is left.
  const std::string_view bytes = *set_->Mask(4);
  const std::vector<uint8_t> zones =
      LesionZones(std::vector<uint8_t>(bytes.begin(), bytes.end()), kSide, kSide, 0.1);
  for (const int p : {5, 6}) {
    EXPECT_EQ(output.placements(p).areas(0), ZoneSizes(zones)[0] / double(kSide * kSide));
  }
  set_->manifest_to_change().mutable_images(4)->set_group("L1");
  EXPECT_THAT(std::string(RunLesion(task_, data_, plan, &evaluations_).status().message()),
              HasSubstr("no other test image"));
}

TEST_F(LesionTest, RefusesWhatItCannotDo) {
  FunctionPlan plan = ZonePlan(kCore);
  task_.set_image(kImages - 1);
  EXPECT_EQ(RunLesion(task_, data_, plan, &evaluations_).status().code(),
            absl::StatusCode::kNotFound)
      << "no mask";
  task_.set_image(1);
  task_.set_placements(8);
  EXPECT_FALSE(RunLesion(task_, data_, plan, &evaluations_).ok()) << "a square has seven turns";
}

TEST_F(LesionTest, SummaryNamesTheMasksOrigin_AndReadsEveryImage) {
  v1::LesionSummaryTask summary;
  *summary.mutable_lesion() = task_;
  summary.set_output(v1::OUTPUT_KIND_MARGIN);
  summary.set_primary(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE);
  summary.set_null(v1::LESION_NULL_EXCHANGED);
  summary.set_draws(99);
  std::vector<std::shared_ptr<const v1::Payload>> outputs;
  FunctionPlan plan = ZonePlan(kInnerBand);
  for (uint32_t image = 0; image + 1 < kImages; ++image) {
    task_.set_image(image);
    summary.add_images(image);
    auto payload = std::make_shared<v1::Payload>();
    *payload->mutable_lesion() = *RunLesion(task_, data_, plan, &evaluations_);
    outputs.push_back(payload);
  }
  auto result = RunLesionSummary(summary, outputs, *set_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->images(), kImages - 1);
  EXPECT_EQ(result->findings(0).null(), v1::LESION_NULL_EXCHANGED);
  EXPECT_EQ(result->mask_origin(), "expert");
  EXPECT_LT(result->additivity_residual(), 1e-6);
  set_->manifest_to_change().mutable_images(0)->clear_mask_origin();
  EXPECT_EQ(RunLesionSummary(summary, outputs, *set_)->mask_origin(), "mixed");
  outputs.pop_back();
  EXPECT_FALSE(RunLesionSummary(summary, outputs, *set_).ok());
}

}  // namespace
}  // namespace dermis
