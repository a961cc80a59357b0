#include "worker/explain/planted_cause.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace dermis {
namespace {

TEST(Enrichment, IsDensityInTheRegion_OverImageAndRestOfLesion) {
  // Row: | 0 0 | 1 1 | 2 2 2 2 |; the region is superpixel 1, the lesion adds half of superpixel 2.
  const Segmentation segmentation{1, 8, 3, {0, 0, 1, 1, 2, 2, 2, 2}};
  const std::vector<uint8_t> region = {0, 0, 1, 1, 0, 0, 0, 0}, lesion = {0, 0, 1, 1, 1, 1, 0, 0};
  const auto result = EnrichmentOf(std::vector<double>{0.5, -3.0, 0.5}, segmentation, region, lesion);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_DOUBLE_EQ(result->image, (3.0 / 4.0) / (2.0 / 8.0));
  EXPECT_DOUBLE_EQ(result->lesion, 1.5 / 0.125);
  EXPECT_DOUBLE_EQ(result->region, -3.0);
}

TEST(Enrichment, EqualDensityEverywhere_IsOne) {
  const Segmentation segmentation{1, 6, 2, {0, 0, 1, 1, 1, 1}};
  const std::vector<uint8_t> region = {0, 1, 1, 0, 0, 0}, lesion = {1, 1, 1, 1, 0, 0};
  const auto result = EnrichmentOf(std::vector<double>{1, -2}, segmentation, region, lesion);
  ASSERT_TRUE(result.ok());
  EXPECT_DOUBLE_EQ(result->image, 1);
  EXPECT_DOUBLE_EQ(result->lesion, 1);
}

TEST(Enrichment, EmptyRegionOrWrongSize_IsRefused) {
  const Segmentation segmentation{1, 2, 2, {0, 1}};
  const std::vector<double> values = {1, 2};
  const std::vector<uint8_t> none = {0, 0}, all = {1, 1}, one = {1, 0};
  EXPECT_FALSE(EnrichmentOf(values, segmentation, none, all).ok());
  EXPECT_FALSE(EnrichmentOf(values, segmentation, one, one).ok());
  EXPECT_FALSE(EnrichmentOf(std::vector<double>{1}, segmentation, one, all).ok());
}

TEST(Wilcoxon, AllPositive_IsTwoToTheMinusN) {
  EXPECT_DOUBLE_EQ(WilcoxonGreater(std::vector<double>{1, 2, 3, 4, 5}), 1.0 / 32);
  EXPECT_DOUBLE_EQ(WilcoxonGreater(std::vector<double>{1, 1, 1, 1, 1}), 1.0 / 32);
  EXPECT_DOUBLE_EQ(WilcoxonGreater(std::vector<double>{-1, -2, -3}), 1.0);
  EXPECT_DOUBLE_EQ(WilcoxonGreater(std::vector<double>{0, 0}), 1.0);
}

TEST(Wilcoxon, AgreesWithScipy_ExactAndApproximate) {
  const std::vector<double> few = {1.5, -0.3, 2.2, 0.7, -1.1, 3.0, 0.4, 0.9, -0.2, 1.8, 0.6, 2.5};
  EXPECT_NEAR(WilcoxonGreater(few), 0.010498046875, 1e-12);
  std::vector<double> many;
  for (int i = 0; i < 80; ++i) many.push_back(((i * 37) % 101 - 38) / 7.0);
  EXPECT_NEAR(WilcoxonGreater(many), 0.0006232612169325007, 1e-9);
}

}  // namespace
}  // namespace dermis
