#include "coordinator/study_run.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

#include "common/baselines.h"
#include "common/checks.h"
#include "common/estimators.h"
#include "common/lesion_tasks.h"
#include "common/model_spec.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {

namespace {

// Every wanted task is held in memory (about 1.5 KB): a study may not fill it.
constexpr uint64_t kMostExplanationTasks = 500'000;

absl::Status CheckExplanationTasks(const v1::StudySpec& spec, uint64_t test, uint64_t masked,
                                   uint64_t classes) {
  if (!spec.has_explanation()) return absl::OkStatus();
  const ExplanationSize size = SizeOf(spec.explanation(), test, classes);
  const CheckPrices checks =
      PricesOfChecks(spec.explanation(),
                     spec.has_model() ? spec.model().kind() : spec.training().model(), classes);
  const uint64_t sampled =
      std::min<uint64_t>(size.images, spec.explanation().checks().stability().images());
  const uint64_t tasks =
      size.tasks + SizeOfExplainedBaselines(spec, test, classes).tasks +
      size.images * checks.fidelity.tasks + sampled * checks.stability.tasks +
      SizeOfLesions(spec.explanation(), masked, spec.evaluation().batch_size()).tasks;
  if (tasks <= kMostExplanationTasks) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "study ", spec.name(), ": its explanation asks for about ", tasks, " tasks (", size.images,
      " images", sampled > 0 ? absl::StrCat(", the stability of ", sampled) : "", "); at most ",
      kMostExplanationTasks,
      " are taken: explain or check fewer images, or lower samples, permutations and budget"));
}

// What an image must have for every method's superpixels.
struct Needed {
  bool mask = false, label_map = false;
  bool In(const v1::ImageEntry& entry) const {
    return (!mask || entry.has_mask()) && (!label_map || entry.has_labels());
  }
};

Needed NeededBy(const v1::ExplanationSpec& explanation) {
  Needed needed;
  const auto look = [&](const v1::SuperpixelSpec& superpixels) {
    needed.mask |= superpixels.has_lesion_zones();
    needed.label_map |= superpixels.has_label_map();
  };
  for (const v1::MethodSpec& method : explanation.methods()) look(SuperpixelsOf(method));
  look(explanation.checks().superpixels());
  return needed;
}

// Some methods compare an image with training images, of which a model that was given may have
// none.
absl::Status CheckHasBackground(const v1::ExplanationSpec& explanation,
                                const std::vector<uint32_t>& training) {
  if (!training.empty()) return absl::OkStatus();
  for (const v1::MethodSpec& method : explanation.methods()) {
    const char* name = method.has_deep_shap()            ? "deep_shap"
                       : method.has_expected_gradients() ? "expected_gradients"
                                                         : nullptr;
    if (name != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("explanation: ", name,
                       " compares each image with images of the training split, and there are "
                       "none; integrated_gradients and smooth_grad need none"));
    }
    for (v1::HiddenValue hidden : {method.lime().hidden(), method.shapley().hidden(),
                                   method.occlusion().hidden(), method.rise().hidden()}) {
      if (hidden != v1::HIDDEN_VALUE_BACKGROUND) continue;
      return absl::InvalidArgumentError(
          "explanation: hidden: background puts images of the training split in the place of "
          "superpixels, and there are "
          "none; training_mean or blur need none");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCanBeCut(const v1::ExplanationSpec& explanation,
                           const v1::ImageSetManifest& manifest,
                           const std::vector<uint32_t>& test) {
  const Needed needed = NeededBy(explanation);
  if (std::any_of(test.begin(), test.end(), [&](uint32_t image) {
        return needed.In(manifest.images(static_cast<int>(image)));
      })) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "explanation: no test image has ", needed.mask ? "a lesion mask" : "",
      needed.mask && needed.label_map ? " and " : "", needed.label_map ? "a label map" : "",
      ", which its superpixels are made of; dermis ingest --masks and --label-maps take them"));
}

// Test images with all that the superpixels are made of, and their logits.
struct CutImages {
  std::vector<uint32_t> images;
  std::vector<float> logits;
};

CutImages ThatCanBeCut(const v1::ExplanationSpec& explanation, const v1::ImageSetManifest& manifest,
                       const std::vector<uint32_t>& test, const std::vector<float>& logits,
                       uint32_t classes) {
  const Needed needed = NeededBy(explanation);
  CutImages cut;
  for (size_t i = 0; i < test.size(); ++i) {
    if (!needed.In(manifest.images(static_cast<int>(test[i])))) continue;
    cut.images.push_back(test[i]);
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(i * classes);
    cut.logits.insert(cut.logits.end(), row, row + classes);
  }
  return cut;
}

