// The network, its gradients and the optimiser against real PyTorch: goldens by make_goldens.py,
// which also says by which formula both sides draw the weights.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/safetensors.h"
#include "worker/models/model.h"
#include "worker/models/seed_cnn.h"
#include "worker/training/optimizer.h"
#include "worker/training/seed_cnn_step.h"

namespace dermis {
namespace {

constexpr uint32_t kSize = 8, kBatch = 4;

std::vector<float> Formula(uint32_t k, uint64_t count, double scale, double offset) {
  std::vector<float> values(count);
  for (uint64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(offset + scale * std::sin(0.37 * static_cast<double>(i) + k));
  }
  return values;
}

class SeedCnnParityTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* root = std::getenv("DERMIS_SOURCE_DIR");
    auto file = MappedFile::Open(
        absl::StrCat(root == nullptr ? "." : root, "/tests/parity/training/seed_cnn.safetensors"));
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    auto parsed = ParseSafetensors(file_->bytes());
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    golden_ = *std::move(parsed);

    model_.layout = *LayoutOf(v1::MODEL_KIND_SEED_CNN, kSize, 2);
    uint32_t k = 0;
    auto draw = [&k](const std::vector<ParameterSpec>& specs, std::vector<float>& values) {
      for (const ParameterSpec& spec : specs) {
        const bool norm = absl::StartsWith(spec.name, "bn");
        double scale = 0.1, offset = 0;
        if (absl::EndsWith(spec.name, "running_mean")) scale = 0.3;
        if (absl::EndsWith(spec.name, "running_var")) scale = 0.4, offset = 1;
        if (absl::StartsWith(spec.name, "conv") && spec.shape.size() == 4) {
          scale = 1.5 / std::sqrt(9.0 * static_cast<double>(spec.shape[1]));
        }
        if (norm && absl::EndsWith(spec.name, ".weight")) scale = 0.2, offset = 1;
        const std::vector<float> drawn = Formula(k++, spec.count, scale, offset);
        values.insert(values.end(), drawn.begin(), drawn.end());
      }
    };
    draw(model_.layout.parameters, model_.parameters);
    draw(model_.layout.statistics, model_.statistics);
  }

  std::vector<float> Golden(const std::string& name) const {
    const auto it = golden_.tensors.find(name);
    EXPECT_NE(it, golden_.tensors.end()) << name;
    if (it == golden_.tensors.end()) return {};
    std::vector<float> values(it->second.data.size() / sizeof(float));
    std::memcpy(values.data(), it->second.data.data(), it->second.data.size());
    return values;
  }

  std::unique_ptr<MappedFile> file_;
  SafetensorsView golden_;
  Model model_;
};

TEST_F(SeedCnnParityTest, EvaluationLogits_ArePyTorchs) {
  const std::vector<float> input = Golden("input"), logits = Golden("logits");
  const std::vector<float> graph = SeedCnnLogits(model_, input.data(), kBatch, v1::PRECISION_FP32);
  SeedCnnPass pass(model_.layout, kBatch, v1::PRECISION_FP32);
  SeedCnnStepWeights weights(model_.layout, v1::PRECISION_FP32);
  weights.Update(model_.parameters.data());
  std::copy(input.begin(), input.end(), pass.input());
  std::vector<float> fused(logits.size());
  const std::vector<uint32_t> labels = {0, 1, 0, 1};
  pass.Evaluate(weights, model_.statistics.data(), labels, fused.data());
  for (size_t i = 0; i < logits.size(); ++i) {
    EXPECT_NEAR(graph[i], logits[i], 1e-5 * (1 + std::abs(logits[i])));
    EXPECT_NEAR(fused[i], logits[i], 1e-5 * (1 + std::abs(logits[i])));
  }
}

TEST_F(SeedCnnParityTest, LossAndGradients_ArePyTorchs) {
  const std::vector<float> input = Golden("input");
  SeedCnnPass pass(model_.layout, kBatch, v1::PRECISION_FP32);
  SeedCnnStepWeights weights(model_.layout, v1::PRECISION_FP32);
  weights.Update(model_.parameters.data());
  std::copy(input.begin(), input.end(), pass.input());
  std::vector<float> gradients(model_.layout.parameter_count);
  std::vector<double> statistics(model_.layout.statistic_count);
  const std::vector<uint32_t> labels = {0, 1, 0, 1};
  const PassResult result =
      pass.Train(weights, labels, false, 1.0f / kBatch, gradients.data(), statistics.data());
  EXPECT_NEAR(result.loss / kBatch, Golden("training.loss")[0], 1e-4);
  for (const ParameterSpec& spec : model_.layout.parameters) {
    double norm = 0, projection = 0;
    for (uint64_t i = 0; i < spec.count; ++i) {
      const double g = gradients[spec.offset + i];
      norm += g * g;
      projection += g * std::cos(static_cast<double>(i));
    }
    const std::vector<float> golden = Golden("training.gradient." + spec.name);
    ASSERT_EQ(golden.size(), 2u) << spec.name;
    EXPECT_NEAR(std::sqrt(norm), golden[0], 2e-3 * golden[0] + 1e-6) << spec.name;
    EXPECT_NEAR(projection, golden[1],
                2e-3 * golden[0] * std::sqrt(static_cast<double>(spec.count)) / 4 + 1e-6)
        << spec.name;
  }
}

TEST_F(SeedCnnParityTest, TwentyRmspropSteps_ArePyTorchs) {
  v1::OptimizerSpec spec;
  v1::RmspropSpec& rmsprop = *spec.mutable_rmsprop();
  rmsprop.set_learning_rate(1e-3);
  rmsprop.set_alpha(0.9);
  rmsprop.set_epsilon(1e-7);
  rmsprop.set_decay(1e-2);
  rmsprop.set_weight_decay(1e-4);  // lambda; torch's weight_decay is 2 lambda.
  std::vector<float> weights = Golden("rmsprop.initial"), square(weights.size());
  for (uint32_t step = 0; step < 20; ++step) {
    const std::vector<float> gradient = Formula(200 + step, weights.size(), 0.01, 0);
    float* const slots[] = {square.data()};
    OptimizerStep(spec, BaseLearningRate(spec, step, 1), step, true, gradient.data(),
                  weights.size(), weights.data(), slots);
  }
  const std::vector<float> final_weights = Golden("rmsprop.final"),
                           final_square = Golden("rmsprop.square");
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_NEAR(weights[i], final_weights[i], 1e-6);
    EXPECT_NEAR(square[i], final_square[i], 1e-5 * final_square[i] + 1e-12);
  }
}

}  // namespace
}  // namespace dermis
