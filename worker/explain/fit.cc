#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "common/estimators.h"
#include "common/metrics.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "worker/explain/estimators/exact.h"
#include "worker/explain/estimators/regression.h"
#include "worker/explain/estimators/single.h"
#include "worker/explain/explain.h"
#include "worker/explain/lime.h"
#include "worker/explain/rows.h"
#include "worker/explain/shapley.h"

namespace dermis {
namespace {

void FitShapleyCoalitions(const v1::FitTask& task, absl::Span<const double> outputs,
                          v1::Attribution& attribution) {
  const v1::Perturbation& perturbation = task.perturbation();
  const v1::CoalitionMasks& masks = perturbation.coalitions();
  attribution.set_estimator(masks.estimator());
  if (masks.estimator() == v1::ESTIMATOR_EXACT) {
    SetShapley(FitExact(outputs, masks.superpixels()),
               std::vector<double>(masks.superpixels(), 0.0), outputs.front(), outputs.back(),
               attribution);
    attribution.set_evaluations(static_cast<uint32_t>(outputs.size()));
    return;
  }
  const auto design = DesignOf(perturbation);
  const RegressionFit fit = masks.estimator() == v1::ESTIMATOR_KERNEL
                                ? FitKernel(*design, outputs, task.units())
                                : FitLeverage(*design, outputs, task.units());
  SetShapley(fit.values, fit.standard_errors, outputs[0], outputs[1], attribution);
  attribution.set_evaluations(static_cast<uint32_t>(fit.rows));
}

LimeOptions OptionsOf(const v1::FitTask& task) {
  LimeOptions options;
  options.num_features = task.lime().num_features();
  options.selection_errors = task.lime().selection_errors();
  if (task.lime().feature_selection() != v1::FEATURE_SELECTION_UNSPECIFIED) {
    options.selection = task.lime().feature_selection();
  }
  if (task.lime().kernel_width() > 0) options.kernel_width = task.lime().kernel_width();
  if (task.lime().has_alpha()) options.alpha = task.lime().alpha();
  return options;
}

}  // namespace

absl::StatusOr<v1::Attribution> RunFit(const v1::FitTask& task, uint32_t superpixel_count,
                                       const std::vector<v1::PerturbOutput>& runs) {
  const v1::Perturbation& perturbation = task.perturbation();
  const uint32_t image = perturbation.image();
  RETURN_IF_ERROR(CheckMasks(perturbation, superpixel_count));
  if (superpixel_count == 0) return InvalidExplanation(image, "no superpixels");
  const uint32_t wanted = RunsOfUnits(perturbation, task.units());
  if (runs.size() != wanted || runs.empty()) {
    return InvalidExplanation(image,
                              absl::StrCat("the fit needs ", wanted, " runs, not ", runs.size()));
  }
  const uint32_t classes = runs[0].classes();
  // Of the methods whose runs are of kMaskRun rows, all at once: a design is drawn from its
  // beginning.
  const bool by_rows = !perturbation.has_lime() && !perturbation.has_shapley();
  std::vector<Mask> masks;
  if (by_rows)
    masks = MaskRows(perturbation, 0, uint64_t{runs.size()} * kMaskRun, superpixel_count);
  std::vector<double> outputs;
  for (uint32_t run = 0; run < runs.size(); ++run) {
    size_t rows = masks.size() - std::min<size_t>(masks.size(), size_t{run} * kMaskRun);
    rows = std::min<size_t>(rows, kMaskRun);
    if (!by_rows) {
      std::vector<Mask> of_run = MasksOfRun(perturbation, run, superpixel_count);
      rows = of_run.size();
      if (perturbation.has_lime()) {
        for (Mask& mask : of_run) masks.push_back(std::move(mask));
      }
    }
    const v1::PerturbOutput& logits = runs[run];
    if (logits.classes() != classes || classes < 2 ||
        static_cast<uint64_t>(logits.logits_size()) != uint64_t{classes} * rows) {
      return InvalidExplanation(
          image, absl::StrCat("run ", run, " holds ", logits.logits_size(), " logits of ",
                              logits.classes(), " classes for ", rows, " masks"));
    }
    for (size_t r = 0; r < rows; ++r) {
      const double value = OutputOf(
          task.output(), absl::MakeConstSpan(logits.logits().data() + r * classes, classes));
      if (!std::isfinite(value)) {
        return InvalidExplanation(
            image, absl::StrCat("run ", run, ", mask ", r, ": the output is not finite"));
      }
      outputs.push_back(value);
    }
  }

  v1::Attribution attribution;
  attribution.set_count(superpixel_count);
  attribution.set_full(outputs[0]);
  attribution.set_evaluations(static_cast<uint32_t>(outputs.size()));
  if (perturbation.has_lime()) {
    const size_t rows =
        task.units() == 0 ? masks.size() : std::min<size_t>(task.units(), masks.size());
    const LimeFit fit = FitLime(absl::MakeConstSpan(masks).first(rows),
                                absl::MakeConstSpan(outputs).first(rows), OptionsOf(task));
    attribution.mutable_values()->Assign(fit.coefficients.begin(), fit.coefficients.end());
    attribution.mutable_standard_errors()->Assign(fit.standard_errors.begin(),
                                                  fit.standard_errors.end());
    attribution.set_intercept(fit.intercept);
    attribution.set_r_squared(fit.r_squared);
    attribution.set_evaluations(static_cast<uint32_t>(rows));
  } else if (perturbation.has_shapley()) {
    const uint32_t all = perturbation.shapley().permutations();
    const uint32_t pairs = task.units() == 0 ? all : std::min(task.units(), all);
    std::vector<std::vector<uint32_t>> orders;
    for (uint32_t pair = 0; pair < pairs; ++pair) {
      orders.push_back(ShapleyOrder(perturbation.seed(), pair, superpixel_count));
    }
    const ShapleyFit fit = FitShapley(orders, outputs);
    attribution.mutable_values()->Assign(fit.values.begin(), fit.values.end());
    attribution.mutable_standard_errors()->Assign(fit.standard_errors.begin(),
                                                  fit.standard_errors.end());
    attribution.set_hidden(outputs[1]);
    attribution.set_additivity_residual(fit.additivity_residual);
    if (task.units() != 0) {
      attribution.set_evaluations(2 + 2 * pairs * (superpixel_count - 1));
    }
  } else if (perturbation.has_occlusion()) {
    const std::vector<double> values = FitOcclusion(outputs);
    attribution.mutable_values()->Assign(values.begin(), values.end());
    attribution.mutable_standard_errors()->Resize(static_cast<int>(values.size()), 0.0);
  } else if (perturbation.has_rise()) {
    const RiseFit fit =
        FitRise(absl::MakeConstSpan(masks).subspan(1), absl::MakeConstSpan(outputs).subspan(1),
                perturbation.rise().probability());
    attribution.mutable_values()->Assign(fit.values.begin(), fit.values.end());
    attribution.mutable_standard_errors()->Assign(fit.standard_errors.begin(),
                                                  fit.standard_errors.end());
  } else {
    FitShapleyCoalitions(task, outputs, attribution);
  }
  return attribution;
}

}  // namespace dermis
