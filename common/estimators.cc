#include "common/estimators.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "common/shapley_kernel.h"
#include "common/tasks.h"

namespace dermis {
namespace {

// min(2^superpixels, 2^32).
uint64_t Subsets(uint32_t superpixels) { return uint64_t{1} << std::min(superpixels, 32u); }

constexpr uint32_t kFirstCheckpoint = 16;
constexpr uint32_t kUsualSuperpixels = 50;  // For a price, where the image decides.

uint32_t PairsOf(const v1::ShapleySpec& spec, uint32_t superpixels) {
  if (!spec.has_budget()) return spec.permutations();
  const uint32_t pair = 2 * std::max(superpixels - 1, 1u);
  return std::max((std::max(spec.budget(), 2u) - 2) / pair, 1u);
}

// Distinct coalitions that a budget pays for, ends not counted.
uint64_t Coalitions(const v1::CoalitionMasks& masks) {
  const uint64_t paid = std::max(masks.budget(), 2u) - 2;
  return std::min(paid, Subsets(masks.superpixels()) - 2);
}

}  // namespace

std::string EstimatorName(v1::Estimator estimator) {
  switch (estimator) {
    case v1::ESTIMATOR_AUTO:
      return "auto";
    case v1::ESTIMATOR_EXACT:
      return "exact";
    case v1::ESTIMATOR_KERNEL:
      return "kernel";
    case v1::ESTIMATOR_LEVERAGE:
      return "leverage";
    case v1::ESTIMATOR_PARTITION:
      return "partition";
    default:
      return "permutation";
  }
}

uint32_t BudgetOf(const v1::ShapleySpec& spec, uint32_t superpixels) {
  return spec.has_budget() ? spec.budget() : 2 * superpixels + 2048;
}

EstimatorChoice ChooseEstimator(const v1::ShapleySpec& spec, uint32_t superpixels) {
  switch (spec.estimator()) {
    case v1::ESTIMATOR_AUTO:
      break;
    case v1::ESTIMATOR_UNSPECIFIED:
      return {v1::ESTIMATOR_PERMUTATION, "the default"};
    default:
      return {spec.estimator(), "the study names it"};
  }
  const uint32_t budget = BudgetOf(spec, superpixels);
  if (superpixels <= kMostExactSuperpixels && Subsets(superpixels) <= budget) {
    return {v1::ESTIMATOR_EXACT,
            absl::StrCat("all ", Subsets(superpixels), " subsets of ", superpixels,
                         " superpixels fit into the budget of ", budget)};
  }
  return {v1::ESTIMATOR_LEVERAGE,
          absl::StrCat("the 2^", superpixels, " subsets of ", superpixels,
                       " superpixels are more than the budget of ", budget,
                       ", and its error is the smallest of the estimators by sampling")};
}

bool HasMasks(const v1::MethodSpec& method) {
  return method.has_lime() || method.has_shapley() || method.has_occlusion() || method.has_rise();
}

bool FitsMarginToo(const v1::MethodSpec& method, v1::OutputKind output, bool forest) {
  return method.has_lime() && method.lime().hidden() != v1::HIDDEN_VALUE_BACKGROUND &&
         output == v1::OUTPUT_KIND_PROBABILITY && !forest;
}

bool MasksDependOnCount(const v1::MethodSpec& method) {
  if (method.has_occlusion()) return true;
  if (!method.has_shapley()) return false;
  const v1::ShapleySpec& spec = method.shapley();
  const bool permutation = spec.estimator() == v1::ESTIMATOR_UNSPECIFIED ||
                           spec.estimator() == v1::ESTIMATOR_PERMUTATION;
  return !permutation || spec.has_budget();
}

v1::Precision ExactPrecision(v1::Precision precision) {
  return precision == v1::PRECISION_BF16 ? v1::PRECISION_FP32 : precision;
}

void SetMasks(const v1::MethodSpec& method, uint32_t superpixels, v1::Perturbation& perturbation) {
  switch (method.kind_case()) {
    case v1::MethodSpec::kLime:
      perturbation.mutable_lime()->set_samples(method.lime().samples());
      break;
    case v1::MethodSpec::kOcclusion:
      perturbation.mutable_occlusion()->set_superpixels(superpixels);
      break;
    case v1::MethodSpec::kRise:
      perturbation.mutable_rise()->set_samples(method.rise().samples());
      perturbation.mutable_rise()->set_probability(method.rise().probability());
      break;
    case v1::MethodSpec::kShapley: {
      const v1::ShapleySpec& spec = method.shapley();
      const v1::Estimator estimator = ChooseEstimator(spec, superpixels).estimator;
      if (estimator == v1::ESTIMATOR_PERMUTATION) {
        perturbation.mutable_shapley()->set_permutations(PairsOf(spec, superpixels));
      } else if (estimator == v1::ESTIMATOR_PARTITION) {
        perturbation.mutable_partition()->set_budget(BudgetOf(spec, superpixels));
      } else {
        v1::CoalitionMasks& masks = *perturbation.mutable_coalitions();
        masks.set_estimator(estimator);
        masks.set_superpixels(superpixels);
        if (estimator == v1::ESTIMATOR_EXACT) {
          perturbation.set_precision(ExactPrecision(perturbation.precision()));
        } else {
          masks.set_budget(BudgetOf(spec, superpixels));
        }
      }
      break;
    }
    default:
      break;
  }
}

void SetFitOptions(const v1::MethodSpec& method, v1::FitTask& fit) {
  if (!method.has_lime()) return;
  const v1::LimeSpec& lime = method.lime();
  if (lime.has_num_features()) {
    fit.mutable_lime()->set_num_features(lime.num_features());
    fit.mutable_lime()->set_feature_selection(lime.feature_selection());
    fit.mutable_lime()->set_selection_errors(lime.selection_errors());
  }
  if (lime.has_kernel_width()) fit.mutable_lime()->set_kernel_width(lime.kernel_width());
  if (lime.has_alpha()) fit.mutable_lime()->set_alpha(lime.alpha());
}

double ToleranceOf(const v1::MethodSpec& method) {
  return method.has_shapley() ? method.shapley().tolerance()
         : method.has_lime()  ? method.lime().tolerance()
                              : 0;
}

bool SamplesMasks(const v1::Perturbation& perturbation) {
  return !perturbation.has_occlusion() && !perturbation.has_partition() &&
         perturbation.coalitions().estimator() != v1::ESTIMATOR_EXACT;
}

uint64_t RowCount(const v1::Perturbation& perturbation) {
  switch (perturbation.masks_case()) {
    case v1::Perturbation::kLime:
      return perturbation.lime().samples();
    case v1::Perturbation::kOcclusion:
      return uint64_t{1} + perturbation.occlusion().superpixels();
    case v1::Perturbation::kRise:
      return uint64_t{1} + perturbation.rise().samples();
    case v1::Perturbation::kCoalitions: {
      const v1::CoalitionMasks& masks = perturbation.coalitions();
      if (masks.superpixels() == 0) return 0;
      switch (masks.estimator()) {
        case v1::ESTIMATOR_EXACT:
          return masks.superpixels() <= kMostExactSuperpixels ? Subsets(masks.superpixels()) : 0;
        case v1::ESTIMATOR_KERNEL:
          return 2 + Coalitions(masks);
        case v1::ESTIMATOR_LEVERAGE:
          return 2 + Coalitions(masks) / 2 * 2;
        default:
          return 0;
      }
    }
    default:
      return 0;
  }
}

uint32_t LeastPairsForErrors(uint32_t superpixels) { return std::max(40u, 2 * superpixels); }

namespace {

// Rows before the first unit, rows of a unit (at most), all units.
struct Units {
  uint64_t before = 0, rows = 1, count = 0;
  uint32_t least = 0;  // With standard errors.
};

Units UnitsOf(const v1::Perturbation& perturbation) {
  switch (perturbation.masks_case()) {
    case v1::Perturbation::kLime:
      return {0, 1, perturbation.lime().samples(), 41};
    case v1::Perturbation::kShapley:
      return {0, 1, perturbation.shapley().permutations(), 2};  // A run is counted in pairs.
    case v1::Perturbation::kCoalitions: {
      const v1::CoalitionMasks& masks = perturbation.coalitions();
      if (masks.estimator() == v1::ESTIMATOR_EXACT) return {};
      const uint64_t rows = RowCount(perturbation);
      const uint32_t least = LeastPairsForErrors(masks.superpixels());
      const uint64_t before =
          2 + (masks.estimator() == v1::ESTIMATOR_KERNEL
                   ? EnumerateKernel(masks.superpixels(), Coalitions(masks)).rows
                   : 0);
      return {before, 2, rows > before ? (rows - before) / 2 : 0, least};
    }
    default:
      return {};
  }
}

uint32_t RunLength(const v1::Perturbation& perturbation) {
  return perturbation.has_lime() ? kLimeRun : perturbation.has_shapley() ? kShapleyRun : kMaskRun;
}

}  // namespace

std::vector<uint32_t> Checkpoints(const v1::Perturbation& perturbation) {
  const Units units = UnitsOf(perturbation);
  std::vector<uint32_t> checkpoints;
  for (uint64_t at = kFirstCheckpoint; at < units.count; at *= 2) {
    if (at >= units.least) checkpoints.push_back(static_cast<uint32_t>(at));
  }
  return checkpoints;
}

uint32_t RunsOfUnits(const v1::Perturbation& perturbation, uint32_t units) {
  if (units == 0) return RunCount(perturbation);
  const Units of = UnitsOf(perturbation);
  const uint64_t rows = of.before + of.rows * units, length = RunLength(perturbation);
  return static_cast<uint32_t>(
      std::min<uint64_t>((rows + length - 1) / length, RunCount(perturbation)));
}

const v1::SuperpixelSpec& SuperpixelsOf(const v1::MethodSpec& method) {
  return method.has_lime()        ? method.lime().superpixels()
         : method.has_shapley()   ? method.shapley().superpixels()
         : method.has_occlusion() ? method.occlusion().superpixels()
                                  : method.rise().superpixels();
}

v1::HiddenValue HiddenOf(const v1::MethodSpec& method) {
  return method.has_lime()        ? method.lime().hidden()
         : method.has_shapley()   ? method.shapley().hidden()
         : method.has_occlusion() ? method.occlusion().hidden()
                                  : method.rise().hidden();
}

uint32_t AboutSuperpixels(const v1::SuperpixelSpec& superpixels) {
  if (superpixels.has_slic()) return superpixels.slic().count();
  if (superpixels.has_grid()) return superpixels.grid().rows() * superpixels.grid().columns();
  if (superpixels.has_lesion_zones()) return superpixels.lesion_zones().band() > 0 ? 4 : 2;
  return kUsualSuperpixels;
}

MethodPrice PriceOf(const v1::MethodSpec& method, uint32_t superpixels) {
  if (!HasMasks(method)) return {1, 0};
  v1::Perturbation perturbation;
  SetMasks(method, superpixels, perturbation);
  MethodPrice price;
  price.tasks = 2 + uint64_t{RunCount(perturbation)};  // Superpixels and fit.
  if (ToleranceOf(method) > 0) price.tasks += Checkpoints(perturbation).size();
  if (perturbation.has_shapley()) {
    // Both ends once; each order shows the superpixels one after the other.
    price.inputs =
        2 + 2 * uint64_t{perturbation.shapley().permutations()} * (std::max(superpixels, 1u) - 1);
  } else if (perturbation.has_partition()) {
    price.inputs = perturbation.partition().budget();
  } else {
    price.inputs = RowCount(perturbation);
  }
  return price;
}

std::optional<double> RelativeError(const v1::Attribution& attribution) {
  if (attribution.standard_errors().empty() || attribution.values().empty()) return std::nullopt;
  const auto [low, high] =
      std::minmax_element(attribution.values().begin(), attribution.values().end());
  // Each is 0 where the other is set.
  const double hidden = attribution.hidden() + attribution.intercept();
  const double range = std::max(*high - *low, 0.05 * std::abs(attribution.full() - hidden));
  const double error =
      *std::max_element(attribution.standard_errors().begin(), attribution.standard_errors().end());
  if (error == 0) return 0.0;
  if (!(range > 0)) return std::nullopt;
  return error / range;
}

}  // namespace dermis
