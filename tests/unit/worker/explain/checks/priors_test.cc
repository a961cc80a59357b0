#include "worker/explain/checks/priors.h"

#include <algorithm>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "common/checks.h"

namespace dermis {
namespace {

TEST(RandomOrder, IsAPermutation_OfItsOwnForEachDrawAndImage) {
  const std::vector<uint32_t> order = RandomOrder(1, 2, 3, 20);
  EXPECT_EQ(std::set<uint32_t>(order.begin(), order.end()).size(), 20u);
  EXPECT_EQ(order, RandomOrder(1, 2, 3, 20));
  EXPECT_NE(order, RandomOrder(1, 2, 4, 20));
  EXPECT_NE(order, RandomOrder(1, 3, 3, 20));
  EXPECT_NE(order, RandomOrder(2, 2, 3, 20));
}

TEST(ValuesOfOrder, PutTheFirstHighest) {
  EXPECT_EQ(ValuesOfOrder({2, 0, 1}), (std::vector<double>{2, 1, 3}));
}

TEST(CentrePrior, FallsFromTheCentre_AlikeInAllDirections) {
  const std::vector<float> prior = CentrePrior(8);
  const auto at = [&](int y, int x) { return prior[static_cast<size_t>(y * 8 + x)]; };
  EXPECT_EQ(at(3, 3), at(4, 4));
  EXPECT_EQ(at(0, 3), at(3, 7));
  EXPECT_GT(at(3, 3), at(3, 2));
  EXPECT_GT(at(3, 1), at(1, 1));
  EXPECT_FLOAT_EQ(at(3, 3), std::exp(-0.5f / 8));  // r^2 = 1/2, s = 2.
}

// 4 x 4, black left and white right.
std::vector<float> Step() {
  std::vector<float> pixels;
  for (int p = 0; p < 16; ++p) pixels.insert(pixels.end(), 3, p % 4 < 2 ? 0.f : 100.f);
  return pixels;
}

TEST(EdgeMagnitude, IsSobelsOfTheGreyImage) {
  const std::vector<float> edges = EdgeMagnitude(Step(), 4);
  // (1 + 2 + 1) times the step of grey, in the two columns beside it; the weights of grey add up to
  // .9999.
  for (int y = 0; y < 4; ++y) {
    EXPECT_EQ(edges[static_cast<size_t>(4 * y)], 0);
    EXPECT_NEAR(edges[static_cast<size_t>(4 * y + 1)], 4 * 99.99, 1e-3);
    EXPECT_NEAR(edges[static_cast<size_t>(4 * y + 2)], 4 * 99.99, 1e-3);
    EXPECT_EQ(edges[static_cast<size_t>(4 * y + 3)], 0);
  }
}

TEST(PriorMaps, AreTheThreeByName) {
  // Three columns of the picture: the step lies within the middle one.
  Segmentation segmentation{4, 4, 3, {}};
  for (int p = 0; p < 16; ++p) segmentation.labels.push_back(p % 4 == 0 ? 0 : p % 4 == 3 ? 2 : 1);
  const std::vector<SuperpixelMap> maps = PriorMaps(Step(), 4, segmentation, 1, 0);
  ASSERT_EQ(maps.size(), std::size(kPriorNames));
  for (size_t k = 0; k < maps.size(); ++k) EXPECT_EQ(maps[k].name, kPriorNames[k]);
  EXPECT_EQ(maps[0].values, ValuesOfOrder(RandomOrder(1, 0, 0, 3)));
  EXPECT_GT(maps[1].values[1], maps[1].values[0]);
  EXPECT_DOUBLE_EQ(maps[1].values[0], maps[1].values[2]);
  EXPECT_EQ(maps[2].values[0], 0);
  EXPECT_GT(maps[2].values[1], 1000);
}

}  // namespace
}  // namespace dermis
