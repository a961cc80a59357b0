// How a method samples masks for an image of S superpixels: by which estimator, how many, and where
// a tolerance is judged. Pure, so that planners, workers, the preview and the report say the same.
#ifndef DERMIS_COMMON_ESTIMATORS_H_
#define DERMIS_COMMON_ESTIMATORS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// 2^16 = 65,536 masked inputs: what an exact answer may cost.
inline constexpr uint32_t kMostExactSuperpixels = 16;
inline constexpr uint32_t kMostBudget = 1u << 18;

// Resolved spec in, never `auto` out; `why` is for people.
struct EstimatorChoice {
  v1::Estimator estimator = v1::ESTIMATOR_PERMUTATION;
  std::string why;
};
EstimatorChoice ChooseEstimator(const v1::ShapleySpec& spec, uint32_t superpixels);

// "leverage", as it is written in a study.
std::string EstimatorName(v1::Estimator estimator);

// Masks that the method may run on an image, both ends included: the spec's, or 2 S + 2048.
uint32_t BudgetOf(const v1::ShapleySpec& spec, uint32_t superpixels);

// The method explains by masked inputs.
bool HasMasks(const v1::MethodSpec& method);
// Of a probability LIME is fitted to the margin, too, from the same runs. Not of a forest, whose
// margin may be infinite; nor where training images hide, whose runs hold the logarithms of mean
// probabilities: they have no mean margin in them.
bool FitsMarginToo(const v1::MethodSpec& method, v1::OutputKind output, bool forest);
// What SetMasks sets depends on the image's number of superpixels.
bool MasksDependOnCount(const v1::MethodSpec& method);
// What exact Shapley values are computed in: they have no other error than that of the numbers.
v1::Precision ExactPrecision(v1::Precision precision);
// Sets `perturbation.masks` of a method that HasMasks, and of exact Shapley values the precision.
// `superpixels` is read only where MasksDependOnCount.
void SetMasks(const v1::MethodSpec& method, uint32_t superpixels, v1::Perturbation& perturbation);
// Sets `fit.lime` where the method's options are not the package's defaults.
void SetFitOptions(const v1::MethodSpec& method, v1::FitTask& fit);
// 0: none.
double ToleranceOf(const v1::MethodSpec& method);

// Another seed gives other masks.
bool SamplesMasks(const v1::Perturbation& perturbation);

// Masked inputs of the perturbation; 0: it cannot be sampled. Not for `shapley`, whose pairs are of
// 2 (S - 1) inputs, nor `partition`, which has no runs. An upper bound for the estimator kernel,
// whose draws may repeat themselves.
uint64_t RowCount(const v1::Perturbation& perturbation);

// Where a tolerance is judged, in units (FitTask.units) of the sampling, ascending, all below the
// whole: 16, 32, 64, ... pairs; as many masks for LIME. Those at which no standard error exists are
// left out.
std::vector<uint32_t> Checkpoints(const v1::Perturbation& perturbation);
// Runs that hold the first `units` units; 0: all runs.
uint32_t RunsOfUnits(const v1::Perturbation& perturbation, uint32_t units);

// What a method asks for an image that has `superpixels` of them (activations: a task, no masked
// input). With a tolerance, at most.
struct MethodPrice {
  uint64_t tasks = 0;
  uint64_t inputs = 0;  // Masks: each is InputsOfAMask (lesion_tasks.h) inputs.
};
MethodPrice PriceOf(const v1::MethodSpec& method, uint32_t superpixels);
// Of a method without superpixels: none named.
const v1::SuperpixelSpec& SuperpixelsOf(const v1::MethodSpec& method);
// By what a method of masks hides.
v1::HiddenValue HiddenOf(const v1::MethodSpec& method);
// How many superpixels an image will have, about.
uint32_t AboutSuperpixels(const v1::SuperpixelSpec& superpixels);

// Fewest pairs from which a regression over S superpixels has standard errors.
uint32_t LeastPairsForErrors(uint32_t superpixels);

// Largest standard error over max(largest - smallest value, .05 |f(all shown) - f(all hidden)|):
// what a tolerance bounds. LIME's f(all hidden) is its intercept. Nothing where there are no
// standard errors or nothing varies.
std::optional<double> RelativeError(const v1::Attribution& attribution);

}  // namespace dermis

#endif  // DERMIS_COMMON_ESTIMATORS_H_
