// Images as a worker holds them: model-size bytes of a whole set, resident, plus the split and the training
// statistics; display-size pixels on demand. No Torch here.
#ifndef DERMIS_WORKER_DATA_IMAGE_SOURCE_H_
#define DERMIS_WORKER_DATA_IMAGE_SOURCE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/digest.h"
#include "common/image_set.h"
#include "common/split.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

struct ImageData {
  std::shared_ptr<ImageSet> set;          // Display size.
  Split split;
  uint32_t size = 0;                      // Model input, pixels a side.
  std::vector<uint8_t> pixels;            // n x size x size x 3 (HWC), by AreaResizeBytes.
  std::vector<uint32_t> labels;           // n
  uint32_t classes = 0;
  // Over all pixels and channels of the training split at model size, by integer sums, in 0..255.
  double mean = 0, deviation = 0;
  std::array<double, 3> channel_mean{};   // Training split at model size, per channel, 0..255.

  const uint8_t* image(uint32_t i) const { return pixels.data() + size_t{i} * size * size * 3; }
};

// Loads once and keeps the last few by (image set, size, split). Thread-safe. `fetch` gives a blob.
class ImageSources {
 public:
  using Fetch = std::function<absl::StatusOr<std::string>(const Digest&)>;
  explicit ImageSources(Fetch fetch);
  ~ImageSources();
  absl::StatusOr<std::shared_ptr<const ImageData>> Get(const v1::ImageSource& source);

 private:
  struct Cache;
  std::unique_ptr<Cache> cache_;
};

// Model input of a pixel value: (v - mean) / (deviation + 1e-7), the seed's normalisation, in float.
struct Normalisation {
  float mean, inverse_deviation;
  float operator()(float v) const { return (v - mean) * inverse_deviation; }
};
Normalisation NormalisationOf(const ImageData& data);

}  // namespace dermis

#endif  // DERMIS_WORKER_DATA_IMAGE_SOURCE_H_
