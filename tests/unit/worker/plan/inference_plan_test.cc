#include "worker/plan/inference_plan.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "common/philox.h"
#include "tests/unit/worker/plan/model_bytes.h"
#include "worker/plan/reference_forward.h"
#include "worker/plan/seed_cnn_weights.h"

namespace dermis {
namespace {

std::unique_ptr<InferencePlan> MakePlan(uint32_t size = 32, uint32_t classes = 2,
                                        v1::Precision precision = v1::PRECISION_FP32) {
  auto plan = MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, ModelBytes(MakeTestModel(1, size, classes)),
                                size, precision);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

std::vector<float> Image(uint32_t index, uint32_t size) {
  std::vector<float> image(size_t{size} * size * 3);
  for (uint32_t i = 0; i < image.size(); ++i) {
    image[i] = 4 * ToUnitFloat(PhiloxBlock(7, Purpose::kTest, index, 1, i)[0]) - 2;
  }
  return image;
}

// Logits of images first, first + 1, ... run as one batch.
std::vector<float> RunImages(InferencePlan& plan, uint32_t first, uint32_t count) {
  for (uint32_t b = 0; b < count; ++b) {
    const std::vector<float> image = Image(first + b, plan.size());
    std::copy(image.begin(), image.end(), plan.input() + b * image.size());
  }
  std::vector<float> logits(count * plan.classes());
  const absl::Status status = plan.Run(count, logits.data());
  EXPECT_TRUE(status.ok()) << status;
  return logits;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

double LargestDifference(uint32_t size, uint32_t classes, v1::Precision precision) {
  const auto plan = MakePlan(size, classes, precision);
  const auto weights = ReadSeedCnnWeights(ModelBytes(MakeTestModel(1, size, classes)), size);
  std::vector<float> inputs;
  for (uint32_t b = 0; b < 3; ++b) {
    const auto image = Image(b, size);
    inputs.insert(inputs.end(), image.begin(), image.end());
  }
  const auto expected = ReferenceForward(*weights, 3, inputs.data());
  const auto logits = RunImages(*plan, 0, 3);
  double largest = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - logits[i]));
  }
  return difference / largest;
}

TEST(InferencePlan, Fp32_AgreesWithTheGraph_ForAnySizeAndClasses) {
  EXPECT_LT(LargestDifference(32, 2, v1::PRECISION_FP32), 5e-6);
  EXPECT_LT(LargestDifference(16, 5, v1::PRECISION_FP32), 5e-6);
  EXPECT_LT(LargestDifference(40, 2, v1::PRECISION_FP32), 5e-6);
}

TEST(InferencePlan, Bf16_IsRoundedButNear) {
  const double difference = LargestDifference(32, 2, v1::PRECISION_BF16);
  EXPECT_LT(difference, 0.05);
  EXPECT_GT(difference, 1e-6);  // Else nothing was rounded.
}

TEST(InferencePlan, IsBitwiseEqual_AtAnyBatchPositionAndSize) {
  for (v1::Precision precision : {v1::PRECISION_FP32, v1::PRECISION_BF16}) {
    const auto plan = MakePlan(32, 2, precision);
    const std::vector<float> all = RunImages(*plan, 0, 64);
    for (uint32_t count = 1; count <= 64; ++count) {
      const uint32_t first = count * 7 % (65 - count);
      const std::vector<float> part(all.begin() + first * 2, all.begin() + (first + count) * 2);
      EXPECT_TRUE(SameBits(RunImages(*plan, first, count), part)) << first << " + " << count;
    }
  }
}

TEST(InferencePlan, IsBitwiseEqual_InOtherThreadsAndWithMoreOpenMpThreads) {
  const auto plan = MakePlan();
  const std::vector<float> expected = RunImages(*plan, 0, 20);
  std::vector<std::vector<float>> results(3);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&results, t] {
      omp_set_num_threads(static_cast<int>(t) + 1);
      const auto own = MakePlan();
      results[t] = RunImages(*own, 0, 20);
      EXPECT_EQ(omp_get_max_threads(), static_cast<int>(t) + 1);  // Left as it was.
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_TRUE(SameBits(result, expected));
}

TEST(InferencePlan, StaleRowsBeyondCount_DoNotMatter) {
  const auto plan = MakePlan();
  const std::vector<float> expected = RunImages(*plan, 0, 3);
  RunImages(*plan, 0, 64);
  const size_t image = size_t{32} * 32 * 3;
  std::fill(plan->input() + 3 * image, plan->input() + 64 * image,
            std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(SameBits(RunImages(*plan, 0, 3), expected));
}

std::string WhyNot(const TestModel& model, uint32_t size = 32) {
  const auto plan = MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, ModelBytes(model), size,
                                      v1::PRECISION_FP32);
  EXPECT_FALSE(plan.ok());
  return plan.status().ToString();
}

TEST(InferencePlan, BadModelFiles_AreRefusedByName) {
  TestModel missing = MakeTestModel(1, 32, 2);
  missing.erase("bn3.running_var");
  EXPECT_NE(WhyNot(missing).find("bn3.running_var"), std::string::npos);

  TestModel nan = MakeTestModel(1, 32, 2);
  nan["conv4.weight"].values[17] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(WhyNot(nan).find("conv4.weight"), std::string::npos);

  EXPECT_NE(WhyNot(MakeTestModel(1, 16, 2), 32).find("dense.weight"), std::string::npos);
  EXPECT_NE(WhyNot(MakeTestModel(1, 32, 2), 33).find("33"), std::string::npos);
  EXPECT_FALSE(MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, "not a model", 32, v1::PRECISION_FP32).ok());
}

}  // namespace
}  // namespace dermis
