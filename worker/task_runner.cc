#include "worker/task_runner.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/background.h"
#include "common/baselines.h"
#include "common/checks.h"
#include "common/lesion_tasks.h"
#include "common/split.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "worker/blackbox/black_box.h"
#include "worker/classical/baseline.h"
#include "worker/classical/black_box.h"
#include "worker/classical/model_file.h"
#include "worker/evaluation/evaluate.h"
#include "worker/evaluation/shortcut.h"
#include "worker/explain/checks/fidelity.h"
#include "worker/explain/checks/stability.h"
#include "worker/explain/explain.h"
#include "worker/explain/lesion/lesion.h"
#include "worker/models/activations.h"
#include "worker/models/features.h"
#include "worker/models/randomise.h"
#include "worker/unavailability.h"

namespace dermis {
namespace {

constexpr size_t kPlans = 4;

}  // namespace

absl::StatusOr<InferencePlan*> PlanCache::Get(const v1::ModelRef& model, uint32_t size,
                                              v1::Precision precision, const GetModel& get_model,
                                              const std::string& version) {
  std::string key =
      absl::StrCat(model.kind(), "/", size, "/", precision, "/", model.weights(), "/",
                   absl::StrJoin(model.randomised().layers(), ","), "/", model.randomised().seed());
  if (model.has_foreign()) {
    // How a file is read is part of what it computes.
    ASSIGN_OR_RETURN(const Digest reading, MessageDigest(model.foreign()));
    absl::StrAppend(&key, "/", reading.hex());
  }
  if (model.has_baseline()) {
    ASSIGN_OR_RETURN(const Digest baseline, MessageDigest(model.baseline()));
    absl::StrAppend(&key, "/", baseline.hex(), "/", version);
  }
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->key == key) {
      entries_.splice(entries_.end(), entries_, it);
      return it->plan.get();
    }
  }
  ASSIGN_OR_RETURN(const std::string file, get_model(model));
  const auto make = [&]() -> absl::StatusOr<std::unique_ptr<InferencePlan>> {
    if (model.has_foreign()) return MakeForeignPlan(model.foreign(), file, size, foreign_);
    if (!model.has_baseline()) {
      return networks_ ? networks_(model.kind(), file, size, precision)
                       : MakeInferencePlan(model.kind(), file, size, precision);
    }
    ASSIGN_OR_RETURN(ClassicalModel baseline, ParseClassicalModel(file));
    ASSIGN_OR_RETURN(std::unique_ptr<BlackBox> box, MakeClassicalBlackBox(std::move(baseline)));
    return MakeBlackBoxPlan(std::move(box));
  };
  ASSIGN_OR_RETURN(std::unique_ptr<InferencePlan> plan, make());
  const bool baseline = model.has_baseline();
  const auto alike = [&](const Entry& entry) { return entry.baseline == baseline; };
  // Of another device's memory each thread keeps one alone.
  const size_t most = networks_ && !baseline ? 1 : kPlans;
  if (static_cast<size_t>(std::count_if(entries_.begin(), entries_.end(), alike)) >= most) {
    entries_.erase(std::find_if(entries_.begin(), entries_.end(), alike));
  }
  entries_.push_back({std::move(key), baseline, std::move(plan)});
  return entries_.back().plan.get();
}

TaskRunner::TaskRunner(Inputs inputs) : inputs_(std::move(inputs)) {}

TaskRunner::Function TaskRunner::FunctionOf(v1::TaskSpec::KindCase kind) {
  switch (kind) {
    case v1::TaskSpec::kEvaluate: return &TaskRunner::Evaluate;
    case v1::TaskSpec::kSuperpixels: return &TaskRunner::Superpixels;
    case v1::TaskSpec::kPerturb: return &TaskRunner::Perturb;
    case v1::TaskSpec::kFit: return &TaskRunner::Fit;
    case v1::TaskSpec::kActivations: return &TaskRunner::Activations;
    case v1::TaskSpec::kGradient: return &TaskRunner::Gradient;
    case v1::TaskSpec::kFidelity: return &TaskRunner::Fidelity;
    case v1::TaskSpec::kStability: return &TaskRunner::Stability;
    case v1::TaskSpec::kLesion: return &TaskRunner::Lesion;
    case v1::TaskSpec::kLesionSummary: return &TaskRunner::LesionSummary;
    case v1::TaskSpec::kShortcut: return &TaskRunner::Shortcut;
    case v1::TaskSpec::kBaseline: return &TaskRunner::Baseline;
    case v1::TaskSpec::kPca: return &TaskRunner::Pca;
    case v1::TaskSpec::kTsne: return &TaskRunner::Tsne;
    case v1::TaskSpec::kSeparation: return &TaskRunner::Separation;
    case v1::TaskSpec::kNoop: return &TaskRunner::Noop;
    case v1::TaskSpec::kTrain:  // Gangs: worker/gang_runner.h.
    case v1::TaskSpec::KIND_NOT_SET: break;
  }
  return nullptr;
}

