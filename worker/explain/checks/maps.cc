#include "worker/explain/checks/maps.h"

#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/resize.h"

namespace dermis {
namespace {

absl::Status Wrong(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("a map to be checked: ", why));
}

bool SamePicture(const Segmentation& a, const Segmentation& b) {
  return a.height == b.height && a.width == b.width && a.labels.size() == b.labels.size();
}

absl::StatusOr<SuperpixelMap> MapOfFit(const v1::Attribution& fit, const Segmentation* own,
                                       const Segmentation& common) {
  if (own == nullptr || !SamePicture(*own, common)) {
    return Wrong("a fit needs its own superpixels, of the same picture as the common ones");
  }
  if (static_cast<uint32_t>(fit.values_size()) != own->count) {
    return Wrong(absl::StrCat(fit.values_size(), " values for ", own->count, " superpixels"));
  }
  SuperpixelMap map;
  map.units = MapUnits::kOutput;
  map.values.assign(fit.values().begin(), fit.values().end());
  if (own->labels != common.labels) map.values = Regrid(map.values, *own, common);
  return map;
}

}  // namespace

absl::StatusOr<std::vector<SuperpixelMap>> MapsOf(const v1::Payload& attribution,
                                                  const Segmentation* own,
                                                  const Segmentation& common) {
  std::vector<SuperpixelMap> maps;
  switch (attribution.kind_case()) {
    case v1::Payload::kFit: {
      absl::StatusOr<SuperpixelMap> map = MapOfFit(attribution.fit(), own, common);
      if (!map.ok()) return map.status();
      maps.push_back(*std::move(map));
      return maps;
    }
    case v1::Payload::kActivations:
      for (const v1::LayerMaps& layer : attribution.activations().layers()) {
        const auto height = static_cast<int>(layer.height()), width = static_cast<int>(layer.width());
        if (layer.grad_cam_size() == 0 || layer.grad_cam_size() != height * width) {
          return Wrong(absl::StrCat("layer ", layer.layer(), " has ", layer.grad_cam_size(),
                                    " values for ", height, " x ", width));
        }
        maps.push_back({layer.layer(), SumOnSuperpixels(layer.grad_cam(), height, width, common),
                        MapUnits::kNone});
      }
      return maps;
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

std::vector<double> SumOnSuperpixels(absl::Span<const float> map, int height, int width,
                                     const Segmentation& segmentation) {
  const std::vector<float> drawn = ResizeBilinear({map.begin(), map.end()}, width, height,
                                                  segmentation.width, segmentation.height);
  std::vector<double> sums(segmentation.count, 0.0);
  for (size_t p = 0; p < drawn.size(); ++p) sums[segmentation.labels[p]] += drawn[p];
  return sums;
}

std::vector<float> Paint(absl::Span<const double> values, const Segmentation& segmentation) {
  std::vector<float> drawn(segmentation.labels.size());
  for (size_t p = 0; p < drawn.size(); ++p) {
    drawn[p] = static_cast<float>(values[segmentation.labels[p]]);
  }
  return drawn;
}

}  // namespace dermis
