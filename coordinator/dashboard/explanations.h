// Explanations as they arrive, for a browser to draw: the image as the set holds it and what a
// method says of its parts.
#ifndef DERMIS_COORDINATOR_DASHBOARD_EXPLANATIONS_H_
#define DERMIS_COORDINATOR_DASHBOARD_EXPLANATIONS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include <nlohmann/json.hpp>

#include "coordinator/blob_index.h"
#include "coordinator/dashboard/snapshot.h"
#include "coordinator/journal.h"
#include "dermis/v1/image_set.pb.h"

namespace dermis {

// RGB, row by row, as a BMP file, which every browser shows and nobody has to link a library for.
std::string BmpOf(const std::string& rgb, uint32_t width, uint32_t height);
// A method's result as maps to draw: [{"name", "width", "height", "values": row-major, "cells"?: superpixel of each pixel as base64
// of uint16}]. With cells, values are by superpixel. NOT_FOUND: nothing that is drawn here.
absl::StatusOr<nlohmann::json> MapsAsJson(const v1::Payload& payload,
                                          const v1::SuperpixelOutput& superpixels);

// Thread-safe.
class ExplanationReader {
 public:
  // Bytes [offset, offset + size) of a blob.
  using ReadPart =
      std::function<absl::StatusOr<std::string>(const Digest&, uint64_t offset, uint64_t size)>;
  ExplanationReader(const Journal& journal, const BlobIndex& blobs, ReadPart read_part)
      : journal_(journal), blobs_(blobs), read_part_(std::move(read_part)) {}

  absl::StatusOr<std::shared_ptr<const v1::ImageSetManifest>> Manifest(
      const Digest& image_set) const;
  // As a BMP file. NOT_FOUND, DATA_LOSS.
  absl::StatusOr<std::string> Image(const Digest& image_set, uint32_t image) const;
  // {"maps": as MapsAsJson}. NOT_FOUND: it has not arrived.
  absl::StatusOr<nlohmann::json> Maps(const ExplainedBy& explained) const;

 private:
  absl::StatusOr<v1::Payload> ReadPayload(const Digest& task) const;

  const Journal& journal_;
  const BlobIndex& blobs_;
  const ReadPart read_part_;
  mutable absl::Mutex mutex_;
  mutable std::map<Digest, std::shared_ptr<const v1::ImageSetManifest>> manifests_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_EXPLANATIONS_H_
