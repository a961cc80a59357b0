#include "common/evaluation/thresholds.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <iterator>
#include <numeric>
#include <set>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

#include "common/evaluation/decision_curve.h"
#include "common/evaluation/table_one.h"
#include "common/philox.h"

namespace dermis {
namespace {

// Ten images: positives at .9 .8 .6 .55 .3, negatives at .7 .5 .4 .2 .1.
const std::vector<double> kProbability = {.9, .8, .6, .55, .3, .7, .5, .4, .2, .1};
const std::vector<uint32_t> kLabel = {1, 1, 1, 1, 1, 0, 0, 0, 0, 0};

ScoredImages Made(uint32_t n, uint32_t seed) {
  std::vector<float> logits;
  std::vector<uint32_t> label, group;
  for (uint32_t i = 0; i < n; ++i) {
    const auto block = PhiloxBlock(seed, Purpose::kTest, i, 0, 0);
    label.push_back(i % 3 == 0 ? 1 : 0);
    group.push_back(i / 2);
    logits.push_back(0);
    logits.push_back(static_cast<float>(1.5 * label[i] - 1 + 3 * ToUnitDouble(block[0], block[1])));
  }
  return MakeScoredImages(logits, label, group).value();
}

TEST(Thresholds, HoldByHand) {
  const auto choose = [](ThresholdRule rule) {
    return ChooseThreshold(rule, kProbability, kLabel);
  };
  EXPECT_EQ(choose(ThresholdRule::kHalf), .5);
  // All five positives (four are 80 %): between .3 and .2.
  EXPECT_DOUBLE_EQ(choose(ThresholdRule::kSensitivity90), .25);
  EXPECT_DOUBLE_EQ(choose(ThresholdRule::kSensitivity95), .25);
  // No negative: between .8 and .7.
  EXPECT_DOUBLE_EQ(choose(ThresholdRule::kSpecificity90), .75);
  // Four of five and one of five: J = .6.
  EXPECT_DOUBLE_EQ(choose(ThresholdRule::kYouden), .525);
  EXPECT_DOUBLE_EQ(choose(ThresholdRule::kBestAccuracy), .525);
}

TEST(Thresholds, NobodyOrEveryone_WhereNoScoreWillDo) {
  // The highest score is a negative's: only "nobody" leaves 90 % of two negatives alone.
  EXPECT_TRUE(std::isinf(ChooseThreshold(ThresholdRule::kSpecificity90, {.9, .8, .1},
                                         std::vector<uint32_t>{0, 1, 0})));
  // The lowest is a positive's: everyone.
  EXPECT_EQ(
      ChooseThreshold(ThresholdRule::kSensitivity90, {.9, .8, .1}, std::vector<uint32_t>{1, 0, 1}),
      0);
}

TEST(Thresholds, AchieveWhatTheyPromise_OnTheImagesTheyWereChosenOn) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const ScoredImages images = Made(120, seed);
    for (const OperatingPoint& point : OperatingPointsOf(images, images)) {
      EXPECT_EQ(point.validation.true_positive, point.test.true_positive);
      const bool finds = point.rule == ThresholdRule::kSensitivity90 ||
                         point.rule == ThresholdRule::kSensitivity95;
      const bool spares = point.rule == ThresholdRule::kSpecificity90 ||
                          point.rule == ThresholdRule::kSpecificity95;
      const bool more = point.rule == ThresholdRule::kSensitivity95 ||
                        point.rule == ThresholdRule::kSpecificity95;
      const double promised = more ? .95 : .9;
      EXPECT_GE(point.sensitivity.value, finds ? promised : 0);
      EXPECT_GE(point.specificity.value, spares ? promised : 0);
    }
  }
}

// What a rule may give: the images above a gap between distinct scores are positive.
struct Cut {
  double threshold;  // Half way down the gap; 0 beneath all, infinity above.
  int64_t true_positive, false_positive;
};

std::vector<Cut> AllCuts(const std::vector<double>& scores, const std::vector<uint32_t>& label) {
  std::set<double, std::greater<>> distinct(scores.begin(), scores.end());
  std::vector<Cut> cuts = {{INFINITY, 0, 0}};
  for (auto lowest = distinct.begin(); lowest != distinct.end(); ++lowest) {
    const auto next = std::next(lowest);
    Cut cut{next == distinct.end() ? 0 : *next + (*lowest - *next) / 2, 0, 0};
    for (size_t i = 0; i < scores.size(); ++i) {
      if (scores[i] >= *lowest) ++(label[i] == 1 ? cut.true_positive : cut.false_positive);
    }
    cuts.push_back(cut);
  }
  return cuts;
}

