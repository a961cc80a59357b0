// Models made by other programs: what is the same for TorchScript and ONNX.
#ifndef DERMIS_WORKER_BLACKBOX_FOREIGN_H_
#define DERMIS_WORKER_BLACKBOX_FOREIGN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "worker/blackbox/black_box.h"

namespace dermis {

// One image at a time: a file may have been made for a batch of one, and neither runtime promises
// the same bits at other places of a batch.
class ForeignRuntime {
 public:
  virtual ~ForeignRuntime() = default;
  // tensor: 1 x 3 x size x size. Gives all values of the model's one output. Errors say what the
  // file lacks.
  virtual absl::StatusOr<std::vector<float>> Run(const float* tensor) = 0;
};

// (pixel * range / 255 - mean) / deviation by channel, into 3 x size x size, in double and rounded
// once.
void FillTensor(const v1::ModelInputSpec& input, uint32_t size, const float* image, float* tensor);

// A file's outputs for one image as logits, one a class. Probabilities must lie in 0..1; their
// logarithms are taken from at least 1e-12. One output of two classes: logits 0 and z.
// INVALID_ARGUMENT: another number of outputs than the study says, or not finite.
absl::StatusOr<std::vector<float>> LogitsOf(const v1::ForeignModel& model,
                                            absl::Span<const float> outputs);

// Runs the file once, on a grey image, to learn its outputs.
absl::StatusOr<std::unique_ptr<BlackBox>> MakeForeignModel(const v1::ForeignModel& model,
                                                           uint32_t size,
                                                           std::unique_ptr<ForeignRuntime> runtime);

struct ForeignOptions {
  bool allow_torchscript = false;  // Such files carry code.
  std::string onnx_library;        // Empty: beside the running program.
};

// A plan for the bytes of a file. PERMISSION_DENIED: TorchScript where it is not allowed.
absl::StatusOr<std::unique_ptr<InferencePlan>> MakeForeignPlan(const v1::ForeignModel& model,
                                                               const std::string& bytes,
                                                               uint32_t size,
                                                               const ForeignOptions& options);

}  // namespace dermis

#endif  // DERMIS_WORKER_BLACKBOX_FOREIGN_H_
