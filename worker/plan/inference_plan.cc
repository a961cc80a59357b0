#include "worker/plan/inference_plan.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/philox.h"
#include "common/safetensors.h"
#include "common/status_macros.h"
#include "worker/plan/onednn_plan.h"
#include "worker/plan/reference_forward.h"
#include "worker/plan/resnet_plan.h"
#include "worker/plan/resnet_weights.h"
#include "worker/plan/seed_cnn_weights.h"

namespace dermis {
namespace {

// Largest difference of a logit over the largest logit. bf16 carries 8 bits through many layers;
// its bound only tells a wrong plan from a rounded one.
constexpr double kTolerance = 1e-5, kBf16Tolerance = 0.1;
// Fifty layers round fifty times, and a head may cancel most of what they give.
constexpr double kResNetTolerance = 1e-4;

// Noise of about the range that normalised pixels have, over a gradient, so that every border of
// every layer matters.
void FillProbes(uint32_t probes, InferencePlan& plan) {
  const uint32_t size = plan.size();
  float* out = plan.input();
  for (uint32_t b = 0; b < probes; ++b) {
    for (uint32_t i = 0; i < size * size * 3; ++i) {
      const float noise = ToUnitFloat(PhiloxBlock(0, Purpose::kTest, b, 0, i)[0]);
      *out++ = 3.f * noise - 2.f + static_cast<float>(i) / (size * size * 3);
    }
  }
}

// Weights: what ReferenceForward takes.
template <typename Weights>
absl::Status CompareWithGraph(const Weights& weights, v1::Precision precision,
                              InferencePlan& plan) {
  const uint32_t probes = plan.size() <= 64 ? 2 : 1;
  FillProbes(probes, plan);
  // Before the run: a plan may use its input as working space.
  const std::vector<double> expected = ReferenceForward(weights, probes, plan.input());
  std::vector<float> logits(expected.size());
  RETURN_IF_ERROR(plan.Run(probes, logits.data()));
  double largest = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(expected[i])) {
      return absl::FailedPreconditionError(
          "the model gives logits that are not finite on a probe image: the training diverged");
    }
    largest = std::max(largest, std::abs(expected[i]));
    const double distance = std::abs(expected[i] - logits[i]);
    difference = distance <= difference ? difference : distance;  // NaN stays.
  }
  const double tolerance = precision == v1::PRECISION_BF16          ? kBf16Tolerance
                           : std::is_same_v<Weights, ResNetWeights> ? kResNetTolerance
                                                                    : kTolerance;
  // Written so that NaN is too far, too.
  if (!(difference <= tolerance * largest)) {
    return absl::InternalError(
        absl::StrFormat("the inference plan differs from the model's graph by %.3g of its largest "
                        "logit (%g allowed) "
                        "on the probe batch: this device's kernels are not to be trusted (%s)",
                        difference / largest, tolerance, InferenceNumerics()));
  }
  return absl::OkStatus();
}

// A file that holds weights alone says nothing.
absl::Status ReadPixelFacts(std::string_view weights, InferencePlan& plan) {
  ASSIGN_OR_RETURN(const SafetensorsView file, ParseSafetensors(weights));
  const auto mean = file.metadata.find("pixel_mean"), deviation = file.metadata.find("pixel_deviation");
  if (mean == file.metadata.end() || deviation == file.metadata.end()) return absl::OkStatus();
  double m = 0, d = 0;
  if (!absl::SimpleAtod(mean->second, &m) || !absl::SimpleAtod(deviation->second, &d) ||
      !std::isfinite(m) || !std::isfinite(d)) {
    return absl::InvalidArgumentError("model file: pixel_mean and pixel_deviation must be numbers");
  }
  plan.SetPixelFacts({NormalisationOf(m, d), {m, m, m}});
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckInferencePlan(v1::ModelKind kind, std::string_view weights, uint32_t size,
                                v1::Precision precision, InferencePlan& plan) {
  if (IsResNet(kind)) {
    ASSIGN_OR_RETURN(const ResNetWeights parameters, ReadResNetWeights(weights, kind, size));
    RETURN_IF_ERROR(CompareWithGraph(parameters, precision, plan));
  } else {
    ASSIGN_OR_RETURN(const SeedCnnWeights parameters, ReadSeedCnnWeights(weights, size));
    RETURN_IF_ERROR(CompareWithGraph(parameters, precision, plan));
  }
  return ReadPixelFacts(weights, plan);
}

absl::StatusOr<std::unique_ptr<InferencePlan>> MakeInferencePlan(v1::ModelKind kind,
                                                                 std::string_view weights,
                                                                 uint32_t size,
                                                                 v1::Precision precision) {
  std::unique_ptr<InferencePlan> plan;
  if (IsResNet(kind)) {
    ASSIGN_OR_RETURN(const ResNetWeights parameters, ReadResNetWeights(weights, kind, size));
    ASSIGN_OR_RETURN(plan, MakeResNetPlan(parameters, precision));
  } else if (kind == v1::MODEL_KIND_SEED_CNN) {
    ASSIGN_OR_RETURN(const SeedCnnWeights parameters, ReadSeedCnnWeights(weights, size));
    ASSIGN_OR_RETURN(plan, MakeOnednnPlan(parameters, precision));
  } else {
    return absl::UnimplementedError(
        absl::StrCat("no inference plan for model ", v1::ModelKind_Name(kind)));
  }
  RETURN_IF_ERROR(CheckInferencePlan(kind, weights, size, precision, *plan));
  return plan;
}

}  // namespace dermis
