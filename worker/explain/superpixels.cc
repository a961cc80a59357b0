#include "worker/explain/superpixels.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace dermis {

Segmentation Rectangles(int height, int width, int rows, int columns) {
  Segmentation grid{height, width, static_cast<uint32_t>(rows) * static_cast<uint32_t>(columns), {}};
  grid.labels.reserve(size_t(height) * width);
  for (int64_t y = 0; y < height; ++y) {
    const auto row = static_cast<uint32_t>(y * rows / height);
    for (int64_t x = 0; x < width; ++x) {
      grid.labels.push_back(row * static_cast<uint32_t>(columns) +
                            static_cast<uint32_t>(x * columns / width));
    }
  }
  return grid;
}

Segmentation Enlarged(const Segmentation& segmentation, int height, int width) {
  Segmentation fine{height, width, segmentation.count, {}};
  fine.labels.reserve(size_t(height) * width);
  for (int64_t y = 0; y < height; ++y) {
    const int64_t row = (2 * y + 1) * segmentation.height / (2 * int64_t{height});
    for (int64_t x = 0; x < width; ++x) {
      const int64_t column = (2 * x + 1) * segmentation.width / (2 * int64_t{width});
      fine.labels.push_back(segmentation.labels[row * segmentation.width + column]);
    }
  }
  return fine;
}

void CompactLabels(Segmentation& segmentation) {
  std::vector<uint32_t> present = segmentation.labels;
  std::sort(present.begin(), present.end());
  present.erase(std::unique(present.begin(), present.end()), present.end());
  for (uint32_t& label : segmentation.labels) {
    label = static_cast<uint32_t>(std::lower_bound(present.begin(), present.end(), label) -
                                  present.begin());
  }
  segmentation.count = static_cast<uint32_t>(present.size());
}

absl::StatusOr<v1::SuperpixelOutput> ToProto(const Segmentation& segmentation) {
  if (segmentation.count > 65536) {
    return absl::InvalidArgumentError(
        absl::StrCat(segmentation.count, " superpixels, at most 65536 can be stored: ask for fewer"));
  }
  v1::SuperpixelOutput output;
  output.set_height(static_cast<uint32_t>(segmentation.height));
  output.set_width(static_cast<uint32_t>(segmentation.width));
  output.set_count(segmentation.count);
  std::string& bytes = *output.mutable_labels();
  bytes.reserve(segmentation.labels.size() * 2);
  for (uint32_t label : segmentation.labels) {
    bytes.push_back(static_cast<char>(label & 0xFF));
    bytes.push_back(static_cast<char>(label >> 8));
  }
  return output;
}

absl::StatusOr<Segmentation> FromProto(const v1::SuperpixelOutput& output) {
  const uint64_t pixels = uint64_t{output.height()} * output.width();
  if (pixels == 0 || output.height() > 65536 || output.width() > 65536 ||
      output.labels().size() != pixels * 2 || output.count() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "superpixels of ", output.height(), " x ", output.width(), " pixels, ", output.count(),
        " labels, ", output.labels().size(), " bytes: not a result of a superpixel task"));
  }
  Segmentation result{static_cast<int>(output.height()), static_cast<int>(output.width()),
                      output.count(), std::vector<uint32_t>(pixels)};
  for (uint64_t i = 0; i < pixels; ++i) {
    result.labels[i] = static_cast<uint8_t>(output.labels()[2 * i]) |
                       static_cast<uint32_t>(static_cast<uint8_t>(output.labels()[2 * i + 1])) << 8;
    if (result.labels[i] >= output.count()) {
      return absl::InvalidArgumentError(absl::StrCat("superpixel label ", result.labels[i],
                                                     " of ", output.count(), " at pixel ", i));
    }
  }
  return result;
}

}  // namespace dermis