// By the rules' definitions, from all cuts.
Cut BestOf(ThresholdRule rule, const std::vector<Cut>& cuts) {
  const int64_t p = cuts.back().true_positive, n = cuts.back().false_positive;
  // Larger is better; of equals the nearest to .5, then the lower.
  const auto worth = [&](const Cut& cut) -> int64_t {
    const int64_t tp = cut.true_positive, fp = cut.false_positive, predicted = tp + fp;
    switch (rule) {
      case ThresholdRule::kHalf:
        break;
      case ThresholdRule::kYouden:
        return tp * n - fp * p;
      case ThresholdRule::kBestAccuracy:
        return tp - fp;
      case ThresholdRule::kSensitivity90:
        return 10 * tp >= 9 * p ? -predicted : -p - n - 1;
      case ThresholdRule::kSensitivity95:
        return 20 * tp >= 19 * p ? -predicted : -p - n - 1;
      case ThresholdRule::kSpecificity90:
        return 10 * (n - fp) >= 9 * n ? predicted : -1;
      case ThresholdRule::kSpecificity95:
        return 20 * (n - fp) >= 19 * n ? predicted : -1;
    }
    return 0;
  };
  return *std::min_element(cuts.begin(), cuts.end(), [&](const Cut& a, const Cut& b) {
    return std::tuple(-worth(a), std::abs(a.threshold - .5), a.threshold) <
           std::tuple(-worth(b), std::abs(b.threshold - .5), b.threshold);
  });
}

void ExpectTheBestCut(const std::vector<double>& scores, const std::vector<uint32_t>& label) {
  const std::vector<Cut> cuts = AllCuts(scores, label);
  for (const ThresholdRule rule : kThresholdRules) {
    if (rule == ThresholdRule::kHalf) continue;
    const Cut best = BestOf(rule, cuts);
    const double threshold = ChooseThreshold(rule, scores, label);
    const Outcomes of =
        WeightedOutcomes(scores, label, threshold)(std::vector<uint32_t>(label.size(), 1));
    EXPECT_EQ(of.true_positive, static_cast<uint64_t>(best.true_positive)) << threshold;
    EXPECT_EQ(of.false_positive, static_cast<uint64_t>(best.false_positive)) << threshold;
    // Half way between neighbours among doubles is one of them.
    if (best.threshold == 0 || std::isinf(best.threshold)) {
      EXPECT_EQ(threshold, best.threshold);
    } else {
      EXPECT_NEAR(threshold, best.threshold, 1e-15);
    }
  }
}

TEST(Thresholds, GiveTheBestOfAllCuts_AndNoCutSplitsATie) {
  // A cut within the tie would find both positives and flag nobody.
  ExpectTheBestCut({.8, .4, .4, .2}, {1, 1, 0, 0});
  ExpectTheBestCut({.8, .4, .4, .2}, {1, 0, 1, 0});
  ExpectTheBestCut({.4, .4, .4, .4}, {1, 0, 1, 0});
  for (uint32_t repeat = 0; repeat < 300; ++repeat) {
    std::vector<double> scores;
    std::vector<uint32_t> label = {0, 1};
    for (uint32_t i = 0; i < 14; ++i) {
      const auto block = PhiloxBlock(5, Purpose::kTest, repeat, i, 0);
      if (i > 1) label.push_back(block[0] % 2);
      scores.push_back(.125 + .125 * (block[1] % 6));  // Half way is exact.
    }
    ExpectTheBestCut(scores, label);
  }
}

TEST(Thresholds, TellNeighboursAmongDoublesApart) {
  // Half way rounds to the lower one of one pair and to the higher one of the next.
  double low = .4;
  for (int k = 0; k < 4; ++k) {
    const double high = std::nextafter(low, 1);
    ExpectTheBestCut({low, high, low, high, .1, .9}, {0, 1, 0, 1, 0, 1});
    low = high;
  }
}

TEST(Thresholds, TestImagesDoNotMatter) {
  const ScoredImages validation = Made(100, 1);
  const auto one = OperatingPointsOf(validation, Made(80, 2));
  const auto other = OperatingPointsOf(validation, Made(60, 3));
  for (size_t i = 0; i < one.size(); ++i) EXPECT_EQ(one[i].threshold, other[i].threshold);
}

TEST(BootstrapPass, GivesWhatEachStatisticGivesAlone) {
  const ScoredImages images = Made(90, 4);
  std::vector<OperatingPoint> points = OperatingPointsOf(images, images);
  TableOneRow row = TableOneRowOf(images, .5);
  BootstrapPass pass;
  AddIntervals(images, points, pass);
  AddIntervals(images, row, pass);
  pass.Run(images.group, 300, 9);
  const Interval area =
      BootstrapByGroup(images.group, 300, 9, WeightedArea(images.probability, images.label));
  EXPECT_EQ(row.area.interval.low, area.low);
  EXPECT_EQ(row.area.interval.high, area.high);
  const WeightedOutcomes half(images.probability, images.label, .5);
  const Interval accuracy = BootstrapByGroup(
      images.group, 300, 9, [&](Counts counts) { return half(counts).accuracy(); });
  EXPECT_EQ(points[0].accuracy.interval.low, accuracy.low);
  EXPECT_EQ(row.accuracy.interval.high, accuracy.high);
  EXPECT_LT(row.f1.interval.low, row.f1.value);
  EXPECT_GT(row.f1.interval.high, row.f1.value);
}