absl::StatusOr<v1::Payload> TaskRunner::Run(const v1::TaskSpec& task, PlanCache& plans,
                                            uint64_t* items) const {
  *items = 1;
  const Function function = FunctionOf(task.kind_case());
  if (function == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(task), " is not a unit"));
  }
  if (task.numerics_class() != inputs_.numerics_class) {
    return absl::UnavailableError(absl::StrCat(Describe(task), " is for numerics class ",
                                               task.numerics_class(), "; this worker is of ",
                                               inputs_.numerics_class));
  }
  if (task.semantics() != SemanticsOf(task.kind_case())) {
    return absl::UnavailableError(absl::StrCat(Describe(task), " is of semantics ", task.semantics(),
                                               "; this worker computes ",
                                               SemanticsOf(task.kind_case())));
  }
  try {
    return (this->*function)(task, plans, items);
  } catch (const std::exception& error) {
    const absl::Status status = StatusOfException(error);
    return absl::Status(status.code(), absl::StrCat(Describe(task), ": ", status.message()));
  }
}

absl::StatusOr<std::string> TaskRunner::FileOf(const v1::ModelRef& model) const {
  if (model.has_baseline()) {
    v1::TaskSpec task;
    *task.mutable_baseline() = model.baseline();
    ASSIGN_OR_RETURN(const auto results,
                     inputs_.results({MakeTask(std::move(task), inputs_.numerics_class)}));
    return results[0]->baseline().model();
  }
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(model.weights()));
  ASSIGN_OR_RETURN(std::string weights, inputs_.blob(digest));
  if (!model.has_randomised()) return weights;
  return Randomise(weights, model.randomised());
}

absl::StatusOr<InferencePlan*> TaskRunner::PlanOf(PlanCache& plans, const v1::ModelRef& model,
                                                  uint32_t size, v1::Precision precision) const {
  std::string version;
  if (model.has_baseline()) {  // Another result of the same task is another model.
    ASSIGN_OR_RETURN(const std::string file, FileOf(model));
    version = Sha256Of(file).bytes();
  }
  return plans.Get(
      model, size, precision, [this](const v1::ModelRef& wanted) { return FileOf(wanted); },
      version);
}

absl::StatusOr<v1::Payload> TaskRunner::Evaluate(const v1::TaskSpec& task, PlanCache& plans,
                                                 uint64_t* items) const {
  const v1::EvaluateTask& evaluate = task.evaluate();
  ASSIGN_OR_RETURN(const auto data, inputs_.images(evaluate.images()));
  ASSIGN_OR_RETURN(InferencePlan * plan, PlanOf(plans, evaluate.model(), evaluate.images().size(), evaluate.precision()));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_evaluate(), RunEvaluate(evaluate, *data, *plan));
  *items = evaluate.count();
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Superpixels(const v1::TaskSpec& task, PlanCache&,
                                                    uint64_t*) const {
  ASSIGN_OR_RETURN(const Digest manifest, Digest::FromBytes(task.superpixels().image_set()));
  ASSIGN_OR_RETURN(const auto set, inputs_.image_set(manifest));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_superpixels(), RunSuperpixels(task.superpixels(), *set));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Perturb(const v1::TaskSpec& task, PlanCache& plans,
                                                uint64_t* items) const {
  const v1::Perturbation& perturbation = task.perturb().perturbation();
  ASSIGN_OR_RETURN(const auto superpixels,
                   inputs_.results({SuperpixelTaskOf(perturbation, inputs_.numerics_class)}));
  ASSIGN_OR_RETURN(const auto data, inputs_.images(perturbation.images()));
  ASSIGN_OR_RETURN(InferencePlan * plan,
                   PlanOf(plans, perturbation.model(), perturbation.images().size(), perturbation.precision()));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_perturb(),
                   RunPerturb(task.perturb(), *data, superpixels[0]->superpixels(), *plan));
  if (payload.perturb().classes() > 0) {
    *items = payload.perturb().logits_size() / payload.perturb().classes();
  }
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Fit(const v1::TaskSpec& task, PlanCache& plans,
                                            uint64_t* items) const {
  const v1::Perturbation& perturbation = task.fit().perturbation();
  ASSIGN_OR_RETURN(const auto results, inputs_.results(NeedsOf(task)));
  v1::Payload payload;
  if (perturbation.has_partition()) {
    ASSIGN_OR_RETURN(const auto data, inputs_.images(perturbation.images()));
    ASSIGN_OR_RETURN(InferencePlan * plan,
                     PlanOf(plans, perturbation.model(), perturbation.images().size(), perturbation.precision()));
    ASSIGN_OR_RETURN(*payload.mutable_fit(),
                     RunPartition(task.fit(), *data, results[0]->superpixels(), *plan));
    RETURN_IF_ERROR(StateBackground(perturbation, *payload.mutable_fit()));
    *items = payload.fit().evaluations();
    return payload;
  }
  std::vector<v1::PerturbOutput> outputs;
  for (size_t i = 1; i < results.size(); ++i) outputs.push_back(results[i]->perturb());
  ASSIGN_OR_RETURN(*payload.mutable_fit(),
                   RunFit(task.fit(), results[0]->superpixels().count(), outputs));
  RETURN_IF_ERROR(StateBackground(task.fit().perturbation(), *payload.mutable_fit()));
  return payload;
}

