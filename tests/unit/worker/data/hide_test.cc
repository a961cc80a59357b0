// Images of which a part is hidden: the part itself, and whole sets of such images.
#include "worker/data/hide.h"

#include <array>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/resize.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/common/test_images.h"
#include "worker/data/image_source.h"

namespace dermis {
namespace {

constexpr uint32_t kSide = 12, kSize = 6, kImages = 24;
constexpr std::array<double, 3> kMean = {100.4, 50.5, 7};

v1::Hide Hide(v1::LesionRegion show, v1::HiddenValue hidden) {
  v1::Hide hide;
  hide.set_show(show);
  hide.set_hidden(hidden);
  if (hidden == v1::HIDDEN_VALUE_BLUR) hide.set_blur(0.1);
  return hide;
}

// An L: rows 2..8 of column 3, and columns 3..6 of row 8.
std::string Mask() {
  std::string mask(kSide * kSide, '\0');
  for (uint32_t i = 2; i <= 8; ++i) mask[i * kSide + 3] = 1;
  for (uint32_t x = 3; x <= 6; ++x) mask[8 * kSide + x] = 2;  // A region within counts as lesion.
  return mask;
}

std::vector<PackedImage> Images() {
  std::vector<PackedImage> images = TestImages(kImages, kSide, kSide);
  for (uint32_t i = 0; i < kImages; ++i) {
    if (i % 4 != 3) images[i].mask = Mask();
  }
  return images;
}

absl::Span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

TEST(HidePart, ShowsTheRegionAndNothingElse) {
  const std::string pixels = Images()[0].pixels, mask = Mask();
  for (const v1::LesionRegion region :
       {v1::LESION_REGION_LESION, v1::LESION_REGION_SURROUNDINGS, v1::LESION_REGION_BOX}) {
    const std::vector<uint8_t> out = *HidePart(Hide(region, v1::HIDDEN_VALUE_TRAINING_MEAN),
                                               Bytes(pixels), Bytes(mask), kSide, kSide, kMean);
    for (uint32_t y = 0; y < kSide; ++y) {
      for (uint32_t x = 0; x < kSide; ++x) {
        const uint32_t i = y * kSide + x;
        const bool shown = region == v1::LESION_REGION_BOX
                               ? y >= 2 && y <= 8 && x >= 3 && x <= 6
                               : (mask[i] != 0) == (region == v1::LESION_REGION_LESION);
        for (int c = 0; c < 3; ++c) {
          // The mean is rounded half up, as the resize rounds.
          EXPECT_EQ(out[3 * i + c], shown ? static_cast<uint8_t>(pixels[3 * i + c])
                                          : (std::array<uint8_t, 3>{100, 51, 7})[c]);
        }
      }
    }
  }
}

TEST(HidePart, LeavesNothingOfWhatIsHidden) {
  // Two images that differ where they are hidden alone, away from the border of what is shown.
  std::string pixels = Images()[0].pixels, other = pixels;
  const std::string mask = Mask();
  other[3 * (0 * kSide + 11)] ^= 0x7F;
  for (const v1::HiddenValue hidden : {v1::HIDDEN_VALUE_TRAINING_MEAN, v1::HIDDEN_VALUE_INPAINT}) {
    const v1::Hide hide = Hide(v1::LESION_REGION_LESION, hidden);
    const auto a = *HidePart(hide, Bytes(pixels), Bytes(mask), kSide, kSide, kMean);
    const auto b = *HidePart(hide, Bytes(other), Bytes(mask), kSide, kSide, kMean);
    // Filling in begins at the mean of what is hidden, and ends within a thousandth.
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1);
  }
}

TEST(HidePart, RefusesWhatItDoesNotKnow) {
  const std::string pixels = Images()[0].pixels, mask = Mask();
  const auto code = [&](const v1::Hide& hide) {
    return HidePart(hide, Bytes(pixels), Bytes(mask), kSide, kSide, kMean).status().code();
  };
  EXPECT_EQ(code(Hide(v1::LESION_REGION_UNSPECIFIED, v1::HIDDEN_VALUE_BLUR)),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Hide(v1::LESION_REGION_BOX, v1::HIDDEN_VALUE_BACKGROUND)),
            absl::StatusCode::kInvalidArgument);
  v1::Hide sharp = Hide(v1::LESION_REGION_BOX, v1::HIDDEN_VALUE_BLUR);
  sharp.set_blur(0);
  EXPECT_EQ(code(sharp), absl::StatusCode::kInvalidArgument);
}

