#include "worker/classical/logistic.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/unit/worker/classical/pictures.h"
#include "worker/classical/logistic_l1.h"
#include "worker/classical/logistic_l2.h"

namespace dermis {
namespace {

const std::vector<double> kStrengths = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100};
constexpr uint32_t kSize = 6;
constexpr size_t kPixels = kSize * kSize * 3;

Kernel KernelOf(const Pictures& pictures, size_t p) {
  std::vector<uint32_t> all(pictures.rows.size());
  std::iota(all.begin(), all.end(), 0u);
  return CentredKernel(*Gram::FromValues(all.size(), GramRows(pictures.rows, p, 0, all.size())),
                       all);
}

// r_i = y_i / (1 + exp(y_i margin_i)).
std::vector<double> Residuals(const Pictures& pictures, const LogisticModel& model) {
  std::vector<double> residuals;
  for (size_t i = 0; i < pictures.rows.size(); ++i) {
    const double sign = pictures.labels[i] ? 1 : -1;
    residuals.push_back(sign * LogisticSigmoid(-sign * Margin(model, pictures.rows[i])));
  }
  return residuals;
}

// sum_i r_i x_i, x centred.
std::vector<double> Pull(const Pictures& pictures, const LogisticModel& model) {
  const std::vector<double> residuals = Residuals(pictures, model);
  std::vector<double> pull(kPixels, 0.0);
  for (size_t i = 0; i < residuals.size(); ++i) {
    for (size_t k = 0; k < kPixels; ++k) {
      pull[k] += residuals[i] * (pictures.rows[i][k] / 255.0 - model.mean[k]);
    }
  }
  return pull;
}

TEST(L2, FulfilsItsConditions_InFeatureSpaceForEveryStrength) {
  for (size_t n : {60, 400}) {  // Fewer and more images than pixels.
    const Pictures pictures(n, kPixels);
    const auto fits = FitL2Path(KernelOf(pictures, kPixels), pictures.labels, kStrengths);
    ASSERT_TRUE(fits.ok()) << fits.status();
    for (const L2Fit& fit : *fits) {
      EXPECT_TRUE(fit.converged) << fit.strength;
      const LogisticModel model = L2Model(pictures.rows, kSize, fit);
      const std::vector<double> pull = Pull(pictures, model);
      double slope = 0, norm = 0;
      for (size_t k = 0; k < kPixels; ++k) {
        slope += std::pow(model.weights[k] - fit.strength * pull[k], 2);
        norm += model.weights[k] * model.weights[k];
      }
      EXPECT_LE(std::sqrt(slope), 1.01e-6 * std::sqrt(norm)) << fit.strength;
      EXPECT_NEAR(std::sqrt(norm), fit.norm, 1e-6 * fit.norm);
      const std::vector<double> residuals = Residuals(pictures, model);
      const double sum = std::accumulate(residuals.begin(), residuals.end(), 0.0);
      EXPECT_NEAR(sum, 0, 1e-5);
    }
  }
}

TEST(L2, FindsTheClosedForm_WhenTwoImagesAreOpposite) {
  // One pixel differs: x = +-1/2, so w solves w = C sigma(-w / 2) and b = 0.
  std::vector<uint8_t> dark(3, 0), bright(3, 0);
  bright[1] = 255;
  const std::vector<const uint8_t*> rows = {dark.data(), bright.data()};
  const std::vector<uint8_t> labels = {0, 1};
  const Gram gram = *Gram::FromValues(2, GramRows(rows, 3, 0, 2));
  const std::vector<uint32_t> both = {0, 1};
  L2Options options;
  options.tolerance = 1e-12;
  const auto fits = FitL2Path(CentredKernel(gram, both), labels, kStrengths, options);
  ASSERT_TRUE(fits.ok());
  for (const L2Fit& fit : *fits) {
    const LogisticModel model = L2Model(rows, 1, fit);
    EXPECT_NEAR(model.weights[1], fit.strength * LogisticSigmoid(-model.weights[1] / 2), 1e-10);
    EXPECT_EQ(model.weights[0], 0);
    EXPECT_NEAR(fit.intercept, 0, 1e-10);
  }
}

TEST(L2, GivesTheSameMargins_FromKernelsAndFromPixels) {
  const Pictures pictures(40, kPixels), others(9, kPixels, 2);
  std::vector<const uint8_t*> rows = pictures.rows;
  rows.insert(rows.end(), others.rows.begin(), others.rows.end());
  const Gram gram = *Gram::FromValues(49, GramRows(rows, kPixels, 0, 49));
  std::vector<uint32_t> training(40), rest(9);
  std::iota(training.begin(), training.end(), 0u);
  std::iota(rest.begin(), rest.end(), 40u);
  const auto fits = FitL2Path(CentredKernel(gram, training), pictures.labels, kStrengths);
  ASSERT_TRUE(fits.ok());
  const std::vector<double> margins = Margins(CrossKernel(gram, training, rest), fits->back());
  const LogisticModel model = L2Model(pictures.rows, kSize, fits->back());
  for (size_t i = 0; i < 9; ++i) {
    EXPECT_NEAR(margins[i], Margin(model, others.rows[i]), 1e-9);
  }
}

TEST(L2, DependsOnEarlierStrengthsAlone_AndHasEqualBitsAgain) {
  const Pictures pictures(50, kPixels);
  const Kernel kernel = KernelOf(pictures, kPixels);
  const auto whole = FitL2Path(kernel, pictures.labels, kStrengths);
  const auto part = FitL2Path(kernel, pictures.labels, absl::MakeSpan(kStrengths).first(5));
  ASSERT_TRUE(whole.ok() && part.ok());
  EXPECT_EQ((*whole)[4].dual, (*part)[4].dual);
  EXPECT_EQ((*whole)[4].intercept, (*part)[4].intercept);
}

TEST(L2, IsConstant_WhenTheImagesAre) {
  const std::vector<uint8_t> grey(3, 99), labels = {0, 1, 1};
  const std::vector<const uint8_t*> rows(3, grey.data());
  const std::vector<uint32_t> all = {0, 1, 2};
  const auto fits = FitL2Path(CentredKernel(*Gram::FromValues(3, GramRows(rows, 3, 0, 3)), all),
                              labels, std::vector<double>{1});
  ASSERT_TRUE(fits.ok());
  EXPECT_TRUE((*fits)[0].converged);
  EXPECT_NEAR((*fits)[0].intercept, std::log(2), 1e-5);
}

TEST(L1, FulfilsItsConditions_ForEveryStrength) {
  const Pictures pictures(150, kPixels);
  const PixelColumns columns(pictures.rows, kPixels);
  const std::vector<double> mean = MeanPixels(pictures.rows, kPixels);
  L1Options options;
  options.tolerance = 1e-9;
  const auto fits = FitL1Path(columns, pictures.labels, kStrengths, options);
  ASSERT_TRUE(fits.ok()) << fits.status();
  for (const L1Fit& fit : *fits) {
    EXPECT_TRUE(fit.converged) << fit.strength << ": " << fit.gap;
    const LogisticModel model = L1Model(fit, kSize, mean);
    const std::vector<double> pull = Pull(pictures, model);
    double size = 0, loss = 0;
    for (size_t k = 0; k < kPixels; ++k) {
      size += std::abs(model.weights[k]);
      const double sign = model.weights[k] > 0 ? 1 : -1;
      if (model.weights[k] != 0) {
        EXPECT_NEAR(fit.strength * pull[k], sign, 3e-3) << fit.strength;
      } else {
        EXPECT_LE(std::abs(fit.strength * pull[k]), 1 + 3e-3) << fit.strength;
      }
    }
    for (size_t i = 0; i < pictures.rows.size(); ++i) {
      loss += LogisticLoss((pictures.labels[i] ? 1 : -1) * Margin(model, pictures.rows[i]));
    }
    EXPECT_NEAR(fit.objective, size + fit.strength * loss, 1e-9 * fit.objective);
  }
  EXPECT_TRUE(fits->front().features.empty());
  EXPECT_GT(fits->back().features.size(), 20u);
}

TEST(L1, ReachesAFarStrength_AsByThePath) {
  const Pictures pictures(150, kPixels);
  const PixelColumns columns(pictures.rows, kPixels);
  L1Options options;
  options.tolerance = 1e-9;
  const auto path = FitL1Path(columns, pictures.labels, kStrengths, options);
  const auto alone =
      FitL1Path(columns, pictures.labels, std::vector<double>{kStrengths.back()}, options);
  ASSERT_TRUE(path.ok() && alone.ok());
  EXPECT_TRUE(alone->front().converged);
  EXPECT_NEAR(alone->front().objective, path->back().objective, 2e-9 * path->back().objective);
  // It does not pass over the smaller strengths' limit of passes.
  options.max_passes = 3;
  const auto few =
      FitL1Path(columns, pictures.labels, std::vector<double>{kStrengths.back()}, options);
  ASSERT_TRUE(few.ok());
  EXPECT_FALSE(few->front().converged);
  EXPECT_EQ(few->front().strength, kStrengths.back());
  EXPECT_GT(few->front().objective, alone->front().objective);
}

TEST(L1, IsConstant_UpToTheStrengthWhereTheFirstPixelEnters) {
  const Pictures pictures(80, kPixels);
  const PixelColumns columns(pictures.rows, kPixels);
  const std::vector<double> mean = MeanPixels(pictures.rows, kPixels);
  const auto none = FitL1Path(columns, pictures.labels, std::vector<double>{1e-6});
  ASSERT_TRUE(none.ok());
  const std::vector<double> pull = Pull(pictures, L1Model(none->front(), kSize, mean));
  double largest = 0;
  for (double value : pull) largest = std::max(largest, std::abs(value));
  const auto around =
      FitL1Path(columns, pictures.labels, std::vector<double>{.999 / largest, 1.02 / largest});
  ASSERT_TRUE(around.ok());
  EXPECT_EQ(around->front().features.size(), 0u);
  EXPECT_GE(around->back().features.size(), 1u);
  const double share = std::accumulate(pictures.labels.begin(), pictures.labels.end(), 0.0) / 80;
  EXPECT_NEAR(none->front().intercept, std::log(share / (1 - share)), 1e-9);
}

TEST(Logistic, IsRefused_WhenThereIsNothingToLearn) {
  const Pictures pictures(5, 3);
  const PixelColumns columns(pictures.rows, 3);
  const std::vector<double> one = {1};
  const std::vector<uint8_t> same(5, 1), odd = {0, 1, 2, 0, 1}, good = {0, 1, 0, 0, 1};
  EXPECT_FALSE(FitL1Path(columns, same, one).ok());
  EXPECT_FALSE(FitL1Path(columns, odd, one).ok());
  EXPECT_FALSE(FitL1Path(columns, std::vector<uint8_t>{0, 1}, one).ok());
  for (double strength : {0.0, -1.0, std::nan(""), double{INFINITY}}) {
    EXPECT_FALSE(FitL1Path(columns, good, std::vector<double>{strength}).ok());
    EXPECT_FALSE(FitL2Path(KernelOf(pictures, 3), good, std::vector<double>{strength}).ok());
  }
  EXPECT_FALSE(FitL2Path(KernelOf(pictures, 3), std::vector<uint8_t>{0, 1}, one).ok());
}

TEST(Margin, HasTheSameBits_FromBytesAndFloats) {
  const Pictures pictures(3, kPixels);
  LogisticModel model{kSize, {}, std::vector<double>(kPixels, .4), .25};
  for (size_t k = 0; k < kPixels; ++k) model.weights.push_back(std::sin(static_cast<double>(k)));
  for (const uint8_t* row : pictures.rows) {
    const std::vector<float> floats(row, row + kPixels);
    EXPECT_EQ(Margin(model, row), Margin(model, floats.data()));
  }
}

}  // namespace
}  // namespace dermis
