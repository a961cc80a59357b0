// A study that is not cancelled, folded from stored results: its stages' planners, one after the
// other. Pure: the same results, in any order and repetition, give the same wants and the same end.
#ifndef DERMIS_COORDINATOR_STUDY_RUN_H_
#define DERMIS_COORDINATOR_STUDY_RUN_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/digest.h"
#include "common/split.h"
#include "coordinator/planners/baselines.h"
#include "coordinator/planners/checks.h"
#include "coordinator/planners/embeddings.h"
#include "coordinator/planners/evaluation.h"
#include "coordinator/planners/explanation.h"
#include "coordinator/planners/lesions.h"
#include "coordinator/planners/sweep.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"

namespace dermis {

enum class Stage {
  kTraining = 0,
  kEvaluation = 1,
  kExplanation = 2,
  kChecks = 3,
  kLesions = 4,
  kBaselines = 5,
  kEmbeddings = 6
};
inline constexpr int kStages = 7;

class StudyRun {
 public:
  struct Want {
    Digest task;
    Stage stage = Stage::kEvaluation;
    v1::TaskSpec spec;
  };
  using Wants = std::vector<Want>;

  // `spec` resolved. INVALID_ARGUMENT: the split cannot be made, the training split is smaller than
  // a batch, a given model lacks a class. The manifest is kept.
  static absl::StatusOr<std::unique_ptr<StudyRun>> Make(
      const v1::StudySpec& spec, const Digest& image_set,
      std::shared_ptr<const v1::ImageSetManifest> manifest, const std::string& numerics_class);

  const SweepPlanner& sweep() const { return *sweep_; }
  // Of the trainings that are taken, by seed; empty until all of them are trained.
  struct Evaluation {
    std::unique_ptr<EvaluationPlanner> validation, test;
    bool done() const { return validation->done() && test->done(); }
  };
  const std::vector<Evaluation>& evaluations() const { return evaluations_; }
  // Those of the first, which is explained. Null: none yet.
  const EvaluationPlanner* evaluation() const {
    return evaluations_.empty() ? nullptr : evaluations_[0].test.get();
  }
  const EvaluationPlanner* validation() const {
    return evaluations_.empty() ? nullptr : evaluations_[0].validation.get();
  }
  const ExplanationPlanner* explanation() const { return explanation_.get(); }
  const CheckPlanner* checks() const { return checks_.get(); }
  const LesionPlanner* lesions() const { return lesions_.get(); }
  const BaselinePlanner* baselines() const { return baselines_.get(); }    // Null: not asked for.
  // By baselines()->families(); null: not begun. Empty: not asked for, or no image is chosen yet.
  const std::vector<std::unique_ptr<ExplanationPlanner>>& explained_baselines() const {
    return explained_baselines_;
  }
  const EmbeddingPlanner* embeddings() const { return embeddings_.get(); }  // The same.

  // --- For questions about single images (questions.h).
  // The models are there, and their validation images evaluated.
  bool answers() const { return !evaluations_.empty() && validation()->done(); }
  const v1::StudySpec& spec() const { return spec_; }
  const v1::ImageSetManifest& manifest() const { return *manifest_; }
  std::shared_ptr<const v1::ImageSetManifest> shared_manifest() const { return manifest_; }
  const v1::Recipe& final_recipe() const { return recipe(); }
  const Split& split() const { return split_; }

  // What is wanted from the beginning: all that needs no network, and the evaluation's tasks where
  // the network is there already.
  absl::StatusOr<Wants> Start();

  // A stored state of a recipe, or its failure. Gives the evaluation's tasks once training is over.
  absl::StatusOr<Wants> OnState(const Digest& recipe, const v1::TrainOutput& output);
  absl::StatusOr<Wants> OnTrainingFailed(const Digest& recipe);

  // A wanted unit's result. `payload` is called only where the plan depends on it.
  absl::StatusOr<Wants> OnResult(const Digest& task, const PayloadReader& payload);

  // Whether the task is one of its units.
  bool Has(const Digest& task) const {
    return evaluate_tasks_.contains(task) || (explanation_ != nullptr && explanation_->Has(task)) ||
           (checks_ != nullptr && checks_->Has(task)) ||
           (lesions_ != nullptr && lesions_->Has(task)) ||
           (baselines_ != nullptr && baselines_->Has(task)) ||
           (embeddings_ != nullptr && embeddings_->Has(task)) ||
           std::any_of(
               explained_baselines_.begin(), explained_baselines_.end(),
               [&](const auto& planner) { return planner != nullptr && planner->Has(task); });
  }

  // The test images that it has looked at, and with which models.
  struct TestLook {
    std::vector<uint32_t> images;  // Empty: with none.
    std::set<Digest> models;
    // One for what was selected, whatever the number of its seeds: its first model; and each
    // baseline.
    std::set<Digest> evaluations;
  };
  TestLook test_look() const;

  bool training_done() const { return sweep_->done(); }
  bool done() const;

 private:
  StudyRun() = default;
  const v1::Recipe& recipe() const { return sweep_->final_training()->recipe; }
  absl::StatusOr<Wants> StartEvaluation();  // Once the models are known.
  absl::StatusOr<Wants> StartExplanation();
  absl::Status StartChecks(Wants& wants);  // Once all explanations are there.
  absl::Status StartLesions(Wants& wants);  // Beside the explanations.
  // Of each baseline that is fitted by now, once the images are chosen; nothing where it has begun.
  absl::Status ExplainBaselines(Wants& wants);

  v1::StudySpec spec_;
  std::string numerics_class_;
  std::shared_ptr<const v1::ImageSetManifest> manifest_;
  Split split_;
  std::unique_ptr<SweepPlanner> sweep_;
  std::vector<Evaluation> evaluations_;
  absl::flat_hash_map<Digest, v1::EvaluateTask> evaluate_tasks_;
  std::unique_ptr<ExplanationPlanner> explanation_;
  std::unique_ptr<CheckPlanner> checks_;
  std::unique_ptr<LesionPlanner> lesions_;  // Null: not asked for.
  std::unique_ptr<BaselinePlanner> baselines_;
  std::unique_ptr<EmbeddingPlanner> embeddings_;
  std::vector<std::unique_ptr<ExplanationPlanner>> explained_baselines_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_STUDY_RUN_H_
