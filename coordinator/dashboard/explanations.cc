#include "coordinator/dashboard/explanations.h"

#include <cmath>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "coordinator/dashboard/trial_table.h"

namespace dermis {
namespace {

using nlohmann::json;

constexpr size_t kManifestsKept = 4;
constexpr uint32_t kLongestSide = 4096;
constexpr int kMostLayers = 8;

void AppendNumber(std::string& out, uint32_t value, int bytes) {
  for (int b = 0; b < bytes; ++b) out.push_back(static_cast<char>(value >> (8 * b)));
}

template <typename Values>
json Shortened(const Values& values) {
  json out = json::array();
  for (const double value : values) out.push_back(Short(value));
  return out;
}

json LayerAsJson(const v1::LayerMaps& layer) {
  const auto& values = layer.cam_size() > 0 ? layer.cam() : layer.grad_cam();
  return {{"name", layer.layer()},
          {"width", layer.width()},
          {"height", layer.height()},
          {"values", Shortened(values)}};
}

// Channels count together.
json PixelsAsJson(const v1::PixelAttribution& pixels) {
  json values = json::array();
  for (int i = 0; i + static_cast<int>(pixels.channels()) <= pixels.values_size();
       i += static_cast<int>(pixels.channels())) {
    double sum = 0;
    for (uint32_t c = 0; c < pixels.channels(); ++c) sum += pixels.values(i + static_cast<int>(c));
    values.push_back(Short(sum));
  }
  return {{"name", ""},
          {"width", pixels.width()},
          {"height", pixels.height()},
          {"values", std::move(values)}};
}

}  // namespace

// Rows from the bottom up, blue first, each padded to four bytes.
std::string BmpOf(const std::string& rgb, uint32_t width, uint32_t height) {
  const uint32_t row = (width * 3 + 3) / 4 * 4;
  std::string out = "BM";
  AppendNumber(out, 54 + row * height, 4);
  AppendNumber(out, 0, 4);
  AppendNumber(out, 54, 4);
  AppendNumber(out, 40, 4);
  AppendNumber(out, width, 4);
  AppendNumber(out, height, 4);
  AppendNumber(out, 1, 2);
  AppendNumber(out, 24, 2);
  for (int i = 0; i < 6; ++i) AppendNumber(out, 0, 4);
  for (uint32_t y = height; y-- > 0;) {
    const char* pixels = rgb.data() + size_t{y} * width * 3;
    for (uint32_t x = 0; x < width; ++x) {
      out.push_back(pixels[x * 3 + 2]);
      out.push_back(pixels[x * 3 + 1]);
      out.push_back(pixels[x * 3]);
    }
    out.append(row - width * 3, '\0');
  }
  return out;
}

absl::StatusOr<json> MapsAsJson(const v1::Payload& payload,
                                const v1::SuperpixelOutput& superpixels) {
  json maps = json::array();
  if (payload.has_fit()) {
    maps.push_back({{"name", ""},
                    {"width", superpixels.width()},
                    {"height", superpixels.height()},
                    {"cells", absl::Base64Escape(superpixels.labels())},
                    {"values", Shortened(payload.fit().values())}});
  } else if (payload.has_gradient()) {
    maps.push_back(PixelsAsJson(payload.gradient()));
  } else if (payload.has_activations()) {
    const auto& layers = payload.activations().layers();
    // The deep layers say most about the class.
    for (int i = layers.size(); i-- > 0 && static_cast<int>(maps.size()) < kMostLayers;) {
      maps.push_back(LayerAsJson(layers[i]));
    }
  } else {
    return absl::NotFoundError("results of this kind are not drawn here; see the study's report");
  }
  return maps;
}

absl::StatusOr<v1::Payload> ExplanationReader::ReadPayload(const Digest& task) const {
  ASSIGN_OR_RETURN(const v1::TaskResult result, journal_.ReadResult(task));
  v1::Payload payload;
  std::string bytes = result.payload();
  if (!result.payload_blob().empty()) {
    ASSIGN_OR_RETURN(const Digest blob, Digest::FromBytes(result.payload_blob()));
    ASSIGN_OR_RETURN(bytes, blobs_.Read(blob));
  }
  if (!payload.ParseFromString(bytes)) {
    return absl::DataLossError(
        absl::StrCat("the result of task ", task.short_hex(), " cannot be read"));
  }
  return payload;
}

absl::StatusOr<std::shared_ptr<const v1::ImageSetManifest>> ExplanationReader::Manifest(
    const Digest& image_set) const {
  {
    absl::MutexLock lock(&mutex_);
    if (auto it = manifests_.find(image_set); it != manifests_.end()) return it->second;
  }
  ASSIGN_OR_RETURN(const std::string bytes, blobs_.Read(image_set));
  auto manifest = std::make_shared<v1::ImageSetManifest>();
  if (!manifest->ParseFromString(bytes))
    return absl::DataLossError("the image set's manifest cannot be read");
  absl::MutexLock lock(&mutex_);
  if (manifests_.size() >= kManifestsKept) manifests_.clear();
  manifests_[image_set] = manifest;
  return manifest;
}

absl::StatusOr<std::string> ExplanationReader::Image(const Digest& image_set,
                                                     uint32_t image) const {
  ASSIGN_OR_RETURN(const auto manifest, Manifest(image_set));
  if (image >= static_cast<uint32_t>(manifest->images_size())) {
    return absl::NotFoundError(absl::StrCat("the set has no image ", image));
  }
  if (manifest->width() > kLongestSide || manifest->height() > kLongestSide) {
    return absl::NotFoundError("images of this size are not shown here");
  }
  const uint64_t bytes = uint64_t{manifest->width()} * manifest->height() * 3;
  uint32_t first = 0;
  for (const v1::ImageChunk& chunk : manifest->chunks()) {
    if (image >= first + chunk.count()) {
      first += chunk.count();
      continue;
    }
    ASSIGN_OR_RETURN(const Digest blob, Digest::FromBytes(chunk.pixels()));
    ASSIGN_OR_RETURN(const std::string rgb, read_part_(blob, bytes * (image - first), bytes));
    if (Sha256Of(rgb).bytes() != manifest->images(static_cast<int>(image)).digest()) {
      return absl::DataLossError(absl::StrCat("image ", image, " is damaged"));
    }
    return BmpOf(rgb, manifest->width(), manifest->height());
  }
  return absl::NotFoundError(absl::StrCat("no chunk holds image ", image));
}

absl::StatusOr<json> ExplanationReader::Maps(const ExplainedBy& explained) const {
  if (!explained.done) return absl::NotFoundError("this explanation has not arrived yet");
  ASSIGN_OR_RETURN(const v1::Payload payload, ReadPayload(explained.task));
  v1::Payload cut;
  if (payload.has_fit()) {
    ASSIGN_OR_RETURN(cut, ReadPayload(explained.superpixels));
  }
  ASSIGN_OR_RETURN(json maps, MapsAsJson(payload, cut.superpixels()));
  return json{{"maps", std::move(maps)}};
}

}  // namespace dermis
