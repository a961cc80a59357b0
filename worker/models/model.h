// A model as numbers: which tensors a network has, in which order they lie in one flat vector, and
// the safetensors file that holds them. No Torch here; the networks themselves are in seed_cnn.h
// and resnet_graph.h, and what an inference plan needs of a file in plan/.
//
// The file (docs/formats.md; Python: safetensors.numpy.load_file): F32 tensors by PyTorch's names
// and shapes. seed_cnn: conv1.weight [O, I, 3, 3], conv1.bias, bn1.weight, bn1.bias,
// bn1.running_mean, bn1.running_var, ..., dense.weight [classes, C * H * W] with C slowest,
// dense.bias. ResNets: torchvision's names (resnet.h). Metadata, all strings: format "dermis
// model", version "1", model ("seed_cnn", "resnet18", ...), size, classes, pixel_mean,
// pixel_deviation (0..255; shortest decimal that reads back exactly), and for a ResNet stem
// ("imagenet" or "small"). Network input = (pixel - pixel_mean) / (pixel_deviation + 1e-7).
#ifndef DERMIS_WORKER_MODELS_MODEL_H_
#define DERMIS_WORKER_MODELS_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/safetensors.h"
#include "dermis/v1/spec.pb.h"

namespace dermis {

// seed_cnn's: added to a variance before its root; Keras' default.
inline constexpr double kBatchNormEpsilon = 1e-3;

// How a tensor's first values are drawn.
enum class Draw {
  kConstant,  // `spread` itself.
  kUniform,   // U(-spread, spread)
  kNormal,    // N(0, spread^2)
};

// One tensor of a model within its flat vector.
struct ParameterSpec {
  std::string name;
  std::vector<int64_t> shape;
  uint64_t offset = 0, count = 0;  // Floats.
  Draw draw = Draw::kConstant;
  double spread = 0;
  bool decayed = false;  // Takes part in weight decay.
  bool frozen = false;   // Stays as it is (models/init.h): no gradient, no update.
};

// Trainable parameters and running statistics, each in one flat vector, in the order of the
// network.
struct ModelLayout {
  v1::ModelKind kind = v1::MODEL_KIND_UNSPECIFIED;
  v1::Stem stem = v1::STEM_UNSPECIFIED;  // imagenet or small for a ResNet.
  uint32_t size = 0, classes = 0;        // Input is size x size x 3.
  // running <- (1 - momentum) running + momentum now, once a step.
  double batch_norm_epsilon = kBatchNormEpsilon, batch_norm_momentum = 0.01;
  std::vector<ParameterSpec> parameters, statistics;
  uint64_t parameter_count = 0, statistic_count = 0;

  const ParameterSpec& parameter(std::string_view name) const;  // Must exist (checked).
  const ParameterSpec& statistic(std::string_view name) const;
  // Appends one; its offset and count follow from what is there and from its shape.
  void AddParameter(ParameterSpec spec);
  void AddStatistic(ParameterSpec spec);
};

// Errors: INVALID_ARGUMENT for a kind, stem, size or number of classes that no network has.
absl::StatusOr<ModelLayout> LayoutOf(v1::ModelKind kind, uint32_t size, uint32_t classes,
                                     v1::Stem stem = v1::STEM_UNSPECIFIED);

// "seed_cnn", "resnet18", ...: how files and studies spell it.
std::string ModelName(v1::ModelKind kind);

struct Model {
  ModelLayout layout;
  std::vector<float> parameters, statistics;   // parameter_count, statistic_count floats.
  double pixel_mean = 0, pixel_deviation = 0;  // 0..255.

  const float* at(std::string_view name) const;  // Of a parameter or a statistic.
};

// Fresh weights: a function of (layout, seed) alone. Running mean 0, running variance 1.
void InitializeModel(uint64_t seed, Model& model);

// Adds `values` (in the order and shapes of `specs`) to `tensors` as prefix + name. The views point
// into `values`.
void AddTensors(const std::vector<ParameterSpec>& specs, const std::string& prefix,
                const std::vector<float>& values, std::map<std::string, TensorView>& tensors);
// Copies them back. Errors: INVALID_ARGUMENT for a tensor that is missing or has another type or
// shape.
absl::Status ReadTensors(const SafetensorsView& file, const std::vector<ParameterSpec>& specs,
                         const std::string& prefix, std::vector<float>& values);

// Equal models give equal bytes.
std::string SerializeModel(const Model& model);
// Errors: INVALID_ARGUMENT with what is wrong; tensors that the network does not know are an error,
// too.
absl::StatusOr<Model> ParseModel(std::string_view bytes);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_MODEL_H_
