#include "common/shuffle.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

#include "gtest/gtest.h"

#include "common/philox.h"

namespace dermis {
namespace {

constexpr uint32_t kChunk = 50;

// 2000 images in chunks of 50; every fourth one is no training image.
struct Set {
  Set() {
    for (uint32_t i = 0; i < 2000; ++i) {
      if (i % kChunk == 0) chunk_begin.push_back(i);
      if (i % 4 != 3) training.push_back(i);
    }
  }
  std::vector<uint32_t> Order(uint32_t window, uint32_t epoch = 1, uint64_t seed = 7) const {
    return EpochOrder(seed, epoch, training, chunk_begin, window);
  }
  uint32_t ChunkAt(const std::vector<uint32_t>& order, size_t place) const {
    return order[place] / kChunk;
  }
  // The list that the window slides along: chunks as the order of a window of one has them.
  std::vector<uint32_t> ListPlaces() const {
    std::vector<uint32_t> places(2000);  // By image.
    const std::vector<uint32_t> list = Order(1);
    for (uint32_t p = 0; p < list.size(); ++p) places[list[p]] = p;
    return places;
  }
  // By how many places images are moved, at most and on average.
  std::pair<double, double> Moved(uint32_t window) const {
    const std::vector<uint32_t> from = ListPlaces(), order = Order(window);
    double most = 0, sum = 0;
    for (uint32_t p = 0; p < order.size(); ++p) {
      const double moved = std::abs(static_cast<double>(p) - from[order[p]]);
      most = std::max(most, moved);
      sum += moved;
    }
    return {most, sum / static_cast<double>(order.size())};
  }

  std::vector<uint32_t> training, chunk_begin;
};

TEST(EpochOrderTest, IsAPermutation_OfItsOwnForEachEpochSeedAndWindow) {
  const Set set;
  std::set<std::vector<uint32_t>> orders;
  for (const auto& order : {set.Order(0), set.Order(1), set.Order(64), set.Order(300),
                            set.Order(64, 2), set.Order(64, 1, 8)}) {
    std::vector<uint32_t> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(sorted, set.training);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 6u);
  EXPECT_EQ(set.Order(64), set.Order(64));
}

// Addresses of recipes with a window depend on it.
TEST(EpochOrderTest, Window_HasTheOrderOfTheGolden) {
  std::vector<uint32_t> training(12);
  std::iota(training.begin(), training.end(), 0);
  EXPECT_EQ(EpochOrder(1, 1, training, {0, 5, 7}, 4),
            (std::vector<uint32_t>{9, 7, 8, 5, 10, 11, 6, 3, 0, 1, 2, 4}));
}

TEST(EpochOrderTest, NoWindow_IsThePermutationOfTheWholeSplit) {
  const Set set;
  const uint32_t n = static_cast<uint32_t>(set.training.size());
  std::vector<uint32_t> whole;
  for (uint32_t i : PhiloxPermutation(7, Purpose::kShuffle, 1, n)) whole.push_back(set.training[i]);
  EXPECT_EQ(set.Order(0), whole);
  EXPECT_EQ(set.Order(n), whole) << "a window that holds all";
  EXPECT_EQ(set.Order(UINT32_MAX), whole);
}

TEST(EpochOrderTest, WindowOfOne_KeepsChunksTogether_InAnotherOrder) {
  const Set set;
  const std::vector<uint32_t> order = set.Order(1);
  std::vector<uint32_t> chunks;
  for (size_t p = 0; p < order.size(); ++p) {
    if (chunks.empty() || chunks.back() != set.ChunkAt(order, p))
      chunks.push_back(set.ChunkAt(order, p));
  }
  EXPECT_EQ(chunks.size(), set.chunk_begin.size()) << "each chunk once";
  EXPECT_FALSE(std::is_sorted(chunks.begin(), chunks.end()));
}

TEST(EpochOrderTest, Images_MoveLessThanAWindow_AQuarterOfItOnAverage) {
  const Set set;
  for (uint32_t window : {16u, 64u, 200u}) {
    const auto [most, mean] = set.Moved(window);
    EXPECT_LT(most, window);
    EXPECT_GT(most, window / 2) << "both ends are drawn";
    EXPECT_NEAR(mean, window / 4.0, window / 20.0);
  }
}

// A uniform permutation of n moves images by n / 3 on average.
TEST(EpochOrderTest, WindowOfAll_MovesImagesByAThirdOfTheSplit) {
  const Set set;
  const double n = static_cast<double>(set.training.size());
  EXPECT_NEAR(set.Moved(static_cast<uint32_t>(n)).second, n / 3, n / 30);
}

TEST(EpochOrderTest, WalkAlongTheOrder_NeedsAWindowAndABatchOfImages) {
  const Set set;
  const uint32_t window = 150, batch = 32;
  const std::vector<uint32_t> from = set.ListPlaces(), order = set.Order(window);
  std::vector<size_t> last(set.chunk_begin.size());
  for (size_t p = 0; p < order.size(); ++p) last[set.ChunkAt(order, p)] = p;
  std::set<uint32_t> held;
  size_t most = 0;
  for (size_t p = 0; p < order.size(); p += batch) {
    const size_t end = std::min(order.size(), p + batch);
    for (size_t k = p; k < end; ++k) held.insert(set.ChunkAt(order, k));
    most = std::max(most, held.size());
    std::erase_if(held, [&](uint32_t chunk) { return last[chunk] < end; });
  }
  // Three quarters of a chunk's images train.
  EXPECT_LE(most, (window + batch) * 4 / (3 * kChunk) + 2);
}

}  // namespace
}  // namespace dermis
