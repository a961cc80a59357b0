#include "worker/data/given.h"

#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/resize.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

class SetWithGiven : public ImageSet {
 public:
  SetWithGiven(std::shared_ptr<ImageSet> set, std::shared_ptr<const std::string> pixels)
      : set_(std::move(set)), pixels_(std::move(pixels)) {
    manifest_ = set_->manifest();
    manifest_.add_images();
  }
  absl::StatusOr<std::string_view> Pixels(uint32_t i) const override {
    return Given(i) ? absl::StatusOr<std::string_view>(std::string_view(*pixels_))
                    : set_->Pixels(i);
  }
  absl::StatusOr<std::string_view> Mask(uint32_t i) const override {
    if (Given(i)) return absl::NotFoundError("the given image has no mask");
    return set_->Mask(i);
  }
  absl::StatusOr<std::string_view> Labels(uint32_t i) const override {
    if (Given(i)) return absl::NotFoundError("the given image has no label map");
    return set_->Labels(i);
  }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest& digest) const override {
    return set_->ChunkBytes(digest);
  }

 private:
  bool Given(uint32_t i) const { return i + 1 == static_cast<uint32_t>(manifest_.images_size()); }
  const std::shared_ptr<ImageSet> set_;
  const std::shared_ptr<const std::string> pixels_;
};

// Images [first, first + count) at model size.
absl::StatusOr<std::vector<uint8_t>> Copy(const ImageData& data, uint32_t first, uint32_t count) {
  std::vector<uint8_t> bytes;
  bytes.reserve(count * data.image_bytes());
  for (uint32_t i = first; i < first + count; ++i) {
    ASSIGN_OR_RETURN(const PinnedImage pinned, data.Pin(i));
    bytes.insert(bytes.end(), pinned.data(), pinned.data() + data.image_bytes());
  }
  return bytes;
}

}  // namespace

absl::StatusOr<std::shared_ptr<ImageSet>> WithGiven(std::shared_ptr<ImageSet> set,
                                                    std::shared_ptr<const std::string> pixels) {
  const v1::ImageSetManifest& manifest = set->manifest();
  const uint64_t bytes = uint64_t{manifest.height()} * manifest.width() * 3;
  if (pixels->size() != bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a given image of ", pixels->size(), " bytes; those of the set have ", bytes));
  }
  return std::make_shared<SetWithGiven>(std::move(set), std::move(pixels));
}

absl::StatusOr<std::shared_ptr<const ImageData>> WithGiven(
    const std::shared_ptr<const ImageData>& data, std::shared_ptr<const std::string> pixels) {
  auto out = std::make_shared<ImageData>();
  ASSIGN_OR_RETURN(out->set, WithGiven(data->set, pixels));
  const auto count = static_cast<uint32_t>(data->labels.size());
  out->split = data->split;
  out->split.test = {count};
  out->size = data->size;
  out->labels = data->labels;
  out->labels.push_back(0);
  out->classes = data->classes;
  out->mean = data->mean;
  out->deviation = data->deviation;
  out->channel_mean = data->channel_mean;

  // The others as chunks, which are copied where a task looks at them; it seldom does.
  out->chunk_begin = data->chunk_begin;
  out->chunk_begin.push_back(count);
  std::vector<uint64_t> sizes;
  for (size_t c = 0; c + 1 < out->chunk_begin.size(); ++c) {
    sizes.push_back((out->chunk_begin[c + 1] - out->chunk_begin[c]) * data->image_bytes());
  }
  sizes.push_back(data->image_bytes());
  const v1::ImageSetManifest& manifest = data->set->manifest();
  const int height = static_cast<int>(manifest.height()),
            width = static_cast<int>(manifest.width());
  out->chunks = std::make_shared<ChunkCache>(
      sizes, std::numeric_limits<uint64_t>::max(),
      [data, pixels, begin = out->chunk_begin, height,
       width](uint32_t c) -> absl::StatusOr<std::vector<uint8_t>> {
        if (c + 1 < begin.size()) return Copy(*data, begin[c], begin[c + 1] - begin[c]);
        std::vector<uint8_t> bytes(data->image_bytes());
        const int size = static_cast<int>(data->size);
        AreaResizeBytes(reinterpret_cast<const uint8_t*>(pixels->data()), height, width, 3,
                        bytes.data(), size, size);
        return bytes;
      });
  return std::shared_ptr<const ImageData>(std::move(out));
}

}  // namespace dermis
