// The seed network's parameters as the inference plan needs them, read from a model file. No Torch.
#ifndef DERMIS_WORKER_PLAN_SEED_CNN_WEIGHTS_H_
#define DERMIS_WORKER_PLAN_SEED_CNN_WEIGHTS_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dermis {

// 3x3 convolution (padding 1) -> ELU -> batch norm in evaluation mode, which is y * scale + shift.
struct SeedCnnLayer {
  uint32_t in = 0, out = 0;    // Channels.
  std::vector<float> weight;   // [out][in][3][3]
  std::vector<float> bias;     // [out]
  std::vector<float> scale;    // [out] gamma / sqrt(variance + epsilon), computed in double.
  std::vector<float> shift;    // [out] beta - mean * scale
};

struct SeedCnnWeights {
  std::array<SeedCnnLayer, 6> layers;  // A 2x2 max pool follows layers 1, 3 and 5.
  uint32_t classes = 0;
  uint32_t cells = 0;                  // A side of the last pooled map: size / 8.
  std::vector<float> dense_weight;     // [classes][channel][y][x]
  std::vector<float> dense_bias;       // [classes]
};

// From a safetensors file with conv{1..6}.{weight,bias}, bn{1..6}.{weight,bias,running_mean,running_var}
// and dense.{weight,bias}, all F32. `size`: model input, pixels a side, a multiple of 8.
// INVALID_ARGUMENT names the tensor that is missing, misshapen or not finite.
absl::StatusOr<SeedCnnWeights> ReadSeedCnnWeights(std::string_view safetensors, uint32_t size);

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_SEED_CNN_WEIGHTS_H_
