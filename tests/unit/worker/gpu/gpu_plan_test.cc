// The GPU's inference plan against the processor's.
#include "worker/gpu/gpu_plan.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "common/philox.h"
#include "tests/unit/worker/gpu/devices.h"
#include "worker/models/model.h"

namespace dermis {
namespace {

constexpr uint32_t kBatch = 6;

std::string TestWeights(v1::ModelKind kind, v1::Stem stem, uint32_t size) {
  Model model;
  model.layout = *LayoutOf(kind, size, 2, stem);
  model.pixel_mean = 127;
  model.pixel_deviation = 64;
  InitializeModel(3, model);
  return SerializeModel(model);
}

void FillInput(InferencePlan& plan, uint32_t count, uint32_t first) {
  const uint32_t values = plan.size() * plan.size() * 3;
  for (uint32_t b = 0; b < count; ++b) {
    for (uint32_t i = 0; i < values; ++i) {
      plan.input()[b * values + i] =
          3 * ToUnitFloat(PhiloxBlock(1, Purpose::kTest, first + b, 0, i)[0]) - 1.5f;
    }
  }
}

class GpuPlanTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<GpuPlans> Plans() const {
    return std::make_unique<GpuPlans>(
        [name = GetParam()]() -> absl::StatusOr<std::unique_ptr<Device>> {
          return OpenTestDevice(name);
        },
        kBatch);
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, GpuPlanTest, testing::ValuesIn(TestDevices()), NameOf);

TEST_P(GpuPlanTest, Logits_AreTheProcessors) {
  for (const auto& [kind, stem, size] :
       {std::tuple{v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, 32u},
        {v1::MODEL_KIND_RESNET18, v1::STEM_SMALL, 32u},
        {v1::MODEL_KIND_RESNET18, v1::STEM_IMAGENET, 64u}}) {
    const std::string weights = TestWeights(kind, stem, size);
    const auto expected = MakeInferencePlan(kind, weights, size, v1::PRECISION_FP32);
    const auto plans = Plans();
    const auto is = plans->Make(kind, weights, size, v1::PRECISION_FP32);
    ASSERT_TRUE(is.ok()) << is.status();
    std::vector<float> a(6), b(6);
    FillInput(**expected, 3, 0);
    ASSERT_TRUE((*expected)->Run(3, a.data()).ok());
    FillInput(**is, 3, 0);
    ASSERT_TRUE((*is)->Run(3, b.data()).ok());
    const float largest = std::abs(*std::max_element(
        a.begin(), a.end(), [](float x, float y) { return std::abs(x) < std::abs(y); }));
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(b[i], a[i], 1e-4f * largest) << i;
    EXPECT_TRUE((*is)->pixel_facts().has_value());
  }
}

TEST_P(GpuPlanTest, Bits_DoNotDependOnPlaceCountOrPlan) {
  const std::string weights = TestWeights(v1::MODEL_KIND_RESNET18, v1::STEM_SMALL, 32);
  for (const v1::Precision precision : {v1::PRECISION_FP32, v1::PRECISION_BF16}) {
    // Two networks of one model.
    const auto plans = Plans(), others = Plans();
    const auto plan = *plans->Make(v1::MODEL_KIND_RESNET18, weights, 32, precision),
               other = *others->Make(v1::MODEL_KIND_RESNET18, weights, 32, precision);
    std::vector<float> all(10), last(2), again(10);
    FillInput(*plan, 5, 0);
    ASSERT_TRUE(plan->Run(5, all.data()).ok());
    FillInput(*plan, 1, 4);
    ASSERT_TRUE(plan->Run(1, last.data()).ok());
    FillInput(*other, 5, 0);
    ASSERT_TRUE(other->Run(5, again.data()).ok());
    EXPECT_EQ(last, std::vector<float>(all.begin() + 8, all.end()));
    EXPECT_EQ(again, all);
  }
}

TEST_P(GpuPlanTest, ManyThreads_ShareANetwork_AndGetTheirOwnLogits) {
  const std::string weights = TestWeights(v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, 32);
  const auto plans = Plans();
  const auto run = [&](uint32_t first) {
    const auto plan = *plans->Make(v1::MODEL_KIND_SEED_CNN, weights, 32, v1::PRECISION_FP32);
    std::vector<float> logits(4);
    for (int k = 0; k < 5; ++k) {
      FillInput(*plan, 2, first);
      EXPECT_TRUE(plan->Run(2, logits.data()).ok());
    }
    return logits;
  };
  std::vector<std::vector<float>> logits(6);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < logits.size(); ++t) threads.emplace_back([&, t] { logits[t] = run(t); });
  for (std::thread& thread : threads) thread.join();
  for (uint32_t t = 0; t < logits.size(); ++t) EXPECT_EQ(logits[t], run(t)) << t;
  EXPECT_NE(logits[0], logits[2]);
}

}  // namespace
}  // namespace dermis
