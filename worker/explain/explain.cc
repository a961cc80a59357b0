#include "worker/explain/explain.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "common/metrics.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "worker/explain/composer.h"
#include "worker/explain/lime.h"
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

absl::StatusOr<v1::SuperpixelOutput> RunSuperpixels(const v1::SuperpixelTask& task,
                                                    const ImageSet& set) {
  const v1::ImageSetManifest& manifest = set.manifest();
  if (task.image() >= static_cast<uint32_t>(manifest.images_size())) {
    return Invalid(task.image(), absl::StrCat("the set has ", manifest.images_size(), " images"));
  }
  ASSIGN_OR_RETURN(const std::string_view pixels, set.Pixels(task.image()));
  const auto* const rgb = reinterpret_cast<const uint8_t*>(pixels.data());
  const int height = static_cast<int>(manifest.height()), width = static_cast<int>(manifest.width());
  switch (task.superpixels().kind_case()) {
    case v1::SuperpixelSpec::kSlic: {
      const v1::SlicSpec& spec = task.superpixels().slic();
      SlicParameters parameters;
      if (spec.has_count()) {
        parameters.count = static_cast<int>(std::min<uint32_t>(spec.count(), 1u << 30));
      }
      if (spec.has_compactness()) parameters.compactness = spec.compactness();
      if (spec.has_sigma()) parameters.sigma = spec.sigma();
      if (parameters.count < 1 || !(parameters.compactness > 0) || !(parameters.sigma >= 0) ||
          !(parameters.sigma <= 100)) {
        return Invalid(task.image(), "SLIC needs count >= 1, compactness > 0, sigma in 0..100");
      }
      return ToProto(Slic(rgb, height, width, parameters));
    }
    case v1::SuperpixelSpec::kQuickshift: {
      const v1::QuickshiftSpec& spec = task.superpixels().quickshift();
      QuickshiftParameters parameters;
      if (spec.has_kernel_size()) parameters.kernel_size = spec.kernel_size();
      if (spec.has_max_dist()) parameters.max_dist = spec.max_dist();
      if (spec.has_ratio()) parameters.ratio = spec.ratio();
      if (!(parameters.kernel_size >= 1) || !(parameters.kernel_size <= 50) ||
          !(parameters.max_dist >= 0) || !std::isfinite(parameters.max_dist) ||
          !(parameters.ratio >= 0 && parameters.ratio <= 1)) {
        return Invalid(task.image(),
                       "quickshift needs kernel_size in 1..50, max_dist >= 0, ratio in 0..1");
      }
      return ToProto(Quickshift(rgb, height, width, parameters));
    }
    case v1::SuperpixelSpec::KIND_NOT_SET:
      break;
  }
  return Invalid(task.image(), "no superpixel method is named (slic or quickshift)");
}

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
  const v1::ImageSetManifest& manifest = data.set->manifest();
  if (image >= static_cast<uint32_t>(manifest.images_size())) {
    return Invalid(image, absl::StrCat("the set has ", manifest.images_size(), " images"));
  }
  ASSIGN_OR_RETURN(const Segmentation segmentation, FromProto(superpixels));
  if (superpixels.height() != manifest.height() || superpixels.width() != manifest.width()) {
    return Invalid(image, absl::StrCat("superpixels of ", superpixels.height(), " x ",
                                       superpixels.width(), " for an image of ", manifest.height(),
                                       " x ", manifest.width()));
  }
  if (plan.size() != data.size || data.size > manifest.height() || data.size > manifest.width()) {
    return Invalid(image, absl::StrCat("the model takes ", plan.size(), " pixels a side, the data have ",
                                       data.size, ", the image is ", manifest.height(), " x ",
                                       manifest.width()));
  }
  ASSIGN_OR_RETURN(const std::string_view pixels, data.set->Pixels(image));
  const auto* const rgb = reinterpret_cast<const uint8_t*>(pixels.data());
  HiddenColors hidden;
  switch (perturbation.hidden()) {
    case v1::HIDDEN_VALUE_TRAINING_MEAN:
      hidden.assign(segmentation.count, data.split.training.empty() && plan.pixel_facts()
                                            ? plan.pixel_facts()->mean
                                            : data.channel_mean);
      break;
    case v1::HIDDEN_VALUE_SUPERPIXEL_MEAN:
      hidden = SuperpixelMeans(rgb, segmentation);
      break;
    default:
      return Invalid(image, "no hidden value is named (training_mean or superpixel_mean)");
  }
  std::optional<Composer> composer;
  {
    ASSIGN_OR_RETURN(const PinnedImage quantised, data.Pin(image));
    composer.emplace(rgb, segmentation, hidden, quantised.data(), data.size,
                     plan.pixel_facts() ? plan.pixel_facts()->normalisation : NormalisationOf(data));
  }

  const std::vector<Mask> masks = MasksOfRun(perturbation, task.run(), segmentation.count);
  v1::PerturbOutput output;
  output.set_classes(plan.classes());
  output.mutable_logits()->Resize(static_cast<int>(masks.size() * plan.classes()), 0.0f);
  const size_t input_size = size_t{data.size} * data.size * 3;
  for (size_t first = 0; first < masks.size(); first += plan.max_batch()) {
    const auto count =
        static_cast<uint32_t>(std::min<size_t>(plan.max_batch(), masks.size() - first));
    for (uint32_t b = 0; b < count; ++b) {
      composer->Compose(masks[first + b], plan.input() + b * input_size);
    }
    RETURN_IF_ERROR(
        plan.Run(count, output.mutable_logits()->mutable_data() + first * plan.classes()));
  }
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
