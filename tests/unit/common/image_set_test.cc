#include "common/image_set.h"

#include <algorithm>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/common/test_images.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<ImageSet> OpenSet(const std::string& path) {
  auto set = ImageSet::OpenFile(path);
  EXPECT_TRUE(set.ok()) << set.status();
  return set.ok() ? *std::move(set) : nullptr;
}

TEST(ImageSet, WhatIsWritten_IsReadBack) {
  TestFolder folder;
  auto images = TestImages(7, 5, 4, /*masked=*/3);
  auto* attribute = images[2].entry.add_attributes();
  attribute->set_key("z");
  attribute->set_value("last");
  images[2].entry.add_attributes()->set_key("a");
  images[2].entry.set_group("patient 1");
  auto shuffled = images;
  std::reverse(shuffled.begin(), shuffled.end());
  ASSERT_TRUE(WriteImageSet(folder / "x.images", TestHeader(5, 4), shuffled).ok());

  auto set = OpenSet(folder / "x.images");
  ASSERT_NE(set, nullptr);
  ASSERT_EQ(set->manifest().images_size(), 7);
  for (uint32_t i = 0; i < 7; ++i) {
    const v1::ImageEntry& entry = set->manifest().images(i);
    EXPECT_EQ(entry.name(), images[i].entry.name());
    EXPECT_EQ(entry.label(), images[i].entry.label());
    EXPECT_EQ(*set->Pixels(i), images[i].pixels);
    EXPECT_EQ(entry.digest(), Sha256Of(images[i].pixels).bytes());
    EXPECT_EQ(entry.has_mask(), i % 3 == 0);
    if (i % 3 == 0) {
      EXPECT_EQ(*set->Mask(i), images[i].mask);
    } else {
      EXPECT_EQ(set->Mask(i).status().code(), absl::StatusCode::kNotFound);
    }
  }
  EXPECT_EQ(set->manifest().images(2).attributes(0).key(), "a");
  EXPECT_EQ(set->manifest().images(2).attributes(1).value(), "last");
  EXPECT_EQ(set->manifest().images(2).group(), "patient 1");
  EXPECT_EQ(set->Pixels(7).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(CountFiles(folder.path()), 1) << "no temporary file stays";
}

TEST(ImageSet, SameImages_GiveTheSameFileAndAddress) {
  TestFolder folder;
  auto images = TestImages(5, 3, 3, 2);
  ASSERT_TRUE(WriteImageSet(folder / "a.images", TestHeader(3, 3), images).ok());
  std::rotate(images.begin(), images.begin() + 2, images.end());
  ASSERT_TRUE(WriteImageSet(folder / "b.images", TestHeader(3, 3), images).ok());
  EXPECT_EQ(FileBytes(folder / "a.images"), FileBytes(folder / "b.images"));
  EXPECT_EQ(OpenSet(folder / "a.images")->digest(), OpenSet(folder / "b.images")->digest());
  images[0].pixels[0] ^= 1;
  ASSERT_TRUE(WriteImageSet(folder / "b.images", TestHeader(3, 3), images).ok());
  EXPECT_NE(OpenSet(folder / "a.images")->digest(), OpenSet(folder / "b.images")->digest());
}

TEST(ImageSet, LabelMapsAndTheMasksOrigin_AreReadBack_FromFileAndBlobs) {
  TestFolder folder;
  auto images = TestImages(5, 3, 4, /*masked=*/2);
  images[0].entry.set_mask_origin("expert");
  for (int i : {1, 4}) {
    images[i].labels.resize(2 * 3 * 4);
    for (size_t k = 0; k < images[i].labels.size(); ++k) images[i].labels[k] = static_cast<char>(k + i);
  }
  ASSERT_TRUE(WriteImageSet(folder / "x.images", TestHeader(3, 4), images).ok());
  auto file = OpenSet(folder / "x.images");
  auto blobs = *ImageSet::OpenBlobs(file->manifest(), [&](const Digest& digest) -> absl::StatusOr<std::string> {
    return std::string(*file->ChunkBytes(digest));
  });
  EXPECT_EQ(BlobsOf(file->manifest().chunks(0)).size(), 3u);
  for (const ImageSet* set : {file.get(), blobs.get()}) {
    EXPECT_EQ(set->manifest().images(0).mask_origin(), "expert");
    for (uint32_t i = 0; i < 5; ++i) {
      EXPECT_EQ(set->manifest().images(i).has_labels(), i == 1 || i == 4);
      if (i == 1 || i == 4) {
        EXPECT_EQ(*set->Labels(i), images[i].labels);
      } else {
        EXPECT_EQ(set->Labels(i).status().code(), absl::StatusCode::kNotFound);
      }
    }
    EXPECT_EQ(*set->Mask(2), images[2].mask);
    EXPECT_EQ(*set->Pixels(4), images[4].pixels);
  }
  images[1].labels.pop_back();
  EXPECT_FALSE(WriteImageSet(folder / "y.images", TestHeader(3, 4), images).ok());
}

// Golden: an image set's address changes only on purpose.
TEST(ImageSet, Address_IsTheGoldenOne) {
  TestFolder folder;
  ASSERT_TRUE(WriteImageSet(folder / "a.images", TestHeader(3, 3), TestImages(5, 3, 3, 2)).ok());
  EXPECT_EQ(OpenSet(folder / "a.images")->digest().hex(),
            "74808ed7606f180c078d90d0dcdaa625fb9e8e7f17309cefad3be3dfea048298");
}

TEST(ImageSet, FromBlobs_EqualsTheFile_AndFetchesEachChunkOnce) {
  TestFolder folder;
  const auto images = TestImages(2, 4, 4, 2);
  ASSERT_TRUE(WriteImageSet(folder / "x.images", TestHeader(4, 4), images).ok());
  auto file = OpenSet(folder / "x.images");
  std::map<Digest, int> fetched;
  v1::ImageSetManifest manifest;
  ASSERT_TRUE(manifest.ParseFromString(file->manifest_blob()));
  auto set =
      ImageSet::OpenBlobs(manifest, [&](const Digest& digest) -> absl::StatusOr<std::string> {
        ++fetched[digest];
        auto bytes = file->ChunkBytes(digest);
        if (!bytes.ok()) return bytes.status();
        return std::string(*bytes);
      });
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_TRUE(fetched.empty()) << "on first use";
  for (int round = 0; round < 2; ++round) {
    for (uint32_t i = 0; i < 2; ++i) EXPECT_EQ(*(*set)->Pixels(i), images[i].pixels);
    EXPECT_EQ(*(*set)->Mask(0), images[0].mask);
  }
  EXPECT_EQ(fetched.size(), 2u);
  for (const auto& [digest, times] : fetched) EXPECT_EQ(times, 1);
  EXPECT_EQ((*set)->digest(), file->digest());
  EXPECT_EQ((*set)->manifest_blob(), file->manifest_blob());
}

TEST(ImageSet, LargeSet_IsCutIntoChunks_ThatHashToTheirNames) {
  TestFolder folder;
  // 1024 x 1024 x 3 = 3 MiB: 21 images a chunk.
  std::vector<PackedImage> images(23);
  for (int i = 0; i < 23; ++i) {
    images[i].entry.set_name(absl::StrFormat("%02d", i));
    images[i].entry.set_label(i % 2);
    images[i].pixels.assign(3 << 20, static_cast<char>(i));
  }
  images[22].mask.assign(1 << 20, 1);
  ASSERT_TRUE(WriteImageSet(folder / "x.images", TestHeader(1024, 1024), images).ok());
  auto set = OpenSet(folder / "x.images");
  ASSERT_EQ(set->manifest().chunks_size(), 2);
  EXPECT_EQ(set->manifest().chunks(0).count(), 21u);
  EXPECT_EQ(set->manifest().chunks(1).count(), 2u);
  EXPECT_TRUE(set->manifest().chunks(0).masks().empty());
  for (const v1::ImageChunk& chunk : set->manifest().chunks()) {
    const Digest digest = *Digest::FromBytes(chunk.pixels());
    EXPECT_EQ(Sha256Of(*set->ChunkBytes(digest)), digest);
    EXPECT_LE(set->ChunkBytes(digest)->size(), kChunkBytes);
  }
  const Digest masks = *Digest::FromBytes(set->manifest().chunks(1).masks());
  EXPECT_EQ(Sha256Of(*set->ChunkBytes(masks)), masks);
  EXPECT_EQ(*set->Pixels(22), images[22].pixels);
  EXPECT_EQ(*set->Mask(22), images[22].mask);
  EXPECT_EQ(set->ChunkBytes(Sha256Of("other")).status().code(), absl::StatusCode::kNotFound);
}

TEST(ImageSet, WrongImages_AreRefused_AndLeaveNoFile) {
  TestFolder folder;
  const auto error = [&](std::vector<PackedImage> images) {
    return std::string(WriteImageSet(folder / "x", TestHeader(3, 3), std::move(images)).message());
  };
  auto images = TestImages(3, 3, 3, 1);
  images[1].entry.set_name(images[0].entry.name());
  EXPECT_THAT(error(images), HasSubstr("twice"));
  images = TestImages(3, 3, 3, 1);
  images[1].pixels.pop_back();
  EXPECT_THAT(error(images), HasSubstr("26 bytes"));
  images = TestImages(3, 3, 3, 1);
  images[1].mask[0] = 3;
  EXPECT_THAT(error(images), HasSubstr("another value than 0, 1 and 2"));
  images = TestImages(3, 3, 3, 1);
  images[1].entry.set_label(2);
  EXPECT_THAT(error(images), HasSubstr("label 2"));
  images = TestImages(3, 3, 3, 1);
  images[1].entry.set_name("l\xe4sion");
  EXPECT_THAT(error(images), HasSubstr("UTF-8"));
  EXPECT_THAT(error({}), HasSubstr("0 images"));
  EXPECT_EQ(CountFiles(folder.path()), 0);
  EXPECT_FALSE(
      WriteImageSet(folder / "no/such/folder", TestHeader(3, 3), TestImages(3, 3, 3)).ok());
}

TEST(ImageSet, FileThatIsNone_IsRefused_NamingIt) {
  TestFolder folder;
  WriteFile(folder / "junk.images", "this is no image set at all");
  const auto junk = ImageSet::OpenFile(folder / "junk.images");
  EXPECT_THAT(std::string(junk.status().message()),
              HasSubstr("junk.images is not an image set (made by dermis ingest)"));
  const std::string photos = folder.path() + "/";
  EXPECT_THAT(std::string(ImageSet::OpenFile(photos).status().message()),
              HasSubstr(" is a folder; pack it first: `dermis ingest "));
  ASSERT_TRUE(WriteImageSet(folder / "x.images", TestHeader(3, 3), TestImages(3, 3, 3)).ok());
  const std::string bytes = FileBytes(folder / "x.images");
  WriteFile(folder / "cut.images", std::string_view(bytes).substr(0, bytes.size() - 1));
  EXPECT_FALSE(ImageSet::OpenFile(folder / "cut.images").ok());
  EXPECT_EQ(ImageSet::OpenFile(folder / "none").status().code(), absl::StatusCode::kNotFound);
}

TEST(ImageSet, ManifestFromOutside_IsChecked) {
  TestFolder folder;
  ASSERT_TRUE(WriteImageSet(folder / "x.images", TestHeader(3, 3), TestImages(3, 3, 3, 1)).ok());
  const v1::ImageSetManifest good = OpenSet(folder / "x.images")->manifest();
  ASSERT_TRUE(ValidateManifest(good).ok());
  const auto refused = [&](auto change) {
    v1::ImageSetManifest bad = good;
    change(bad);
    const absl::Status status = ValidateManifest(bad);
    return status.code() == absl::StatusCode::kInvalidArgument;
  };
  using M = v1::ImageSetManifest;
  EXPECT_TRUE(refused([](M& m) { m.set_format(2); }));
  EXPECT_TRUE(refused([](M& m) { m.set_height(0); }));
  EXPECT_TRUE(refused([](M& m) { m.set_width(1'000'000); }));
  EXPECT_TRUE(refused([](M& m) { m.clear_classes(); }));
  EXPECT_TRUE(refused([](M& m) { m.set_classes(0, "malignant"); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_chunks(0)->set_count(4); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_chunks(0)->set_count(0xFFFFFFFF); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_chunks(0)->set_pixels("x"); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_chunks(0)->clear_masks(); }));
  EXPECT_TRUE(refused([](M& m) { m.clear_chunks(); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_images()->SwapElements(0, 1); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_images(1)->clear_digest(); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_images(1)->set_label(9); }));
  EXPECT_TRUE(refused([](M& m) { m.mutable_images(1)->set_name(std::string("a\0b", 3)); }));
}

}  // namespace
}  // namespace dermis
