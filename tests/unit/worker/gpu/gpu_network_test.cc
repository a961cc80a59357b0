// The networks of a GPU against the processor's passes, which are held against PyTorch.
#include "worker/gpu/gpu_network.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/philox.h"
#include "tests/unit/worker/gpu/devices.h"
#include "worker/models/init.h"
#include "worker/models/model.h"
#include "worker/training/pass.h"

namespace dermis {
namespace {

constexpr uint32_t kBatch = 8, kClasses = 3;
constexpr uint64_t kSeed = 9, kStep = 21;
const std::vector<uint32_t> kLabels = {0, 1, 2, 1, 0, 0, 2, 1};

float Noise(uint64_t a, uint64_t i) {
  return ToUnitFloat(PhiloxBlock(14, Purpose::kTest, a, 0, static_cast<uint32_t>(i))[0]);
}

Model TestModel(v1::ModelKind kind, v1::Stem stem, uint32_t size) {
  Model model;
  model.layout = *LayoutOf(kind, size, kClasses, stem);
  InitializeModel(11, model);
  // Away from the kinks of ReLU, as in resnet_step_test: two arithmetics must not fall on two sides.
  for (const ParameterSpec& spec : model.layout.parameters) {
    if (spec.draw != Draw::kConstant || kind == v1::MODEL_KIND_SEED_CNN) continue;
    const bool scale = absl::EndsWith(spec.name, ".weight");
    for (uint64_t i = 0; i < spec.count; ++i) {
      const float u = Noise(1, spec.offset + i);
      model.parameters[spec.offset + i] =
          scale ? 0.3f + 0.2f * u : (Noise(2, spec.offset + i) < 0.5f ? 1.0f : -1.0f) * (0.9f + 0.5f * u);
    }
  }
  for (size_t i = 0; i < model.statistics.size(); ++i) model.statistics[i] += 0.2f * Noise(3, i);
  return model;
}

std::vector<float> TestInput(uint32_t size) {
  std::vector<float> input(size_t{kBatch} * size * size * 3);
  for (size_t i = 0; i < input.size(); ++i) input[i] = 4 * Noise(4, i) - 2;
  return input;
}

struct Outcome {
  PassResult result;
  std::vector<float> gradients;
  std::vector<double> statistics;
  std::vector<float> logits;
};

Outcome OnProcessor(const Model& model, v1::Precision precision, bool dropout, const Loss& loss) {
  at::set_num_threads(1);
  const auto pass = MakeTrainingPass(model.layout, kBatch, precision, loss);
  const auto weights = MakeStepWeights(model.layout, precision);
  weights->Update(model.parameters.data(), model.statistics.data());
  const std::vector<float> input = TestInput(model.layout.size);
  std::copy(input.begin(), input.end(), pass->input());
  for (uint32_t i = 0; i < kBatch; ++i) pass->DrawDropout(kSeed, kStep, 100 + i, i);
  Outcome outcome;
  outcome.gradients.resize(model.layout.parameter_count);
  outcome.statistics.resize(model.layout.statistic_count);
  outcome.logits.resize(kBatch * kClasses);
  outcome.result = pass->Train(*weights, kLabels, dropout, 1.0f / kBatch, outcome.gradients.data(),
                               outcome.statistics.data());
  pass->Evaluate(*weights, model.statistics.data(), kLabels, outcome.logits.data());
  return outcome;
}

// Memory of a device that holds a copy.
template <typename T>
class Copied {
 public:
  Copied(Device& device, const std::vector<T>& values) : device_(device), count_(values.size()) {
    memory_ = *device.Allocate(count_ * sizeof(T));
    EXPECT_TRUE(device.Copy(memory_, values.data(), count_ * sizeof(T)).ok());
    EXPECT_TRUE(device.Finish().ok());
  }
  ~Copied() { device_.Free(memory_); }
  T* get() const { return static_cast<T*>(memory_); }
  std::vector<T> Read() const {
    std::vector<T> values(count_);
    EXPECT_TRUE(device_.Copy(values.data(), memory_, count_ * sizeof(T)).ok());
    EXPECT_TRUE(device_.Finish().ok());
    return values;
  }

