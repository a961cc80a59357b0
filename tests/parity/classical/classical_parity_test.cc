// The baselines against scikit-learn, by the goldens of make_goldens.py. Logistic regression has
// one optimum, so weights and probabilities are compared. Forests draw other random numbers: their
// accuracy over seeds, and where their importance lies, are compared as distributions.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "tests/parity/goldens.h"
#include "worker/classical/forest.h"
#include "worker/classical/logistic_l1.h"
#include "worker/classical/logistic_l2.h"

namespace dermis {
namespace {

constexpr uint32_t kSize = 6;
constexpr size_t kPixels = kSize * kSize * 3;
constexpr size_t kTraining = 300, kLinear = 150, kOthers = 100;

class ClassicalParity : public testing::Test {
 protected:
  void SetUp() override {
    const absl::Status opened = golden_.Open("classical/classical.safetensors");
    ASSERT_TRUE(opened.ok()) << opened;
    const std::string_view images = golden_.view().tensors.at("images").data;
    const std::string_view labels = golden_.view().tensors.at("labels").data;
    labels_.assign(labels.begin(), labels.end());
    for (size_t i = 0; i < labels_.size(); ++i) {
      rows_.push_back(reinterpret_cast<const uint8_t*>(images.data()) + i * kPixels);
    }
  }
  std::vector<double> Values(const std::string& name) const { return golden_.As<double>(name); }
  absl::Span<const uint8_t* const> Linear() const {
    return absl::MakeConstSpan(rows_).first(kLinear);
  }
  absl::Span<const uint8_t> LinearLabels() const {
    return absl::MakeConstSpan(labels_).first(kLinear);
  }
  void ExpectProbabilities(const LogisticModel& model, const double* expected, double within) {
    for (size_t i = 0; i < kOthers; ++i) {
      EXPECT_NEAR(LogisticSigmoid(Margin(model, rows_[kTraining + i])), expected[i], within);
    }
  }

  Goldens golden_;
  std::vector<const uint8_t*> rows_;
  std::vector<uint8_t> labels_;
};

TEST_F(ClassicalParity, L2HasTheWeightsOfScikitLearn) {
  const std::vector<double> strengths = Values("l2.strengths"), weights = Values("l2.weights"),
                            intercepts = Values("l2.intercepts"),
                            probabilities = Values("l2.probabilities");
  std::vector<uint32_t> all(kLinear);
  std::iota(all.begin(), all.end(), 0u);
  const Gram gram = *Gram::FromValues(kLinear, GramRows(Linear(), kPixels, 0, kLinear));
  const auto fits = FitL2Path(CentredKernel(gram, all), LinearLabels(), strengths);
  ASSERT_TRUE(fits.ok()) << fits.status();
  for (size_t c = 0; c < strengths.size(); ++c) {
    const LogisticModel model = L2Model(Linear(), kSize, (*fits)[c]);
    double largest = 0;
    for (double weight : model.weights) largest = std::max(largest, std::abs(weight));
    ASSERT_GT(largest, 0);
    for (size_t k = 0; k < kPixels; ++k) {
      EXPECT_NEAR(model.weights[k], weights[c * kPixels + k], 1e-5 * largest) << strengths[c];
    }
    EXPECT_NEAR(model.intercept, intercepts[c], 1e-5);
    ExpectProbabilities(model, &probabilities[c * kOthers], 1e-5);
  }
}

TEST_F(ClassicalParity, L1HasTheProbabilitiesOfScikitLearn) {
  const std::vector<double> strengths = Values("l1.strengths"), weights = Values("l1.weights"),
                            probabilities = Values("l1.probabilities");
  const auto fits = FitL1Path(PixelColumns(Linear(), kPixels), LinearLabels(), strengths);
  ASSERT_TRUE(fits.ok()) << fits.status();
  for (size_t c = 0; c < strengths.size(); ++c) {
    const LogisticModel model = L1Model((*fits)[c], kSize, MeanPixels(Linear(), kPixels));
    ExpectProbabilities(model, &probabilities[c * kOthers], 1e-3);
    size_t theirs = 0;
    for (size_t k = 0; k < kPixels; ++k) theirs += weights[c * kPixels + k] != 0;
    EXPECT_EQ((*fits)[c].features.size(), theirs) << strengths[c];
  }
}

TEST_F(ClassicalParity, ForestsAreAsGoodAsScikitLearns) {
  const std::vector<double> accuracies = Values("forest.accuracies"),
                            importances = Values("forest.importances");
  const std::vector<int64_t> cells = golden_.As<int64_t>("forest.cells");
  const size_t count = cells.size() / 2, seeds = accuracies.size() / count;
  ASSERT_EQ(count, 3u);
  const auto training = absl::MakeConstSpan(rows_).first(kTraining);
  const PixelColumns columns(training, kPixels);
  const std::vector<uint32_t> labels(labels_.begin(), labels_.begin() + kTraining);
  for (size_t cell = 0; cell < count; ++cell) {
    const auto trees = static_cast<uint32_t>(cells[2 * cell]);
    const ForestOptions options{2, static_cast<uint32_t>(cells[2 * cell + 1]), 0};
    std::vector<double> ours, importance(kPixels, 0.0);
    for (uint64_t seed = 0; seed < seeds; ++seed) {
      Forest forest{kSize, 2, {0, 0, 0}, {}};
      for (uint32_t tree = 0; tree < trees; ++tree) {
        forest.trees.push_back(*GrowTree(columns, labels, options, seed, tree));
      }
      size_t right = 0;
      for (size_t i = kTraining; i < rows_.size(); ++i) {
        const std::vector<double> p = Probabilities(forest, rows_[i]);
        right += (p[1] > p[0]) == (labels_[i] == 1);
      }
      ours.push_back(static_cast<double>(right) / static_cast<double>(rows_.size() - kTraining));
      const std::vector<double> one = ImpurityImportance(forest);
      for (size_t k = 0; k < kPixels; ++k) importance[k] += one[k] / static_cast<double>(seeds);
    }
    const auto moments = [](const double* values, size_t n) {
      const double mean = std::accumulate(values, values + n, 0.0) / static_cast<double>(n);
      double square = 0;
      for (size_t k = 0; k < n; ++k) square += (values[k] - mean) * (values[k] - mean);
      return std::pair(mean, square / static_cast<double>(n - 1) / static_cast<double>(n));
    };
    const auto [mean, error] = moments(ours.data(), seeds);
    const auto [their_mean, their_error] = moments(&accuracies[cell * seeds], seeds);
    // Equal populations differ by more than this once in 700 times.
    EXPECT_NEAR(mean, their_mean, 3.2 * std::sqrt(error + their_error)) << cell;
    EXPECT_LT(std::sqrt(error + their_error), .01);
    // Importance of the same pixels: correlation over the pixels.
    double product = 0, a = 0, b = 0;
    for (size_t k = 0; k < kPixels; ++k) {
      const double x = importance[k] - 1.0 / kPixels,
                   y = importances[cell * kPixels + k] - 1.0 / kPixels;
      product += x * y, a += x * x, b += y * y;
    }
    EXPECT_GT(product / std::sqrt(a * b), .85) << cell;
  }
}

}  // namespace
}  // namespace dermis
