// Augmentation against real torchvision: goldens by make_goldens.py, which also says what a case's
// name means.
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "tests/parity/goldens.h"
#include "worker/training/augmentation.h"

namespace dermis {
namespace {

constexpr int kSize = 12;

Augmentation AugmentationOf(const std::string& name, const std::vector<double>& v) {
  constexpr double kRadians = M_PI / 180, kSide = kSize;
  if (name == "brightness") return {.brightness = v[0]};
  if (name == "contrast") return {.contrast = v[0]};
  if (name == "saturation") return {.saturation = v[0]};
  if (name == "hue") return {.hue = v[0]};
  if (name == "colours") {
    return {.brightness = v[0], .contrast = v[1], .saturation = v[2], .hue = v[3]};
  }
  if (name == "affine") {
    return {.shear = v[4] * kRadians,
            .scale = v[3],
            .angle = v[0] * kRadians,
            .shift_y = -v[2],
            .shift_x = -v[1]};
  }
  EXPECT_EQ(name, "crop");
  return {.crop_y = v[0] / kSide,
          .crop_x = v[1] / kSide,
          .crop_height = v[2] / kSide,
          .crop_width = v[3] / kSide};
}

TEST(AugmentationParityTest, Transforms_AreTorchvisions) {
  Goldens golden;
  const absl::Status opened = golden.Open("augmentation/augmentation.safetensors");
  ASSERT_TRUE(opened.ok()) << opened;
  std::vector<uint8_t> pixels;
  for (float v : golden.As<float>("input")) pixels.push_back(static_cast<uint8_t>(v));
  ASSERT_EQ(pixels.size(), 3u * kSize * kSize);
  int cases = 0;
  for (const auto& [title, tensor] : golden.view().tensors) {
    if (title == "input") continue;
    std::vector<std::string> words = absl::StrSplit(title, ' ');
    std::vector<double> numbers(words.size() - 1);
    for (size_t i = 0; i < numbers.size(); ++i) {
      ASSERT_TRUE(absl::SimpleAtod(words[i + 1], &numbers[i]));
    }
    const std::vector<float> theirs = golden.As<float>(title);
    std::vector<float> ours(pixels.size());
    ASSERT_EQ(theirs.size(), ours.size());
    AugmentImage(pixels.data(), kSize, AugmentationOf(words[0], numbers),
                 Normalisation{.mean = 0, .inverse_deviation = 1}, ours.data());
    // The border that a crop's own border decides: up to its outermost pixels' centres.
    int margin_y = 0, margin_x = 0;
    if (words[0] == "crop") {
      margin_y = static_cast<int>(std::ceil(kSize / numbers[2] / 2));
      margin_x = static_cast<int>(std::ceil(kSize / numbers[3] / 2));
    }
    for (int y = margin_y; y < kSize - margin_y; ++y) {
      for (int x = margin_x; x < kSize - margin_x; ++x) {
        for (int c = 0; c < 3; ++c) {
          const int i = 3 * (y * kSize + x) + c;
          ASSERT_NEAR(ours[i], theirs[i], 2e-3) << title << " at " << y << " " << x;
        }
      }
    }
    ++cases;
  }
  EXPECT_GE(cases, 20);
}

}  // namespace
}  // namespace dermis
