#include "common/estimators.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/shapley_kernel.h"
#include "common/spec_yaml.h"
#include "common/tasks.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

v1::MethodSpec Method(const std::string& yaml) {
  const auto spec = ParseStudyYaml(
      "name: a\nimages: {set: b}\nexplanation: {methods: [" + yaml + "]}\n", "a.yaml");
  EXPECT_TRUE(spec.ok()) << spec.status();
  const auto resolved = ResolveSpec(*spec);
  EXPECT_TRUE(resolved.ok()) << resolved.status();
  return resolved->explanation().methods(0);
}

absl::Status Refusal(const std::string& yaml) {
  const auto spec = ParseStudyYaml(
      "name: a\nimages: {set: b}\nexplanation: {methods: [" + yaml + "]}\n", "a.yaml");
  EXPECT_TRUE(spec.ok()) << spec.status();
  return ResolveSpec(*spec).status();
}

v1::Perturbation Masks(const std::string& yaml, uint32_t superpixels) {
  v1::Perturbation perturbation;
  SetMasks(Method(yaml), superpixels, perturbation);
  return perturbation;
}

TEST(Estimators, ExactValues_AreOfFp32_WhateverTheModelRunsIn) {
  const auto precision = [](const std::string& yaml, v1::Precision of_model) {
    v1::Perturbation perturbation;
    perturbation.set_precision(of_model);
    SetMasks(Method(yaml), 8, perturbation);
    return perturbation.precision();
  };
  EXPECT_EQ(precision("{shapley: {estimator: auto}}", v1::PRECISION_BF16), v1::PRECISION_FP32);
  EXPECT_EQ(precision("{shapley: {estimator: exact}}", v1::PRECISION_FP32), v1::PRECISION_FP32);
  EXPECT_EQ(precision("{shapley: {permutations: 4}}", v1::PRECISION_BF16), v1::PRECISION_BF16);
}

TEST(Estimators, Auto_IsExactWhereAllSubsetsAreAffordable_ElseLeverage_AndSaysWhy) {
  const auto choose = [](const std::string& yaml, uint32_t superpixels) {
    return ChooseEstimator(Method(yaml).shapley(), superpixels);
  };
  EXPECT_EQ(choose("{shapley: {estimator: auto}}", 11).estimator, v1::ESTIMATOR_EXACT);
  EXPECT_EQ(choose("{shapley: {estimator: auto}}", 11).why,
            "all 2048 subsets of 11 superpixels fit into the budget of 2070");
  EXPECT_EQ(choose("{shapley: {estimator: auto}}", 12).estimator, v1::ESTIMATOR_LEVERAGE);
  EXPECT_EQ(choose("{shapley: {estimator: auto, budget: 65536}}", 16).estimator,
            v1::ESTIMATOR_EXACT);
  EXPECT_EQ(choose("{shapley: {estimator: auto, budget: 262144}}", 17).estimator,
            v1::ESTIMATOR_LEVERAGE);
  EXPECT_EQ(choose("{shapley: {estimator: auto, budget: 1000}}", 10).estimator,
            v1::ESTIMATOR_LEVERAGE);
  EXPECT_EQ(choose("{shapley: {estimator: kernel}}", 5).estimator, v1::ESTIMATOR_KERNEL);
  EXPECT_EQ(choose("{shapley: {}}", 5).estimator, v1::ESTIMATOR_PERMUTATION);
}

TEST(Estimators, AbsentKeys_MeanWhatTheyMeantBefore) {
  const v1::Perturbation perturbation = Masks("{shapley: {}}", 0);
  EXPECT_EQ(perturbation.shapley().permutations(), 64u);
  EXPECT_FALSE(MasksDependOnCount(Method("{shapley: {permutations: 7}}")));
  v1::FitTask fit;
  SetFitOptions(Method("{lime: {}}"), fit);
  EXPECT_FALSE(fit.has_lime());
  EXPECT_EQ(Masks("{lime: {}}", 0).lime().samples(), 1000u);
}

TEST(Estimators, Budget_BoundsTheMaskedInputs_BothEndsIncluded) {
  // 50 superpixels: a pair of orders is 98 inputs.
  EXPECT_EQ(Masks("{shapley: {estimator: permutation, budget: 1000}}", 50).shapley().permutations(),
            10u);
  EXPECT_EQ(RowCount(Masks("{shapley: {estimator: leverage}}", 50)), 2148u);
  EXPECT_EQ(RowCount(Masks("{shapley: {estimator: leverage, budget: 1001}}", 50)), 1000u);
  EXPECT_EQ(RowCount(Masks("{shapley: {estimator: leverage, budget: 1001}}", 8)),
            256u);  // All there are.
  EXPECT_EQ(RowCount(Masks("{shapley: {estimator: kernel, budget: 1001}}", 50)), 1001u);
  EXPECT_EQ(RowCount(Masks("{shapley: {estimator: exact}}", 16)), 65536u);
  EXPECT_EQ(RowCount(Masks("{shapley: {estimator: exact}}", 17)), 0u);
  EXPECT_EQ(RowCount(Masks("{occlusion: {}}", 30)), 31u);
  EXPECT_EQ(RowCount(Masks("{rise: {samples: 500}}", 30)), 501u);
  EXPECT_EQ(RunCount(Masks("{rise: {samples: 511}}", 30)), 2u);
  EXPECT_EQ(RunCount(Masks("{shapley: {estimator: partition}}", 30)), 0u);
}

