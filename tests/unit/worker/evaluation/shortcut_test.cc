#include "worker/evaluation/shortcut.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/lesion_tasks.h"
#include "worker/data/image_source.h"

namespace dermis {
namespace {

// Manifest alone: 40 images, the first 30 with a mask; two images a lesion.
class Manifest final : public ImageSet {
 public:
  Manifest() {
    manifest_.add_classes("benign");
    manifest_.add_classes("malignant");
    for (uint32_t i = 0; i < 40; ++i) {
      v1::ImageEntry& entry = *manifest_.add_images();
      entry.set_label(i / 2 % 2);
      entry.set_group("L" + std::to_string(i / 2));
      entry.set_has_mask(i < 30);
    }
  }
  absl::StatusOr<std::string_view> Pixels(uint32_t) const override {
    return absl::NotFoundError("");
  }
  absl::StatusOr<std::string_view> Mask(uint32_t) const override { return absl::NotFoundError(""); }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::NotFoundError("");
  }
};

class ShortcutTest : public testing::Test {
 protected:
  ShortcutTest() {
    data_.set = std::make_shared<Manifest>();
    data_.classes = 2;
    for (uint32_t i = 0; i < 40; ++i) {
      data_.labels.push_back(i / 2 % 2);
      data_.split.test.push_back(i);
    }
    task_.set_batch(7);
    task_.set_draws(500);
    task_.set_seed(1);
    v1::ExplanationSpec explanation;
    explanation.mutable_shortcut()->add_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
    for (const v1::Hide& hide : ShortcutVariants(explanation)) *task_.add_variants() = hide;
  }

  // The evaluations, by a model that knows the class from the surroundings and from the whole
  // alone.
  std::vector<std::shared_ptr<const v1::Payload>> Outputs() const {
    std::vector<std::shared_ptr<const v1::Payload>> outputs;
    for (const v1::TaskSpec& need : ShortcutNeeds(task_, 40, 30, "class")) {
      const v1::EvaluateTask& evaluate = need.evaluate();
      auto payload = std::make_shared<v1::Payload>();
      payload->mutable_evaluate()->set_classes(2);
      const bool knows =
          !evaluate.has_hide() || evaluate.hide().show() == v1::LESION_REGION_SURROUNDINGS;
      for (uint32_t i = evaluate.first(); i < evaluate.first() + evaluate.count(); ++i) {
        payload->mutable_evaluate()->add_images(i);
        payload->mutable_evaluate()->add_logits(0);
        payload->mutable_evaluate()->add_logits(knows ? static_cast<float>(data_.labels[i])
                                                      : std::sin(static_cast<float>(i * i)));
      }
      outputs.push_back(payload);
    }
    return outputs;
  }

  ImageData data_;
  v1::ShortcutTask task_;
};

TEST_F(ShortcutTest, SeesWhatTheModelKnowsWithoutTheLesion) {
  const auto result = RunShortcut(task_, Outputs(), data_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->images(), 30u) << "those with a mask";
  EXPECT_EQ(result->lesions(), 15u);
  ASSERT_EQ(result->areas_size(), 4);
  EXPECT_FALSE(result->areas(0).has_hide());
  EXPECT_EQ(result->areas(0).area(), 1);
  for (int i = 1; i < 4; ++i) {
    const v1::ShortcutArea& area = result->areas(i);
    if (area.hide().show() == v1::LESION_REGION_SURROUNDINGS) {
      EXPECT_EQ(area.low(), 1);
      EXPECT_EQ(area.high(), 1);
    } else {
      EXPECT_LT(area.low(), 0.5);
      EXPECT_GT(area.high(), area.area());
    }
  }
}

TEST_F(ShortcutTest, NeedsTheStudysOwnEvaluations_ThenEachVariants) {
  const std::vector<v1::TaskSpec> needs = ShortcutNeeds(task_, 40, 30, "class");
  // 6 of 40 images, 5 of 30 for each of three variants.
  ASSERT_EQ(needs.size(), 6u + 3 * 5);
  EXPECT_FALSE(needs[5].evaluate().has_hide());
  EXPECT_EQ(needs[5].evaluate().count(), 5u);
  EXPECT_EQ(needs[6].evaluate().hide().show(), v1::LESION_REGION_LESION);
  EXPECT_EQ(needs.back().evaluate().first(), 28u);
  EXPECT_EQ(needs.back().evaluate().count(), 2u);
}

TEST_F(ShortcutTest, RefusesMissingEvaluations_AndOneClassAlone) {
  auto outputs = Outputs();
  outputs.pop_back();
  EXPECT_EQ(RunShortcut(task_, outputs, data_).status().code(), absl::StatusCode::kInvalidArgument);
  data_.labels.assign(40, 0);
  EXPECT_EQ(RunShortcut(task_, Outputs(), data_).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace dermis
