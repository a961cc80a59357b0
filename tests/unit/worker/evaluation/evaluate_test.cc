#include "worker/evaluation/evaluate.h"

#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kSize = 4;

// Logits: the first input value, and the sum of all, of each image.
class FakePlan : public InferencePlan {
 public:
  explicit FakePlan(uint32_t max_batch) : max_batch_(max_batch) {
    input_.assign(size_t{max_batch} * kSize * kSize * 3, 1e9f);
  }
  uint32_t classes() const override { return 2; }
  uint32_t size() const override { return kSize; }
  uint32_t max_batch() const override { return max_batch_; }
  float* input() override { return input_.data(); }
  absl::Status Run(uint32_t count, float* logits) override {
    EXPECT_LE(count, max_batch_);
    runs.push_back(count);
    if (runs.size() > fail_after) return absl::InternalError("plan broke");
    constexpr size_t kValues = size_t{kSize} * kSize * 3;
    for (uint32_t b = 0; b < count; ++b) {
      const float* image = input_.data() + b * kValues;
      logits[2 * b] = image[0];
      logits[2 * b + 1] = std::accumulate(image, image + kValues, 0.f);
    }
    return absl::OkStatus();
  }

  std::vector<uint32_t> runs;
  size_t fail_after = 1000;

 private:
  const uint32_t max_batch_;
  std::vector<float> input_;
};

// 20 images, image i is filled with i; every second one is a test image.
ImageData Data() {
  ImageData data;
  data.size = kSize;
  data.classes = 2;
  for (uint32_t i = 0; i < 20; ++i) {
    data.pixels.insert(data.pixels.end(), kSize * kSize * 3, static_cast<uint8_t>(i));
    data.labels.push_back(i % 2);
    (i % 2 == 0 ? data.split.test : data.split.training).push_back(i);
  }
  data.mean = 3;
  data.deviation = 2;
  return data;
}

v1::EvaluateTask Task(uint32_t first, uint32_t count) {
  v1::EvaluateTask task;
  task.set_first(first);
  task.set_count(count);
  return task;
}

TEST(Evaluate, GivesLogitsOfTheTestImages_Normalised) {
  const ImageData data = Data();
  FakePlan plan(64);
  const auto output = RunEvaluate(Task(2, 3), data, plan);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->classes(), 2u);
  EXPECT_THAT(output->images(), ElementsAre(4, 6, 8));
  ASSERT_EQ(output->logits_size(), 6);
  const Normalisation normalise = NormalisationOf(data);
  for (int k = 0; k < 3; ++k) {
    EXPECT_EQ(output->logits(2 * k), normalise(static_cast<float>(4 + 2 * k)));
    EXPECT_NEAR(output->logits(2 * k + 1), 48 * ((4 + 2 * k) - 3) / 2.0, 1e-4);
  }
}

TEST(Evaluate, LastBatch_IsShorter_AndLeavesNoRowOfTheOneBefore) {
  const ImageData data = Data();
  FakePlan small(4), large(64);
  const auto a = RunEvaluate(Task(0, 10), data, small);
  const auto b = RunEvaluate(Task(0, 10), data, large);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_THAT(small.runs, ElementsAre(4, 4, 2));
  EXPECT_THAT(large.runs, ElementsAre(10));
  EXPECT_EQ(a->SerializeAsString(), b->SerializeAsString());
}

TEST(Evaluate, AnyCuttingIntoTasks_GivesTheSameLogits) {
  const ImageData data = Data();
  FakePlan plan(4);
  const auto whole = *RunEvaluate(Task(0, 10), data, plan);
  std::vector<float> logits;
  for (auto [first, count] : {std::pair(0u, 1u), std::pair(1u, 6u), std::pair(7u, 3u)}) {
    const auto part = *RunEvaluate(Task(first, count), data, plan);
    logits.insert(logits.end(), part.logits().begin(), part.logits().end());
  }
  EXPECT_EQ(logits, std::vector<float>(whole.logits().begin(), whole.logits().end()));
}

TEST(Evaluate, RangesBeyondTheTestSplit_AreRefused) {
  const ImageData data = Data();
  FakePlan plan(4);
  for (const auto& task : {Task(0, 0), Task(0, 11), Task(10, 1), Task(0xFFFFFFFF, 2)}) {
    EXPECT_EQ(RunEvaluate(task, data, plan).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(plan.runs.empty());
}

TEST(Evaluate, ModelOfAnotherShape_IsRefused) {
  ImageData data = Data();
  FakePlan plan(4);
  data.classes = 3;
  EXPECT_THAT(std::string(RunEvaluate(Task(0, 1), data, plan).status().message()),
              HasSubstr("2 classes"));
  data = Data();
  data.size = 2;
  EXPECT_FALSE(RunEvaluate(Task(0, 1), data, plan).ok());
}

TEST(Evaluate, PlansError_KeepsItsCode_AndSaysWhere) {
  const ImageData data = Data();
  FakePlan plan(4);
  plan.fail_after = 1;
  const auto output = RunEvaluate(Task(1, 8), data, plan);
  EXPECT_EQ(output.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(output.status().message()), HasSubstr("from 5: plan broke"));
}

}  // namespace
}  // namespace dermis
