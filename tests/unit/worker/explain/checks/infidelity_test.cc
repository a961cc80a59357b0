#include "worker/explain/checks/infidelity.h"

#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace dermis {
namespace {

TEST(Infidelity, ByHand) {
  // Errors 1, -1, 0: mean square 2/3. The outputs' changes 1, 3, 2 have the variance 2/3.
  const Infidelity infidelity = InfidelityOf({2.0, 2.0, 2.0}, {1.0, 3.0, 2.0}, false);
  EXPECT_DOUBLE_EQ(infidelity.squared_error, 2.0 / 3);
  ASSERT_TRUE(infidelity.relative);
  EXPECT_DOUBLE_EQ(*infidelity.relative, 1);
  EXPECT_EQ(infidelity.scale, 1);
}

TEST(Infidelity, OfAPerfectMap_IsNone) {
  EXPECT_EQ(InfidelityOf({1.0, -2.0}, {1.0, -2.0}, false).relative, 0);
}

TEST(Infidelity, OfAMapWithoutUnits_IsThatOfItsBestMultiple) {
  const Infidelity perfect = InfidelityOf({2.0, -4.0}, {3.0, -6.0}, true);
  EXPECT_DOUBLE_EQ(perfect.scale, 1.5);
  EXPECT_DOUBLE_EQ(*perfect.relative, 0);
  // Least squares: (1 * 2 + 1 * 4) / 2 = 3; errors 1 and -1; variance 1.
  const Infidelity fitted = InfidelityOf({1.0, 1.0}, {2.0, 4.0}, true);
  EXPECT_DOUBLE_EQ(fitted.scale, 3);
  EXPECT_DOUBLE_EQ(*fitted.relative, 1);
  // Nothing is attributed: no multiple helps.
  EXPECT_EQ(InfidelityOf({0.0, 0.0}, {2.0, 4.0}, true).scale, 0);
}

TEST(Infidelity, IsNotDefined_WhereTheOutputDoesNotVary) {
  const Infidelity infidelity = InfidelityOf({1.0, 2.0}, {3.0, 3.0}, false);
  EXPECT_FALSE(infidelity.relative);
  EXPECT_DOUBLE_EQ(infidelity.squared_error, 2.5);
}

TEST(RandomHalf, HidesHalf_AnotherOneInEachDraw) {
  std::set<Mask> masks;
  std::vector<int> hidden(7, 0);
  for (uint32_t draw = 0; draw < 400; ++draw) {
    const Mask mask = RandomHalf(1, 5, draw, 7);
    EXPECT_EQ(std::accumulate(mask.begin(), mask.end(), 0), 4);  // 3 of 7 are hidden.
    for (size_t k = 0; k < 7; ++k) hidden[k] += !mask[k];
    masks.insert(mask);
  }
  EXPECT_EQ(masks.size(), 35u);  // All of the 7 choose 3.
  // 400 * 3 / 7 = 171.4, standard deviation 9.9: five of them.
  for (const int count : hidden) EXPECT_NEAR(count, 171.4, 50);
  EXPECT_EQ(RandomHalf(1, 5, 3, 7), RandomHalf(1, 5, 3, 7));
  EXPECT_NE(RandomHalf(1, 5, 3, 20), RandomHalf(1, 6, 3, 20));
}

}  // namespace
}  // namespace dermis