void Append(Stage stage, std::vector<std::pair<Digest, v1::TaskSpec>> next,
            StudyRun::Wants& wants) {
  for (auto& [digest, spec] : next) wants.push_back({digest, stage, std::move(spec)});
}

}  // namespace

absl::StatusOr<std::unique_ptr<StudyRun>> StudyRun::Make(
    const v1::StudySpec& spec, const Digest& image_set,
    std::shared_ptr<const v1::ImageSetManifest> manifest, const std::string& numerics_class) {
  std::unique_ptr<StudyRun> run(new StudyRun());
  run->spec_ = spec;
  run->numerics_class_ = numerics_class;
  run->manifest_ = std::move(manifest);
  if (spec.has_model()) {
    ASSIGN_OR_RETURN(v1::ModelRef model, ModelRefOf(spec.model(), *run->manifest_));
    run->sweep_ = SweepPlanner::Given(spec, image_set, std::move(model), numerics_class);
  } else {
    ASSIGN_OR_RETURN(run->sweep_,
                     SweepPlanner::Make(spec, image_set, *run->manifest_, numerics_class));
  }
  ASSIGN_OR_RETURN(Split split, MakeSplit(*run->manifest_, spec.images().split(), spec.seed()));
  RETURN_IF_ERROR(CheckExplanationTasks(spec, split.test.size(),
                                        MaskedImages(*run->manifest_, split.test).size(),
                                        static_cast<uint64_t>(run->manifest_->classes_size())));
  RETURN_IF_ERROR(CheckHasBackground(spec.explanation(), split.training));
  RETURN_IF_ERROR(LesionPlanner::Check(spec.explanation(), *run->manifest_, split.test));
  RETURN_IF_ERROR(CheckCanBeCut(spec.explanation(), *run->manifest_, split.test));
  RETURN_IF_ERROR(BaselinePlanner::Check(spec, *run->manifest_, split));
  RETURN_IF_ERROR(EmbeddingPlanner::Check(spec, *run->manifest_, split));
  // What the network sees, whichever network it will be.
  const v1::ImageSource images = RecipeOf(spec, image_set).images();
  if (spec.has_baselines()) {
    run->baselines_ = std::make_unique<BaselinePlanner>(spec, images, split, numerics_class);
  }
  if (spec.has_embeddings()) {
    run->embeddings_ = std::make_unique<EmbeddingPlanner>(spec, images, numerics_class);
  }
  run->split_ = std::move(split);
  return run;
}

absl::StatusOr<StudyRun::Wants> StudyRun::Start() {
  ASSIGN_OR_RETURN(Wants wants, StartEvaluation());
  if (baselines_ != nullptr) {
    ASSIGN_OR_RETURN(BaselinePlanner::Wants next, baselines_->Start());
    Append(Stage::kBaselines, std::move(next), wants);
  }
  if (embeddings_ != nullptr) {
    ASSIGN_OR_RETURN(EmbeddingPlanner::Wants next, embeddings_->Start());
    Append(Stage::kEmbeddings, std::move(next), wants);
  }
  return wants;
}

absl::StatusOr<StudyRun::Wants> StudyRun::OnState(const Digest& recipe_digest,
                                                  const v1::TrainOutput& output) {
  sweep_->OnState(recipe_digest, output);
  return StartEvaluation();
}

absl::StatusOr<StudyRun::Wants> StudyRun::OnTrainingFailed(const Digest& recipe_digest) {
  sweep_->OnFailed(recipe_digest);
  return StartEvaluation();
}

