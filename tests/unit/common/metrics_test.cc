#include "common/metrics.h"

#include <cmath>
#include <limits>

#include "common/philox.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

const double kNaN = std::numeric_limits<double>::quiet_NaN();

v1::EpochMetrics Epoch(double loss, double accuracy = 0) {
  v1::EpochMetrics m;
  m.set_validation_loss(loss);
  m.set_validation_accuracy(accuracy);
  return m;
}

std::vector<v1::EpochMetrics> Losses(const std::vector<double>& losses) {
  std::vector<v1::EpochMetrics> epochs;
  for (double loss : losses) epochs.push_back(Epoch(loss));
  return epochs;
}

TEST(MetricsTest, Softmax_IsStableForLargeLogits) {
  const std::vector<float> large = {1000.f, 1000.f};
  EXPECT_EQ(Softmax(large), (std::vector<double>{0.5, 0.5}));
  const std::vector<float> logits = {0.f, 2.f};
  EXPECT_NEAR(Softmax(logits)[1], 1 / (1 + std::exp(-2.0)), 1e-15);
}

TEST(MetricsTest, Evaluate_EqualsHandComputedTable) {
  const std::vector<double> p = {.9, .8, .7, .5, .4, .3, .2, .1};
  const std::vector<uint32_t> y = {1, 1, 0, 1, 0, 1, 0, 0};
  const Evaluation e = Evaluate(p, y);
  EXPECT_EQ(e.n, 8u);
  EXPECT_EQ(e.true_positive, 3u);  // .5 counts as positive.
  EXPECT_EQ(e.false_positive, 1u);
  EXPECT_EQ(e.false_negative, 1u);
  EXPECT_EQ(e.true_negative, 3u);
  EXPECT_DOUBLE_EQ(e.accuracy, .75);
  EXPECT_DOUBLE_EQ(e.sensitivity, .75);
  EXPECT_DOUBLE_EQ(e.specificity, .75);
  EXPECT_DOUBLE_EQ(e.precision, .75);
  EXPECT_DOUBLE_EQ(e.fpr_of_all, .125);
  EXPECT_DOUBLE_EQ(e.fnr_of_all, .125);
  EXPECT_DOUBLE_EQ(e.fpr_of_class, .25);
  EXPECT_DOUBLE_EQ(e.fnr_of_class, .25);
  // Of 16 pairs the positive wins 4 + 4 + 3 + 2 = 13.
  EXPECT_DOUBLE_EQ(e.roc_area, 13. / 16);
  // Precision at each positive: 1/1, 2/2, 3/4, 4/6.
  EXPECT_DOUBLE_EQ(e.average_precision, (1 + 1 + .75 + 4. / 6) / 4);
  EXPECT_EQ(e.roc.size(), 9u);
  EXPECT_DOUBLE_EQ(e.roc.back().x, 1);
  EXPECT_DOUBLE_EQ(e.roc.back().y, 1);
}

TEST(MetricsTest, Evaluate_TiesAreOnePointAndCountHalf) {
  const std::vector<double> p = {.6, .6, .6, .2};
  const std::vector<uint32_t> y = {1, 0, 1, 0};
  const Evaluation e = Evaluate(p, y);
  EXPECT_EQ(e.roc.size(), 3u);
  EXPECT_DOUBLE_EQ(e.roc_area, (0.5 + 1 + 0.5 + 1) / 4);
  EXPECT_DOUBLE_EQ(e.average_precision, 2. / 3);
  const std::vector<double> same = {.5, .5, .5, .5};
  EXPECT_DOUBLE_EQ(Evaluate(same, y).roc_area, .5);
  // The order of tied images is nothing to the result.
  const std::vector<uint32_t> y2 = {0, 1, 1, 0};
  EXPECT_EQ(Evaluate(p, y2).average_precision, e.average_precision);
}

TEST(MetricsTest, Evaluate_RocAreaEqualsTrapezoidsOfItsCurve) {
  std::vector<double> p;
  std::vector<uint32_t> y;
  for (uint32_t i = 0; i < 300; ++i) {
    const auto words = PhiloxBlock(3, Purpose::kTest, i, 0, 0);
    p.push_back((words[0] % 40) / 40.0);  // Many ties.
    y.push_back(words[1] % 3 == 0);
  }
  const Evaluation e = Evaluate(p, y);
  double area = 0;
  for (size_t i = 1; i < e.roc.size(); ++i) {
    area += (e.roc[i].x - e.roc[i - 1].x) * (e.roc[i].y + e.roc[i - 1].y) / 2;
  }
  EXPECT_NEAR(area, e.roc_area, 1e-12);
}

