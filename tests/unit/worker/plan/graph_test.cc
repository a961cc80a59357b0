// The inference plan against the model's own Torch graph, through the model file that training writes.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/philox.h"
#include "worker/models/model.h"
#include "worker/models/resnet_graph.h"
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

// As after training: scales and statistics that are neither 0 nor 1.
Model MakeResNet(v1::ModelKind kind, uint32_t size, v1::Stem stem) {
  Model model;
  model.layout = *LayoutOf(kind, size, 3, stem);
  model.pixel_deviation = 1;
  InitializeModel(3, model);
  for (const ParameterSpec& spec : model.layout.parameters) {
    if (spec.draw != Draw::kConstant) continue;
    for (uint32_t i = 0; i < spec.count; ++i) {
      model.parameters[spec.offset + i] =
          0.6f * ToUnitFloat(PhiloxBlock(1, Purpose::kTest, spec.offset, 0, i)[0]);
    }
  }
  for (uint32_t i = 0; i < model.statistics.size(); ++i) {
    model.statistics[i] += 0.5f * ToUnitFloat(PhiloxBlock(1, Purpose::kTest, 1, 0, i)[0]);
  }
  return model;
}

double ResNetDifference(const Model& model, v1::Precision precision) {
  const int64_t size = model.layout.size;
  const auto plan = MakeInferencePlan(model.layout.kind, SerializeModel(model), model.layout.size,
                                      precision);
  EXPECT_TRUE(plan.ok()) << plan.status();
  if (!plan.ok()) return 1;
  constexpr uint32_t kCount = 5;
  std::vector<float> input(size_t{kCount} * size * size * 3);
  for (uint32_t i = 0; i < input.size(); ++i) {
    input[i] = 4 * ToUnitFloat(PhiloxBlock(2, Purpose::kTest, 0, 0, i)[0]) - 2;
  }
  std::copy(input.begin(), input.end(), (*plan)->input());
  std::vector<float> logits(kCount * 3), one(3);
  EXPECT_TRUE((*plan)->Run(kCount, logits.data()).ok());
  // An image alone has the bits that it has in a batch of any size.
  const int64_t pixels = size * size * 3;
  std::copy_n(input.begin() + 4 * pixels, pixels, (*plan)->input());
  EXPECT_TRUE((*plan)->Run(1, one.data()).ok());
  EXPECT_TRUE(std::equal(one.begin(), one.end(), logits.begin() + 12)) << ModelName(model.layout.kind);
  for (uint32_t count = 1; count <= 16; ++count) {
    for (uint32_t b = 0; b < count; ++b) {
      std::copy_n(input.begin() + (b + 1 == count ? 4 : 0) * pixels, pixels,
                  (*plan)->input() + b * pixels);
    }
    std::vector<float> batch(count * 3);
    EXPECT_TRUE((*plan)->Run(count, batch.data()).ok());
    EXPECT_TRUE(std::equal(one.begin(), one.end(), batch.end() - 3))
        << ModelName(model.layout.kind) << " " << count;
  }

  const torch::Tensor x =
      torch::from_blob(input.data(), {kCount, size, size, 3}).permute({0, 3, 1, 2});
  const torch::Tensor expected = ResNetForward(model, x).logits.contiguous();
  double largest = 0, difference = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double e = expected.data_ptr<float>()[i];
    largest = std::max(largest, std::abs(e));
    difference = std::max(difference, std::abs(e - logits[i]));
  }
  return difference / largest;
}

TEST(PlanAndGraph, OfResNets_AgreeInFp32_AreNearInBf16_AndOneImageHasTheBitsOfABatch) {
  for (const auto kind : {v1::MODEL_KIND_RESNET18, v1::MODEL_KIND_RESNET34, v1::MODEL_KIND_RESNET50}) {
    for (const auto stem : {v1::STEM_IMAGENET, v1::STEM_SMALL}) {
      const Model model = MakeResNet(kind, stem == v1::STEM_SMALL ? 24 : 96, stem);
      EXPECT_LT(ResNetDifference(model, v1::PRECISION_FP32), 1e-5) << ModelName(kind);
      EXPECT_LT(ResNetDifference(model, v1::PRECISION_BF16), 0.05) << ModelName(kind);
    }
  }
  // At the size of their publication, at which other kernels and chunks may be chosen.
  for (const auto kind : {v1::MODEL_KIND_RESNET18, v1::MODEL_KIND_RESNET50}) {
    const Model model = MakeResNet(kind, 224, v1::STEM_IMAGENET);
    EXPECT_LT(ResNetDifference(model, v1::PRECISION_FP32), 1e-5) << ModelName(kind);
  }
}

TEST(PlanAndGraph, OfResNets_BadFilesAreRefusedByName) {
  Model model = MakeResNet(v1::MODEL_KIND_RESNET18, 24, v1::STEM_SMALL);
  const auto why = [&](v1::ModelKind kind, uint32_t size) {
    return std::string(MakeInferencePlan(kind, SerializeModel(model), size, v1::PRECISION_FP32)
                           .status().message());
  };
  EXPECT_NE(why(v1::MODEL_KIND_RESNET34, 24).find("resnet18"), std::string::npos);
  EXPECT_NE(why(v1::MODEL_KIND_RESNET18, 32).find("24"), std::string::npos);
  model.parameters[model.layout.parameter("layer2.0.conv1.weight").offset] = NAN;
  EXPECT_NE(why(v1::MODEL_KIND_RESNET18, 24).find("layer2.0.conv1.weight"), std::string::npos);
}

}  // namespace
}  // namespace dermis
