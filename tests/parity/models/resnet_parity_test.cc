// ResNets against real torchvision: goldens by make_goldens.py, which also says by which formula
// both sides draw the weights.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include <torch/types.h>

#include "common/safetensors.h"
#include "worker/models/model.h"
#include "worker/models/resnet_graph.h"
#include "worker/plan/inference_plan.h"
#include "worker/training/pass.h"

namespace dermis {
namespace {

constexpr uint32_t kBatch = 4, kClasses = 5;
const std::vector<uint32_t> kLabels = {0, 1, 2, 3};

// 2 hash(i, k) - 1
double Signed(uint32_t k, uint64_t i) {
  uint32_t h = static_cast<uint32_t>(i) + k * 0x9E3779B9u;
  h ^= h >> 16;
  h *= 0x85EBCA6Bu;
  h ^= h >> 13;
  h *= 0xC2B2AE35u;
  h ^= h >> 16;
  return 2 * (static_cast<double>(h >> 8) * 0x1.0p-24) - 1;
}

double Value(const ParameterSpec& spec, uint32_t features, double v) {
  if (absl::StartsWith(spec.name, "fc.")) return v / std::sqrt(static_cast<double>(features));
  if (spec.shape.size() == 4) {
    return v * std::sqrt(6.0 / static_cast<double>(spec.shape[1] * spec.shape[2] * spec.shape[3]));
  }
  if (absl::EndsWith(spec.name, ".weight")) return 0.4 + 0.1 * v;
  if (absl::EndsWith(spec.name, ".bias")) return (v < 0 ? -1 : 1) * (0.9 + 0.5 * std::abs(v));
  return absl::EndsWith(spec.name, "running_mean") ? 0.3 * v : 1 + 0.4 * v;
}

struct Summary {
  double norm = 0, projection = 0;
  template <typename Get>
  Summary(uint64_t count, Get get) {
    for (uint64_t i = 0; i < count; ++i) {
      const double v = get(i);
      norm += v * v;
      projection += v * std::cos(static_cast<double>(i));
    }
    norm = std::sqrt(norm);
  }
};

class ResNetParityTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    const char* root = std::getenv("DERMIS_SOURCE_DIR");
    auto file = MappedFile::Open(absl::StrCat(root == nullptr ? "." : root, "/tests/parity/models/",
                                              GetParam(), ".safetensors"));
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    auto parsed = ParseSafetensors(file_->bytes());
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    golden_ = *std::move(parsed);
    uint32_t size = 0, input = 0;
    ASSERT_TRUE(absl::SimpleAtoi(golden_.metadata["size"], &size));
    ASSERT_TRUE(absl::SimpleAtoi(golden_.metadata["input"], &input));
    const std::string name = GetParam();
    const v1::ModelKind kind = absl::StartsWith(name, "resnet18")   ? v1::MODEL_KIND_RESNET18
                               : absl::StartsWith(name, "resnet34") ? v1::MODEL_KIND_RESNET34
                                                                    : v1::MODEL_KIND_RESNET50;
    model_.layout = *LayoutOf(kind, size, kClasses,
                              absl::EndsWith(name, "small") ? v1::STEM_SMALL : v1::STEM_IMAGENET);
    model_.pixel_deviation = 1;
    const uint32_t features = static_cast<uint32_t>(model_.layout.parameter("fc.weight").shape[1]);
    uint32_t k = 0;
    auto draw = [&](const std::vector<ParameterSpec>& specs, std::vector<float>& values) {
      for (const ParameterSpec& spec : specs) {
        for (uint64_t i = 0; i < spec.count; ++i) {
          values.push_back(static_cast<float>(Value(spec, features, Signed(k, i))));
        }
        ++k;
      }
    };
    draw(model_.layout.parameters, model_.parameters);
    draw(model_.layout.statistics, model_.statistics);
    for (uint64_t i = 0; i < uint64_t{kBatch} * size * size * 3; ++i) {
      input_.push_back(static_cast<float>(1.5 * Signed(input, i)));
    }
  }

  std::vector<double> Golden(const std::string& name) const {
    const auto it = golden_.tensors.find(name);
    EXPECT_NE(it, golden_.tensors.end()) << name;
    if (it == golden_.tensors.end()) return {};
    std::vector<double> values(it->second.data.size() / sizeof(double));
    std::memcpy(values.data(), it->second.data.data(), it->second.data.size());
    return values;
  }

  // Relative to the largest of them.
  static void ExpectNear(const std::vector<float>& values, const std::vector<double>& golden,
                         double tolerance) {
    ASSERT_EQ(values.size(), golden.size());
    double largest = 0;
    for (double g : golden) largest = std::max(largest, std::abs(g));
    for (size_t i = 0; i < golden.size(); ++i) {
      EXPECT_NEAR(values[i], golden[i], tolerance * largest) << i;
    }
  }

  // Rows of the map that a norm sees.
  double RowsOf(const std::string& name) const {
    const bool pooled = model_.layout.stem == v1::STEM_IMAGENET;
    if (absl::StartsWith(name, "bn1."))
      return kBatch * std::pow(model_.layout.size / (pooled ? 2.0 : 1.0), 2);
    const int stage = name[5] - '0';
    double side = model_.layout.size / (pooled ? 4.0 : 1.0) / (1 << (stage - 1));
    // The first block of a stage halves the sides in its first 3x3 convolution: a bottleneck's
    // second.
    const bool before = absl::StrContains(name, ".0.bn1.") && stage > 1 &&
                        model_.layout.kind == v1::MODEL_KIND_RESNET50;
    if (before) side *= 2;
    return kBatch * side * side;
  }

