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

TEST(Synth, TheRegionHasOneSizeAndOneLawOfMeanColourInBothClasses) {
  SynthOptions options = Small(), exchanged = Small();
  exchanged.exchange_region = true;
  // A hair hides bright or dark stripes, so single images differ a little; but to neither side.
  constexpr uint32_t kPairs = 200;
  double sum = 0, squares = 0;
  for (uint32_t i = 0; i < kPairs; ++i) {
    const PackedImage a = MakeSynthImage(options, i), b = MakeSynthImage(exchanged, i);
    EXPECT_EQ(std::count(a.mask.begin(), a.mask.end(), static_cast<char>(kPlanted)), 32 * 32);
    const bool vertical = i % 2 == 1;   // In `a`.
    const double difference = (MeanWhere(a, kPlanted, 0) - MeanWhere(b, kPlanted, 0)) * (vertical ? 1 : -1);
    EXPECT_LT(std::abs(difference), 6);
    sum += difference;
    squares += difference * difference;
  }
  const double mean = sum / kPairs;
  const double error = std::sqrt((squares / kPairs - mean * mean) / kPairs);
  EXPECT_LT(std::abs(mean), 3 * error) << "vertical stripes are brighter or darker than horizontal ones";
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
