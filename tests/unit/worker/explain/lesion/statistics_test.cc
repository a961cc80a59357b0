#include "worker/explain/lesion/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/philox.h"

namespace dermis {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

double Random(uint64_t a, uint64_t b, uint32_t element) {
  const auto block = PhiloxBlock(23, Purpose::kTest, a, b, element);
  return ToUnitDouble(block[0], block[1]);
}

SubsetOutputs RandomGame(uint64_t seed) {
  SubsetOutputs f;
  for (uint32_t s = 0; s < f.size(); ++s) f[s] = Random(seed, 0, s) * 4 - 2;
  return f;
}

TEST(ZoneValues, AreTheMeanOverAllOrders) {
  const SubsetOutputs f = RandomGame(1);
  std::array<int, kZones> order;
  std::iota(order.begin(), order.end(), 0);
  std::array<double, kZones> mean{};
  do {
    unsigned shown = 0;
    for (const int z : order) {
      mean[z] += (f[shown | 1u << z] - f[shown]) / 24;
      shown |= 1u << z;
    }
  } while (std::next_permutation(order.begin(), order.end()));
  const auto values = ZoneValues(f);
  for (int z = 0; z < kZones; ++z) EXPECT_NEAR(values[z], mean[z], 1e-12);
}

TEST(ZoneValues, AddUpToTheWhole) {
  const std::vector<double> areas = {0.1, 0.1, 0.1, 0.7};
  for (uint64_t seed = 1; seed < 50; ++seed) {
    const Placed placed = PlacedOf(v1::LESION_NULL_SHIFTED, areas, RandomGame(seed));
    EXPECT_NEAR(placed.additivity_residual, 0, 1e-12);
  }
}

Placed Make(std::array<double, kZones> areas, std::array<double, kZones> values,
            v1::LesionNull kind = v1::LESION_NULL_UNSPECIFIED) {
  return {kind, areas, values, 0};
}

TEST(Statistic, ComparesValuesPerArea) {
  // Bands: |1| + |-1| on .2; core: |2| on .2: as much an area.
  const Placed even = Make({.2, .1, .1, .6}, {2, 1, -1, 5});
  EXPECT_NEAR(*Statistic(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE, even), 0, 1e-12);
  // The outer band alone: 10 an area against 10.
  EXPECT_NEAR(*Statistic(v1::LESION_HYPOTHESIS_OUTER_BAND_OVER_CORE, even), 0, 1e-12);
  const Placed band = Make({.2, .1, .1, .6}, {0, 3, 0, 0});
  EXPECT_EQ(*Statistic(v1::LESION_HYPOTHESIS_INNER_BAND_OVER_CORE, band), 1);
  EXPECT_EQ(Statistic(v1::LESION_HYPOTHESIS_OUTER_BAND_OVER_CORE, band), std::nullopt);
  EXPECT_EQ(*Statistic(v1::LESION_HYPOTHESIS_LESION_OVER_SURROUNDINGS, band), 1);
}

TEST(Statistic, IsNotThereWithoutACore) {
  EXPECT_EQ(Statistic(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE, Make({0, .1, .1, .8}, {0, 1, 1, 1})),
            std::nullopt);
}

TEST(HolmAdjusted, IsTheTextbooks) {
  // R: p.adjust(c(.01, .04, .03, .005), "holm").
  EXPECT_THAT(HolmAdjusted(std::vector<double>{.01, .04, .03, .005}),
              ElementsAre(DoubleNear(.03, 1e-15), DoubleNear(.06, 1e-15), DoubleNear(.06, 1e-15),
                          DoubleNear(.02, 1e-15)));
  EXPECT_THAT(HolmAdjusted(std::vector<double>{.6, .9}), ElementsAre(1, 1));
}

// Zones whose bands hold `more` of the value where they are; elsewhere they hold what comes.
LesionImage Image(uint64_t seed, uint32_t group, double more, uint32_t label = 0) {
  LesionImage image;
  image.group = group;
  image.label = label;
  uint32_t place = 0;
  const auto add = [&](v1::LesionNull kind, double extra) {
    std::array<double, kZones> values;
    for (uint32_t z = 0; z < kZones; ++z) values[z] = Random(seed, 1 + place, z) - 0.5;
    for (const int z : {kInnerBand, kOuterBand}) values[z] *= 1 + extra;
    image.placements.push_back(Make({.2, .15, .15, .5}, values, kind));
    ++place;
  };
  add(v1::LESION_NULL_UNSPECIFIED, more);
  for (const v1::LesionNull kind :
       {v1::LESION_NULL_SHIFTED, v1::LESION_NULL_ROTATED, v1::LESION_NULL_EXCHANGED}) {
    for (int p = 0; p < 3; ++p) add(kind, 0);
  }
  return image;
}

std::vector<LesionImage> Images(uint64_t seed, uint32_t count, double more) {
  std::vector<LesionImage> images;
  for (uint32_t i = 0; i < count; ++i) images.push_back(Image(1000 * seed + i, i, more, i % 2));
  return images;
}

TEST(TestLesions, FindsWhatTheBandsHold) {
  LesionPlan plan;
  plan.draws = 999;
  const v1::LesionSummary summary = *TestLesions(Images(1, 120, 2), plan);
  const v1::LesionFinding& primary = summary.findings(0);
  EXPECT_EQ(primary.hypothesis(), v1::LESION_HYPOTHESIS_BANDS_OVER_CORE);
  EXPECT_EQ(primary.lesions(), 120u);
  EXPECT_EQ(primary.p(), 0.001) << "the least that 999 draws can give";
  EXPECT_EQ(primary.adjusted_p(), primary.p());
  EXPECT_GT(primary.low(), 0);
  EXPECT_LT(primary.low(), primary.effect());
  EXPECT_GT(primary.high(), primary.effect());
  // 4 hypotheses x 3 nulls and the primary within two classes.
  EXPECT_EQ(summary.findings_size(), 14);
  for (int i = 1; i < summary.findings_size(); ++i) {
    EXPECT_GE(summary.findings(i).adjusted_p(), summary.findings(i).p());
  }
}

TEST(TestLesions, LooksForTheNamedDirectionAlone) {
  LesionPlan plan;
  plan.draws = 999;
  EXPECT_GT(TestLesions(Images(1, 120, -0.7), plan)->findings(0).p(), 0.95);
}

TEST(TestLesions, RejectsATrueNullAsOftenAsItSays) {
  LesionPlan plan;
  plan.draws = 199;
  int primary = 0, adjusted = 0;
  constexpr int kRepeats = 400;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    plan.seed = repeat + 1;
    const v1::LesionSummary summary = *TestLesions(Images(100 + repeat, 24, 0), plan);
    primary += summary.findings(0).p() <= 0.05;
    bool any = false;
    for (int i = 1; i < summary.findings_size(); ++i)
      any |= summary.findings(i).adjusted_p() <= 0.05;
    adjusted += any;
  }
  // 5 % of 400 is 20; a binomial leaves 8 .. 36 with 99.9 %. Holm is allowed to be stricter.
  EXPECT_GE(primary, 8);
  EXPECT_LE(primary, 36);
  EXPECT_LE(adjusted, 36);
}

