// What a network makes of images before its last, linear layer.
#ifndef DERMIS_WORKER_MODELS_FEATURES_H_
#define DERMIS_WORKER_MODELS_FEATURES_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"

namespace dermis {

struct Features {
  uint32_t count = 0;          // Of an image.
  std::vector<float> values;   // images x count.
};

// seed_cnn: its last pool, flattened (channels first); ResNets: the mean of each channel of the last
// stage. fp32; an image's features have the same bits whatever else is asked for. Errors: those of
// ModelOf and InputsOf (network.h).
absl::StatusOr<Features> FeaturesOf(const v1::ModelRef& ref, std::string_view weights,
                                    const ImageData& data, absl::Span<const uint32_t> images);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_FEATURES_H_
