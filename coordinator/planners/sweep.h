// Planner of the training stage: a study's trials, their rungs, and which one is taken. A fold over
// stored states and failures: a rung is decided when every trial that is in it has come so far (or
// has failed), so it never depends on who came first. Only validation metrics are looked at.
#ifndef DERMIS_COORDINATOR_PLANNERS_SWEEP_H_
#define DERMIS_COORDINATOR_PLANNERS_SWEEP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

#include "common/digest.h"
#include "common/sweep.h"
#include "coordinator/planners/training.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

class SweepPlanner {
 public:
  // One recipe that is trained for a trial: with one of the sweep's seeds, validated on one of its
  // folds. Where there are folds the trial that is taken is trained once more with each seed, on
  // images.split.
  struct Training {
    uint32_t trial = 0;
    v1::Recipe recipe;
    Digest digest;
    TrainingPlanner planner;
    // Epochs that were known when it failed for good. A failure counts for limits beyond them only,
    // so what is heard later of the same recipe changes no decision.
    std::optional<uint32_t> failed_after;

    bool fails() const {
      return failed_after && *failed_after < planner.limit() &&
             !(planner.stop_epoch() && *planner.stop_epoch() <= *failed_after);
    }
  };

  enum class TrialState { kTraining, kDropped, kFailed, kTrained };
  struct Trial {
    TrialState state = TrialState::kTraining;
    uint32_t rung = 0;            // Rungs that it has passed.
    std::optional<double> score;  // Of the last rung: mean of the sweep's metric. NaN is a score.
    uint32_t epochs = 0;              // That the score is of, of its first training.
    double deviation = 0;         // Of its trainings' scores; 0 for one.
    uint32_t waits_for = 0;       // Trainings that have not come to the limit.
  };

  // `spec` resolved. INVALID_ARGUMENT: a split that cannot be made, a training split smaller than a
  // batch; the trial is named.
  static absl::StatusOr<std::unique_ptr<SweepPlanner>> Make(const v1::StudySpec& spec,
                                                            const Digest& image_set,
                                                            const v1::ImageSetManifest& manifest,
                                                            const std::string& numerics_class);
  // Of a study whose model is there already: one trial, trained before it began. Its recipe says what evaluation and
  // explanation read of one (images, precision, seed), and has no digest.
  static std::unique_ptr<SweepPlanner> Given(const v1::StudySpec& spec, const Digest& image_set,
                                             v1::ModelRef model,
                                             const std::string& numerics_class);

  // A stored state of a recipe. Any order, any repetition; nothing for a recipe of others.
  void OnState(const Digest& recipe, const v1::TrainOutput& output);
  // Its training has failed for good, after the states that were told before.
  void OnFailed(const Digest& recipe);

  // Trainings that can be worked on, by index: earlier trials first.
  const std::set<uint32_t>& active() const { return active_; }
  // Grows whenever some are added.
  uint64_t added() const { return added_; }
  const Training& training(uint32_t index) const { return *trainings_[index]; }
  uint32_t trainings() const { return static_cast<uint32_t>(trainings_.size()); }
  // Those of this recipe; null: none.
  const std::vector<uint32_t>* Find(const Digest& recipe) const;
  // The first of them that is active; null: none.
  const Training* FindActive(const Digest& recipe) const;

  const std::vector<Trial>& trials() const { return trials_; }
  // The trial that is taken, once all are judged; and its trainings that give models, whose
  // outcomes may still be open, by seed. All are evaluated; the first one is explained.
  std::optional<uint32_t> chosen() const { return chosen_; }
  const std::vector<uint32_t>& finals() const { return finals_; }
  const Training* final_training() const {
    return finals_.empty() ? nullptr : trainings_[finals_[0]].get();
  }
  bool IsFinal(uint32_t index) const { return absl::c_linear_search(finals_, index); }
  // Each of them has its outcome.
  bool done() const {
    return !finals_.empty() && absl::c_all_of(finals_, [this](uint32_t index) {
      return trainings_[index]->planner.outcome().has_value();
    });
  }
  // No trial is left that could be taken.
  bool failed() const { return failed_; }

  // Trainings that a trial is judged by: of trial t from t * replicas() on, by seed, then fold.
  uint32_t replicas() const { return spec_.has_sweep() ? seeds() * std::max(1u, folds()) : 1; }

  // Epochs, of all trainings: known, and needed as far as that is known now (at most).
  uint64_t epochs_done() const { return epochs_done_; }
  uint64_t epochs_total() const;
  // The settings of a trial; empty without a sweep.
  Settings SettingsOfTrial(uint32_t trial) const;
  // The study with that trial's settings, resolved.
  v1::StudySpec SpecOfTrial(uint32_t trial) const;

 private:
  struct Race {  // Of a bracket.
    Bracket form;
    std::vector<uint32_t> left;  // Trials that are still in it, ascending.
    uint32_t rung = 0;           // Rungs that are decided.
    uint32_t waits_for = 0;      // Trials.
  };

  SweepPlanner(const v1::StudySpec& spec, const Digest& image_set, std::string numerics_class)
      : spec_(spec), image_set_(image_set), numerics_class_(std::move(numerics_class)) {}

  uint32_t seeds() const { return spec_.has_sweep() ? spec_.sweep().seeds() : 1; }
  uint32_t folds() const { return spec_.sweep().folds(); }
  absl::Status AddTraining(uint32_t trial, const v1::StudySpec& own, v1::Recipe recipe,
                           uint64_t training_images);
  void Look(uint32_t index);
  void FailTrial(uint32_t trial);
  void Arrived(uint32_t trial);
  // The bracket's next rung begins; rungs are decided for as long as all have come so far.
  void Enter(Race& race);
  bool Decide(Race& race);  // True: another rung follows.
  void Judge(uint32_t trial);
  bool by_accuracy() const {
    return spec_.sweep().metric() == v1::SELECTION_METRIC_VALIDATION_ACCURACY;
  }
  bool Better(uint32_t a, uint32_t b) const;  // Of trials that are judged.
  void Choose();
  Race& RaceOf(uint32_t trial);

  const v1::StudySpec spec_;
  const Digest image_set_;
  const std::string numerics_class_;
  uint64_t training_images_ = 0;  // Of images.split.
  // Those of the trials, then the final ones, if they are others.
  std::vector<std::unique_ptr<Training>> trainings_;
  absl::flat_hash_map<Digest, std::vector<uint32_t>> by_recipe_;
  std::vector<Trial> trials_;
  std::vector<Race> races_;
  std::set<uint32_t> active_;
  uint64_t added_ = 0;
  uint32_t races_left_ = 0;
  std::optional<uint32_t> chosen_;
  std::vector<uint32_t> finals_;  // Indices of trainings.
  bool failed_ = false;
  uint64_t epochs_done_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_SWEEP_H_