TEST(TestLesions, CountsALesionOnceHoweverOftenItWasTaken) {
  LesionPlan plan;
  plan.draws = 499;
  std::vector<LesionImage> images = Images(7, 30, 0.5), thrice;
  for (const LesionImage& image : images) thrice.insert(thrice.end(), 3, image);
  const v1::LesionSummary once = *TestLesions(images, plan), often = *TestLesions(thrice, plan);
  EXPECT_EQ(often.images(), 90u);
  EXPECT_EQ(often.lesions(), 30u);
  for (int i = 0; i < once.findings_size(); ++i) {
    EXPECT_EQ(once.findings(i).p(), often.findings(i).p());
    EXPECT_NEAR(once.findings(i).effect(), often.findings(i).effect(), 1e-12);
  }
}

TEST(TestLesions, SaysWhatTheZonesHold) {
  std::vector<LesionImage> images(2);
  for (uint32_t i = 0; i < 2; ++i) {
    images[i] = Image(i, i, 0);
    images[i].placements[0] = Make({.1, .1, .2, .6}, {i == 0 ? 1.0 : 3.0, -1, 0, 0});
  }
  const v1::LesionSummary summary = *TestLesions(images, {});
  EXPECT_THAT(summary.shares(), ElementsAre(DoubleNear((0.5 + 0.75) / 2, 1e-12),
                                            DoubleNear((0.5 + 0.25) / 2, 1e-12), 0, 0));
  EXPECT_THAT(summary.values(), ElementsAre(2, -1, 0, 0));
  EXPECT_NEAR(summary.areas(3), .6, 1e-12);
}

TEST(TestLesions, RefusesImagesWithOtherPlacements) {
  std::vector<LesionImage> images = Images(1, 3, 0);
  images[2].placements.pop_back();
  EXPECT_EQ(TestLesions(images, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(TestLesions({}, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace dermis
