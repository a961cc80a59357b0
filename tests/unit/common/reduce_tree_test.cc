#include "common/reduce_tree.h"

#include <cstring>

#include "common/philox.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;

template <typename Real>
std::vector<std::vector<Real>> RandomLeaves(uint32_t v, uint64_t n) {
  std::vector<std::vector<Real>> leaves(v, std::vector<Real>(n));
  for (uint32_t s = 0; s < v; ++s) {
    for (uint64_t i = 0; i < n; ++i) {
      const auto block = PhiloxBlock(5, Purpose::kTest, s, i, 0);
      leaves[s][i] =
          static_cast<Real>((ToUnitDouble(block[0], block[1]) - .5) * (1 + block[2] % 999));
    }
  }
  return leaves;
}

// The definition, written down once more.
template <typename Real>
Real TreeSum(const std::vector<std::vector<Real>>& leaves, uint64_t i, uint32_t a, uint32_t b) {
  if (b - a == 1) return leaves[a][i];
  const uint32_t m = (a + b) / 2;
  return TreeSum(leaves, i, a, m) + TreeSum(leaves, i, m, b);
}

TEST(AssignShards, GivesTheFirstWorkersOneMore) {
  const auto ranges = AssignShards(8, 3);
  ASSERT_EQ(ranges.size(), 3u);
  EXPECT_EQ(ranges[0].first, 0u);
  EXPECT_EQ(ranges[0].count, 3u);
  EXPECT_EQ(ranges[1].first, 3u);
  EXPECT_EQ(ranges[1].count, 3u);
  EXPECT_EQ(ranges[2].first, 6u);
  EXPECT_EQ(ranges[2].count, 2u);
}

TEST(AlignedCover, UsesMaximalAlignedSubtrees) {
  EXPECT_THAT(AlignedCover(0, 8, 8), ElementsAre(TreeNode{0, 8}));
  EXPECT_THAT(AlignedCover(0, 3, 8), ElementsAre(TreeNode{0, 2}, TreeNode{2, 1}));
  EXPECT_THAT(AlignedCover(3, 3, 8), ElementsAre(TreeNode{3, 1}, TreeNode{4, 2}));
  EXPECT_THAT(AlignedCover(1, 7, 8), ElementsAre(TreeNode{1, 1}, TreeNode{2, 2}, TreeNode{4, 4}));
  EXPECT_TRUE(AlignedCover(3, 0, 8).empty());
}

void CheckAnyWorldSize(uint32_t v, uint64_t n) {
  const auto leaves = RandomLeaves<float>(v, n);
  std::vector<float> expected(n);
  for (uint64_t i = 0; i < n; ++i) expected[i] = TreeSum(leaves, i, 0, v);
  for (uint32_t w = 1; w <= v; ++w) {
    std::vector<TreeNode> nodes;
    std::vector<std::vector<float>> held;
    for (const ShardRange& range : AssignShards(v, w)) {
      for (const TreeNode& node : AlignedCover(range.first, range.count, v)) {
        // What the worker sends: its subtree, summed as the tree says.
        std::vector<float> sum(n);
        for (uint64_t i = 0; i < n; ++i) {
          sum[i] = TreeSum(leaves, i, node.first, node.first + node.count);
        }
        nodes.push_back(node);
        held.push_back(std::move(sum));
      }
    }
    std::vector<float*> data;
    for (auto& h : held) data.push_back(h.data());
    SumNodes(nodes, data, n, v);
    EXPECT_EQ(std::memcmp(held[0].data(), expected.data(), n * sizeof(float)), 0)
        << "V " << v << ", W " << w;
  }
}

TEST(OrderedReduce, IsBitwiseEqual_ForAnyWorldSize) {
  for (uint32_t v : {1u, 2u, 4u, 8u, 16u}) {
    CheckAnyWorldSize(v, 300);
  }
  CheckAnyWorldSize(4, 10'000);  // Several blocks.
}

TEST(OrderedReduce, LeavesNothingToChance_WhereOrderMatters) {
  // ((1e8 + 1) + (-1e8 + 1)) in float: 0 by the tree, 1 or 2 in other orders.
  std::vector<float> a = {1e8f}, b = {1}, c = {-1e8f}, d = {1};
  SumNodes({{0, 1}, {1, 1}, {2, 1}, {3, 1}},
           std::vector<float*>{a.data(), b.data(), c.data(), d.data()}, 1, 4);
  EXPECT_EQ(a[0], 0.0f);
}

TEST(OrderedReduceDeathTest, RefusesNodesThatDoNotCoverTheTree) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  float x = 0;
  EXPECT_DEATH(SumNodes({{0, 2}}, std::vector<float*>{&x}, 1, 4), "cover");
  EXPECT_DEATH(SumNodes({{0, 1}, {1, 2}, {3, 1}}, std::vector<float*>{&x, &x, &x}, 1, 4),
               "aligned");
}

}  // namespace
}  // namespace dermis