absl::StatusOr<StudyRun::Wants> StudyRun::StartEvaluation() {
  Wants wants;
  if (!evaluations_.empty() || !training_done()) return wants;
  const auto evaluate = [&](const v1::ModelRef& model, v1::SplitPart part,
                            const std::vector<uint32_t>& images)
      -> absl::StatusOr<std::unique_ptr<EvaluationPlanner>> {
    auto planner = std::make_unique<EvaluationPlanner>(
        recipe().images(), model, recipe().precision(), spec_.evaluation().batch_size(), part,
        images, static_cast<uint32_t>(manifest_->classes_size()), numerics_class_);
    for (v1::TaskSpec& task : planner->Start()) {
      ASSIGN_OR_RETURN(Digest digest, TaskDigest(task));
      evaluate_tasks_[digest] = task.evaluate();
      wants.push_back({digest, Stage::kEvaluation, std::move(task)});
    }
    return planner;
  };
  for (const uint32_t index : sweep_->finals()) {
    const v1::ModelRef& model = sweep_->training(index).planner.outcome()->model;
    Evaluation evaluation;
    ASSIGN_OR_RETURN(evaluation.validation,
                     evaluate(model, v1::SPLIT_PART_VALIDATION, split_.validation));
    ASSIGN_OR_RETURN(evaluation.test, evaluate(model, v1::SPLIT_PART_UNSPECIFIED, split_.test));
    evaluations_.push_back(std::move(evaluation));
  }
  if (embeddings_ != nullptr) {
    ASSIGN_OR_RETURN(EmbeddingPlanner::Wants next,
                     embeddings_->OnModel(evaluation()->model(), recipe().images()));
    Append(Stage::kEmbeddings, std::move(next), wants);
  }
  return wants;
}

absl::StatusOr<StudyRun::Wants> StudyRun::OnResult(const Digest& task,
                                                   const PayloadReader& payload) {
  Wants wants;
  if (baselines_ != nullptr) {
    ASSIGN_OR_RETURN(BaselinePlanner::Wants next, baselines_->OnDone(task, payload));
    Append(Stage::kBaselines, std::move(next), wants);
  }
  if (embeddings_ != nullptr) Append(Stage::kEmbeddings, embeddings_->OnDone(task), wants);
  if (auto it = evaluate_tasks_.find(task); it != evaluate_tasks_.end()) {
    const bool validation = it->second.part() == v1::SPLIT_PART_VALIDATION;
    const bool was_done = evaluation()->done();
    // Two seeds may have come to the same weights: then they share the task.
    for (Evaluation& evaluation : evaluations_) {
      EvaluationPlanner& planner = validation ? *evaluation.validation : *evaluation.test;
      if (planner.done() || planner.model().weights() != it->second.model().weights()) continue;
      ASSIGN_OR_RETURN(v1::Payload output, payload());
      RETURN_IF_ERROR(planner.OnResult(it->second, output.evaluate()));
    }
    if (was_done || !evaluation()->done() || !spec_.has_explanation()) return wants;
    ASSIGN_OR_RETURN(Wants next, StartExplanation());
    std::move(next.begin(), next.end(), std::back_inserter(wants));
    return wants;
  }
  if (explanation_ == nullptr) return wants;
  if (lesions_ != nullptr) Append(Stage::kLesions, lesions_->OnDone(task), wants);
  ASSIGN_OR_RETURN(ExplanationPlanner::Wants next, explanation_->OnDone(task, payload));
  Append(Stage::kExplanation, std::move(next), wants);
  RETURN_IF_ERROR(ExplainBaselines(wants));
  for (const auto& planner : explained_baselines_) {
    if (planner == nullptr) continue;
    ASSIGN_OR_RETURN(ExplanationPlanner::Wants more, planner->OnDone(task, payload));
    Append(Stage::kExplanation, std::move(more), wants);
  }
  if (checks_ == nullptr) {
    if (explanation_->done()) RETURN_IF_ERROR(StartChecks(wants));
    return wants;
  }
  Append(Stage::kChecks, checks_->OnDone(task), wants);
  return wants;
}

absl::StatusOr<StudyRun::Wants> StudyRun::StartExplanation() {
  const EvaluationPlanner& evaluated = *evaluation();
  const CutImages cut = ThatCanBeCut(spec_.explanation(), *manifest_, split_.test,
                                     evaluated.logits(), evaluated.classes());
  explanation_ = std::make_unique<ExplanationPlanner>(
      spec_.explanation(), recipe(), evaluated.model(), spec_.seed(),
      ChooseImages(spec_.explanation().images(), *manifest_, cut.images, cut.logits,
                   evaluated.classes(), spec_.seed()),
      numerics_class_);
  Wants wants;
  RETURN_IF_ERROR(StartLesions(wants));
  ASSIGN_OR_RETURN(ExplanationPlanner::Wants next, explanation_->Start());
  Append(Stage::kExplanation, std::move(next), wants);
  RETURN_IF_ERROR(ExplainBaselines(wants));
  if (explanation_->done()) RETURN_IF_ERROR(StartChecks(wants));  // Nothing is explained.
  return wants;
}

