#include "tools/report/estimators.h"

#include <gtest/gtest.h>

namespace dermis {
namespace {

v1::Attribution Fit(uint32_t count, double error) {
  v1::Attribution fit;
  fit.set_count(count);
  for (uint32_t k = 0; k < count; ++k) fit.add_values(k);
  if (error >= 0) {
    for (uint32_t k = 0; k < count; ++k) fit.add_standard_errors(error);
  }
  return fit;
}

TEST(EstimatorNote, SaysWhatAutoChoseAndWhy) {
  v1::MethodSpec method;
  method.mutable_shapley()->set_estimator(v1::ESTIMATOR_AUTO);
  EXPECT_EQ(EstimatorNote(method, Fit(5, 0)),
            "exact: all 32 subsets of 5 superpixels fit into the budget of 2058");
  EXPECT_NE(EstimatorNote(method, Fit(50, 1)).find("leverage: the 2^50 subsets"),
            std::string::npos);
}

TEST(EstimatorNote, SaysWhetherTheToleranceWasMet) {
  v1::MethodSpec method;
  method.mutable_shapley()->set_permutations(64);
  EXPECT_EQ(EstimatorNote(method, Fit(11, 1)), "");
  method.mutable_shapley()->set_tolerance(0.2);
  EXPECT_EQ(EstimatorNote(method, Fit(11, 1)),
            "error 0.1 of the range, within the tolerance of 0.2");
  EXPECT_EQ(EstimatorNote(method, Fit(11, 3)),
            "error 0.3 of the range, the budget ended before the tolerance of 0.2");
}

TEST(EstimatorNote, SaysWhichImagesTookTheHiddenSuperpixelsPlace) {
  v1::MethodSpec method;
  method.mutable_lime()->set_hidden(v1::HIDDEN_VALUE_BACKGROUND);
  v1::Attribution fit = Fit(5, 0);
  fit.set_background(std::string(32, '\xab'));
  EXPECT_EQ(EstimatorNote(method, fit), "hidden by the background set abababababab");
}

TEST(EstimatorNote, AnErrorThatIsNotKnown_IsSaid) {
  v1::MethodSpec method;
  method.mutable_shapley()->set_estimator(v1::ESTIMATOR_PARTITION);
  EXPECT_EQ(EstimatorNote(method, Fit(5, 0)), "");
  EXPECT_EQ(EstimatorNote(method, Fit(5, -1)), "cut off by its budget: its error is not known");
}

}  // namespace
}  // namespace dermis