 private:
  Device& device_;
  const size_t count_;
  void* memory_;
};

// replays: so many more times, recorded where the device records.
Outcome OnDevice(Device& device, const Model& model, v1::Precision precision, bool dropout,
                 const Loss& loss, int replays = 0) {
  const auto made = MakeGpuNetwork(device, model.layout, precision, loss);
  EXPECT_TRUE(made.ok()) << made.status();
  GpuNetwork& network = **made;
  std::vector<uint32_t> images(kBatch);
  for (uint32_t i = 0; i < kBatch; ++i) images[i] = 100 + i;
  const Copied<float> parameters(device, model.parameters), running(device, model.statistics);
  const Copied<uint32_t> labels(device, kLabels), ids(device, images);
  const Copied<DeviceStep> step(device, {{static_cast<uint32_t>(kStep), 1.0f / kBatch}});
  const Copied<float> gradients(device, std::vector<float>(model.layout.parameter_count, -7));
  const Copied<double> statistics(device, std::vector<double>(model.layout.statistic_count, -7));
  const Copied<double> losses(device, std::vector<double>(kBatch, -7));
  const Copied<uint32_t> correct(device, std::vector<uint32_t>(kBatch, 7));
  const Copied<float> logits(device, std::vector<float>(kBatch * kClasses, -7));
  const torch::Tensor input = network.NewInput(kBatch);
  const std::vector<float> values = TestInput(model.layout.size);
  // NHWC, as it lies in memory.
  input.permute({0, 2, 3, 1}).copy_(torch::from_blob(const_cast<float*>(values.data()),
                                                     {kBatch, model.layout.size, model.layout.size, 3}));
  const auto queue = [&]() -> absl::Status {
    absl::Status status = network.SetWeights(parameters.get());
    if (status.ok()) status = network.SetRunning(running.get());
    const std::optional<uint64_t> seed = dropout ? std::optional<uint64_t>(kSeed) : std::nullopt;
    if (status.ok()) {
      status = network.Train({input, labels.get(), ids.get(), step.get()}, seed,
                             {gradients.get(), statistics.get(), losses.get(), correct.get()});
    }
    if (status.ok()) status = network.Evaluate(input, logits.get());
    return status;
  };
  absl::Status status = queue();
  EXPECT_TRUE(status.ok()) << status;
  if (replays > 0) {
    EXPECT_TRUE(device.Finish().ok());
    auto graph = device.Record(queue);
    EXPECT_TRUE(graph.ok()) << graph.status();
    for (int k = 0; graph.ok() && k < replays; ++k) {
      status = *graph != nullptr ? (*graph)->Replay() : queue();
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_TRUE(device.Finish().ok());
    }
  }
  Outcome outcome = {{}, gradients.Read(), statistics.Read(), logits.Read()};
  for (double l : losses.Read()) outcome.result.loss += l;
  for (uint32_t c : correct.Read()) outcome.result.correct += c;
  return outcome;
}

double Norm(const float* a, uint64_t n) {
  double sum = 0;
  for (uint64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * a[i];
  return std::sqrt(sum);
}

// Of each tensor of the gradient, against itself or a thousandth of the whole.
void ExpectNear(const ModelLayout& layout, const Outcome& is, const Outcome& expected,
                double tolerance) {
  EXPECT_NEAR(is.result.loss, expected.result.loss, tolerance * expected.result.loss);
  const double floor = 1e-3 * Norm(expected.gradients.data(), expected.gradients.size());
  for (const ParameterSpec& spec : layout.parameters) {
    std::vector<float> difference(spec.count);
    for (uint64_t i = 0; i < spec.count; ++i) {
      difference[i] = is.gradients[spec.offset + i] - expected.gradients[spec.offset + i];
    }
    const double size = std::max(floor, Norm(expected.gradients.data() + spec.offset, spec.count));
    EXPECT_LT(Norm(difference.data(), spec.count) / size, 10 * tolerance) << spec.name;
  }
  for (size_t i = 0; i < expected.statistics.size(); ++i) {
    ASSERT_NEAR(is.statistics[i], expected.statistics[i],
                10 * tolerance * (1 + std::abs(expected.statistics[i])))
        << i;
  }
  double largest = 0;
  for (float v : expected.logits) largest = std::max(largest, std::abs(static_cast<double>(v)));
  for (size_t i = 0; i < expected.logits.size(); ++i) {
    EXPECT_NEAR(is.logits[i], expected.logits[i], tolerance * largest) << i;
  }
}

class GpuNetworkTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Device> device_ = OpenTestDevice(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Devices, GpuNetworkTest, testing::ValuesIn(TestDevices()), NameOf);

TEST_P(GpuNetworkTest, SeedCnn_IsThePassOfTheProcessor) {
  const Model model = TestModel(v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, 32);
  ExpectNear(model.layout, OnDevice(*device_, model, v1::PRECISION_FP32, false, {}),
             OnProcessor(model, v1::PRECISION_FP32, false, {}), 1e-4);
}

TEST_P(GpuNetworkTest, SeedCnn_WithDropoutAndWeightedLoss_IsThePassOfTheProcessor) {
  const Model model = TestModel(v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, 32);
  const Loss loss = {.smoothing = 0.1, .class_weights = {0.5, 1, 2}};
  ExpectNear(model.layout, OnDevice(*device_, model, v1::PRECISION_FP32, true, loss),
             OnProcessor(model, v1::PRECISION_FP32, true, loss), 1e-4);
}

TEST_P(GpuNetworkTest, ResNet18_WithSmallStem_IsThePassOfTheProcessor) {
  const Model model = TestModel(v1::MODEL_KIND_RESNET18, v1::STEM_SMALL, 16);
  ExpectNear(model.layout, OnDevice(*device_, model, v1::PRECISION_FP32, false, {}),
             OnProcessor(model, v1::PRECISION_FP32, false, {}), 1e-4);
}

TEST_P(GpuNetworkTest, ResNet18_WithPooledStem_IsThePassOfTheProcessor) {
  const Model model = TestModel(v1::MODEL_KIND_RESNET18, v1::STEM_IMAGENET, 64);
  ExpectNear(model.layout, OnDevice(*device_, model, v1::PRECISION_FP32, false, {}),
             OnProcessor(model, v1::PRECISION_FP32, false, {}), 1e-4);
}

TEST_P(GpuNetworkTest, ResNet50_IsThePassOfTheProcessor) {
  const Model model = TestModel(v1::MODEL_KIND_RESNET50, v1::STEM_IMAGENET, 64);
  ExpectNear(model.layout, OnDevice(*device_, model, v1::PRECISION_FP32, false, {}),
             // Of a hundred maps some pixel lies at ReLU's kink, and falls to the other side.
             OnProcessor(model, v1::PRECISION_FP32, false, {}), 1e-3);
}

TEST_P(GpuNetworkTest, FrozenLayers_HaveNoGradient_AndKeepTheirStatistics) {
  for (const char* before : {"layer2", "fc"}) {
    Model model = TestModel(v1::MODEL_KIND_RESNET18, v1::STEM_IMAGENET, 64);
    ASSERT_TRUE(FreezeBefore(before, model.layout).ok());
    ExpectNear(model.layout, OnDevice(*device_, model, v1::PRECISION_FP32, false, {}),
               OnProcessor(model, v1::PRECISION_FP32, false, {}), 1e-4);
  }
}

// A wrong formula is far off; roundings to eight bits in twenty layers are not.
TEST_P(GpuNetworkTest, Bf16_IsNearFp32) {
  for (const auto& [kind, stem, size] :
       {std::tuple{v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, 32u},
        {v1::MODEL_KIND_RESNET18, v1::STEM_IMAGENET, 64u}}) {
    const Model model = TestModel(kind, stem, size);
    const Outcome is = OnDevice(*device_, model, v1::PRECISION_BF16, false, {}),
                  expected = OnProcessor(model, v1::PRECISION_FP32, false, {});
    EXPECT_NEAR(is.result.loss, expected.result.loss, 0.03 * expected.result.loss);
    double product = 0;
    for (size_t i = 0; i < is.gradients.size(); ++i) {
      product += static_cast<double>(is.gradients[i]) * expected.gradients[i];
    }
    const uint64_t n = is.gradients.size();
    EXPECT_GT(product / Norm(is.gradients.data(), n) / Norm(expected.gradients.data(), n), 0.97);
  }
}

TEST_P(GpuNetworkTest, Bits_AreTheSame_InASecondRun_AndReplayed) {
  const Model seed = TestModel(v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, 32);
  const Model resnet = TestModel(v1::MODEL_KIND_RESNET18, v1::STEM_IMAGENET, 64);
  for (const Model* model : {&seed, &resnet}) {
    for (const v1::Precision precision : {v1::PRECISION_FP32, v1::PRECISION_BF16}) {
      const Outcome first = OnDevice(*device_, *model, precision, true, {});
      const Outcome second = OnDevice(*device_, *model, precision, true, {}, 3);
      EXPECT_EQ(first.gradients, second.gradients);
      EXPECT_EQ(first.statistics, second.statistics);
      EXPECT_EQ(first.logits, second.logits);
      EXPECT_EQ(first.result.loss, second.result.loss);
    }
  }
}

}  // namespace
}  // namespace dermis
