// DeepSHAP, integrated gradients and class activation maps against shap, captum and grad-cam:
// goldens by make_gradient_goldens.py, which also says by which formula both sides draw weights and
// images.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/parity/goldens.h"
#include "tests/unit/worker/explain/test_data.h"
#include "tools/report/picture.h"
#include "worker/models/activations.h"
#include "worker/models/cams.h"
#include "worker/models/gradients.h"
#include "worker/models/model.h"
#include "worker/models/resnet.h"

namespace dermis {
namespace {

constexpr uint32_t kSize = 16, kBackground = 8;

// hash(i, k), 24 bits.
double Unit(uint32_t k, uint64_t i) {
  uint32_t h = static_cast<uint32_t>(i) + k * 0x9E3779B9u;
  h ^= h >> 16;
  h *= 0x85EBCA6Bu;
  h ^= h >> 13;
  h *= 0xC2B2AE35u;
  h ^= h >> 16;
  return static_cast<double>(h >> 8) * 0x1.0p-24;
}

double Value(const ParameterSpec& spec, double v) {
  const std::string& name = spec.name;
  if (absl::EndsWith(name, "running_mean")) return 0.2 * v;
  if (absl::EndsWith(name, "running_var")) return 1 + 0.4 * v;
  if (spec.shape.size() == 4) {
    return v * std::sqrt(6.0 / static_cast<double>(spec.shape[1] * spec.shape[2] * spec.shape[3]));
  }
  if (spec.shape.size() == 2) {
    return 0.4 * std::sqrt(3.0 / static_cast<double>(spec.shape[1])) * v;
  }
  if (absl::StrContains(name, "bn") || absl::StrContains(name, "downsample.1")) {
    return absl::EndsWith(name, "weight") ? 1 + 0.3 * v : 0.2 * v;
  }
  return 0.1 * v;
}

struct Network {
  const char* name;
  v1::ModelKind kind;
  v1::Stem stem;
  double residual;  // The bound for it.
};

class GradientsParityTest : public testing::TestWithParam<Network> {
 protected:
  void SetUp() override {
    const absl::Status opened =
        golden_.Open(absl::StrCat("explain/golden/gradients-", GetParam().name, ".safetensors"));
    ASSERT_TRUE(opened.ok()) << opened;
    model_.layout = *LayoutOf(GetParam().kind, kSize, 2, GetParam().stem);
    model_.pixel_mean = 120;
    model_.pixel_deviation = 50;
    uint32_t k = 0;
    const auto draw = [&](const std::vector<ParameterSpec>& specs, std::vector<float>& values) {
      for (const ParameterSpec& spec : specs) {
        for (uint64_t i = 0; i < spec.count; ++i) {
          values.push_back(static_cast<float>(Value(spec, 2 * Unit(k, i) - 1)));
        }
        ++k;
      }
    };
    draw(model_.layout.parameters, model_.parameters);
    draw(model_.layout.statistics, model_.statistics);
    weights_ = SerializeModel(model_);

    data_ = TestImageData(2 + kBackground, kSize, kSize, kSize);
    for (uint32_t n = 0; n < 2 + kBackground; ++n) {
      for (size_t i = 0; i < data_.image_bytes(); ++i) {
        data_.pixels[n * data_.image_bytes() + i] =
            static_cast<uint8_t>(std::floor(256 * Unit(1000 + n, i)));
      }
      data_.labels.push_back(n % 2);
      if (n >= 2) data_.split.training.push_back(n);
    }
    data_.channel_mean = {141.5, 120.25, 99.0};
  }

  // 1e-4, but where the method itself magnifies rounding: there 5 times what the package in float
  // is off from itself in double.
  //
  // Integrated gradients of a ResNet: ReLU's slope jumps, and which values next to the kink fall on
  // its other side differs from program to program.
  //
  // Grad-CAM++ at the seed network's conv2 and conv4: its weights divide by 2 g^2 + S g^3 + 1e-6, S
  // the sum of a map. The paper takes maps after ReLU, whose S is never below 0. ELU's are: there
  // the denominator passes through 0 at g = -2 / S, and next to this pole a weight is large and
  // what rounding does to it, too. That the formula is the package's, poles and all, is what
  // CamsParity holds, where both sides read the same bits.
  double Tolerance(const std::string& name) const {
    const bool magnifies =
        (name == "integrated" && IsResNet(GetParam().kind)) ||
        (GetParam().kind == v1::MODEL_KIND_SEED_CNN &&
         (name == "cam.grad_cam_plus_plus.conv2" || name == "cam.grad_cam_plus_plus.conv4"));
    return magnifies ? std::max(1e-4, 5 * golden_.Doubles("float." + name)[0]) : 1e-4;
  }

  v1::PixelAttribution Run(v1::GradientTask task) const {
    task.mutable_model()->set_kind(GetParam().kind);
    GradientCache cache;
    auto result = RunGradient(task, data_, weights_, cache);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : v1::PixelAttribution();
  }

