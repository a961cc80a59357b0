#include "worker/data/given.h"

#include <string_view>
#include <utility>

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

  out->base = data;
  out->pixels.resize(data->image_bytes());
  const v1::ImageSetManifest& manifest = data->set->manifest();
  const int size = static_cast<int>(data->size);
  AreaResizeBytes(reinterpret_cast<const uint8_t*>(pixels->data()),
                  static_cast<int>(manifest.height()), static_cast<int>(manifest.width()), 3,
                  out->pixels.data(), size, size);
  return std::shared_ptr<const ImageData>(std::move(out));
}

}  // namespace dermis
