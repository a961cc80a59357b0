#include "coordinator/views.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/checks.h"
#include "common/estimators.h"
#include "common/log.h"
#include "common/spec_yaml.h"
#include "common/status_macros.h"
#include "common/sweep.h"
#include "common/tasks.h"

namespace dermis {
namespace {

constexpr const char* kStageNames[kStages] = {"training", "evaluation", "explanation", "checks",
                                              "lesions", "baselines", "embeddings"};

std::string DescribeDispute(const Fleet& fleet, const Digest& task, const OpenCheck& check) {
  std::vector<std::string> votes;
  for (const auto& [worker, payload] : check.votes) {
    votes.push_back(absl::StrCat("worker ", worker, " gave ", payload.short_hex()));
  }
  const bool decides =
      std::any_of(fleet.workers().begin(), fleet.workers().end(), [&](const auto& entry) {
        return fleet.MayCheck(check, entry.second);
      });
  return absl::StrCat(
      "results differ of ", Describe(check.spec), " (task ", task.short_hex(),
      "): ", absl::StrJoin(votes, ", "), "; ",
      decides ? "another worker decides"
              : absl::StrCat("none is to be trusted, and no other worker of numerics class ",
                             check.spec.numerics_class(),
                             " is here to decide: start one, or where it is known who is wrong, "
                             "dermis cluster quarantine NAME"));
}

absl::Status NoStudy(const Studies& studies, const std::string& id) {
  std::vector<std::string> names;
  for (const auto& [name, record] : studies.state().studies()) names.push_back(name);
  return absl::NotFoundError(
      absl::StrCat("no study ", id, "; there ",
                   names.empty() ? "is none" : "are: ", absl::StrJoin(names, ", ")));
}

void AddProblems(const Studies& studies, const Fleet& fleet, const StudyRecord& record,
                 const Study& study, v1::StudyStatus& status) {
  constexpr int kMost = 20;
  if (!study.problem.ok()) status.add_problems(std::string(study.problem.message()));
  const auto first = studies.state().failures().lower_bound({record.id, Digest()});
  for (auto it = first; it != studies.state().failures().end() && it->first.first == record.id;
       ++it) {
    if (status.problems_size() >= kMost) {
      status.add_problems("... and more");
      break;
    }
    status.add_problems(absl::StrCat(DescribeFailed(study, it->first.second), " failed on worker ",
                                     it->second.worker, ": ",
                                     it->second.cause, " (dermis retry ", record.id,
                                     " tries again)"));
  }
  if (status.phase() != v1::StudyStatus::RUNNING) return;
  if (record.paused) {
    status.add_problems(
        absl::StrCat("paused ", record.paused_why, " (dermis resume ", record.id, " goes on)"));
    return;
  }
  if (record.numerics_class.empty()) {
    status.add_problems("no worker is there yet: start one");
    return;
  }
  bool any = false;
  std::set<std::string> others;
  std::vector<std::string> expelled;
  for (const auto& [name, worker] : fleet.workers()) {
    if (worker.hello.numerics_class() == record.numerics_class) {
      if (studies.state().IsQuarantined(name)) {
        expelled.push_back(name);
      } else {
        any = true;
      }
    } else {
      others.insert(absl::StrCat(name, " (", worker.hello.numerics_class(), ")"));
    }
  }
  if (!any) {
    status.add_problems(absl::StrCat(
        "no worker of numerics class ", record.numerics_class, " is there",
        expelled.empty()
            ? ""
            : absl::StrCat(" that is not quarantined (", absl::StrJoin(expelled, ", "), ")"),
        others.empty() ? "" : "; cannot help, as other bits would come out: ",
        absl::StrJoin(others, ", ")));
  }
  if (!study.hint.empty()) status.add_problems(study.hint);
  for (const Digest& task : study.checks) {
    const OpenCheck* check = studies.state().FindCheck(task);
    if (check != nullptr && check->disputed()) {
      status.add_problems(DescribeDispute(fleet, task, *check));
    }
  }
  if (study.run != nullptr && study.run->done() && !study.checks.empty()) {
    status.add_problems(absl::StrCat("all is computed; ", study.checks.size(),
                                     " spot checks by a second worker are open"));
  }
}

bool AsksFor(const v1::StudySpec& spec, Stage stage) {
  switch (stage) {
    case Stage::kTraining:
    case Stage::kEvaluation:
      return true;
    case Stage::kExplanation:
      return spec.has_explanation();
    case Stage::kChecks:
      return AsksForChecks(spec.explanation());
    case Stage::kLesions:
      return LesionPlanner::IsAsked(spec.explanation());
    case Stage::kBaselines:
      return spec.has_baselines();
    case Stage::kEmbeddings:
      return spec.has_embeddings();
  }
  return false;
}

void ViewTraining(const Fleet& fleet, const SweepPlanner& sweep, v1::StudyStatus& status) {
  // What is stored, or what the gangs that train now say.
  uint64_t epochs = sweep.epochs_done();
  for (const auto& [id, assignment] : fleet.assignments()) {
    if (!assignment.gang) continue;
    if (const auto* training = sweep.FindActive(assignment.recipe)) {
      const TrainingPlanner& planner = training->planner;
      const uint64_t reached = assignment.step / planner.steps_per_epoch();
      epochs += std::max<uint64_t>(reached, planner.epochs_done()) - planner.epochs_done();
    }
  }
  v1::StageProgress& stage = *status.mutable_stages(0);
  stage.set_total(sweep.epochs_total());
  stage.set_done(std::min(epochs, stage.total()));
  const SweepPlanner::Training* shown = sweep.final_training();
  if (shown == nullptr && sweep.trials().size() == 1) shown = &sweep.training(0);
  if (shown != nullptr) {
    if (auto last = shown->planner.last_epoch()) *status.mutable_last_epoch() = *last;
  }
  if (sweep.trials().size() == 1) return;
  v1::TrialCounts& counts = *status.mutable_trials();
  counts.set_total(static_cast<uint32_t>(sweep.trials().size()));
  for (const SweepPlanner::Trial& trial : sweep.trials()) {
    switch (trial.state) {
      case SweepPlanner::TrialState::kTraining:
        counts.set_training(counts.training() + 1);
        break;
      case SweepPlanner::TrialState::kDropped:
        counts.set_dropped(counts.dropped() + 1);
        break;
      case SweepPlanner::TrialState::kFailed:
        counts.set_failed(counts.failed() + 1);
        break;
      case SweepPlanner::TrialState::kTrained:
        counts.set_trained(counts.trained() + 1);
        break;
    }
  }
}

v1::TrialResult ViewTrial(const Studies& studies, const std::string& id, const SweepPlanner& sweep, uint32_t t) {
  const SweepPlanner::Trial& trial = sweep.trials()[t];
  const uint32_t replicas = sweep.replicas();
  v1::TrialResult out;
  out.set_trial(t);
  out.set_settings(Describe(sweep.SettingsOfTrial(t)));
  out.set_rung(trial.rung);
  const SweepPlanner::Training& first = sweep.training(t * replicas);
  out.set_recipe(first.digest.short_hex());
  if (trial.score) {
    out.set_score(*trial.score);
    out.set_deviation(trial.deviation);
    out.set_epochs(trial.epochs);
  }
  switch (trial.state) {
    case SweepPlanner::TrialState::kTraining:
      out.set_state("training");
      break;
    case SweepPlanner::TrialState::kDropped:
      out.set_state("dropped");
      break;
    case SweepPlanner::TrialState::kTrained:
      out.set_state("trained");
      break;
    case SweepPlanner::TrialState::kFailed:
      out.set_state("failed");
      for (uint32_t k = 0; k < replicas; ++k) {
        const auto failure =
            studies.state().failures().find({id, sweep.training(t * replicas + k).digest});
        if (failure != studies.state().failures().end()) out.set_cause(failure->second.cause);
      }
      break;
  }
  if (sweep.chosen() == t) out.set_state("chosen");
  return out;
}

absl::Status ViewBaselines(const Studies& studies, const Batch& batch,
                           const BaselinePlanner& baselines, v1::StudyResults& results) {
  for (const BaselinePlanner::Family& family : baselines.families()) {
    v1::BaselineResult& out = *results.add_baselines();
    out.set_name(family.family.name);
    out.set_size(family.family.size);
    for (size_t p = 0; p < family.family.points.size(); ++p) {
      v1::BaselinePoint& point = *out.add_points();
      *point.mutable_task() = family.family.points[p];
      double sum = 0;
      uint32_t there = 0;
      for (const double accuracy : family.accuracy[p]) {
        point.add_accuracy(accuracy);
        if (std::isnan(accuracy)) continue;
        sum += accuracy;
        ++there;
      }
      if (there > 0) point.set_mean(sum / there);
    }
    if (!family.chosen) continue;
    out.set_chosen(static_cast<uint32_t>(*family.chosen));
    out.set_on_edge(IsOnEdge(family.family, *family.chosen));
    if (studies.state().Find(family.fit) != nullptr) {
      ASSIGN_OR_RETURN(*out.mutable_fit(), batch.ReadResult(family.fit));
    }
    if (family.test == nullptr || !family.test->done() || !family.validation->done()) continue;
    for (const float logit : family.test->logits()) out.add_test_logits(logit);
    for (const float logit : family.validation->logits()) out.add_validation_logits(logit);
  }
  return absl::OkStatus();
}

// Of one chosen image, by one method.
absl::StatusOr<v1::MethodResult> ViewMethod(const Studies& studies, const Batch& batch,
                                            const ExplanationPlanner& explanation, size_t chosen,
                                            const v1::MethodSpec& method) {
  v1::MethodResult out;
  ASSIGN_OR_RETURN(ExplanationPlanner::MethodTask task, explanation.TaskOf(chosen, method));
  *out.mutable_method() = method;
  *out.mutable_task() = std::move(task.task);
  if (studies.state().Find(task.digest) != nullptr) {
    ASSIGN_OR_RETURN(*out.mutable_result(), batch.ReadResult(task.digest));
  }
  if (!task.superpixels.none() && studies.state().Find(task.superpixels) != nullptr) {
    ASSIGN_OR_RETURN(*out.mutable_superpixels(), batch.ReadResult(task.superpixels));
  }
  if (!task.margin.none() && studies.state().Find(task.margin) != nullptr) {
    ASSIGN_OR_RETURN(*out.mutable_margin(), batch.ReadResult(task.margin));
  }
  return out;
}

// Each training of the taken trial, where its seeds are several.
void ViewSeeds(const StudyRun& run, v1::StudyResults& results) {
  const std::vector<uint32_t>& finals = run.sweep().finals();
  if (finals.size() < 2) return;
  for (size_t k = 0; k < finals.size(); ++k) {
    const SweepPlanner::Training& training = run.sweep().training(finals[k]);
    v1::SeedResult& out = *results.add_seeds();
    out.set_seed(training.recipe.seed());
    out.set_weights(training.planner.outcome()->model.weights());
    out.set_stop_epoch(training.planner.outcome()->stop_epoch);
    if (k >= run.evaluations().size() || !run.evaluations()[k].done()) continue;
    for (const float logit : run.evaluations()[k].test->logits()) out.add_test_logits(logit);
    for (const float logit : run.evaluations()[k].validation->logits()) {
      out.add_validation_logits(logit);
    }
  }
}

// Of all studies of this store that have looked at any of these test images: of the same split, of
// another one, or with all of the set. Of those that are deleted the split's digest is known, and
// no images: only the same split's count.
v1::TestUse UseOfTest(const Studies& studies, const Digest& image_set,
                      const std::vector<uint32_t>& test) {
  v1::TestUse use;
  std::set<Digest> models, evaluations;
  if (const PastTestUse* past = studies.state().PastUseOf(image_set, SplitDigest(test))) {
    use.set_studies(past->studies);
    models = past->models;
    evaluations = past->evaluations;
  }
  // Nearly all splits of a set that have an image in common show it among their first.
  std::vector<bool> tests;
  for (const uint32_t image : test) {
    if (image >= tests.size()) tests.resize(image + 1);
    tests[image] = true;
  }
  const auto is_test = [&](uint32_t image) { return image < tests.size() && tests[image]; };
  for (const auto& [id, study] : studies.all()) {
    if (study->run == nullptr || studies.state().studies().at(id).image_set != image_set) continue;
    const StudyRun::TestLook look = study->run->test_look();
    if (std::none_of(look.images.begin(), look.images.end(), is_test)) continue;
    models.insert(look.models.begin(), look.models.end());
    evaluations.insert(look.evaluations.begin(), look.evaluations.end());
    use.set_studies(use.studies() + 1);
  }
  use.set_models(static_cast<uint32_t>(models.size()));
  use.set_evaluations(static_cast<uint32_t>(evaluations.size()));
  return use;
}

}  // namespace

std::string DescribeFailed(const Study& study, const Digest& task) {
  if (auto failed = study.failed.find(task); failed != study.failed.end()) {
    return Describe(failed->second.spec);
  }
  const std::vector<uint32_t>* found =
      study.run == nullptr ? nullptr : study.run->sweep().Find(task);
  if (found == nullptr) return absl::StrCat("task ", task.short_hex());
  const SweepPlanner& sweep = study.run->sweep();
  const SweepPlanner::Training& training = sweep.training(found->front());
  if (sweep.trainings() == 1) return "training";
  if (sweep.trials().size() == 1) {
    return absl::StrCat("training with seed ", training.recipe.seed());
  }
  const uint32_t trial = training.trial;
  return absl::StrCat("trial ", trial, " (", Describe(sweep.SettingsOfTrial(trial)), ")");
}

absl::StatusOr<v1::StudyStatus> ViewStudy(const Studies& studies, const Fleet& fleet,
                                          const std::string& id) {
  auto it = studies.state().studies().find(id);
  if (it == studies.state().studies().end()) return NoStudy(studies, id);
  const StudyRecord& record = it->second;
  const Study& study = *studies.all().at(id);
  v1::StudyStatus status;
  status.set_id(id);
  status.set_phase(studies.PhaseOf(study));
  status.set_submitted_unix_ms(record.submitted_unix_ms);
  status.set_user(record.user);
  status.set_paused(record.paused);
  status.set_priority(record.priority);
  status.set_used_hours(study.spent / 3600);
  status.set_max_hours(record.max_hours);
  if (study.checks.size() + study.checks_same + study.checks_waived > 0) {
    status.mutable_spot_checks()->set_same(study.checks_same);
    status.mutable_spot_checks()->set_open(study.checks.size());
    status.mutable_spot_checks()->set_waived(study.checks_waived);
  }
  for (int s = 0; s < kStages; ++s) {
    if (!AsksFor(record.spec, static_cast<Stage>(s))) continue;
    v1::StageProgress& stage = *status.add_stages();
    stage.set_stage(kStageNames[s]);
    stage.set_computed(study.computed[s]);
    stage.set_reused(study.reused[s]);
  }
  status.mutable_stages(0)->set_unit("epochs");
  if (!record.spec.has_model()) status.mutable_stages(0)->set_total(EpochsOf(record.spec));
  status.mutable_stages(1)->set_unit("images");
  for (int s = 2; s < status.stages_size(); ++s) status.mutable_stages(s)->set_unit("tasks");
  if (study.run != nullptr) {
    ViewTraining(fleet, study.run->sweep(), status);
    for (const StudyRun::Evaluation& evaluation : study.run->evaluations()) {
      v1::StageProgress& stage = *status.mutable_stages(1);
      stage.set_done(stage.done() + evaluation.test->images_done());
      stage.set_total(stage.total() + evaluation.test->images_total());
    }
    for (v1::StageProgress& stage : *status.mutable_stages()) {
      const auto view = [&](Stage which, const auto* planner) {
        if (planner == nullptr || stage.stage() != kStageNames[static_cast<int>(which)]) return;
        stage.set_done(stage.done() + planner->tasks_done());
        stage.set_total(stage.total() + planner->tasks_total());
      };
      view(Stage::kExplanation, study.run->explanation());
      for (const auto& planner : study.run->explained_baselines()) {
        view(Stage::kExplanation, planner.get());
      }
      view(Stage::kChecks, study.run->checks());
      view(Stage::kLesions, study.run->lesions());
      view(Stage::kBaselines, study.run->baselines());
      view(Stage::kEmbeddings, study.run->embeddings());
    }
  }
  AddProblems(studies, fleet, record, study, status);
  for (const auto& [name, worker] : fleet.workers()) {
    if (worker.assignment == 0) continue;
    const Assignment& assignment = fleet.assignments().at(worker.assignment);
    // A gang of another study that trains the same works for this one, too.
    if (assignment.study == id || (assignment.gang && studies.Training(study) &&
                                   study.run->sweep().FindActive(assignment.recipe) != nullptr)) {
      status.set_workers(status.workers() + 1);
    }
  }
  return status;
}

v1::ListResponse ViewStudies(const Studies& studies, const Fleet& fleet) {
  std::vector<const StudyRecord*> records;
  for (const auto& [id, record] : studies.state().studies()) records.push_back(&record);
  std::sort(records.begin(), records.end(),
            [](const StudyRecord* a, const StudyRecord* b) { return a->order < b->order; });
  v1::ListResponse response;
  for (const StudyRecord* record : records)
    *response.add_studies() = *ViewStudy(studies, fleet, record->id);
  return response;
}

absl::StatusOr<v1::StudyResults> ViewResults(const Studies& studies, const Fleet& fleet,
                                             const Batch& batch, const std::string& id) {
  v1::StudyResults results;
  ASSIGN_OR_RETURN(*results.mutable_status(), ViewStudy(studies, fleet, id));
  const StudyRecord& record = studies.state().studies().at(id);
  const Study& study = *studies.all().at(id);
  *results.mutable_spec() = record.spec;
  results.set_image_set(record.image_set.bytes());
  results.set_numerics_class(record.numerics_class);
  if (study.run == nullptr) return results;
  const SweepPlanner& sweep = study.run->sweep();
  if (record.spec.has_sweep()) {
    for (uint32_t t = 0; t < sweep.trials().size(); ++t) {
      *results.add_trials() = ViewTrial(studies, id, sweep, t);
    }
  }
  if (const BaselinePlanner* baselines = study.run->baselines()) {
    RETURN_IF_ERROR(ViewBaselines(studies, batch, *baselines, results));
  }
  const auto fill = [&](const v1::TaskSpec& task, v1::SummaryResult& out) -> absl::Status {
    *out.mutable_task() = task;
    ASSIGN_OR_RETURN(const Digest digest, TaskDigest(task));
    if (studies.state().Find(digest) == nullptr) return absl::OkStatus();
    ASSIGN_OR_RETURN(*out.mutable_result(), batch.ReadResult(digest));
    return absl::OkStatus();
  };
  if (const EmbeddingPlanner* embeddings = study.run->embeddings()) {
    for (const auto& [digest, task] : embeddings->tasks()) {
      RETURN_IF_ERROR(fill(task, *results.add_embeddings()));
    }
  }
  if (!study.run->training_done()) {
    // What is known of a training that goes on; a sweep has many, and its trials' scores say more.
    if (const auto* states = studies.state().StatesOf(sweep.training(0).digest);
        !record.spec.has_sweep() && states != nullptr) {
      ASSIGN_OR_RETURN(*results.mutable_training(),
                       studies.ReadState(sweep.training(0).digest, states->rbegin()->first));
    }
    return results;
  }
  if (record.spec.has_sweep()) {
    *results.mutable_spec() = sweep.SpecOfTrial(*sweep.chosen());
    *results.mutable_spec()->mutable_sweep() = record.spec.sweep();
  }
  const TrainingPlanner::Outcome& outcome = *sweep.final_training()->planner.outcome();
  *results.mutable_model() = outcome.model;
  results.set_stop_epoch(outcome.stop_epoch);
  if (!record.spec.has_model()) {
    ASSIGN_OR_RETURN(*results.mutable_training(),
                     studies.ReadState(sweep.final_training()->digest, outcome.step));
  }
  if (const EvaluationPlanner* evaluation = study.run->evaluation();
      evaluation != nullptr && evaluation->done()) {
    for (uint32_t image : evaluation->listed()) results.add_test_images(image);
    for (float logit : evaluation->logits()) results.add_test_logits(logit);
    *results.mutable_test_use() = UseOfTest(studies, record.image_set, evaluation->listed());
  }
  if (const EvaluationPlanner* validation = study.run->validation();
      validation != nullptr && validation->done()) {
    for (uint32_t image : validation->listed()) results.add_validation_images(image);
    for (float logit : validation->logits()) results.add_validation_logits(logit);
  }
  ViewSeeds(*study.run, results);
  if (const LesionPlanner* lesions = study.run->lesions()) {
    if (lesions->lesion_test()) {
      RETURN_IF_ERROR(fill(*lesions->lesion_test(), *results.mutable_lesion_test()));
    }
    if (lesions->shortcut()) RETURN_IF_ERROR(fill(*lesions->shortcut(), *results.mutable_shortcut()));
  }
  const ExplanationPlanner* explanation = study.run->explanation();
  if (explanation == nullptr) return results;
  for (size_t i = 0; i < explanation->chosen().size(); ++i) {
    v1::ExplainedImage& image = *results.add_explained();
    image.set_image(explanation->chosen()[i].image);
    image.set_why(explanation->chosen()[i].why);
    for (const v1::MethodSpec& method : record.spec.explanation().methods()) {
      ASSIGN_OR_RETURN(*image.add_results(), ViewMethod(studies, batch, *explanation, i, method));
    }
    const auto& by_baselines = study.run->explained_baselines();
    for (size_t f = 0; f < by_baselines.size(); ++f) {
      if (by_baselines[f] == nullptr) continue;
      v1::ExplainedBaseline& baseline = *image.add_baselines();
      baseline.set_baseline(static_cast<uint32_t>(f));
      for (const v1::MethodSpec& method : record.spec.explanation().methods()) {
        if (!HasMasks(method)) continue;
        ASSIGN_OR_RETURN(*baseline.add_results(),
                         ViewMethod(studies, batch, *by_baselines[f], i, method));
      }
    }
    if (study.run->checks() == nullptr) continue;
    for (CheckPlanner::Check& check : study.run->checks()->ChecksOf(i)) {
      v1::CheckResult& out = *image.add_checks();
      if (check.method) *out.mutable_method() = *std::move(check.method);
      *out.mutable_task() = std::move(check.task);
      ASSIGN_OR_RETURN(const Digest digest, TaskDigest(out.task()));
      if (studies.state().Find(digest) == nullptr) continue;
      ASSIGN_OR_RETURN(*out.mutable_result(), batch.ReadResult(digest));
    }
  }
  return results;
}

absl::StatusOr<v1::TrialsResponse> ViewTrialHistories(const Studies& studies, const v1::TrialsRequest& request) {
  constexpr uint32_t kTrials = 500;
  constexpr size_t kEpochs = 50'000;
  const std::string& id = request.id();
  const auto found = studies.all().find(id);
  if (found == studies.all().end()) return NoStudy(studies, id);
  const StudyRecord& record = studies.state().studies().at(id);
  v1::TrialsResponse response;
  response.set_submitted_unix_ms(record.submitted_unix_ms);
  response.set_metric(record.spec.sweep().metric());
  if (found->second->run == nullptr || record.spec.has_model()) return response;
  const SweepPlanner& sweep = found->second->run->sweep();
  size_t epochs = 0;
  const auto add = [&](uint32_t index, v1::TrialHistory& trial) {
    const SweepPlanner::Training& training = sweep.training(index);
    v1::TrainingHistory& out = *trial.add_trainings();
    out.set_seed(training.recipe.seed());
    if (training.recipe.images().split().has_fold()) out.set_fold(training.recipe.images().split().fold());
    out.set_final(index >= sweep.trials().size() * sweep.replicas());
    out.set_stop_epoch(training.planner.stop_epoch().value_or(0));
    const std::vector<v1::EpochMetrics>& known = training.planner.epochs();
    const size_t count = std::min<size_t>(known.size(), training.planner.epochs_done());
    out.mutable_epochs()->Assign(known.begin(), known.begin() + static_cast<std::ptrdiff_t>(count));
    epochs += count;
  };
  for (uint32_t t = request.first(); t < sweep.trials().size(); ++t) {
    if (response.trials_size() > 0 && (t - request.first() >= kTrials || epochs > kEpochs)) {
      response.set_next(t);
      break;
    }
    v1::TrialHistory& trial = *response.add_trials();
    *trial.mutable_result() = ViewTrial(studies, id, sweep, t);
    for (const auto& [key, value] : sweep.SettingsOfTrial(t)) {
      v1::Setting& setting = *trial.add_settings();
      setting.set_key(key);
      setting.set_value(value);
    }
    for (uint32_t k = 0; k < sweep.replicas(); ++k) add(t * sweep.replicas() + k, trial);
    if (sweep.chosen() != t) continue;
    for (const uint32_t index : sweep.finals()) {
      if (index >= sweep.trials().size() * sweep.replicas()) add(index, trial);
    }
  }
  return response;
}

v1::QuarantinedWorker ViewQuarantined(const std::string& name, const QuarantineRecord& record) {
  v1::QuarantinedWorker out;
  out.set_worker(name);
  out.set_why(record.why);
  out.set_unix_ms(record.unix_ms);
  out.set_withdrawn(record.withdrawn);
  return out;
}

v1::ClusterStatusResponse ViewCluster(const Studies& studies, const Fleet& fleet,
                                      const BlobIndex& blobs) {
  v1::ClusterStatusResponse response;
  response.set_version(kVersion);
  response.set_incarnation(studies.state().incarnation());
  response.set_free_bytes(blobs.FreeBytes());
  response.set_disk_low(blobs.LowDisk());
  response.set_spot_checks(studies.state().spot_checks());
  for (const auto& [name, record] : studies.state().quarantined()) {
    *response.add_quarantined() = ViewQuarantined(name, record);
    response.add_alarms(absl::StrCat(
        "worker ", name, " is quarantined: ", record.why, "; ", record.withdrawn,
        " results were withdrawn. Look at its host (memory, overclocking, its GPU), then: "
        "dermis cluster release ",
        name));
  }
  for (const auto& [task, check] : studies.state().checks()) {
    if (!check.disputed()) continue;
    response.add_disputes(DescribeDispute(fleet, task, check));
    response.add_alarms(response.disputes(response.disputes_size() - 1));
  }
  for (const auto& [name, worker] : fleet.workers()) {
    v1::WorkerStatus& out = *response.add_workers();
    out.set_worker(name);
    out.set_host(worker.hello.host());
    out.set_numerics_class(worker.hello.numerics_class());
    out.set_threads(worker.hello.threads());
    out.set_completed(worker.completed);
    out.set_state(fleet.Quarantined(name) ? "quarantined" : "idle");
    if (worker.assignment == 0) continue;
    const Assignment& assignment = fleet.assignments().at(worker.assignment);
    if (!fleet.Quarantined(name)) out.set_state(assignment.gang ? "gang" : "units");
    if (assignment.gang) {
      out.set_doing(absl::StrCat(assignment.study, ": trains ", assignment.recipe.short_hex(),
                                 " with ", assignment.members.size(), " worker",
                                 assignment.members.size() == 1 ? "" : "s", ", step ",
                                 assignment.step, assignment.yielding ? ", yields" : ""));
    } else {
      std::string what = "finishes";
      const OpenCheck* check =
          assignment.check ? studies.state().FindCheck(assignment.tasks[0]) : nullptr;
      if (check != nullptr) what = absl::StrCat("spot check: ", Describe(check->spec));
      if (assignment.question != 0) what = "answers a question about an image";
      for (const Digest& task : assignment.tasks) {
        auto unit = studies.units().find(task);
        if (unit == studies.units().end() || unit->second.assignment != assignment.id) continue;
        what = Describe(unit->second.spec);
        break;
      }
      out.set_doing(absl::StrCat(assignment.study, ": ", what));
    }
  }
  return response;
}

std::string DumpStudies(const Studies& studies) {
  std::string out = studies.state().Dump();
  for (const auto& [id, study] : studies.all()) {
    absl::StrAppend(&out, "run ", id, " phase ", static_cast<int>(studies.PhaseOf(*study)),
                    " spent ", study->spent, " checks ", study->checks.size(), "+",
                    study->checks_same, "+", study->checks_waived);
    for (int s = 0; s < kStages; ++s) {
      absl::StrAppend(&out, " ", study->computed[s], "+", study->reused[s]);
    }
    if (study->run != nullptr) {
      const SweepPlanner& sweep = study->run->sweep();
      absl::StrAppend(
          &out, " epochs ", sweep.epochs_done(), " outcome ",
          study->run->training_done() ? sweep.final_training()->planner.outcome()->step : 0);
      for (const SweepPlanner::Trial& trial : sweep.trials()) {
        absl::StrAppend(&out, " ", static_cast<int>(trial.state), ".", trial.rung, ".",
                        trial.score.value_or(0));
      }
      for (const StudyRun::Evaluation& evaluation : study->run->evaluations()) {
        absl::StrAppend(&out, " images ", evaluation.test->images_done());
      }
      if (study->run->explanation() != nullptr) {
        absl::StrAppend(&out, " explained ", study->run->explanation()->chosen().size(), " tasks ",
                        study->run->explanation()->tasks_done(), "/",
                        study->run->explanation()->tasks_total());
      }
      for (const auto& planner : study->run->explained_baselines()) {
        absl::StrAppend(&out, " baseline explained ",
                        planner == nullptr
                            ? "not yet"
                            : absl::StrCat(planner->tasks_done(), "/", planner->tasks_total()));
      }
      if (study->run->checks() != nullptr) {
        absl::StrAppend(&out, " checks ", study->run->checks()->tasks_done(), "/",
                        study->run->checks()->tasks_total());
      }
      if (study->run->baselines() != nullptr) {
        absl::StrAppend(&out, " baselines ", study->run->baselines()->tasks_done(), "/",
                        study->run->baselines()->tasks_total());
      }
      if (study->run->embeddings() != nullptr) {
        absl::StrAppend(&out, " embeddings ", study->run->embeddings()->tasks_done(), "/",
                        study->run->embeddings()->tasks_total());
      }
      if (study->run->lesions() != nullptr) {
        absl::StrAppend(&out, " lesions ", study->run->lesions()->tasks_done(), "/",
                        study->run->lesions()->tasks_total());
      }
    }
    std::vector<Digest> wanted;
    for (const auto& [task, stage] : study->wanted) wanted.push_back(task);
    std::sort(wanted.begin(), wanted.end());
    for (const Digest& task : wanted) absl::StrAppend(&out, "\n  wants ", task.hex());
    for (const auto& [task, want] : study->failed) absl::StrAppend(&out, "\n  failed ", task.hex());
    absl::StrAppend(&out, "\n");
  }
  return out;
}

std::string DescribeWork(const Studies& studies, const Fleet& fleet) {
  std::string out;
  for (const auto& [id, study] : studies.all()) {
    absl::StrAppend(&out, "study ", id, ": ", study->wanted.size(), " wanted, ", study->waiting,
                    " wait, queue of ", study->queue.size(), "\n");
    std::vector<Digest> wanted;
    for (const auto& [task, stage] : study->wanted) wanted.push_back(task);
    std::sort(wanted.begin(), wanted.end());
    if (wanted.size() > 10) wanted.resize(10);
    for (const Digest& task : wanted) {
      auto it = studies.units().find(task);
      if (it == studies.units().end()) {
        absl::StrAppend(&out, "  ", task.short_hex(), " unknown\n");
        continue;
      }
      const Unit& unit = it->second;
      absl::StrAppend(&out, "  ", task.short_hex(), " ", Describe(unit.spec),
                      unit.waiting ? ", waits" : "", unit.delayed ? ", backs off" : "",
                      ", assignment ", unit.assignment, ", avoids ", absl::StrJoin(unit.avoid, " "),
                      "\n");
    }
  }
  for (const auto& [id, assignment] : fleet.assignments()) {
    absl::StrAppend(&out, "assignment ", id, " of ", assignment.study, ": ",
                    assignment.gang ? absl::StrJoin(assignment.members, " ") : assignment.worker,
                    assignment.yielding ? ", yields" : "", assignment.doomed ? ", doomed" : "",
                    "\n");
  }
  return out;
}

}  // namespace dermis