TEST(MetricsTest, Evaluate_OneClassOrNothing_GivesNoNaN) {
  for (const std::vector<uint32_t>& y :
       {std::vector<uint32_t>{}, std::vector<uint32_t>{1, 1}, std::vector<uint32_t>{0, 0}}) {
    const std::vector<double> p(y.size(), .7);
    const Evaluation e = Evaluate(p, y);
    for (double v : {e.accuracy, e.sensitivity, e.specificity, e.precision, e.fpr_of_class,
                     e.fnr_of_class, e.roc_area, e.average_precision}) {
      EXPECT_FALSE(std::isnan(v));
    }
  }
}

TEST(MetricsTest, OutputOf_MarginIsLogitMinusMeanOfOthers) {
  const std::vector<float> two = {1.f, 3.5f}, three = {1.f, 2.f, 5.f};
  EXPECT_EQ(OutputOf(v1::OUTPUT_KIND_MARGIN, two), 2.5);
  EXPECT_EQ(OutputOf(v1::OUTPUT_KIND_MARGIN, three), 3.5);
  EXPECT_EQ(OutputOf(v1::OUTPUT_KIND_LOGIT, three), 5);
  EXPECT_NEAR(OutputOf(v1::OUTPUT_KIND_PROBABILITY, two), 1 / (1 + std::exp(-2.5)), 1e-15);
}

TEST(MetricsTest, Better_NaNRanksLast) {
  const auto loss = v1::SELECTION_METRIC_VALIDATION_LOSS;
  const auto accuracy = v1::SELECTION_METRIC_VALIDATION_ACCURACY;
  EXPECT_TRUE(Better(loss, Epoch(.1), Epoch(.2)));
  EXPECT_FALSE(Better(loss, Epoch(.2), Epoch(.2)));
  EXPECT_TRUE(Better(loss, Epoch(1e30), Epoch(kNaN)));
  EXPECT_FALSE(Better(loss, Epoch(kNaN), Epoch(1e30)));
  EXPECT_FALSE(Better(loss, Epoch(kNaN), Epoch(kNaN)));
  EXPECT_TRUE(Better(accuracy, Epoch(9, .8), Epoch(1, .7)));
  EXPECT_TRUE(Better(accuracy, Epoch(0, 0), Epoch(0, kNaN)));
  EXPECT_FALSE(Better(accuracy, Epoch(0, kNaN), Epoch(0, 0)));
}

TEST(MetricsTest, StopEpoch_IsTheFirstWithoutABetterOneForPatience) {
  const auto loss = v1::SELECTION_METRIC_VALIDATION_LOSS;
  EXPECT_EQ(StopEpoch(Losses({.5, .4, .4, .45}), loss, 2, 100), 4u);  // A tie is not better.
  EXPECT_EQ(StopEpoch(Losses({.5, .4, .4}), loss, 2, 100), std::nullopt);
  EXPECT_EQ(StopEpoch(Losses({.5, .4, .4, .45}), loss, 2, 3), 3u);
  EXPECT_EQ(StopEpoch(Losses({.5, .6, .7}), loss, 0, 100), std::nullopt);
  EXPECT_EQ(StopEpoch(Losses({.5, .6, .7}), loss, 0, 3), 3u);
  EXPECT_EQ(StopEpoch({}, loss, 1, 1), std::nullopt);
  EXPECT_EQ(StopEpoch(Losses({kNaN, .9, kNaN, kNaN}), loss, 2, 100), 4u);
  EXPECT_EQ(StopEpoch(Losses({kNaN, kNaN}), loss, 1, 100), 2u);
}

// Overrun cannot change a result: once a prefix decides, every longer list decides the same.
TEST(MetricsTest, StopEpoch_IsTheSame_HoweverFarTrainingRanOn) {
  for (uint32_t trial = 0; trial < 200; ++trial) {
    std::vector<double> losses;
    for (uint32_t e = 0; e < 40; ++e) {
      const uint32_t word = PhiloxBlock(1, Purpose::kTest, trial, e, 0)[0];
      losses.push_back(word % 11 == 0 ? kNaN : (word % 17) / 17.0);
    }
    const auto epochs = Losses(losses);
    const uint32_t patience = 1 + trial % 7;
    std::optional<uint32_t> first;
    for (size_t k = 0; k <= epochs.size(); ++k) {
      const auto stop = StopEpoch(absl::MakeConstSpan(epochs).subspan(0, k),
                                  v1::SELECTION_METRIC_VALIDATION_LOSS, patience, 30);
      if (first) {
        ASSERT_EQ(stop, first) << "trial " << trial << " epochs " << k;
      } else if (stop) {
        ASSERT_EQ(*stop, k) << "a stop is known as soon as its epoch is";
        first = stop;
      }
    }
    ASSERT_TRUE(first.has_value());
  }
}

}  // namespace
}  // namespace dermis