absl::Status StudyRun::ExplainBaselines(Wants& wants) {
  if (!spec_.explanation().baselines()) return absl::OkStatus();
  const std::vector<BaselinePlanner::Family>& families = baselines_->families();
  explained_baselines_.resize(families.size());
  for (size_t f = 0; f < families.size(); ++f) {
    if (explained_baselines_[f] != nullptr || !families[f].fitted()) continue;
    const v1::BaselineTask& point = families[f].family.points[*families[f].chosen];
    v1::ModelRef model;
    *model.mutable_baseline() = point;
    v1::Recipe seen;  // What it looks at: the network's images, at its own size.
    *seen.mutable_images() = point.images();
    seen.set_precision(v1::PRECISION_FP32);
    explained_baselines_[f] = std::make_unique<ExplanationPlanner>(
        ExplanationOf(spec_.explanation(), point), seen, std::move(model), spec_.seed(),
        explanation_->chosen(), numerics_class_);
    ASSIGN_OR_RETURN(ExplanationPlanner::Wants next, explained_baselines_[f]->Start());
    Append(Stage::kExplanation, std::move(next), wants);
  }
  return absl::OkStatus();
}

absl::Status StudyRun::StartLesions(Wants& wants) {
  if (!LesionPlanner::IsAsked(spec_.explanation())) return absl::OkStatus();
  lesions_ = std::make_unique<LesionPlanner>(spec_, recipe(), evaluation()->model(), *manifest_,
                                             split_.test, numerics_class_);
  ASSIGN_OR_RETURN(LesionPlanner::Wants next, lesions_->Start([&](const Digest& task) {
    // The test images' evaluation is over: of the first training, not of the other seeds.
    const auto it = evaluate_tasks_.find(task);
    return it != evaluate_tasks_.end() && it->second.part() != v1::SPLIT_PART_VALIDATION &&
           it->second.model().weights() == evaluation()->model().weights();
  }));
  Append(Stage::kLesions, std::move(next), wants);
  return absl::OkStatus();
}

absl::Status StudyRun::StartChecks(Wants& wants) {
  std::vector<CheckedImage> images;
  for (size_t i = 0; i < explanation_->chosen().size(); ++i) {
    CheckedImage& image = images.emplace_back();
    image.image = explanation_->chosen()[i].image;
    image.digest = manifest_->images(static_cast<int>(image.image)).digest();
    for (const v1::MethodSpec& method : spec_.explanation().methods()) {
      if (!IsJudged(method)) continue;
      ASSIGN_OR_RETURN(ExplanationPlanner::MethodTask task, explanation_->TaskOf(i, method));
      image.attributions.emplace_back(method, std::move(task.task));
    }
  }
  checks_ = std::make_unique<CheckPlanner>(spec_.explanation(), recipe(), evaluation()->model(),
                                           spec_.seed(), std::move(images), numerics_class_);
  ASSIGN_OR_RETURN(CheckPlanner::Wants next,
                   checks_->Start([&](const Digest& task) { return explanation_->IsDone(task); }));
  Append(Stage::kChecks, std::move(next), wants);
  return absl::OkStatus();
}

StudyRun::TestLook StudyRun::test_look() const {
  TestLook found;
  const auto look = [&](const EvaluationPlanner* evaluation, const EvaluationPlanner* first) {
    if (evaluation == nullptr || evaluation->images_done() == 0) return;
    if (!found.models.empty() && evaluation->listed() != found.images) return;
    const absl::StatusOr<Digest> model = MessageDigest(evaluation->model());
    const absl::StatusOr<Digest> key = MessageDigest(first->model());
    if (!model.ok() || !key.ok()) return;
    found.images = evaluation->listed();
    found.models.insert(*model);
    found.evaluations.insert(*key);
  };
  for (const Evaluation& seed : evaluations_) look(seed.test.get(), evaluation());
  if (baselines() != nullptr) {
    for (const BaselinePlanner::Family& family : baselines()->families()) {
      look(family.test.get(), family.test.get());
    }
  }
  return found;
}

bool StudyRun::done() const {
  if (evaluations_.empty()) return false;
  for (const Evaluation& evaluation : evaluations_) {
    if (!evaluation.done()) return false;
  }
  if (baselines_ != nullptr && !baselines_->done()) return false;
  if (embeddings_ != nullptr && !embeddings_->done()) return false;
  if (std::any_of(explained_baselines_.begin(), explained_baselines_.end(),
                  [](const auto& planner) { return planner == nullptr || !planner->done(); })) {
    return false;
  }
  return !spec_.has_explanation() ||
         (explanation_ != nullptr && explanation_->done() && checks_ != nullptr &&
          checks_->done() && (lesions_ == nullptr || lesions_->done()));
}

}  // namespace dermis
