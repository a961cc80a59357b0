// The superpixel task: an image, as displayed or as the model sees it, cut in one of several ways.
#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/resize.h"
#include "common/status_macros.h"
#include "worker/explain/explain.h"
#include "worker/explain/superpixels.h"
#include "worker/pictures/lesion_zones.h"

namespace dermis {
namespace {

absl::Status Invalid(uint32_t image, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("superpixels of image ", image, ": ", why));
}

// The row or column, of `in`, at the centre of the one at `at`, of `out`.
int Nearest(int at, int in, int out) {
  return static_cast<int>((2 * int64_t{at} + 1) * in / (2 * int64_t{out}));
}

// Values of a picture (a mask, a label map) at another size.
template <typename Value>
std::vector<Value> AtSize(const std::vector<Value>& values, int in_height, int in_width, int height,
                          int width) {
  std::vector<Value> out;
  out.reserve(size_t(height) * width);
  for (int y = 0; y < height; ++y) {
    const size_t row = size_t(Nearest(y, in_height, height)) * in_width;
    for (int x = 0; x < width; ++x) out.push_back(values[row + Nearest(x, in_width, width)]);
  }
  return out;
}

absl::StatusOr<v1::SuperpixelOutput> RunSlic(const v1::SuperpixelTask& task, const uint8_t* rgb,
                                             int height, int width) {
  const v1::SlicSpec& spec = task.superpixels().slic();
  SlicParameters parameters;
  if (spec.has_count()) {
    parameters.count = static_cast<int>(std::min<uint32_t>(spec.count(), 1u << 30));
  }
  if (spec.has_compactness()) parameters.compactness = spec.compactness();
  if (spec.has_sigma()) parameters.sigma = spec.sigma();
  if (parameters.count < 1 || !(parameters.compactness > 0) || !(parameters.sigma >= 0) ||
      !(parameters.sigma <= 100)) {
    return Invalid(task.image(), "SLIC needs count >= 1, compactness > 0, sigma in 0..100");
  }
  return ToProto(Slic(rgb, height, width, parameters));
}

absl::StatusOr<v1::SuperpixelOutput> RunQuickshift(const v1::SuperpixelTask& task,
                                                   const uint8_t* rgb, int height, int width) {
  const v1::QuickshiftSpec& spec = task.superpixels().quickshift();
  QuickshiftParameters parameters;
  if (spec.has_kernel_size()) parameters.kernel_size = spec.kernel_size();
  if (spec.has_max_dist()) parameters.max_dist = spec.max_dist();
  if (spec.has_ratio()) parameters.ratio = spec.ratio();
  if (!(parameters.kernel_size >= 1) || !(parameters.kernel_size <= 50) ||
      !(parameters.max_dist >= 0) || !std::isfinite(parameters.max_dist) ||
      !(parameters.ratio >= 0 && parameters.ratio <= 1)) {
    return Invalid(task.image(),
                   "quickshift needs kernel_size in 1..50, max_dist >= 0, ratio in 0..1");
  }
  return ToProto(Quickshift(rgb, height, width, parameters));
}

}  // namespace

absl::StatusOr<v1::SuperpixelOutput> RunSuperpixels(const v1::SuperpixelTask& task,
                                                    const ImageSet& set) {
  const v1::ImageSetManifest& manifest = set.manifest();
  if (task.image() >= static_cast<uint32_t>(manifest.images_size())) {
    return Invalid(task.image(), absl::StrCat("the set has ", manifest.images_size(), " images"));
  }
  const int in_height = static_cast<int>(manifest.height());
  const int in_width = static_cast<int>(manifest.width());
  if (task.size() > manifest.height() || task.size() > manifest.width()) {
    return Invalid(task.image(), absl::StrCat("images of ", task.size(), " pixels a side from ",
                                              in_height, " x ", in_width));
  }
  const int height = task.size() > 0 ? static_cast<int>(task.size()) : in_height;
  const int width = task.size() > 0 ? static_cast<int>(task.size()) : in_width;
  ASSIGN_OR_RETURN(const std::string_view pixels, set.Pixels(task.image()));
  std::vector<uint8_t> rgb(size_t(height) * width * 3);
  AreaResizeBytes(reinterpret_cast<const uint8_t*>(pixels.data()), in_height, in_width, 3,
                  rgb.data(), height, width);

  switch (task.superpixels().kind_case()) {
    case v1::SuperpixelSpec::kSlic:
      return RunSlic(task, rgb.data(), height, width);
    case v1::SuperpixelSpec::kQuickshift:
      return RunQuickshift(task, rgb.data(), height, width);
    case v1::SuperpixelSpec::kGrid: {
      const v1::GridSpec& grid = task.superpixels().grid();
      if (grid.rows() < 1 || grid.columns() < 1 || grid.rows() > static_cast<uint32_t>(height) ||
          grid.columns() > static_cast<uint32_t>(width)) {
        return Invalid(task.image(), absl::StrCat("a grid of ", grid.rows(), " x ", grid.columns(),
                                                  " on ", height, " x ", width, " pixels"));
      }
      return ToProto(Rectangles(height, width, static_cast<int>(grid.rows()),
                                static_cast<int>(grid.columns())));
    }
    case v1::SuperpixelSpec::kLabelMap: {
      ASSIGN_OR_RETURN(const std::string_view bytes, set.Labels(task.image()));
      std::vector<uint32_t> labels;
      for (size_t i = 0; i < bytes.size(); i += 2) {
        labels.push_back(static_cast<uint8_t>(bytes[i]) |
                         static_cast<uint32_t>(static_cast<uint8_t>(bytes[i + 1])) << 8);
      }
      Segmentation map{height, width, 0, AtSize(labels, in_height, in_width, height, width)};
      CompactLabels(map);
      return ToProto(map);
    }
    case v1::SuperpixelSpec::kLesionZones: {
      const double band = task.superpixels().lesion_zones().band();
      if (!(band >= 0 && band <= 1)) return Invalid(task.image(), "needs a band in 0..1");
      ASSIGN_OR_RETURN(const std::string_view bytes, set.Mask(task.image()));
      const std::vector<uint8_t> mask = AtSize(std::vector<uint8_t>(bytes.begin(), bytes.end()),
                                               in_height, in_width, height, width);
      const std::vector<uint8_t> zones = LesionZones(mask, height, width, band);
      Segmentation map{height, width, 0, {zones.begin(), zones.end()}};
      CompactLabels(map);
      return ToProto(map);
    }
    case v1::SuperpixelSpec::KIND_NOT_SET:
      break;
  }
  return Invalid(task.image(), "no superpixel method is named");
}

}  // namespace dermis
