#include "worker/classical/forest.h"

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "tests/unit/worker/classical/pictures.h"

namespace dermis {
namespace {

std::vector<uint32_t> Wide(const std::vector<uint8_t>& labels) {
  return {labels.begin(), labels.end()};
}

// The rows that a tree was grown on, as often as they were drawn.
std::vector<uint32_t> Drawn(uint64_t seed, uint32_t tree, uint32_t n) {
  std::vector<uint32_t> weights(n, 0);
  for (uint32_t place = 0; place < n; ++place) {
    const auto block = PhiloxBlock(seed, Purpose::kForestRows, tree, place, 0);
    const uint64_t bits = uint64_t{block[0]} << 32 | block[1];
    __extension__ using Long = unsigned __int128;
    ++weights[static_cast<size_t>((Long{bits} * n) >> 64)];
  }
  return weights;
}

// Weighted Gini impurity of both sides.
double Impurity(const PixelColumns& columns, const std::vector<uint32_t>& labels, uint32_t classes,
                const std::vector<uint32_t>& weights, uint32_t feature, double threshold) {
  double total = 0;
  for (bool left : {true, false}) {
    std::vector<double> counts(classes, 0.0);
    for (size_t i = 0; i < labels.size(); ++i) {
      if ((columns.column(feature)[i] <= threshold) == left) counts[labels[i]] += weights[i];
    }
    const double all = std::accumulate(counts.begin(), counts.end(), 0.0);
    if (all == 0) return INFINITY;
    double squares = 0;
    for (double count : counts) squares += count * count;
    total += all - squares / all;
  }
  return total;
}

TEST(Tree, SplitsAtTheBestThreshold_AmongAllFeatures) {
  for (uint32_t classes : {2u, 3u}) {
    const Pictures pictures(30, 5);
    std::vector<uint32_t> labels = Wide(pictures.labels);
    if (classes == 3) {
      for (size_t i = 0; i < 30; i += 4) labels[i] = 2;
    }
    const PixelColumns columns(pictures.rows, 5);
    for (uint32_t number = 0; number < 20; ++number) {
      const ForestOptions options{classes, 1, 5};
      const auto tree = GrowTree(columns, labels, options, 9, number);
      ASSERT_TRUE(tree.ok());
      const std::vector<uint32_t> weights = Drawn(9, number, 30);
      double best = INFINITY;
      for (uint32_t feature = 0; feature < 5; ++feature) {
        for (int threshold = 0; threshold < 255; ++threshold) {
          best =
              std::min(best, Impurity(columns, labels, classes, weights, feature, threshold + .25));
        }
      }
      ASSERT_EQ(tree->nodes(), 3u);
      EXPECT_NEAR(Impurity(columns, labels, classes, weights,
                           static_cast<uint32_t>(tree->feature[0]), tree->threshold[0]),
                  best, 1e-9);
      EXPECT_EQ(tree->weight[0], 30u);
      EXPECT_EQ(tree->weight[1] + tree->weight[2], 30u);
      EXPECT_TRUE(CheckTree(*tree, 5, classes).ok());
    }
  }
}

TEST(Tree, PutsItsThresholdHalfway_BetweenSeenValues) {
  const std::vector<uint8_t> bytes = {10, 13, 10, 13, 10, 13, 10, 13};
  std::vector<const uint8_t*> rows;
  for (const uint8_t& byte : bytes) rows.push_back(&byte);
  const std::vector<uint32_t> labels = {0, 1, 0, 1, 0, 1, 0, 1};
  const auto tree = GrowTree(PixelColumns(rows, 1), labels, {2, 3, 0}, 1, 0);
  ASSERT_TRUE(tree.ok());
  ASSERT_EQ(tree->nodes(), 3u);
  EXPECT_EQ(tree->threshold[0], 11.5f);
  EXPECT_EQ(tree->probability[1 * 2 + 0], 1);
  EXPECT_EQ(tree->probability[2 * 2 + 1], 1);
}

TEST(Tree, IsTheDeeperOneCut_WhenItIsLessDeep) {
  const Pictures pictures(200, 60);
  const PixelColumns columns(pictures.rows, 60);
  const std::vector<uint32_t> labels = Wide(pictures.labels);
  const auto deep = GrowTree(columns, labels, {2, 8, 0}, 4, 2);
  ASSERT_TRUE(deep.ok());
  for (uint32_t depth : {1u, 2u, 5u, 8u}) {
    const auto grown = GrowTree(columns, labels, {2, depth, 0}, 4, 2);
    ASSERT_TRUE(grown.ok());
    const Tree cut = CutTree(*deep, 2, depth);
    EXPECT_EQ(cut.feature, grown->feature);
    EXPECT_EQ(cut.threshold, grown->threshold);
    EXPECT_EQ(cut.left, grown->left);
    EXPECT_EQ(cut.right, grown->right);
    EXPECT_EQ(cut.weight, grown->weight);
    EXPECT_EQ(cut.probability, grown->probability);
  }
}

TEST(Tree, GoesOnUntilAFeatureVaries_WhenDrawnOnesDoNot) {
  // Only pixel 17 of 40 varies.
  std::vector<uint8_t> bytes(20 * 40, 5);
  std::vector<const uint8_t*> rows;
  std::vector<uint32_t> labels;
  for (size_t i = 0; i < 20; ++i) {
    rows.push_back(&bytes[i * 40]);
    bytes[i * 40 + 17] = static_cast<uint8_t>(100 + i);
    labels.push_back(i < 10 ? 0 : 1);
  }
  for (uint32_t number = 0; number < 10; ++number) {
    const auto tree = GrowTree(PixelColumns(rows, 40), labels, {2, 1, 1}, 1, number);
    ASSERT_TRUE(tree.ok());
    ASSERT_EQ(tree->nodes(), 3u);
    EXPECT_EQ(tree->feature[0], 17);
  }
}

TEST(Tree, IsOneLeaf_WhenNoFeatureVaries) {
  const std::vector<uint8_t> bytes(12, 7);
  std::vector<const uint8_t*> rows;
  for (size_t i = 0; i < 4; ++i) rows.push_back(&bytes[3 * i]);
  const auto tree =
      GrowTree(PixelColumns(rows, 3), std::vector<uint32_t>{0, 1, 0, 1}, {2, 5, 0}, 1, 0);
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(tree->nodes(), 1u);
}

TEST(Tree, FitsItsRows_WhenItMayGrow) {
  const Pictures pictures(120, 48);
  const PixelColumns columns(pictures.rows, 48);
  Forest forest{4, 2, {0, 0, 0}, {*GrowTree(columns, Wide(pictures.labels), {2, 30, 0}, 3, 0)}};
  const std::vector<uint32_t> weights = Drawn(3, 0, 120);
  for (size_t i = 0; i < 120; ++i) {
    if (weights[i] == 0) continue;
    EXPECT_EQ(Probabilities(forest, pictures.rows[i])[pictures.labels[i]], 1.0);
  }
}

TEST(Forest, HasOtherTrees_ForOtherNumbersAndSeeds) {
  const Pictures pictures(100, 48);
  const PixelColumns columns(pictures.rows, 48);
  std::set<std::vector<int32_t>> seen;
  for (uint64_t seed : {1, 2}) {
    for (uint32_t number : {0u, 1u, 2u}) {
      seen.insert(GrowTree(columns, Wide(pictures.labels), {2, 4, 0}, seed, number)->feature);
    }
  }
  EXPECT_EQ(seen.size(), 6u);
}

TEST(Forest, GivesTheSame_FromBytesAndFloatsAndLearns) {
  const Pictures pictures(300, 48), others(300, 48, 2);
  const PixelColumns columns(pictures.rows, 48);
  Forest forest{4, 2, {0, 0, 0}, {}};
  for (uint32_t number = 0; number < 40; ++number) {
    forest.trees.push_back(*GrowTree(columns, Wide(pictures.labels), {2, 6, 0}, 3, number));
  }
  int right = 0;
  for (size_t i = 0; i < 300; ++i) {
    const std::vector<float> floats(others.rows[i], others.rows[i] + 48);
    const std::vector<double> probability = Probabilities(forest, others.rows[i]);
    EXPECT_EQ(probability, Probabilities(forest, floats.data()));
    EXPECT_NEAR(probability[0] + probability[1], 1, 1e-12);
    right += (probability[1] > .5) == (others.labels[i] == 1);
  }
  EXPECT_GT(right, 190);
  // The pixels that say the label are 3, 10, 17, ...
  const std::vector<double> importance = ImpurityImportance(forest);
  double sum = 0, signal = 0;
  for (size_t k = 0; k < 48; ++k) {
    sum += importance[k];
    if (k % 7 == 3) signal += importance[k];
  }
  EXPECT_NEAR(sum, 1, 1e-12);
  EXPECT_GT(signal, .25);  // 7 of 48 pixels.
}

TEST(Forest, ComparesFractionsAsTheyAre) {
  Forest forest{
      1,
      2,
      {0, 0, 0},
      {Tree{
          {1, -1, -1}, {11.5f, 0, 0}, {1, -1, -1}, {2, -1, -1}, {4, 2, 2}, {.5, .5, 1, 0, 0, 1}}}};
  for (auto [value, left] :
       {std::pair(11.0f, true), {11.5f, true}, {11.51f, false}, {12.f, false}}) {
    const std::vector<float> image = {0, value, 0};
    EXPECT_EQ(Probabilities(forest, image.data())[0], left ? 1 : 0) << value;
  }
}

TEST(Forest, IsRefused_WhenItsInputsDoNotFit) {
  const Pictures pictures(6, 3);
  const PixelColumns columns(pictures.rows, 3);
  EXPECT_FALSE(GrowTree(columns, std::vector<uint32_t>{0, 1}, {2, 5, 0}, 1, 0).ok());
  EXPECT_FALSE(GrowTree(columns, std::vector<uint32_t>(6, 2), {2, 5, 0}, 1, 0).ok());
  EXPECT_FALSE(GrowTree(columns, std::vector<uint32_t>(6, 1), {2, 0, 0}, 1, 0).ok());
  EXPECT_FALSE(GrowTree(columns, std::vector<uint32_t>(6, 1), {2, 31, 0}, 1, 0).ok());
}

}  // namespace
}  // namespace dermis
