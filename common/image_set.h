// An image set as a file (X.images) and as blobs. The file is a safetensors container with the tensors
// pixels.00000 [n, H, W, 3] U8 and, where masks are, masks.00000 [n, H, W] U8 and, where label maps are,
// labels.00000 [n, H, W] U16 per chunk; its metadata
// holds "manifest": the ImageSetManifest as JSON. A chunk holds at most 64 MiB of pixels.
#ifndef DERMIS_COMMON_IMAGE_SET_H_
#define DERMIS_COMMON_IMAGE_SET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/digest.h"
#include "dermis/v1/image_set.pb.h"

namespace dermis {

inline constexpr uint64_t kChunkBytes = 64ull << 20;
// Values of a mask: 0 outside, 1 lesion, 2 a region within the lesion (the planted cause of synthetic images).
inline constexpr uint8_t kMaxRegion = 2;

// One image on its way into a set.
struct PackedImage {
  v1::ImageEntry entry;          // digest, has_mask and has_labels are filled by WriteImageSet.
  std::string pixels;            // H * W * 3 bytes.
  std::string mask;              // H * W bytes of 0 .. kMaxRegion, or empty.
  std::string labels;            // H * W uint16, little endian: a label map, or empty.
};

// Sorts by name, cuts into chunks, writes atomically (temporary file + rename). Deterministic.
// Errors: two images of one name, sizes that differ, disk.
absl::Status WriteImageSet(const std::string& path, v1::ImageSetManifest header,
                           std::vector<PackedImage> images);

// A set opened from a file (mmap) or from chunks in memory. Thread-safe after Open.
class ImageSet {
 public:
  static absl::StatusOr<std::unique_ptr<ImageSet>> OpenFile(const std::string& path);
  // `fetch` gives a chunk's bytes by digest; called at most once a chunk, on first use, under a lock.
  // The result must stay valid for the set's life: it is kept here.
  using Fetch = std::function<absl::StatusOr<std::string>(const Digest&)>;
  static absl::StatusOr<std::unique_ptr<ImageSet>> OpenBlobs(v1::ImageSetManifest manifest, Fetch fetch);

  virtual ~ImageSet() = default;
  const v1::ImageSetManifest& manifest() const { return manifest_; }
  // The manifest's bytes as stored in blobs and its digest = the image set's address. The blob is the
  // deterministic serialisation made by WriteImageSet's rules (CanonicalBytes are not parseable: the blob
  // is protobuf wire format written with deterministic serialisation, its digest is what counts).
  const std::string& manifest_blob() const { return manifest_blob_; }
  Digest digest() const { return Sha256Of(manifest_blob_); }
  // H * W * 3 bytes of image i, valid for the set's life.
  virtual absl::StatusOr<std::string_view> Pixels(uint32_t i) const = 0;
  // H * W bytes of 0 .. kMaxRegion; NOT_FOUND where the image has no mask.
  virtual absl::StatusOr<std::string_view> Mask(uint32_t i) const = 0;
  // H * W uint16, little endian; NOT_FOUND where the image has no label map.
  virtual absl::StatusOr<std::string_view> Labels(uint32_t i) const;
  // All chunks (pixels, masks and label maps) as (digest, bytes), for upload.
  virtual absl::StatusOr<std::string_view> ChunkBytes(const Digest& digest) const = 0;

 protected:
  v1::ImageSetManifest manifest_;
  std::string manifest_blob_;
};

// The blobs of a chunk, 32 bytes each: pixels, then masks and label maps where it has some.
std::vector<std::string> BlobsOf(const v1::ImageChunk& chunk);

// Counts, sizes, digests' lengths, names and labels of a manifest that came from outside.
absl::Status ValidateManifest(const v1::ImageSetManifest& manifest);
// INVALID_ARGUMENT where a model's input would be larger than the set's images.
absl::Status CheckModelSize(uint32_t size, const v1::ImageSetManifest& manifest);

}  // namespace dermis

#endif  // DERMIS_COMMON_IMAGE_SET_H_
