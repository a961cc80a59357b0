#include "worker/explain/explain.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "common/metrics.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "worker/explain/estimators/owen.h"
#include "worker/explain/masked_model.h"
#include "worker/explain/rows.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

absl::Status Invalid(uint32_t image, const std::string& why) {
  return InvalidExplanation(image, why);
}

// What makes the model's inputs of an image. Errors: sizes that do not fit, an unknown hidden
// value.
absl::StatusOr<MaskedImage> MaskedImageOf(const v1::Perturbation& perturbation,
                                          const Segmentation& segmentation, const ImageData& data,
                                          const InferencePlan& plan) {
  if (plan.size() != data.size) {
    return Invalid(perturbation.image(), absl::StrCat("the model takes ", plan.size(),
                                                      " pixels a side, the data have ", data.size));
  }
  return MaskedImageOf(perturbation.images(), perturbation.image(), perturbation.hidden(),
                       perturbation.hiding(), segmentation, data, plan);
}

}  // namespace

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
  ASSIGN_OR_RETURN(const MaskedImage masked, MaskedImageOf(perturbation, segmentation, data, plan));
  const std::vector<Mask> masks = MasksOfRun(perturbation, task.run(), segmentation.count);
  v1::PerturbOutput output;
  output.set_classes(plan.classes());
  output.mutable_logits()->Resize(static_cast<int>(masks.size() * plan.classes()), 0.0f);
  RETURN_IF_ERROR(RunMasks(masks, masked, plan, output.mutable_logits()->mutable_data()));
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
  ASSIGN_OR_RETURN(const MaskedImage masked, MaskedImageOf(perturbation, segmentation, data, plan));
  const uint32_t classes = plan.classes();
  const auto outputs = [&](absl::Span<const Mask> masks) -> absl::StatusOr<std::vector<double>> {
    std::vector<float> logits(masks.size() * classes);
    RETURN_IF_ERROR(RunMasks(masks, masked, plan, logits.data()));
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