TEST(TableOne, HoldsByHand) {
  ScoredImages images;
  images.probability = kProbability;
  images.label = kLabel;
  const TableOneRow row = TableOneRowOf(images, .5);
  // .5 itself is positive: 4 + 2 are predicted positive.
  EXPECT_DOUBLE_EQ(row.accuracy.value, .7);
  EXPECT_DOUBLE_EQ(row.fpr_of_all.value, .2);
  EXPECT_DOUBLE_EQ(row.fnr_of_all.value, .1);
  EXPECT_DOUBLE_EQ(row.fpr_of_class.value, .4);
  EXPECT_DOUBLE_EQ(row.fnr_of_class.value, 1 - .8);
  EXPECT_DOUBLE_EQ(row.precision.value, 4 / 6.);
  EXPECT_DOUBLE_EQ(row.recall.value, .8);
  EXPECT_DOUBLE_EQ(row.f1.value, 8 / 11.);
  // Wins: .9 and .8 beat 5 each, .6 and .55 beat 4 each, .3 beats 2.
  EXPECT_DOUBLE_EQ(row.area.value, 20 / 25.);
  EXPECT_DOUBLE_EQ(row.average_precision.value, (1 + 1 + 3 / 4. + 4 / 5. + 5 / 8.) / 5);
  EXPECT_NEAR(row.accuracy.value, 1 - row.fpr_of_all.value - row.fnr_of_all.value, 1e-15);
  EXPECT_DOUBLE_EQ(TableOneRowOf(images, .525).accuracy.value, .8);
  EXPECT_TRUE(std::isnan(TableOneRowOf(images, 2).precision.value));
}

TEST(AveragePrecision, CountsAnItemAsOftenAsItIsDrawn) {
  const std::vector<double> score = {.1, .4, .4, .8}, written_out = {.1, .4, .4, .4, .8, .8};
  const std::vector<uint32_t> label = {0, 1, 0, 1}, label_out = {0, 1, 0, 0, 1, 1};
  EXPECT_DOUBLE_EQ(WeightedAveragePrecision(score, label)(std::vector<uint32_t>{1, 1, 2, 2}),
                   Evaluate(written_out, label_out).average_precision);
  EXPECT_DOUBLE_EQ(WeightedAveragePrecision(score, label)(std::vector<uint32_t>{1, 1, 1, 1}),
                   Evaluate(score, label).average_precision);
  EXPECT_TRUE(
      std::isnan(WeightedAveragePrecision(score, label)(std::vector<uint32_t>{1, 0, 1, 0})));
}

TEST(DecisionCurve, HoldsByHand) {
  const std::vector<NetBenefit> curve = DecisionCurve(kProbability, kLabel);
  ASSERT_EQ(curve.size(), 99u);
  EXPECT_DOUBLE_EQ(curve[49].threshold, .5);
  EXPECT_DOUBLE_EQ(curve[49].model, .4 - .2);  // Odds of 1.
  EXPECT_DOUBLE_EQ(curve[49].treat_all, 0);
  EXPECT_DOUBLE_EQ(curve[79].model, .2);  // Nobody in vain at .8.
  EXPECT_DOUBLE_EQ(curve[19].model, .5 - .4 * .25);
  // At the lowest thresholds all are treated: the model is treating all.
  EXPECT_EQ(curve[4].model, curve[4].treat_all);
  const UsefulRange range = UsefulRangeOf(curve);
  EXPECT_GT(range.low, .1);
  // Two found for one in vain stop being worth it at odds of 2; the run from .71 to .9 is shorter.
  EXPECT_DOUBLE_EQ(range.high, .66);
}

TEST(ScoredImages, AreRefused_WhereTheyCannotBeJudged) {
  const std::vector<uint32_t> label = {0, 1}, group = {0, 1};
  EXPECT_TRUE(MakeScoredImages({0, 1, 1, 0}, label, group).ok());
  EXPECT_FALSE(MakeScoredImages({0, 1, 1}, label, group).ok());
  EXPECT_FALSE(MakeScoredImages({0, 1, NAN, 0}, label, group).ok());
  EXPECT_FALSE(MakeScoredImages({0, 1, 1, 0}, std::vector<uint32_t>{0, 2}, group).ok());
  EXPECT_FALSE(MakeScoredImages({0, 1, 1, 0}, std::vector<uint32_t>{1, 1}, group).ok());
  const auto certain = MakeScoredImages({0, INFINITY, 0, -INFINITY}, label, group);
  ASSERT_TRUE(certain.ok());
  EXPECT_EQ(certain->probability[0], 1);
  EXPECT_EQ(certain->probability[1], 0);
}

}  // namespace
}  // namespace dermis
