// Where a ResNet's layers lie in a model's flat vectors, and how large their maps are: what the
// training passes read, the processor's and the GPU's. No Torch here.
#ifndef DERMIS_WORKER_MODELS_RESNET_PLACES_H_
#define DERMIS_WORKER_MODELS_RESNET_PLACES_H_

#include <cstdint>
#include <vector>

#include "worker/models/model.h"
#include "worker/models/resnet.h"

namespace dermis {

struct ResNetPlace {
  ResNetLayer form;
  uint64_t kernel, kernel_count, gamma, beta;  // Of the parameters.
  uint64_t mean, variance;                     // Of the statistics.
  uint32_t side = 0;                           // Of its output.
  bool frozen;

  uint64_t pixels() const { return uint64_t{side} * side; }
};

struct ResNetPlaces {
  explicit ResNetPlaces(const ModelLayout& layout);  // Of a ResNet.

  ResNetShape shape;
  std::vector<ResNetPlace> layers;  // As shape.layers.
  uint64_t fc_weight, fc_bias;
  uint32_t last_side = 0;    // Of the map that is averaged.
  uint32_t first_block = 0;  // The first that is trained.
};

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_RESNET_PLACES_H_