  static std::string Names(const std::vector<ParameterSpec>& specs) {
    return absl::StrJoin(specs, " ",
                         [](std::string* out, const ParameterSpec& s) { out->append(s.name); });
  }

  std::unique_ptr<MappedFile> file_;
  SafetensorsView golden_;
  Model model_;
  std::vector<float> input_;  // NHWC
};

TEST_P(ResNetParityTest, NamesAndTheirOrder_AreTorchvisions) {
  EXPECT_EQ(Names(model_.layout.parameters), golden_.metadata["parameters"]);
  EXPECT_EQ(Names(model_.layout.statistics), golden_.metadata["statistics"]);
}

TEST_P(ResNetParityTest, EvaluationLogits_OfGraphPassAndPlan_AreTorchvisions) {
  const std::vector<double> golden = Golden("evaluation.logits");
  const int64_t size = model_.layout.size;
  const torch::Tensor x =
      torch::from_blob(input_.data(), {kBatch, size, size, 3}).permute({0, 3, 1, 2});
  const torch::Tensor graph = ResNetForward(model_, x).logits.contiguous();
  ExpectNear({graph.data_ptr<float>(), graph.data_ptr<float>() + graph.numel()}, golden, 1e-5);

  const auto pass = MakeTrainingPass(model_.layout, kBatch, v1::PRECISION_FP32);
  const auto weights = MakeStepWeights(model_.layout, v1::PRECISION_FP32);
  weights->Update(model_.parameters.data(), model_.statistics.data());
  std::copy(input_.begin(), input_.end(), pass->input());
  std::vector<float> logits(golden.size());
  pass->Evaluate(*weights, model_.statistics.data(), kLabels, logits.data());
  ExpectNear(logits, golden, 1e-5);

  const auto plan = MakeInferencePlan(model_.layout.kind, SerializeModel(model_),
                                      model_.layout.size, v1::PRECISION_FP32);
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::copy(input_.begin(), input_.end(), (*plan)->input());
  ASSERT_TRUE((*plan)->Run(kBatch, logits.data()).ok());
  ExpectNear(logits, golden, 1e-5);
}

TEST_P(ResNetParityTest, TrainingLogitsLossGradientsAndStatistics_AreTorchvisions) {
  const auto pass = MakeTrainingPass(model_.layout, kBatch, v1::PRECISION_FP32);
  const auto weights = MakeStepWeights(model_.layout, v1::PRECISION_FP32);
  weights->Update(model_.parameters.data(), model_.statistics.data());
  std::copy(input_.begin(), input_.end(), pass->input());
  std::vector<float> gradients(model_.layout.parameter_count);
  std::vector<double> statistics(model_.layout.statistic_count);
  const PassResult result =
      pass->Train(*weights, kLabels, false, 1.0f / kBatch, gradients.data(), statistics.data());
  EXPECT_NEAR(result.loss / kBatch, Golden("training.loss")[0], 1e-5);

  // The pass shows no logits: those of a batch norm whose running statistics are the batch's.
  std::vector<float> now(statistics.begin(), statistics.end()), logits(kBatch * kClasses);
  pass->Evaluate(*weights, now.data(), kLabels, logits.data());
  ExpectNear(logits, Golden("training.logits"), 1e-5);

  const std::vector<double> golden = Golden("training.gradients");
  for (size_t p = 0; p < model_.layout.parameters.size(); ++p) {
    const ParameterSpec& spec = model_.layout.parameters[p];
    const Summary mine(spec.count, [&](uint64_t i) { return gradients[spec.offset + i]; });
    const double norm = golden[2 * p];
    EXPECT_NEAR(mine.norm, norm, 1e-4 * norm) << spec.name;
    EXPECT_NEAR(mine.projection, golden[2 * p + 1], 1e-4 * norm) << spec.name;
  }

  const std::vector<double> running = Golden("training.running");
  const double momentum = model_.layout.batch_norm_momentum;
  for (size_t s = 0; s < model_.layout.statistics.size(); ++s) {
    const ParameterSpec& spec = model_.layout.statistics[s];
    // torchvision keeps the unbiased variance, the pass gives the biased one.
    const double rows = RowsOf(spec.name);
    const double unbiased = absl::EndsWith(spec.name, "running_var") ? rows / (rows - 1) : 1;
    const Summary mine(spec.count, [&](uint64_t i) {
      return (1 - momentum) * static_cast<double>(model_.statistics[spec.offset + i]) +
             momentum * unbiased * statistics[spec.offset + i];
    });
    EXPECT_NEAR(mine.norm, running[2 * s], 1e-5 * running[2 * s]) << spec.name;
    EXPECT_NEAR(mine.projection, running[2 * s + 1], 1e-5 * running[2 * s]) << spec.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, ResNetParityTest,
                         testing::Values("resnet18-imagenet", "resnet18-small", "resnet34-imagenet",
                                         "resnet34-small", "resnet50-imagenet", "resnet50-small"),
                         [](const auto& info) {
                           std::string name = info.param;
                           name[8] = '_';
                           return name;
                         });

}  // namespace
}  // namespace dermis
