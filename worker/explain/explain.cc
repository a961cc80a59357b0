#include "worker/explain/explain.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "common/metrics.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "worker/explain/lime.h"
#include "worker/explain/masked_model.h"
#include "worker/explain/masks.h"
#include "worker/explain/shapley.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

absl::Status Invalid(uint32_t image, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("explanation of image ", image, ": ", why));
}

absl::Status CheckMasks(const v1::Perturbation& perturbation) {
  if ((perturbation.has_lime() && perturbation.lime().samples() > 0) ||
      (perturbation.has_shapley() && perturbation.shapley().permutations() > 0)) {
    return absl::OkStatus();
  }
  return Invalid(perturbation.image(), "the perturbation has no masks (lime.samples or "
                                       "shapley.permutations of at least 1)");
}

// Pairs [first, last) of a Shapley run.
std::pair<uint32_t, uint32_t> PairsOfRun(const v1::Perturbation& perturbation, uint32_t run) {
  const uint64_t all = perturbation.shapley().permutations();
  const uint64_t first = uint64_t{run} * kShapleyRun;
  return {static_cast<uint32_t>(std::min(first, all)),
          static_cast<uint32_t>(std::min(first + kShapleyRun, all))};
}

}  // namespace

std::vector<std::vector<uint8_t>> MasksOfRun(const v1::Perturbation& perturbation, uint32_t run,
                                             uint32_t superpixel_count) {
  std::vector<Mask> masks;
  if (perturbation.has_lime()) {
    const uint64_t first = uint64_t{run} * kLimeRun;
    const uint64_t last = std::min<uint64_t>(first + kLimeRun, perturbation.lime().samples());
    for (uint64_t row = first; row < last; ++row) {
      masks.push_back(LimeMask(perturbation.seed(), static_cast<uint32_t>(row), superpixel_count));
    }
    return masks;
  }
  if (run == 0) {
    masks.emplace_back(superpixel_count, uint8_t{1});
    masks.emplace_back(superpixel_count, uint8_t{0});
  }
  const auto [first, last] = PairsOfRun(perturbation, run);
  for (uint32_t pair = first; pair < last; ++pair) {
    for (Mask& mask :
         ShapleyPairMasks(ShapleyOrder(perturbation.seed(), pair, superpixel_count))) {
      masks.push_back(std::move(mask));
    }
  }
  return masks;
}

absl::StatusOr<v1::PerturbOutput> RunPerturb(const v1::PerturbTask& task, const ImageData& data,
                                             const v1::SuperpixelOutput& superpixels,
                                             InferencePlan& plan) {
  const v1::Perturbation& perturbation = task.perturbation();
  const uint32_t image = perturbation.image();
  RETURN_IF_ERROR(CheckMasks(perturbation));
  if (task.run() >= RunCount(perturbation)) {
    return Invalid(image, absl::StrCat("run ", task.run(), " of ", RunCount(perturbation)));
  }
  ASSIGN_OR_RETURN(const Segmentation segmentation, FromProto(superpixels));
  if (plan.size() != data.size) {
    return Invalid(image, absl::StrCat("the model takes ", plan.size(), " pixels a side, the data have ",
                                       data.size));
  }
  ASSIGN_OR_RETURN(const MaskedImage masked,
                   MaskedImageOf(perturbation.images(), image, perturbation.hidden(),
                                 perturbation.hiding(), segmentation, data));
  const std::vector<Mask> masks = MasksOfRun(perturbation, task.run(), segmentation.count);
  v1::PerturbOutput output;
  output.set_classes(plan.classes());
  output.mutable_logits()->Resize(static_cast<int>(masks.size() * plan.classes()), 0.0f);
  RETURN_IF_ERROR(RunMasks(masks, masked, plan, output.mutable_logits()->mutable_data()));
  return output;
}

absl::StatusOr<v1::Attribution> RunFit(const v1::FitTask& task, uint32_t superpixel_count,
                                       const std::vector<v1::PerturbOutput>& runs) {
  const v1::Perturbation& perturbation = task.perturbation();
  const uint32_t image = perturbation.image();
  RETURN_IF_ERROR(CheckMasks(perturbation));
  if (superpixel_count == 0) return Invalid(image, "no superpixels");
  if (runs.size() != RunCount(perturbation)) {
    return Invalid(image, absl::StrCat("the fit needs ", RunCount(perturbation), " runs, not ",
                                       runs.size()));
  }
  const uint32_t classes = runs[0].classes();
  std::vector<Mask> masks;
  std::vector<double> outputs;
  for (uint32_t run = 0; run < runs.size(); ++run) {
    std::vector<Mask> rows = MasksOfRun(perturbation, run, superpixel_count);
    const v1::PerturbOutput& logits = runs[run];
    if (logits.classes() != classes || classes < 2 ||
        static_cast<uint64_t>(logits.logits_size()) != uint64_t{classes} * rows.size()) {
      return Invalid(image, absl::StrCat("run ", run, " holds ", logits.logits_size(),
                                         " logits of ", logits.classes(), " classes for ",
                                         rows.size(), " masks"));
    }
    for (size_t r = 0; r < rows.size(); ++r) {
      const double value = OutputOf(
          task.output(), absl::MakeConstSpan(logits.logits().data() + r * classes, classes));
      if (!std::isfinite(value)) {
        return Invalid(image, absl::StrCat("run ", run, ", mask ", r, ": the output is not finite"));
      }
      outputs.push_back(value);
    }
    if (perturbation.has_lime()) {
      for (Mask& mask : rows) masks.push_back(std::move(mask));
    }
  }

  v1::Attribution attribution;
  attribution.set_count(superpixel_count);
  attribution.set_full(outputs[0]);
  attribution.set_evaluations(static_cast<uint32_t>(outputs.size()));
  if (perturbation.has_lime()) {
    const LimeFit fit = FitLime(masks, outputs);
    attribution.mutable_values()->Assign(fit.coefficients.begin(), fit.coefficients.end());
    attribution.mutable_standard_errors()->Assign(fit.standard_errors.begin(),
                                                  fit.standard_errors.end());
    attribution.set_intercept(fit.intercept);
    attribution.set_r_squared(fit.r_squared);
  } else {
    std::vector<std::vector<uint32_t>> orders;
    for (uint32_t pair = 0; pair < perturbation.shapley().permutations(); ++pair) {
      orders.push_back(ShapleyOrder(perturbation.seed(), pair, superpixel_count));
    }
    const ShapleyFit fit = FitShapley(orders, outputs);
    attribution.mutable_values()->Assign(fit.values.begin(), fit.values.end());
    attribution.mutable_standard_errors()->Assign(fit.standard_errors.begin(),
                                                  fit.standard_errors.end());
    attribution.set_hidden(outputs[1]);
    attribution.set_additivity_residual(fit.additivity_residual);
  }
  return attribution;
}

}  // namespace dermis