TEST(Estimators, Checkpoints_AreDoublingPairs_WhereErrorsExist) {
  using Units = std::vector<uint32_t>;
  EXPECT_EQ(Checkpoints(Masks("{shapley: {permutations: 100}}", 0)), (Units{16, 32, 64}));
  EXPECT_EQ(Checkpoints(Masks("{lime: {samples: 1000}}", 0)), (Units{64, 128, 256, 512}));
  EXPECT_EQ(Checkpoints(Masks("{shapley: {estimator: leverage, budget: 1026}}", 50)),
            (Units{128, 256}));
  EXPECT_EQ(Checkpoints(Masks("{shapley: {estimator: leverage, budget: 1028}}", 50)),
            (Units{128, 256, 512}));
  EXPECT_TRUE(Checkpoints(Masks("{shapley: {estimator: exact}}", 9)).empty());
}

TEST(Estimators, RunsOfUnits_HoldThem_AndNoMore) {
  EXPECT_EQ(RunsOfUnits(Masks("{shapley: {permutations: 100}}", 0), 16), 8u);
  EXPECT_EQ(RunsOfUnits(Masks("{lime: {samples: 1000}}", 0), 256), 2u);
  const v1::Perturbation leverage = Masks("{shapley: {estimator: leverage, budget: 4096}}", 50);
  EXPECT_EQ(RunsOfUnits(leverage, 127), 1u);  // 2 + 254 rows.
  EXPECT_EQ(RunsOfUnits(leverage, 128), 2u);
  EXPECT_EQ(RunsOfUnits(leverage, 0), 16u);
  // Kernel: complete sizes come first.
  const v1::Perturbation kernel = Masks("{shapley: {estimator: kernel, budget: 4096}}", 50);
  EXPECT_EQ(RunsOfUnits(kernel, 64), (2 + EnumerateKernel(50, 4094).rows + 128 + 255) / 256);
}

TEST(Estimators, RelativeError_IsOfTheRange_ButNotOfAFlatOne) {
  v1::Attribution fit;
  for (double value : {-1.0, 0.5, 3.0}) fit.add_values(value);
  EXPECT_FALSE(RelativeError(fit));
  for (double error : {0.1, 0.4, 0.2}) fit.add_standard_errors(error);
  EXPECT_DOUBLE_EQ(*RelativeError(fit), 0.1);
  fit.set_full(200);
  EXPECT_DOUBLE_EQ(*RelativeError(fit), 0.04);
  fit.set_hidden(200);
  for (double& value : *fit.mutable_values()) value = 1;
  EXPECT_FALSE(RelativeError(fit));  // Nothing varies.
  for (double& error : *fit.mutable_standard_errors()) error = 0;
  EXPECT_EQ(*RelativeError(fit), 0);
}

TEST(Estimators, KeysThatContradict_AreRefused) {
  EXPECT_FALSE(Refusal("{shapley: {estimator: auto, permutations: 5}}").ok());
  EXPECT_FALSE(Refusal("{shapley: {permutations: 5, budget: 100}}").ok());
  EXPECT_FALSE(Refusal("{shapley: {estimator: exact, tolerance: 0.1}}").ok());
  EXPECT_FALSE(Refusal("{shapley: {estimator: partition, tolerance: 0.1}}").ok());
  EXPECT_FALSE(Refusal("{shapley: {tolerance: 0}}").ok());
  EXPECT_FALSE(Refusal("{lime: {feature_selection: highest_weights}}").ok());
  EXPECT_FALSE(Refusal("{rise: {probability: 1}}").ok());
  EXPECT_TRUE(Refusal("{shapley: {estimator: permutation, budget: 5000, tolerance: 0.05}}").ok());
  EXPECT_TRUE(
      Refusal("{lime: {num_features: 5, feature_selection: forward_selection, alpha: 0.5}}").ok());
  EXPECT_TRUE(Refusal("{lime: {num_features: 5, selection_errors: true}}").ok());
  EXPECT_THAT(std::string(Refusal("{lime: {selection_errors: true}}").message()),
              HasSubstr("selection_errors' needs num_features"));
}

TEST(ShapleyKernel, SizesOfComplements_ShareTheKernel) {
  for (uint32_t n : {2u, 3u, 10u, 51u}) {
    double sum = 0;
    for (double weight : SizeWeights(n)) sum += weight;
    EXPECT_NEAR(sum, 1, 1e-12);
  }
  EXPECT_EQ(Binomial(50, 3), 19600);
  EXPECT_EQ(PairsOfSize(10, 5), 126);
  EXPECT_EQ(EnumerateKernel(12, 4094).rows, 4094u);
  EXPECT_EQ(EnumerateKernel(50, 2148).sizes, 1u);
}

}  // namespace
}  // namespace dermis
