#include "coordinator/retention.h"

#include <algorithm>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace dermis {
namespace {

// States are stored one after the other, and what is superseded goes at once.
std::vector<uint64_t> KeptAfter(uint64_t last, const std::set<uint64_t>& pinned) {
  std::vector<uint64_t> kept;
  for (uint64_t step = 1; step <= last; ++step) {
    kept.push_back(step);
    for (uint64_t gone : SupersededSteps(kept, pinned)) std::erase(kept, gone);
  }
  return kept;
}

TEST(Retention, KeepsTheLastTwo_AndOneForEachDoubling) {
  EXPECT_EQ(KeptAfter(2, {}), (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(KeptAfter(100, {}), (std::vector<uint64_t>{1, 2, 4, 8, 16, 32, 64, 99, 100}));
}

TEST(Retention, NeverLosesAPinnedStep) {
  EXPECT_EQ(KeptAfter(20, {7, 13}), (std::vector<uint64_t>{1, 2, 4, 7, 8, 13, 16, 19, 20}));
}

TEST(Retention, LeavesAStateAtHalfTheWay_ToAnyEarlierStep) {
  const std::vector<uint64_t> kept = KeptAfter(1000, {});
  for (uint64_t step = 1; step <= 1000; ++step) {
    const auto above = std::upper_bound(kept.begin(), kept.end(), step);
    ASSERT_NE(above, kept.begin());
    EXPECT_GT(2 * *(above - 1), step) << step;
  }
}

}  // namespace
}  // namespace dermis
