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
#include "worker/explain/composer.h"
#include "worker/explain/estimators/owen.h"
#include "worker/explain/masked_model.h"
#include "worker/explain/rows.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

absl::Status Invalid(uint32_t image, const std::string& why) {
  return InvalidExplanation(image, why);
}

// What makes the model's inputs of an image. Errors: sizes that do not fit, an unknown hidden value.
absl::StatusOr<Composer> ComposerOf(const v1::Perturbation& perturbation,
                                    const Segmentation& segmentation, const ImageData& data,
                                    const InferencePlan& plan) {
  if (plan.size() != data.size) {
    return Invalid(perturbation.image(), absl::StrCat("the model takes ", plan.size(),
                                                      " pixels a side, the data have ", data.size));
  }
  return ComposerOf(perturbation.images(), perturbation.image(), perturbation.hidden(),
                    segmentation, data, plan);
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
    case v1::SuperpixelSpec::kGrid:
    case v1::SuperpixelSpec::kLabelMap:
    case v1::SuperpixelSpec::kLesionZones:
    case v1::SuperpixelSpec::KIND_NOT_SET:
      break;
  }
  return Invalid(task.image(), "no superpixel method is named (slic or quickshift)");
}

absl::StatusOr<v1::PerturbOutput> RunPerturb(const v1::PerturbTask& task, const ImageData& data,
                                             const v1::SuperpixelOutput& superpixels,
                                             InferencePlan& plan) {
  const v1::Perturbation& perturbation = task.perturbation();
  RETURN_IF_ERROR(CheckMasks(perturbation, superpixels.count()));
  if (task.run() >= RunCount(perturbation)) {
    return Invalid(perturbation.image(),
                   absl::StrCat("run ", task.run(), " of ", RunCount(perturbation)));
  }
  ASSIGN_OR_RETURN(const Segmentation segmentation, FromProto(superpixels));
  ASSIGN_OR_RETURN(const Composer composer, ComposerOf(perturbation, segmentation, data, plan));
  const std::vector<Mask> masks = MasksOfRun(perturbation, task.run(), segmentation.count);
  v1::PerturbOutput output;
  output.set_classes(plan.classes());
  output.mutable_logits()->Resize(static_cast<int>(masks.size() * plan.classes()), 0.0f);
  RETURN_IF_ERROR(RunMasks(masks, composer, plan, output.mutable_logits()->mutable_data()));
  return output;
}

absl::StatusOr<v1::Attribution> RunPartition(const v1::FitTask& task, const ImageData& data,
                                             const v1::SuperpixelOutput& superpixels,
                                             InferencePlan& plan) {
  const v1::Perturbation& perturbation = task.perturbation();
  if (perturbation.partition().budget() < 2) {
    return Invalid(perturbation.image(), "partition needs a budget of at least 2 masked inputs");
  }
  ASSIGN_OR_RETURN(const Segmentation segmentation, FromProto(superpixels));
  ASSIGN_OR_RETURN(const Composer composer,
                   ComposerOf(perturbation, segmentation, data, plan));
  const uint32_t classes = plan.classes();
  const auto outputs =
      [&](absl::Span<const Mask> masks) -> absl::StatusOr<std::vector<double>> {
    std::vector<float> logits(masks.size() * classes);
    RETURN_IF_ERROR(RunMasks(masks, composer, plan, logits.data()));
    std::vector<double> values;
    for (size_t r = 0; r < masks.size(); ++r) {
      values.push_back(
          OutputOf(task.output(), absl::MakeConstSpan(logits).subspan(r * classes, classes)));
      if (!std::isfinite(values.back())) {
        return Invalid(perturbation.image(), "a masked input's output is not finite");
      }
    }
    return values;
  };
  ASSIGN_OR_RETURN(const OwenFit fit,
                   FitOwen(TreeOf(segmentation), perturbation.partition().budget(), outputs));
  v1::Attribution attribution;
  attribution.set_count(segmentation.count);
  attribution.set_estimator(v1::ESTIMATOR_PARTITION);
  SetShapley(fit.values,
             fit.complete ? std::vector<double>(segmentation.count, 0.0) : std::vector<double>(),
             fit.full, fit.hidden, attribution);
  attribution.set_evaluations(static_cast<uint32_t>(fit.evaluations));
  return attribution;
}

}  // namespace dermis