  Goldens golden_;
  Model model_;
  std::string weights_;
  ImageData data_;
};

// Largest difference over the largest golden value.
template <typename Values>
double Difference(const Values& values, const double* golden, size_t count) {
  EXPECT_EQ(static_cast<size_t>(values.size()), count);
  double largest = 0, difference = 0;
  for (size_t i = 0; i < std::min(count, static_cast<size_t>(values.size())); ++i) {
    largest = std::max(largest, std::abs(golden[i]));
    difference = std::max(difference, std::abs(values[static_cast<int>(i)] - golden[i]));
  }
  EXPECT_GT(largest, 1e-6) << "a golden that says nothing";
  return difference / largest;
}

TEST_P(GradientsParityTest, DeepShapIsShaps_AndAddsUp) {
  const std::pair<const char*, v1::OutputKind> outputs[] = {
      {"margin", v1::OUTPUT_KIND_MARGIN},
      {"logit", v1::OUTPUT_KIND_LOGIT},
      {"probability", v1::OUTPUT_KIND_PROBABILITY}};
  for (const auto& [name, output] : outputs) {
    // Of resnet50 the margin alone.
    if (output != v1::OUTPUT_KIND_MARGIN && !golden_.Has(absl::StrCat("deep_shap.", name)))
      continue;
    const std::vector<double> phi = golden_.Doubles(absl::StrCat("deep_shap.", name));
    const size_t count = phi.size() / 2;
    for (uint32_t image = 0; image < 2; ++image) {
      v1::GradientTask task;
      task.set_image(image);
      task.set_output(output);
      task.mutable_deep_shap();
      task.mutable_background()->set_per_class(kBackground);
      const v1::PixelAttribution result = Run(task);
      EXPECT_LE(Difference(result.values(), phi.data() + image * count, count), 1e-4)
          << name << " of image " << image;
      EXPECT_NEAR(result.reference(), golden_.Doubles(absl::StrCat("reference.", name))[0],
                  1e-5 * std::max(1.0, std::abs(result.reference())));
      double magnitude = 0;
      for (const float v : result.values()) magnitude += std::abs(v);
      EXPECT_LE(std::abs(result.additivity_residual()) /
                    std::max(std::abs(result.full() - result.reference()), 0.01 * magnitude),
                GetParam().residual)
          << name << " of image " << image;
    }
  }
}

TEST_P(GradientsParityTest, IntegratedGradientsAreCaptums) {
  v1::GradientTask task;
  task.set_output(v1::OUTPUT_KIND_MARGIN);
  task.mutable_integrated_gradients()->set_steps(50);
  const v1::PixelAttribution result = Run(task);
  const std::vector<double> golden = golden_.Doubles("integrated");
  EXPECT_LE(Difference(result.values(), golden.data(), golden.size()), Tolerance("integrated"));
}

TEST_P(GradientsParityTest, ClassActivationMapsAreGradCams) {
  const std::pair<const char*, v1::CamKind> kinds[] = {
      {"grad_cam", v1::CAM_KIND_UNSPECIFIED},
      {"grad_cam_plus_plus", v1::CAM_KIND_GRAD_CAM_PLUS_PLUS},
      {"hires_cam", v1::CAM_KIND_HIRES_CAM},
      {"layer_cam", v1::CAM_KIND_LAYER_CAM}};
  for (const auto& [name, kind] : kinds) {
    v1::ActivationTask task;
    task.mutable_model()->set_kind(GetParam().kind);
    task.set_output(v1::OUTPUT_KIND_MARGIN);
    task.set_cam(kind);
    const auto maps = RunActivations(task, data_, weights_);
    ASSERT_TRUE(maps.ok()) << maps.status();
    EXPECT_GE(maps->layers_size(), 5);
    for (const v1::LayerMaps& layer : maps->layers()) {
      const std::string golden_name = absl::StrCat("cam.", name, ".", layer.layer());
      const std::vector<double> golden = golden_.Doubles(golden_name);
      const auto& map = kind == v1::CAM_KIND_UNSPECIFIED ? layer.grad_cam() : layer.cam();
      // Of maps that are there for f and for -f: those of f.
      const std::vector<float> ours(map.begin(), map.begin() + layer.height() * layer.width());
      EXPECT_LE(Difference(ours, golden.data(), golden.size()), Tolerance(golden_name))
          << golden_name;
      // As a report draws it. What the package returns it has stretched to 0..1 once more.
      const int width = static_cast<int>(layer.width()), height = static_cast<int>(layer.height());
      const auto positive = NormaliseCam(ours, 1);
      ASSERT_TRUE(positive) << golden_name;
      const std::vector<double> shown =
          golden_.Doubles(absl::StrCat("shown.", name, ".", layer.layer()));
      EXPECT_LE(Difference(ResizeBilinear(*positive, width, height, kSize, kSize), shown.data(),
                           shown.size()),
                Tolerance(golden_name))
          << golden_name << ", after ReLU and resize";
    }
  }
}

// Maps and gradients that both sides have bit for bit: channels sum to less and to more than 0.
TEST(CamsParity, FormulasAreGradCams_FromTheSameMapsAndGradients) {
  constexpr size_t kChannels = 5, kPixels = 24;
  std::vector<float> maps, gradient;
  for (uint64_t i = 0; i < kChannels * kPixels; ++i) {
    maps.push_back(static_cast<float>(2 * Unit(2000, i) - 1));
    gradient.push_back(static_cast<float>(2 * Unit(2001, i) - 1));
  }
  const LayerView layer{maps, gradient, kChannels, kPixels};
  Goldens golden;
  const absl::Status opened = golden.Open("explain/golden/cams.safetensors");
  ASSERT_TRUE(opened.ok()) << opened;
  const std::pair<const char*, std::vector<float>> ours[] = {
      {"grad_cam", GradCam(layer)},
      {"grad_cam_plus_plus", GradCamPlusPlus(layer)},
      {"hires_cam", HiresCam(layer)},
      {"layer_cam", LayerCam(layer)}};
  for (const auto& [name, map] : ours) {
    const std::vector<double> theirs = golden.Doubles(name);
    EXPECT_LE(Difference(map, theirs.data(), kPixels), 1e-6) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Networks, GradientsParityTest,
    testing::Values(Network{"seed_cnn", v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, 1e-5},
                    Network{"resnet18", v1::MODEL_KIND_RESNET18, v1::STEM_SMALL, 1e-4},
                    Network{"resnet50", v1::MODEL_KIND_RESNET50, v1::STEM_SMALL, 1e-4}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace dermis