// Says which images stood in the place of what was hidden, and that each mask was as many inputs.
absl::Status TaskRunner::StateBackground(const v1::Perturbation& perturbation,
                                         v1::Attribution& attribution) const {
  if (perturbation.hidden() != v1::HIDDEN_VALUE_BACKGROUND) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto data, inputs_.images(perturbation.images()));
  const v1::Background& background = perturbation.hiding().background();
  const std::vector<uint32_t> images = BackgroundImages(
      data->split.training, data->labels, background.seed(), background.per_class());
  attribution.set_background(BackgroundDigest(data->set->manifest(), images).bytes());
  attribution.set_evaluations(attribution.evaluations() * static_cast<uint32_t>(images.size()));
  return absl::OkStatus();
}

absl::StatusOr<v1::Payload> TaskRunner::Activations(const v1::TaskSpec& task, PlanCache&,
                                                    uint64_t*) const {
  const v1::ActivationTask& activations = task.activations();
  ASSIGN_OR_RETURN(const auto data, inputs_.images(activations.images()));
  ASSIGN_OR_RETURN(const std::string weights, FileOf(activations.model()));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_activations(), RunActivations(activations, *data, weights));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Gradient(const v1::TaskSpec& task, PlanCache& plans,
                                                 uint64_t* items) const {
  const v1::GradientTask& gradient = task.gradient();
  ASSIGN_OR_RETURN(const auto data, inputs_.images(gradient.images()));
  ASSIGN_OR_RETURN(const std::string weights, FileOf(gradient.model()));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_gradient(),
                   RunGradient(gradient, *data, weights, plans.gradients()));
  *items = payload.gradient().evaluations();
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Fidelity(const v1::TaskSpec& task, PlanCache& plans,
                                                 uint64_t* items) const {
  const v1::FidelityTask& fidelity = task.fidelity();
  ASSIGN_OR_RETURN(const auto results, inputs_.results(NeedsOf(task)));
  ASSIGN_OR_RETURN(const auto data, inputs_.images(fidelity.images()));
  ASSIGN_OR_RETURN(InferencePlan * plan, PlanOf(plans, fidelity.model(), fidelity.images().size(), fidelity.precision()));
  FidelityInputs inputs;
  inputs.superpixels = &results[0]->superpixels();
  if (results.size() > 1) inputs.attribution = results[1].get();
  if (results.size() > 2) inputs.own_superpixels = &results[2]->superpixels();
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_fidelity(), RunFidelity(fidelity, inputs, *data, *plan, items));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Stability(const v1::TaskSpec& task, PlanCache&,
                                                  uint64_t*) const {
  ASSIGN_OR_RETURN(const auto results, inputs_.results(NeedsOf(task)));
  ASSIGN_OR_RETURN(const auto data, inputs_.images(task.stability().images()));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_stability(), RunStability(task.stability(), results, *data));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Lesion(const v1::TaskSpec& task, PlanCache& plans,
                                               uint64_t* items) const {
  const v1::LesionTask& lesion = task.lesion();
  ASSIGN_OR_RETURN(const auto data, inputs_.images(lesion.images()));
  ASSIGN_OR_RETURN(InferencePlan * plan, PlanOf(plans, lesion.model(), lesion.images().size(), lesion.precision()));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_lesion(), RunLesion(lesion, *data, *plan, items));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::LesionSummary(const v1::TaskSpec& task, PlanCache&,
                                                      uint64_t*) const {
  const v1::LesionSummaryTask& summary = task.lesion_summary();
  ASSIGN_OR_RETURN(const auto outputs,
                   inputs_.results(LesionNeeds(summary, inputs_.numerics_class)));
  ASSIGN_OR_RETURN(const Digest manifest,
                   Digest::FromBytes(summary.lesion().images().image_set()));
  ASSIGN_OR_RETURN(const auto set, inputs_.image_set(manifest));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_lesion_summary(), RunLesionSummary(summary, outputs, *set));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Shortcut(const v1::TaskSpec& task, PlanCache&,
                                                 uint64_t*) const {
  const v1::ShortcutTask& shortcut = task.shortcut();
  ASSIGN_OR_RETURN(const auto data, inputs_.images(shortcut.images()));
  const auto masked = MaskedImages(data->set->manifest(), data->split.test).size();
  ASSIGN_OR_RETURN(const auto outputs,
                   inputs_.results(ShortcutNeeds(
                       shortcut, static_cast<uint32_t>(data->split.test.size()),
                       static_cast<uint32_t>(masked), inputs_.numerics_class)));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_shortcut(), RunShortcut(shortcut, outputs, *data));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Baseline(const v1::TaskSpec& task, PlanCache&,
                                                 uint64_t*) const {
  const v1::BaselineTask& baseline = task.baseline();
  // Folds share the images: what differs between them is a list.
  v1::ImageSource whole = baseline.images();
  whole.mutable_split()->clear_folds();
  whole.mutable_split()->clear_fold();
  ASSIGN_OR_RETURN(const auto data, inputs_.images(whole));
  ASSIGN_OR_RETURN(const Split split, MakeSplit(data->set->manifest(), baseline.images().split(),
                                                baseline.images().split_seed()));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_baseline(),
                   RunBaseline(baseline, *data, split, [&] { return grams_.Get(whole, *data); }));
  return payload;
}

