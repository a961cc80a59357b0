#include "common/philox.h"

#include <algorithm>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;

// Random123's known-answer vectors of philox4x32-10 (kat_vectors): counter words, key words ->
// output. Purposes beyond the enumeration stand for arbitrary fourth words.
TEST(Philox, Block_GivesThePublishedKnownAnswers) {
  EXPECT_THAT(PhiloxBlock(0, static_cast<Purpose>(0), 0, 0, 0),
              ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(
      PhiloxBlock(~0ull, static_cast<Purpose>(0xffffffffu), 0xffffffffu, 0xffffffffu, 0xffffffffu),
      ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(PhiloxBlock(0x299f31d0a4093822ull, static_cast<Purpose>(0x03707344u), 0x85a308d3u,
                          0x13198a2eu, 0x243f6a88u),
              ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(Philox, Block_DependsOnEveryWord) {
  std::set<std::array<uint32_t, 4>> blocks;
  blocks.insert(PhiloxBlock(1, Purpose::kTest, 0, 0, 0));
  blocks.insert(PhiloxBlock(2, Purpose::kTest, 0, 0, 0));
  blocks.insert(PhiloxBlock(1ull << 32, Purpose::kTest, 0, 0, 0));
  blocks.insert(PhiloxBlock(1, Purpose::kShuffle, 0, 0, 0));
  blocks.insert(PhiloxBlock(1, Purpose::kTest, 1, 0, 0));
  blocks.insert(PhiloxBlock(1, Purpose::kTest, 0, 1, 0));
  blocks.insert(PhiloxBlock(1, Purpose::kTest, 0, 0, 1));
  EXPECT_EQ(blocks.size(), 7u);
}

TEST(PhiloxDeathTest, Block_StopsTheProcess_WhenACounterWordOverflows) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(PhiloxBlock(1, Purpose::kTest, 1ull << 32, 0, 0), "does not fit");
  EXPECT_DEATH(PhiloxBlock(1, Purpose::kTest, 0, 1ull << 32, 0), "does not fit");
}

TEST(Philox, UnitNumbers_StayBelowOne) {
  EXPECT_EQ(ToUnitFloat(0), 0.0f);
  EXPECT_LT(ToUnitFloat(0xffffffffu), 1.0f);
  EXPECT_EQ(ToUnitFloat(0x80000000u), 0.5f);
  EXPECT_EQ(ToUnitDouble(0, 0), 0.0);
  EXPECT_LT(ToUnitDouble(0xffffffffu, 0xffffffffu), 1.0);
  EXPECT_EQ(ToUnitDouble(0x80000000u, 0), 0.5);
}

TEST(Philox, Permutation_HoldsEveryIndexOnce_AndDependsOnItsKey) {
  const std::vector<uint32_t> order = PhiloxPermutation(7, Purpose::kShuffle, 3, 1000);
  std::vector<uint32_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (uint32_t i = 0; i < 1000; ++i) ASSERT_EQ(sorted[i], i);
  EXPECT_NE(order, sorted);
  EXPECT_EQ(order, PhiloxPermutation(7, Purpose::kShuffle, 3, 1000));
  EXPECT_NE(order, PhiloxPermutation(7, Purpose::kShuffle, 4, 1000));
  EXPECT_NE(order, PhiloxPermutation(8, Purpose::kShuffle, 3, 1000));
}

TEST(Philox, Permutation_IsTheGoldenOne) {
  EXPECT_THAT(PhiloxPermutation(1, Purpose::kShuffle, 1, 8), ElementsAre(2, 6, 5, 4, 0, 1, 7, 3));
}

}  // namespace
}  // namespace dermis
