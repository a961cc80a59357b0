#include "tools/synth/synth.h"

#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"

namespace dermis {
namespace {

SynthOptions Small() {
  SynthOptions options;
  options.size = 128;
  return options;
}

double MeanWhere(const PackedImage& image, uint8_t value, int channel) {
  double sum = 0, n = 0;
  for (size_t i = 0; i < image.mask.size(); ++i) {
    if (static_cast<uint8_t>(image.mask[i]) != value) continue;
    sum += static_cast<uint8_t>(image.pixels[i * 3 + channel]);
    ++n;
  }
  return sum / n;
}

TEST(Synth, AnImageIsAFunctionOfItsIndexAlone) {
  EXPECT_EQ(MakeSynthImage(Small(), 7).pixels, MakeSynthImage(Small(), 7).pixels);
  EXPECT_NE(MakeSynthImage(Small(), 7).pixels, MakeSynthImage(Small(), 9).pixels);
}

TEST(Synth, ExchangingTheRegionChangesNothingElse) {
  SynthOptions exchanged = Small();
  exchanged.exchange_region = true;
  for (uint32_t i = 0; i < 6; ++i) {
    const PackedImage a = MakeSynthImage(Small(), i), b = MakeSynthImage(exchanged, i);
    EXPECT_EQ(a.mask, b.mask);
    size_t changed = 0;
    for (size_t p = 0; p < a.mask.size(); ++p) {
      const bool differs = a.pixels.compare(p * 3, 3, b.pixels, p * 3, 3) != 0;
      if (differs) { EXPECT_EQ(static_cast<uint8_t>(a.mask[p]), kPlanted); }
      changed += differs;
    }
    EXPECT_GT(changed, 500u);
  }
}

TEST(Synth, TheRegionHasOneSizeAndOneMeanColourInBothClasses) {
  SynthOptions exchanged = Small();
  exchanged.exchange_region = true;
  for (uint32_t i = 0; i < 20; ++i) {
    const PackedImage a = MakeSynthImage(Small(), i), b = MakeSynthImage(exchanged, i);
    EXPECT_EQ(std::count(a.mask.begin(), a.mask.end(), static_cast<char>(kPlanted)), 32 * 32);
    // Rounding to bytes aside: the noise is drawn alike, so it cancels.
    for (int c = 0; c < 3; ++c) EXPECT_NEAR(MeanWhere(a, kPlanted, c), MeanWhere(b, kPlanted, c), 0.6);
  }
}

TEST(Synth, TheRegionLiesInTheLesionAndCoversSixModelPixels) {
  for (uint32_t i = 0; i < 50; ++i) {
    const PackedImage image = MakeSynthImage(Small(), i);
    const double planted = std::count(image.mask.begin(), image.mask.end(), static_cast<char>(kPlanted));
    const double lesion = std::count(image.mask.begin(), image.mask.end(), static_cast<char>(kLesion));
    EXPECT_GE(std::sqrt(planted) * 32 / 128, 6);
    EXPECT_GT(lesion, planted) << "the rest of the lesion must be there to compare with";
  }
}

}  // namespace
}  // namespace dermis
