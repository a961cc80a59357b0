#include "common/evaluation/leak_check.h"

#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "common/philox.h"

namespace dermis {
namespace {

constexpr size_t kSize = 64;
using Picture = std::vector<uint8_t>;

double Draw(uint32_t a, uint32_t b) {
  const auto block = PhiloxBlock(31, Purpose::kTest, a, b, 0);
  return ToUnitDouble(block[0], block[1]);
}

// A few waves of random direction and phase.
Picture Made(uint32_t number) {
  Picture picture(kSize * kSize * 3);
  for (size_t y = 0; y < kSize; ++y) {
    for (size_t x = 0; x < kSize; ++x) {
      double value = 128;
      for (uint32_t k = 0; k < 6; ++k) {
        const double fx = 6 * Draw(number, 3 * k), fy = 6 * Draw(number, 3 * k + 1);
        value +=
            15 * std::cos(6.28 * (fx * static_cast<double>(x) / kSize +
                                  fy * static_cast<double>(y) / kSize + Draw(number, 3 * k + 2)));
      }
      for (size_t c = 0; c < 3; ++c) {
        picture[(y * kSize + x) * 3 + c] = static_cast<uint8_t>(value - 8 * static_cast<double>(c));
      }
    }
  }
  return picture;
}
ImageFingerprint Print(const Picture& picture) { return FingerprintOf(picture, kSize, kSize); }

// Mirrored, turned upside down, rows swapped for columns.
Picture Turned(const Picture& picture, bool mirror, bool flip, bool swap) {
  Picture turned(picture.size());
  for (size_t y = 0; y < kSize; ++y) {
    for (size_t x = 0; x < kSize; ++x) {
      size_t fx = mirror ? kSize - 1 - x : x, fy = flip ? kSize - 1 - y : y;
      if (swap) std::swap(fx, fy);
      for (size_t c = 0; c < 3; ++c) {
        turned[(y * kSize + x) * 3 + c] = picture[(fy * kSize + fx) * 3 + c];
      }
    }
  }
  return turned;
}

TEST(ImageHash, KnowsAPictureInAllItsOrientations) {
  for (uint32_t number = 0; number < 20; ++number) {
    const Picture picture = Made(number);
    const ImageFingerprint upright = Print(picture);
    for (int k = 0; k < 8; ++k) {
      const ImageFingerprint turned = Print(Turned(picture, k & 1, k & 2, k & 4));
      for (const auto& [a, b] : {std::pair{&upright, &turned}, std::pair{&turned, &upright}}) {
        const Likeness likeness = Compare(*a, *b);
        EXPECT_TRUE(likeness.near_duplicate);
        EXPECT_GT(likeness.correlation, .9999);
        EXPECT_LE(likeness.distance, 2);
      }
    }
  }
}

TEST(ImageHash, OfATurnedPicture_IsTheOneThatWasForeseen) {
  const Picture picture = Made(3);
  const ImageFingerprint upright = Print(picture);
  for (size_t k = 0; k < kOrientations; ++k) {
    const ImageFingerprint turned =
        Print(Turned(picture, (k & 1) != 0, (k & 2) != 0, (k & 4) != 0));
    EXPECT_LE(std::popcount(turned.hash[0] ^ upright.hash[k]), 2) << k;
  }
}

TEST(ImageHash, BearsNoiseAndBrightness_ButNoStranger) {
  for (uint32_t number = 0; number < 20; ++number) {
    const Picture picture = Made(number);
    Picture copy = picture;
    for (size_t i = 0; i < copy.size(); ++i) {
      copy[i] = static_cast<uint8_t>(
          std::min(255.0, copy[i] * 1.1 + 6 * Draw(900 + number, static_cast<uint32_t>(i))));
    }
    EXPECT_TRUE(Compare(Print(picture), Print(copy)).near_duplicate);
    EXPECT_FALSE(Compare(Print(picture), Print(Made(100 + number))).near_duplicate);
  }
}

TEST(ImageHash, TakesPicturesOfAnySize_AndOfOneColour) {
  const Picture one(3, 7), white(kSize * kSize * 3, 255), grey(kSize * kSize * 3, 100);
  EXPECT_EQ(FingerprintOf(one, 1, 1).thumbnail[0], 7);
  EXPECT_EQ(FingerprintOf(one, 1, 1).hash[0], 0u);
  FingerprintOf(Picture(33 * 65 * 3, 9), 33, 65);
  EXPECT_TRUE(Compare(Print(white), Print(white)).near_duplicate);
  EXPECT_FALSE(Compare(Print(white), Print(grey)).near_duplicate);
  EXPECT_FALSE(Compare(Print(white), Print(Made(1))).near_duplicate);
}

struct Set {
  v1::ImageSetManifest manifest;
  std::vector<ImageFingerprint> prints;
  Split split;
};
Set TenImages() {
  Set set;
  for (uint32_t i = 0; i < 10; ++i) {
    v1::ImageEntry& entry = *set.manifest.add_images();
    entry.set_digest("pixels " + std::to_string(i));
    entry.set_source("file " + std::to_string(i));
    entry.set_group("lesion " + std::to_string(i));
    set.prints.push_back(Print(Made(i)));
    (i < 6 ? set.split.training : i < 8 ? set.split.validation : set.split.test).push_back(i);
  }
  return set;
}

TEST(LeakCheck, IsClean_WhereNothingIsShared) {
  const Set set = TenImages();
  const auto report = CheckLeaks(set.manifest, set.split, set.prints);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->clean());
  EXPECT_EQ(report->images, 10u);
  EXPECT_EQ(report->pairs, 6u * 2 + 6 * 2 + 2 * 2);
  EXPECT_TRUE(report->not_looked_for.empty());
}

TEST(LeakCheck, FindsEachKind_Once) {
  Set set = TenImages();
  set.manifest.mutable_images(9)->set_digest("pixels 0");
  set.prints[9] = set.prints[0];  // The same pixels are near, too.
  set.manifest.mutable_images(6)->set_source("file 1");
  set.prints[8] = Print(Turned(Made(2), true, false, true));
  set.manifest.mutable_images(7)->set_group("lesion 3");
  for (const int i : {4, 8}) {
    v1::Attribute& attribute = *set.manifest.mutable_images(i)->add_attributes();
    attribute.set_key("lesion_id");
    attribute.set_value("HAM_1");
  }
  set.manifest.mutable_images(1)->set_digest("pixels 2");  // Both train: no leak.
  const auto report = CheckLeaks(set.manifest, set.split, set.prints);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->same_pixels, 1u);
  EXPECT_EQ(report->same_file, 1u);
  EXPECT_EQ(report->near_duplicate, 1u);
  EXPECT_EQ(report->same_lesion, 2u);
  ASSERT_EQ(report->leaks.size(), 5u);
  EXPECT_EQ(report->leaks[0].first, 0u);
  EXPECT_EQ(report->leaks[0].second, 9u);
  EXPECT_EQ(report->leaks[0].second_part, SplitPart::kTest);
  EXPECT_EQ(report->leaks[2].kind, LeakKind::kNearDuplicate);
  EXPECT_EQ(report->leaks[2].first, 2u);
  EXPECT_EQ(report->leaks[2].second, 8u);
}

