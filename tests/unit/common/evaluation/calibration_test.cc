#include "common/evaluation/calibration.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

#include "common/philox.h"

namespace dermis {
namespace {

double Draw(uint32_t a, uint32_t b) {
  const auto block = PhiloxBlock(11, Purpose::kTest, a, b, 0);
  return ToUnitDouble(block[0], block[1]);
}

// Labels drawn with the probability that a margin says; what is shown is stretch * margin + shift.
struct Sample {
  std::vector<double> margin;
  std::vector<uint32_t> label;
};
Sample Drawn(uint32_t n, double stretch, double shift) {
  Sample sample;
  for (uint32_t i = 0; i < n; ++i) {
    const double margin = 6 * Draw(1, i) - 3;
    sample.label.push_back(Draw(2, i) < Sigmoid(margin) ? 1 : 0);
    sample.margin.push_back(stretch * margin + shift);
  }
  return sample;
}
ScoredImages Images(const Sample& sample) {
  ScoredImages images;
  images.margin = sample.margin;
  images.label = sample.label;
  for (uint32_t i = 0; i < sample.label.size(); ++i) {
    images.probability.push_back(Sigmoid(sample.margin[i]));
    images.group.push_back(i);
  }
  return images;
}

TEST(Brier, HoldsByHand) {
  EXPECT_DOUBLE_EQ(BrierScore({.8, .3}, std::vector<uint32_t>{1, 0}), (.04 + .09) / 2);
}

TEST(Recalibration, FindsWhatWasDoneToTheMargins) {
  const Sample sample = Drawn(20000, 2.5, 1);
  const std::vector<uint32_t> once(20000, 1);
  const auto fit = Recalibrate(sample.margin, sample.label, once);
  ASSERT_TRUE(fit.has_value());
  EXPECT_NEAR(fit->slope, 1 / 2.5, .02);
  EXPECT_NEAR(fit->intercept, -1 / 2.5, .05);
  // At the maximum the gradient is nothing.
  double a = 0, b = 0;
  for (size_t i = 0; i < sample.label.size(); ++i) {
    const double off = Sigmoid(fit->intercept + fit->slope * sample.margin[i]) - sample.label[i];
    a += off, b += off * sample.margin[i];
  }
  EXPECT_NEAR(a, 0, 1e-6);
  EXPECT_NEAR(b, 0, 1e-6);
}

TEST(Recalibration, HasTwoByTwoClosedForm) {
  // Margin 0: 1 of 4 positive; margin 1: 3 of 4. The fit goes through both log odds.
  const std::vector<double> margin = {0, 0, 0, 0, 1, 1, 1, 1};
  const std::vector<uint32_t> label = {1, 0, 0, 0, 1, 1, 1, 0}, once(8, 1);
  const auto fit = Recalibrate(margin, label, once);
  ASSERT_TRUE(fit.has_value());
  EXPECT_NEAR(fit->intercept, -std::log(3), 1e-10);
  EXPECT_NEAR(fit->slope, 2 * std::log(3), 1e-10);
}

TEST(Recalibration, CountsAnImageAsOftenAsItIsDrawn) {
  const std::vector<double> margin = {-1, 0, 1, .5}, out = {-1, 0, 0, 1, 1, 1, .5};
  const std::vector<uint32_t> label = {0, 1, 1, 0}, label_out = {0, 1, 1, 1, 1, 1, 0};
  const auto weighted = Recalibrate(margin, label, std::vector<uint32_t>{1, 2, 3, 1});
  const auto written = Recalibrate(out, label_out, std::vector<uint32_t>(7, 1));
  ASSERT_TRUE(weighted && written);
  EXPECT_NEAR(weighted->slope, written->slope, 1e-9);
  EXPECT_NEAR(weighted->intercept, written->intercept, 1e-9);
}

TEST(Recalibration, IsNotThere_WhereMarginsSeparateTheClasses) {
  const std::vector<uint32_t> label = {0, 0, 1, 1}, once(4, 1);
  EXPECT_FALSE(Recalibrate({-2, -1, 1, 2}, label, once).has_value());
  EXPECT_FALSE(Recalibrate({-2, 1, 1, 2}, label, once).has_value());   // But for one tie.
  EXPECT_FALSE(Recalibrate({2, 1, -1, -2}, label, once).has_value());  // The wrong way round.
  EXPECT_FALSE(Recalibrate({1, 1, 1, 1}, label, once).has_value());
  EXPECT_FALSE(Recalibrate({1, 2, 3, 4}, label, std::vector<uint32_t>{1, 1, 0, 0}).has_value());
  EXPECT_TRUE(Recalibrate({-2, 1, .5, 2}, label, once).has_value());
}

TEST(Recalibration, Converges_WhereMarginsAreExtreme) {
  std::vector<double> margin;
  std::vector<uint32_t> label;
  for (uint32_t i = 0; i < 200; ++i) {
    label.push_back(i % 2);
    // Certain, and wrong in one of ten.
    margin.push_back((i % 20 < 2 ? -1.0 : 1.0) * (label[i] == 1 ? 500 : -500) * (1 + Draw(3, i)));
  }
  const auto fit = Recalibrate(margin, label, std::vector<uint32_t>(200, 1));
  ASSERT_TRUE(fit.has_value());
  // All are as certain as kLargestMargin: log odds of 9 to 1.
  EXPECT_NEAR(fit->slope, std::log(9) / kLargestMargin, 1e-9);
}

TEST(InTheLarge, MakesTheMeanProbabilityTheShareOfPositives) {
  const Sample sample = Drawn(500, 1, -2);
  const auto intercept =
      InterceptInTheLarge(sample.margin, sample.label, std::vector<uint32_t>(500, 1));
  ASSERT_TRUE(intercept.has_value());
  double foreseen = 0, seen = 0;
  for (size_t i = 0; i < 500; ++i) {
    foreseen += Sigmoid(*intercept + sample.margin[i]);
    seen += sample.label[i];
  }
  EXPECT_NEAR(foreseen, seen, 1e-9);
  EXPECT_NEAR(*intercept, 2, .5);
}

TEST(Temperature, UndoesAStretch) {
  const Sample right = Drawn(5000, 1, 0), stretched = Drawn(5000, 3, 0);
  const Temperature one = FitTemperature(right.margin, right.label);
  const Temperature three = FitTemperature(stretched.margin, stretched.label);
  EXPECT_NEAR(one.value, 1, .06);
  EXPECT_NEAR(three.value, 3 * one.value, 1e-9);
}

TEST(Temperature, NeverRaisesTheLossOfItsOwnImages) {
  for (const double stretch : {.1, .7, 5.0}) {
    const Sample sample = Drawn(300, stretch, .3);
    const Temperature best = FitTemperature(sample.margin, sample.label);
    const auto loss = [&](double temperature) {
      std::vector<double> scaled;
      for (const double m : sample.margin) scaled.push_back(m / temperature);
      return LogLoss(scaled, sample.label);
    };
    EXPECT_LE(loss(best.value), loss(1));
    EXPECT_LE(loss(best.value), loss(best.value * 1.001));
    EXPECT_LE(loss(best.value), loss(best.value * .999));
  }
}

TEST(Temperature, StopsAtABound_WhereThereIsNoMinimum) {
  const std::vector<uint32_t> label = {0, 0, 1, 1};
  const Temperature separated = FitTemperature({-2, -1, 1, 2}, label);
  EXPECT_TRUE(separated.at_bound);
  EXPECT_DOUBLE_EQ(separated.value, .01);
  const Temperature wrong = FitTemperature({2, 1, -1, -2}, label);
  EXPECT_TRUE(wrong.at_bound);
  EXPECT_DOUBLE_EQ(wrong.value, 100);
}

TEST(Reliability, HoldsByHand_AndTearsNoTie) {
  // 30 images, two of each probability: fifteen bins of two.
  std::vector<double> probability;
  std::vector<uint32_t> label;
  for (uint32_t i = 0; i < 30; ++i) {
    probability.push_back((1 + i / 2) / 20.0);
    label.push_back(i % 2);
  }
  const auto curve = ReliabilityCurve(probability, label);
  ASSERT_EQ(curve.size(), 15u);
  double error = 0;
  for (size_t b = 0; b < 15; ++b) {
    EXPECT_EQ(curve[b].n, 2u);
    EXPECT_DOUBLE_EQ(curve[b].share_positive, .5);
    EXPECT_NEAR(curve[b].mean_probability, static_cast<double>(1 + b) / 20, 1e-15);
    error += std::abs(.5 - static_cast<double>(1 + b) / 20) / 15;
  }
  EXPECT_NEAR(ExpectedCalibrationError(curve), error, 1e-15);
  // A forest's few values: one bin each, whatever the order.
  const auto tied = ReliabilityCurve(std::vector<double>(40, .25), std::vector<uint32_t>(40, 1));
  ASSERT_EQ(tied.size(), 1u);
  EXPECT_EQ(tied[0].n, 40u);
}

TEST(Calibration, AfterTemperature_KeepsTheOrderAndScalesTheSlope) {
  const ScoredImages images = Images(Drawn(800, 2, .4));
  Calibration before = CalibrationOf(images, 1), after = CalibrationOf(images, 2);
  EXPECT_NEAR(after.slope.value, 2 * before.slope.value, 1e-8);
  EXPECT_NEAR(after.intercept.value, before.intercept.value, 1e-8);
  EXPECT_LT(after.brier.value, before.brier.value);
  EXPECT_LT(after.error, before.error);
  BootstrapPass pass;
  AddIntervals(images, 1, before, pass);
  AddIntervals(images, 2, after, pass);
  pass.Run(images.group, 200, 1);
  EXPECT_LT(before.slope.interval.low, before.slope.value);
  EXPECT_GT(before.slope.interval.high, before.slope.value);
  EXPECT_LT(before.slope.interval.high, 1);  // Over-confident, and seen to be.
  EXPECT_LT(before.brier.interval.low, before.brier.value);
}

}  // namespace
}  // namespace dermis