class HiddenSetTest : public testing::Test {
 protected:
  HiddenSetTest() {
    EXPECT_TRUE(WriteImageSet(folder_ / "x.images", TestHeader(kSide, kSide), Images()).ok());
    file_ = *ImageSet::OpenFile(folder_ / "x.images");
    source_.set_image_set(file_->digest().bytes());
    source_.set_size(kSize);
    source_.mutable_split()->set_test(.25);
    source_.mutable_split()->set_validation(.2);
    source_.mutable_split()->set_masked_only(true);
  }
  ImageSources::Fetch Fetch() {
    return [this](const Digest& digest) -> absl::StatusOr<std::string> {
      if (digest == file_->digest()) return file_->manifest_blob();
      auto bytes = file_->ChunkBytes(digest);
      if (!bytes.ok()) return bytes.status();
      return std::string(*bytes);
    };
  }
  TestFolder folder_;
  std::unique_ptr<ImageSet> file_;
  v1::ImageSource source_;
};

TEST_F(HiddenSetTest, AllThatTrainsOrTestsHasAMask) {
  ImageSources sources(Fetch());
  const auto data = *sources.Get(source_);
  size_t images = 0;
  for (const auto* part : {&data->split.training, &data->split.validation, &data->split.test}) {
    for (const uint32_t image : *part) EXPECT_NE(image % 4, 3u);
    images += part->size();
  }
  EXPECT_EQ(images, kImages - kImages / 4);
}

TEST_F(HiddenSetTest, HoldsTheImagesWithTheirPartHidden_AndTheirOwnStatistics) {
  ImageSources sources(Fetch());
  const auto whole = *sources.Get(source_);
  *source_.mutable_hide() = Hide(v1::LESION_REGION_LESION, v1::HIDDEN_VALUE_TRAINING_MEAN);
  const auto data = *sources.Get(source_);
  std::vector<uint8_t> expected(kSize * kSize * 3);
  for (uint32_t i = 0; i < kImages; ++i) {
    if (i % 4 == 3) {  // No mask: as it is, and in no part of the split.
      EXPECT_TRUE(std::equal(data->image(i), data->image(i) + expected.size(), whole->image(i)));
      continue;
    }
    ASSERT_TRUE(
        HiddenModelImage(source_.hide(), *file_, i, kSize, whole->channel_mean, expected.data())
            .ok());
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), data->image(i))) << i;
    EXPECT_FALSE(std::equal(expected.begin(), expected.end(), whole->image(i))) << i;
  }
  EXPECT_EQ(data->split.training, whole->split.training);
  EXPECT_NE(data->deviation, whole->deviation) << "of what the network sees";
}

TEST_F(HiddenSetTest, IsTheSameByChunks) {
  *source_.mutable_hide() = Hide(v1::LESION_REGION_SURROUNDINGS, v1::HIDDEN_VALUE_BLUR);
  ImageSources sources(Fetch());
  const auto all = *sources.Get(source_);
  const TestBlobs chunked = [&] {
    // Chunks of five images, with their masks.
    TestBlobs made;
    v1::ImageSetManifest manifest = file_->manifest();
    manifest.clear_chunks();
    const auto keep = [&](std::string bytes) {
      const Digest digest = Sha256Of(bytes);
      made.blobs[digest] = std::move(bytes);
      return digest.bytes();
    };
    for (uint32_t first = 0; first < kImages; first += 5) {
      std::string pixels, masks;
      const uint32_t end = std::min(kImages, first + 5);
      for (uint32_t i = first; i < end; ++i) {
        pixels += std::string(*file_->Pixels(i));
        const auto mask = file_->Mask(i);
        masks += mask.ok() ? std::string(*mask) : std::string(kSide * kSide, '\0');
      }
      v1::ImageChunk& chunk = *manifest.add_chunks();
      chunk.set_count(end - first);
      chunk.set_pixels(keep(std::move(pixels)));
      chunk.set_masks(keep(std::move(masks)));
    }
    made.address = *Digest::FromBytes(keep(manifest.SerializeAsString()));
    return made;
  }();
  source_.set_image_set(chunked.address.bytes());
  ImageSources some(
      [&](const Digest& digest) -> absl::StatusOr<std::string> { return chunked.blobs.at(digest); },
      /*memory=*/11 * kSize * kSize * 3);
  const auto parts = *some.Get(source_);
  ASSERT_NE(parts->chunks, nullptr);
  EXPECT_EQ(parts->mean, all->mean);
  for (uint32_t i = 0; i < kImages; ++i) {
    const PinnedImage pinned = *parts->Pin(i);
    EXPECT_TRUE(std::equal(pinned.data(), pinned.data() + kSize * kSize * 3, all->image(i))) << i;
  }
}

}  // namespace
}  // namespace dermis
