// A network as what looks inside it sees it: its graph with named maps, its inputs, and the output
// that is explained. For .cc files under worker/ and tests.
#ifndef DERMIS_WORKER_MODELS_NETWORK_H_
#define DERMIS_WORKER_MODELS_NETWORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include <torch/types.h>

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"
#include "worker/models/model.h"

namespace dermis {

// Maps of an inner layer.
struct Tap {
  std::string layer;   // Parameter prefix of the convolution or stage; "pool3" for the last pool.
  torch::Tensor maps;  // [N, C, H, W]
};

struct NetworkGraph {
  // Of every convolution layer of seed_cnn, after its activation, before batch norm; of a ResNet's
  // stem ("conv1", after ReLU) and of the outputs of its stages ("layer1" .. "layer4").
  std::vector<Tap> taps;
  // What the last layer reads linearly: seed_cnn's last pool, a ResNet's last stage (also in taps).
  Tap last;
  torch::Tensor logits;  // [N, classes]
};

// The evaluation form. `model` must outlive the result.
NetworkGraph GraphOf(const Model& model, const torch::Tensor& input);

// The model of a task, and whether the images are of its size. Errors: INVALID_ARGUMENT, beginning
// with `what`, for weights that are not a model or not of this kind, and images of another size.
absl::StatusOr<Model> ModelOf(const v1::ModelRef& ref, std::string_view weights,
                              const ImageData& data, const std::string& what);

// The network's inputs of images, [n, 3, size, size], by the model file's own constants: the model
// is what was trained, whatever set it now looks at. Errors: an image that the set does not have;
// those of ImageData::Pin.
absl::StatusOr<torch::Tensor> InputsOf(const Model& model, const ImageData& data,
                                       absl::Span<const uint32_t> images);
// The same of the image that a task explains, [1, 3, size, size]: with the noise of its source,
// where that has some (worker/data/noise.h).
absl::StatusOr<torch::Tensor> ExplainedInput(const Model& model, const ImageData& data,
                                             const v1::ImageSource& source, uint32_t image);
// By how much an input grows where a pixel goes from 0 to 255.
double InputRange(const Model& model);

// f of the explanation, differentiable: [n] (its value alone: OutputOf in common/metrics.h).
torch::Tensor OutputsOf(v1::OutputKind kind, const torch::Tensor& logits);
// The same of row n, in double.
double OutputOfRow(v1::OutputKind kind, const torch::Tensor& logits, int64_t n);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_NETWORK_H_
