#include "worker/explain/checks/maps.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace dermis {
namespace {

absl::Status Wrong(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("a map to be checked: ", why));
}

// The same superpixels, at the finer one of both sizes.
Segmentation AtSizeOf(const Segmentation& a, const Segmentation& b) {
  return Enlarged(a, std::max(a.height, b.height), std::max(a.width, b.width));
}

absl::StatusOr<SuperpixelMap> MapOfFit(const v1::Attribution& fit, const Segmentation* own,
                                       const Segmentation& common, MapUnits units) {
  if (own == nullptr || own->labels.empty() || common.labels.empty()) {
    return Wrong("a fit needs its own superpixels and the common ones");
  }
  if (static_cast<uint32_t>(fit.values_size()) != own->count) {
    return Wrong(absl::StrCat(fit.values_size(), " values for ", own->count, " superpixels"));
  }
  SuperpixelMap map;
  map.units = units;
  map.values.assign(fit.values().begin(), fit.values().end());
  if (own->labels == common.labels) return map;
  // One may be of the picture as it is displayed, the other one as the model sees it.
  const Segmentation from = AtSizeOf(*own, common), to = AtSizeOf(common, *own);
  map.values =
      units == MapUnits::kMean ? RegridMeans(map.values, from, to) : Regrid(map.values, from, to);
  return map;
}

absl::StatusOr<SuperpixelMap> MapOfPixels(const v1::PixelAttribution& pixels,
                                          const Segmentation& common) {
  const auto height = static_cast<int>(pixels.height()), width = static_cast<int>(pixels.width());
  if (pixels.values().empty() || height > common.height || width > common.width ||
      static_cast<uint64_t>(pixels.values_size()) !=
          uint64_t{pixels.height()} * pixels.width() * pixels.channels()) {
    return Wrong(absl::StrCat(pixels.values_size(), " values of pixels for ", height, " x ", width,
                              " on a picture of ", common.height, " x ", common.width));
  }
  SuperpixelMap map;
  map.values = SpreadOnSuperpixels(pixels.values(), height, width,
                                   static_cast<int>(pixels.channels()), common);
  // What has no reference is a plain gradient.
  map.units = pixels.has_reference() ? MapUnits::kOutput : MapUnits::kGradient;
  return map;
}

// Where along n cells the centre of pixel i of `to` lies: between cells `low` and `high`.
struct Place {
  Place(int i, int to, int n) {
    const double at = std::clamp((i + 0.5) * n / to - 0.5, 0.0, n - 1.0);
    low = static_cast<int>(at);
    high = std::min(low + 1, n - 1);
    share = at - low;
  }
  int low, high;
  double share;  // Of `high`.
};

}  // namespace

absl::StatusOr<std::vector<SuperpixelMap>> MapsOf(const v1::Payload& attribution,
                                                  const Segmentation* own,
                                                  const Segmentation& common, MapUnits fit_units) {
  std::vector<SuperpixelMap> maps;
  switch (attribution.kind_case()) {
    case v1::Payload::kFit: {
      absl::StatusOr<SuperpixelMap> map = MapOfFit(attribution.fit(), own, common, fit_units);
      if (!map.ok()) return map.status();
      maps.push_back(*std::move(map));
      return maps;
    }
    case v1::Payload::kActivations:
      for (const v1::LayerMaps& layer : attribution.activations().layers()) {
        const auto height = static_cast<int>(layer.height()),
                   width = static_cast<int>(layer.width());
        // Grad-CAM, or what the task names: a map towards the positive class, and where it is not
        // linear another one against it.
        const auto& cam = layer.cam().empty() ? layer.grad_cam() : layer.cam();
        const int pixels = height * width;
        if (cam.empty() || (cam.size() != pixels && cam.size() != 2 * pixels)) {
          return Wrong(absl::StrCat("layer ", layer.layer(), " has ", cam.size(), " values for ",
                                    height, " x ", width));
        }
        std::vector<float> map(cam.begin(), cam.begin() + pixels);
        for (int p = pixels; p < cam.size(); ++p) map[static_cast<size_t>(p - pixels)] -= cam[p];
        maps.push_back(
            {layer.layer(), SumOnSuperpixels(map, height, width, common), MapUnits::kNone});
      }
      return maps;
    case v1::Payload::kGradient: {
      absl::StatusOr<SuperpixelMap> map = MapOfPixels(attribution.gradient(), common);
      if (!map.ok()) return map.status();
      maps.push_back(*std::move(map));
      return maps;
    }
    default:
      return Wrong("the result is no attribution");
  }
}

std::vector<double> Regrid(absl::Span<const double> values, const Segmentation& from,
                           const Segmentation& to) {
  std::vector<double> pixels(from.count, 0.0), sums(to.count, 0.0);
  for (const uint32_t label : from.labels) ++pixels[label];
  for (size_t p = 0; p < from.labels.size(); ++p) {
    const uint32_t label = from.labels[p];
    sums[to.labels[p]] += values[label] / pixels[label];
  }
  return sums;
}

std::vector<double> RegridMeans(absl::Span<const double> values, const Segmentation& from,
                                const Segmentation& to) {
  std::vector<double> pixels(to.count, 0.0), means(to.count, 0.0);
  for (size_t p = 0; p < to.labels.size(); ++p) {
    ++pixels[to.labels[p]];
    means[to.labels[p]] += values[from.labels[p]];
  }
  for (size_t k = 0; k < means.size(); ++k) means[k] /= pixels[k];
  return means;
}

std::vector<double> SumOnSuperpixels(absl::Span<const float> map, int height, int width,
                                     const Segmentation& segmentation) {
  std::vector<Place> columns;
  for (int x = 0; x < segmentation.width; ++x) columns.emplace_back(x, segmentation.width, width);
  std::vector<double> sums(segmentation.count, 0.0);
  const uint32_t* label = segmentation.labels.data();
  for (int y = 0; y < segmentation.height; ++y) {
    const Place row(y, segmentation.height, height);
    const float* const upper = map.data() + static_cast<size_t>(row.low) * width;
    const float* const lower = map.data() + static_cast<size_t>(row.high) * width;
    for (const Place& column : columns) {
      const double above =
          upper[column.low] + column.share * (upper[column.high] - upper[column.low]);
      const double below =
          lower[column.low] + column.share * (lower[column.high] - lower[column.low]);
      sums[*label++] += above + row.share * (below - above);
    }
  }
  return sums;
}

std::vector<double> SpreadOnSuperpixels(absl::Span<const float> values, int height, int width,
                                        int channels, const Segmentation& segmentation) {
  // The pixels as a segmentation of the picture.
  Segmentation pixels{segmentation.height,
                      segmentation.width,
                      static_cast<uint32_t>(height) * static_cast<uint32_t>(width),
                      {}};
  for (int64_t y = 0; y < segmentation.height; ++y) {
    for (int64_t x = 0; x < segmentation.width; ++x) {
      pixels.labels.push_back(static_cast<uint32_t>(y * height / segmentation.height * width +
                                                    x * width / segmentation.width));
    }
  }
  std::vector<double> sums(pixels.count, 0.0);
  for (size_t i = 0; i < values.size(); ++i) sums[i / static_cast<size_t>(channels)] += values[i];
  return Regrid(sums, pixels, segmentation);
}

std::vector<float> Paint(absl::Span<const double> values, const Segmentation& segmentation) {
  std::vector<float> drawn(segmentation.labels.size());
  for (size_t p = 0; p < drawn.size(); ++p) {
    drawn[p] = static_cast<float>(values[segmentation.labels[p]]);
  }
  return drawn;
}

}  // namespace dermis