absl::StatusOr<EmbeddedValues> TaskRunner::ValuesOf(const v1::PcaTask& task,
                                                    const ImageData& data) const {
  EmbeddedValues values;
  if (!task.has_model()) {
    // Of more images their pixels are read themselves.
    if (data.labels.size() <= kMostProducts) {
      ASSIGN_OR_RETURN(values.pixels, grams_.Get(task.images(), data));
    }
    return values;
  }
  ASSIGN_OR_RETURN(const std::string weights, FileOf(task.model()));
  ASSIGN_OR_RETURN(Features features,
                   FeaturesOf(task.model(), weights, data, EmbeddedImages(data.split)));
  values.features = std::move(features.values);
  values.dimensions = features.count;
  return values;
}

absl::StatusOr<v1::Payload> TaskRunner::Pca(const v1::TaskSpec& task, PlanCache&,
                                            uint64_t*) const {
  ASSIGN_OR_RETURN(const auto data, inputs_.images(task.pca().images()));
  ASSIGN_OR_RETURN(const EmbeddedValues values, ValuesOf(task.pca(), *data));
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_pca(), RunPca(task.pca(), *data, values));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Tsne(const v1::TaskSpec& task, PlanCache&,
                                             uint64_t*) const {
  const v1::TsneTask& tsne = task.tsne();
  v1::TaskSpec pca;
  *pca.mutable_pca() = tsne.pca();
  ASSIGN_OR_RETURN(const auto results,
                   inputs_.results({MakeTask(std::move(pca), inputs_.numerics_class)}));
  EmbeddedValues values;
  if (tsne.input() == v1::TSNE_INPUT_RAW) {
    ASSIGN_OR_RETURN(const auto data, inputs_.images(tsne.pca().images()));
    ASSIGN_OR_RETURN(values, ValuesOf(tsne.pca(), *data));
  }
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_tsne(), RunTsne(tsne, results[0]->pca(), values));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Separation(const v1::TaskSpec& task, PlanCache&,
                                                   uint64_t*) const {
  const v1::SeparationTask& separation = task.separation();
  std::vector<v1::TaskSpec> needs(1 + static_cast<size_t>(separation.tsne_size()));
  *needs[0].mutable_pca() = separation.pca();
  for (int k = 0; k < separation.tsne_size(); ++k) {
    *needs[1 + static_cast<size_t>(k)].mutable_tsne() = separation.tsne(k);
  }
  for (v1::TaskSpec& need : needs) need = MakeTask(std::move(need), inputs_.numerics_class);
  ASSIGN_OR_RETURN(const auto results, inputs_.results(needs));
  ASSIGN_OR_RETURN(const auto data, inputs_.images(separation.pca().images()));
  ASSIGN_OR_RETURN(const EmbeddedValues values, ValuesOf(separation.pca(), *data));
  std::vector<const v1::TsneOutput*> tsne;
  for (size_t k = 1; k < results.size(); ++k) tsne.push_back(&results[k]->tsne());
  v1::Payload payload;
  ASSIGN_OR_RETURN(*payload.mutable_separation(),
                   RunSeparation(separation, results[0]->pca(), tsne, *data, values));
  return payload;
}

absl::StatusOr<v1::Payload> TaskRunner::Noop(const v1::TaskSpec& task, PlanCache&, uint64_t*) const {
  v1::Payload payload;
  payload.set_noop(task.noop().index());
  return payload;
}

}  // namespace dermis
