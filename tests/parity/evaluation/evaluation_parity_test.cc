// Measures of scores against scikit-learn, statsmodels and SciPy, by the golden of make_goldens.py.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "common/evaluation/calibration.h"
#include "common/evaluation/decision_curve.h"
#include "common/evaluation/delong.h"
#include "common/evaluation/mcnemar.h"
#include "common/evaluation/scores.h"
#include "common/evaluation/subgroups.h"
#include "common/evaluation/table_one.h"

namespace dermis {
namespace {

nlohmann::json Golden() {
  const char* const source = std::getenv("DERMIS_SOURCE_DIR");
  std::ifstream file(std::filesystem::path(source != nullptr ? source : ".") /
                     "tests/parity/evaluation/golden.json");
  return nlohmann::json::parse(file);
}

ScoredImages ImagesOf(const nlohmann::json& one) {
  const auto label = one["label"].get<std::vector<uint32_t>>();
  std::vector<float> logits;
  for (const double margin : one["first"]) {
    logits.push_back(0);
    logits.push_back(static_cast<float>(margin));
  }
  std::vector<uint32_t> group(label.size());
  std::iota(group.begin(), group.end(), 0u);
  return MakeScoredImages(logits, label, group).value();
}

TEST(EvaluationParity, TableOne_EqualsSklearn) {
  const nlohmann::json golden = Golden();
  ASSERT_EQ(golden["cases"].size(), 2u);
  for (const auto& one : golden["cases"]) {
    const TableOneRow row = TableOneRowOf(ImagesOf(one), 0.5);
    EXPECT_NEAR(row.average_precision.value, one["average_precision"], 1e-12);
    EXPECT_NEAR(row.area.value, one["area"], 1e-12);
    EXPECT_NEAR(row.precision.value, one["precision"], 1e-12);
    EXPECT_NEAR(row.recall.value, one["recall"], 1e-12);
    EXPECT_NEAR(row.f1.value, one["f1"], 1e-12);
  }
}

TEST(EvaluationParity, Calibration_EqualsSklearnAndStatsmodels) {
  const nlohmann::json golden = Golden();
  for (const auto& one : golden["cases"]) {
    const ScoredImages images = ImagesOf(one);
    const Calibration calibration = CalibrationOf(images, 1);
    EXPECT_NEAR(calibration.brier.value, one["brier"], 1e-12);
    EXPECT_NEAR(calibration.log_loss, one["log_loss"], 1e-12);
    EXPECT_NEAR(calibration.intercept.value, one["intercept"], 1e-9);
    EXPECT_NEAR(calibration.slope.value, one["slope"], 1e-9);
    EXPECT_NEAR(calibration.in_the_large.value, one["in_the_large"], 1e-9);
    EXPECT_NEAR(calibration.error, one["ece"], 1e-12);
    ASSERT_EQ(calibration.curve.size(), one["curve_share"].size());
    for (size_t b = 0; b < calibration.curve.size(); ++b) {
      EXPECT_NEAR(calibration.curve[b].share_positive, one["curve_share"][b], 1e-12);
      EXPECT_NEAR(calibration.curve[b].mean_probability, one["curve_mean"][b], 1e-12);
    }
  }
}

TEST(EvaluationParity, Temperature_IsWhereScipyFindsTheMinimum) {
  const nlohmann::json golden = Golden();
  for (const auto& one : golden["cases"]) {
    const ScoredImages images = ImagesOf(one);
    const Temperature temperature = FitTemperature(images.margin, images.label);
    // SciPy's method sees the loss alone, which is flat to 1e-16 within about 1e-8 of its minimum.
    EXPECT_NEAR(temperature.value, one["temperature"], 1e-6);
    EXPECT_FALSE(temperature.at_bound);
  }
}

TEST(EvaluationParity, NetBenefit_EqualsItsDefinition) {
  const nlohmann::json golden = Golden();
  for (const auto& one : golden["cases"]) {
    const ScoredImages images = ImagesOf(one);
    const std::vector<NetBenefit> curve = DecisionCurve(images.probability, images.label);
    for (const auto& point : one["benefit"]) {
      const size_t at = static_cast<size_t>(std::lround(100 * point[0].get<double>())) - 1;
      EXPECT_DOUBLE_EQ(curve[at].threshold, point[0].get<double>());
      EXPECT_NEAR(curve[at].model, point[1], 1e-12);
      EXPECT_NEAR(curve[at].treat_all, point[2], 1e-12);
    }
  }
}

TEST(EvaluationParity, DeLong_EqualsTheSumOverAllPairs) {
  const nlohmann::json golden = Golden();
  for (const auto& one : golden["cases"]) {
    const ScoredImages images = ImagesOf(one);
    const auto test = PairedDeLong(images.margin, one["second"].get<std::vector<double>>(),
                                   images.label, images.group);
    ASSERT_TRUE(test.ok()) << test.status();
    const auto& delong = one["delong"];
    EXPECT_NEAR(test->first.area, delong["areas"][0], 1e-12);
    EXPECT_NEAR(test->second.area, delong["areas"][1], 1e-12);
    EXPECT_NEAR(test->first.variance, delong["cov"][0][0], 1e-14);
    EXPECT_NEAR(test->second.variance, delong["cov"][1][1], 1e-14);
    EXPECT_NEAR(test->covariance, delong["cov"][0][1], 1e-14);
    EXPECT_NEAR(test->z, delong["z"], 1e-9);
    EXPECT_NEAR(test->p, delong["p"], 1e-9);
  }
}

TEST(EvaluationParity, McNemar_EqualsStatsmodelsAndScipy) {
  const nlohmann::json golden = Golden();
  ASSERT_EQ(golden["mcnemar"].size(), 8u);
  for (const auto& one : golden["mcnemar"]) {
    const McNemarTest test = McNemarOf(one[0].get<uint64_t>(), one[1].get<uint64_t>());
    EXPECT_NEAR(test.p, one[2], 1e-12);
    EXPECT_EQ(test.exact, one[3].get<bool>());
  }
}

TEST(EvaluationParity, Holm_EqualsStatsmodels) {
  const nlohmann::json golden = Golden();
  const auto adjusted = HolmAdjusted(golden["holm"]["p"].get<std::vector<double>>());
  ASSERT_EQ(adjusted.size(), golden["holm"]["adjusted"].size());
  for (size_t i = 0; i < adjusted.size(); ++i) {
    EXPECT_NEAR(adjusted[i], golden["holm"]["adjusted"][i], 1e-15);
  }
}

}  // namespace
}  // namespace dermis
