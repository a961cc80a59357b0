#include "coordinator/planners/lesions.h"

#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/estimators.h"
#include "common/lesion_tasks.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {

bool LesionPlanner::IsAsked(const v1::ExplanationSpec& explanation) {
  return explanation.has_lesion_test() || explanation.has_shortcut();
}

absl::Status LesionPlanner::Check(const v1::ExplanationSpec& explanation,
                                  const v1::ImageSetManifest& manifest,
                                  absl::Span<const uint32_t> test) {
  if (!IsAsked(explanation)) return absl::OkStatus();
  const char* const key = explanation.has_lesion_test() ? "lesion_test" : "shortcut";
  std::set<std::string> groups;
  std::set<bool> positive;
  const std::vector<uint32_t> masked = MaskedImages(manifest, test);
  for (const uint32_t image : masked) {
    const v1::ImageEntry& entry = manifest.images(static_cast<int>(image));
    groups.insert(entry.group().empty() ? absl::StrCat("image ", image) : entry.group());
    positive.insert(static_cast<int>(entry.label()) + 1 == manifest.classes_size());
  }
  if (groups.size() < 2 || (explanation.has_shortcut() && positive.size() < 2)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "explanation.", key, ": ", masked.size(), " of ", test.size(),
        " test images have a lesion mask; two lesions are needed, for shortcut of both classes. ",
        "dermis ingest --masks FOLDER takes masks"));
  }
  return absl::OkStatus();
}

LesionPlanner::LesionPlanner(const v1::StudySpec& study, const v1::Recipe& recipe,
                             const v1::ModelRef& model, const v1::ImageSetManifest& manifest,
                             absl::Span<const uint32_t> test, std::string numerics_class)
    : numerics_class_(std::move(numerics_class)),
      test_images_(static_cast<uint32_t>(test.size())),
      masked_images_(static_cast<uint32_t>(MaskedImages(manifest, test).size())) {
  const v1::ExplanationSpec& explanation = study.explanation();
  if (explanation.has_lesion_test()) {
    const v1::LesionTestSpec& spec = explanation.lesion_test();
    v1::TaskSpec task;
    v1::LesionSummaryTask& summary = *task.mutable_lesion_summary();
    v1::LesionTask& lesion = *summary.mutable_lesion();
    *lesion.mutable_images() = recipe.images();
    *lesion.mutable_model() = model;
    lesion.set_precision(ExactPrecision(recipe.precision()));
    lesion.set_band(spec.band());
    lesion.set_hidden(spec.hidden());
    if (auto hiding = HidingOf(explanation, spec.hidden(), study.seed())) {
      *lesion.mutable_hiding() = *std::move(hiding);
    }
    lesion.set_placements(spec.placements());
    lesion.set_seed(study.seed());
    for (const uint32_t image : MaskedImages(manifest, test)) summary.add_images(image);
    summary.set_output(explanation.output());
    summary.set_primary(spec.primary());
    summary.set_null(spec.against());
    summary.set_draws(spec.draws());
    lesion_test_ = MakeTask(std::move(task), numerics_class_);
  }
  if (explanation.has_shortcut()) {
    v1::TaskSpec task;
    v1::ShortcutTask& shortcut = *task.mutable_shortcut();
    *shortcut.mutable_images() = recipe.images();
    *shortcut.mutable_model() = model;
    shortcut.set_precision(recipe.precision());
    shortcut.set_batch(study.evaluation().batch_size());
    for (const v1::Hide& hide : ShortcutVariants(explanation)) *shortcut.add_variants() = hide;
    shortcut.set_draws(explanation.shortcut().draws());
    shortcut.set_seed(study.seed());
    shortcut_ = MakeTask(std::move(task), numerics_class_);
  }
}

absl::StatusOr<LesionPlanner::Wants> LesionPlanner::Start(
    const std::function<bool(const Digest&)>& is_done) {
  Wants wants;
  started_ = true;
  if (lesion_test_) {
    RETURN_IF_ERROR(Add(*lesion_test_, LesionNeeds(lesion_test_->lesion_summary(), numerics_class_),
                        is_done, wants));
  }
  if (shortcut_) {
    RETURN_IF_ERROR(
        Add(*shortcut_,
            ShortcutNeeds(shortcut_->shortcut(), test_images_, masked_images_, numerics_class_),
            is_done, wants));
  }
  return wants;
}

absl::Status LesionPlanner::Add(const v1::TaskSpec& summary, std::vector<v1::TaskSpec> needs,
                                const std::function<bool(const Digest&)>& is_done, Wants& wants) {
  ASSIGN_OR_RETURN(const Digest digest, TaskDigest(summary));
  std::vector<Digest> open;
  for (v1::TaskSpec& need : needs) {
    ASSIGN_OR_RETURN(const Digest needed, TaskDigest(need));
    if (is_done(needed)) continue;
    if (!graph_.Has(needed)) graph_.Add(needed, std::move(need), {}, wants);
    open.push_back(needed);
  }
  graph_.Add(digest, summary, open, wants);
  return absl::OkStatus();
}

}  // namespace dermis
