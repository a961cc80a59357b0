// A trained model turned once into the fastest forward pass of this device. No autograd, no Torch types in
// the interface. One plan a thread: not thread-safe, but equal plans give equal bits in any thread, at any
// batch position and batch size <= max_batch().
#ifndef DERMIS_WORKER_PLAN_INFERENCE_PLAN_H_
#define DERMIS_WORKER_PLAN_INFERENCE_PLAN_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dermis/v1/spec.pb.h"
#include "worker/data/normalisation.h"

namespace dermis {

class InferencePlan {
 public:
  virtual ~InferencePlan() = default;
  virtual uint32_t classes() const = 0;
  virtual uint32_t size() const = 0;        // Input is size x size x 3.
  virtual uint32_t max_batch() const = 0;   // 64 or more.
  // Where the caller writes up to max_batch() normalised inputs: NHWC float, [b][y][x][c]. Run() may
  // change what lies there.
  virtual float* input() = 0;
  // Runs the first `count` inputs; logits: count x classes, row-major. Padded rows never matter.
  virtual absl::Status Run(uint32_t count, float* logits) = 0;

  // What a model says of pixel values.
  struct PixelFacts {
    Normalisation normalisation;  // Makes inputs of them.
    std::array<double, 3> mean;   // Of those that it was trained on, 0..255.
  };
  // Absent where it says nothing: the images' training split then has its numbers.
  const std::optional<PixelFacts>& pixel_facts() const { return pixel_facts_; }
  void SetPixelFacts(const PixelFacts& facts) { pixel_facts_ = facts; }

 private:
  std::optional<PixelFacts> pixel_facts_;
};

// `weights`: bytes of a model's safetensors file (TrainOutput.best_model / last_model). The plan is compared
// with the model's own graph on a probe batch: beyond 1e-5 relative in fp32 it is an error.
absl::StatusOr<std::unique_ptr<InferencePlan>> MakeInferencePlan(v1::ModelKind kind, std::string_view weights,
                                                                 uint32_t size, v1::Precision precision);

// What every plan of a network goes through before it is used, wherever it runs: the comparison, and what the
// file says of pixels.
absl::Status CheckInferencePlan(v1::ModelKind kind, std::string_view weights, uint32_t size,
                                v1::Precision precision, InferencePlan& plan);

// MakeInferencePlan, or its counterpart of another device.
using PlanMaker = std::function<absl::StatusOr<std::unique_ptr<InferencePlan>>(
    v1::ModelKind kind, std::string_view weights, uint32_t size, v1::Precision precision)>;

// What decides a plan's bits besides the task: library version and the instruction set that it uses
// here, e.g. "onednn-2.6.3/isa-7". For the numerics class.
std::string InferenceNumerics();

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_INFERENCE_PLAN_H_
