// The inference plan against the model's own Torch graph, through the model file that training writes.
#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "common/philox.h"
#include "worker/models/model.h"
#include "worker/models/seed_cnn.h"
#include "worker/plan/inference_plan.h"

namespace dermis {
namespace {

Model MakeModel() {
  Model model;
  model.layout = *LayoutOf(v1::MODEL_KIND_SEED_CNN, 32, 2);
  model.pixel_mean = 120;
  model.pixel_deviation = 50;
  InitializeModel(3, model);
  // As after training: biases, scales and statistics that are neither 0 nor 1.
  for (uint32_t i = 0; i < model.parameters.size(); ++i) {
    model.parameters[i] +=
        0.02f * (ToUnitFloat(PhiloxBlock(1, Purpose::kTest, 0, 0, i)[0]) - 0.5f);
  }
  for (uint32_t i = 0; i < model.statistics.size(); ++i) {
    model.statistics[i] +=
        0.5f * (ToUnitFloat(PhiloxBlock(1, Purpose::kTest, 1, 0, i)[0]) - 0.5f);
  }
  return model;
}

double LargestDifference(v1::Precision precision) {
  const Model model = MakeModel();
  const auto plan =
      MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, SerializeModel(model), 32, precision);
  EXPECT_TRUE(plan.ok()) << plan.status();
  constexpr uint32_t kCount = 9;
  std::vector<float> input(size_t{kCount} * 32 * 32 * 3);
  for (uint32_t i = 0; i < input.size(); ++i) {
    input[i] = 4 * ToUnitFloat(PhiloxBlock(2, Purpose::kTest, 0, 0, i)[0]) - 2;
  }
  const std::vector<float> expected = SeedCnnLogits(model, input.data(), kCount, precision);
  std::copy(input.begin(), input.end(), (*plan)->input());
  std::vector<float> logits(expected.size());
  EXPECT_TRUE((*plan)->Run(kCount, logits.data()).ok());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, double{std::abs(expected[i])});
    difference = std::max(difference, double{std::abs(expected[i] - logits[i])});
  }
  return difference / largest;
}

TEST(PlanAndGraph, AgreeInFp32) { EXPECT_LT(LargestDifference(v1::PRECISION_FP32), 1e-5); }

TEST(PlanAndGraph, AreNearInBf16) { EXPECT_LT(LargestDifference(v1::PRECISION_BF16), 0.05); }

}  // namespace
}  // namespace dermis
