// Attributions of single pixels by the model's gradients: DeepSHAP, expected gradients, integrated
// gradients, SmoothGrad. fp32, on the calling thread.
#ifndef DERMIS_WORKER_MODELS_GRADIENTS_H_
#define DERMIS_WORKER_MODELS_GRADIENTS_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"

namespace dermis {

// What a compute thread keeps between gradient tasks of one model: the model, the background's
// outputs, and for DeepSHAP what its graphs recorded of the background, as much of it as fits into
// `memory` bytes (a seed network's 100 images take 150 MB; a large network's are recorded again for
// each image). It decides no bits. Not thread-safe.
class GradientCache {
 public:
  explicit GradientCache(uint64_t memory = uint64_t{256} << 20);
  ~GradientCache();
  GradientCache(GradientCache&&) noexcept;
  GradientCache& operator=(GradientCache&&) noexcept;

 private:
  friend class GradientRun;
  struct Entry;
  uint64_t memory_;
  std::unique_ptr<Entry> entry_;  // Of the model and background that were used last.
};

// `weights`: bytes of the model's safetensors file, those of task.model(). Errors: INVALID_ARGUMENT
// for a task that does not fit the data or the weights or names no method; UNIMPLEMENTED for
// DeepSHAP through an operation without a rule; INTERNAL where the result is not finite (the model
// diverged).
absl::StatusOr<v1::PixelAttribution> RunGradient(const v1::GradientTask& task,
                                                 const ImageData& data, std::string_view weights,
                                                 GradientCache& cache);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_GRADIENTS_H_
