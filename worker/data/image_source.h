// Images as a worker has them: model-size bytes of a set, all in memory or by chunks where they do
// not fit, plus the split and the training statistics; display-size pixels on demand. No Torch
// here.
#ifndef DERMIS_WORKER_DATA_IMAGE_SOURCE_H_
#define DERMIS_WORKER_DATA_IMAGE_SOURCE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/digest.h"
#include "common/image_set.h"
#include "common/split.h"
#include "dermis/v1/task.pb.h"
#include "worker/data/chunk_cache.h"
#include "worker/data/normalisation.h"

namespace dermis {

// Model-size bytes of one image, there while this lives. It must not outlive the data.
class PinnedImage {
 public:
  PinnedImage(const uint8_t* data, ChunkCache::Pin chunk) : data_(data), chunk_(std::move(chunk)) {}
  const uint8_t* data() const { return data_; }

 private:
  const uint8_t* data_;
  ChunkCache::Pin chunk_;
};

struct ImageData {
  std::shared_ptr<ImageSet> set;          // Display size, nothing hidden.
  Split split;
  uint32_t size = 0;                      // Model input, pixels a side.
  // n x size x size x 3 (HWC), by AreaResizeBytes, without the source's `hide`: in memory, or by chunks. What they are decides
  // no bits.
  std::vector<uint8_t> pixels;
  std::shared_ptr<ChunkCache> chunks;     // Null: all are in `pixels`.
  std::vector<uint32_t> chunk_begin;      // First image of each chunk.
  // Set: all images but the last, which alone is in `pixels`, are this one's (given.h).
  std::shared_ptr<const ImageData> base;
  std::vector<uint32_t> labels;           // n
  uint32_t classes = 0;
  // Over all pixels and channels of the training split at model size, by integer sums, in 0..255;
  // 0 where it is empty.
  double mean = 0, deviation = 0;
  std::array<double, 3> channel_mean{};   // Training split at model size, per channel, 0..255.

  size_t image_bytes() const { return size_t{size} * size * 3; }
  // Where all are in memory.
  const uint8_t* image(uint32_t i) const { return pixels.data() + i * image_bytes(); }
  // Any image, by any thread: waits until its chunk is there. One thread holds one image at a time.
  // Errors: those of the blobs, with the name of the set.
  absl::StatusOr<PinnedImage> Pin(uint32_t i) const;
  // A hint, again and again on the way: these images come next, in this order. Costs nothing where
  // all are in memory.
  void Expect(absl::Span<const uint32_t> images) const;
  // The largest shuffle window whose images (and the chunks at its ends) fit into `chunks`.
  uint32_t FittingWindow() const;
};

// Loads once and keeps the last few by (image set, size, split). Thread-safe. `fetch` gives a blob.
// A set of more than `memory` model-size bytes is read by chunks, of which so many bytes are held,
// and beside them one chunk as it was packed (64 MiB).
class ImageSources {
 public:
  using Fetch = std::function<absl::StatusOr<std::string>(const Digest&)>;
  explicit ImageSources(Fetch fetch, uint64_t memory = std::numeric_limits<uint64_t>::max());
  ~ImageSources();
  absl::StatusOr<std::shared_ptr<const ImageData>> Get(const v1::ImageSource& source);
  // Does not keep images of this set any longer.
  void Forget(const Digest& image_set);

 private:
  struct Cache;
  std::unique_ptr<Cache> cache_;
};

// By the training split's numbers.
Normalisation NormalisationOf(const ImageData& data);

}  // namespace dermis

#endif  // DERMIS_WORKER_DATA_IMAGE_SOURCE_H_