TEST(LeakCheck, SaysWhatItDidNotLookFor_AndRefusesWhatDoesNotFit) {
  Set set = TenImages();
  const auto report = CheckLeaks(set.manifest, set.split, {});
  ASSERT_TRUE(report.ok());
  EXPECT_FALSE(report->not_looked_for.empty());
  set.prints.pop_back();
  EXPECT_FALSE(CheckLeaks(set.manifest, set.split, set.prints).ok());
  set.split.test.push_back(10);
  EXPECT_FALSE(CheckLeaks(set.manifest, set.split, {}).ok());
}

TEST(LeakCheck, ComparesTwentyThousandImages_InGoodTime) {
  Set set;
  constexpr uint32_t kImages = 20000;
  for (uint32_t i = 0; i < kImages; ++i) {
    set.manifest.add_images();
    ImageFingerprint print;
    for (uint32_t k = 0; k < kOrientations; ++k) {
      const auto block = PhiloxBlock(5, Purpose::kTest, i, k, 0);
      print.hash[k] = uint64_t{block[0]} << 32 | block[1];
    }
    for (uint32_t k = 0; k < print.thumbnail.size(); ++k) {
      print.thumbnail[k] = static_cast<uint8_t>(print.hash[k % 8] >> (k / 8 % 8 * 8)) ^
                           static_cast<uint8_t>(k / 64 * 37);
    }
    set.prints.push_back(print);
    (i < 14000   ? set.split.training
     : i < 16000 ? set.split.validation
                 : set.split.test)
        .push_back(i);
  }
  const auto start = std::chrono::steady_clock::now();
  const auto report = CheckLeaks(set.manifest, set.split, set.prints);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->clean());
  RecordProperty("seconds", std::to_string(took.count()));
  EXPECT_LT(took.count(), 60);  // Under a sanitizer, on a busy machine; half a second as released.
}

}  // namespace
}  // namespace dermis
