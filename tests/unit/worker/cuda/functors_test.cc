#include "worker/cuda/functors.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/reduce_tree.h"
#include "tests/unit/worker/cuda/shards.h"
#include "worker/collective/tree_sum.h"
#include "worker/cuda/tree_sum_list.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kN = 301;

TEST(Functors, TreeSum_HasTheBitsOfTreeSumInto_ForAnySharesOfTheTree) {
  for (uint32_t v : {1u, 2u, 4u, 8u, 16u, 1024u}) {
    for (uint32_t w : {1u, 2u, 3u, 4u, 5u, 7u, v}) {
      if (w > v) continue;
      std::vector<TreeNode> nodes;
      for (const ShardRange& range : AssignShards(v, w)) {
        for (const TreeNode& node : AlignedCover(range.first, range.count, v)) {
          nodes.push_back(node);
        }
      }
      const Vectors operands = MakeShards(0, static_cast<uint32_t>(nodes.size()), kN, v + w);
      std::vector<const float*> data;
      for (const auto& operand : operands) data.push_back(operand.data());
      std::vector<float> want(kN), got(kN);
      TreeSumInto(nodes, data, {0, v}, kN, want.data());
      const auto sum = MakeTreeSum(nodes, data, got.data());
      ASSERT_TRUE(sum.ok()) << sum.status();
      ParallelFor(*sum, kN);
      EXPECT_TRUE(SameBits(got, want)) << "V " << v << ", W " << w;
    }
  }
}

TEST(Functors, TreeSum_MayWriteOverAnOperand) {
  for (size_t over : {0u, 2u, 3u}) {
    Vectors operands = MakeShards(0, 4, kN, 9);
    const auto sum = MakeTreeSum(
        {{0, 1}, {1, 1}, {2, 1}, {3, 1}},
        {operands[0].data(), operands[1].data(), operands[2].data(), operands[3].data()},
        operands[over].data());
    ASSERT_TRUE(sum.ok()) << sum.status();
    ParallelFor(*sum, kN);
    EXPECT_TRUE(SameBits(operands[over], LocalSum(4, kN, 9))) << over;
  }
}

TEST(Functors, TreeSum_OfSeveralSubtrees_AddsThemAll) {
  // Shards 1, 2, 3 of 8: two subtrees, [1] and [2, 4).
  const float one = 1, two = 10, three = 100;
  float out = 0;
  const auto sum = MakeTreeSum({{1, 1}, {2, 1}, {3, 1}}, {&one, &two, &three}, &out);
  ASSERT_TRUE(sum.ok()) << sum.status();
  ParallelFor(*sum, 1);
  EXPECT_EQ(out, 111);
}

TEST(Functors, MakeTreeSum_RefusesWhatIsNoSum) {
  float x = 0;
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(MakeTreeSum({}, {}, &x).status().code(), invalid);
  EXPECT_EQ(MakeTreeSum({{0, 1}}, {&x, &x}, &x).status().code(), invalid);
  EXPECT_EQ(MakeTreeSum({{0, 1}, {2, 1}}, {&x, &x}, &x).status().code(), invalid);  // A gap.
  std::vector<TreeNode> many;
  for (uint32_t k = 0; k <= kMaxOperands; ++k) many.push_back({k, 1});
  EXPECT_EQ(MakeTreeSum(many, std::vector<const float*>(many.size(), &x), &x).status().code(),
            invalid);
}

TEST(Functors, Fill_WritesItsRangeOnly) {
  std::vector<float> values(5, 1.0f);
  ParallelFor(Fill{values.data() + 1, 7.5f}, 3);
  EXPECT_THAT(values, ElementsAre(1, 7.5f, 7.5f, 7.5f, 1));
  ParallelFor(Fill{values.data(), 2}, 0);
  EXPECT_EQ(values[0], 1);
}

}  // namespace
}  // namespace dermis
