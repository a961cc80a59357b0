#include "coordinator/planners/sweep.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/spec_yaml.h"
#include "common/split.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {
absl::StatusOr<std::unique_ptr<SweepPlanner>> SweepPlanner::Make(
    const v1::StudySpec& spec, const Digest& image_set, const v1::ImageSetManifest& manifest,
    const std::string& numerics_class) {
  std::unique_ptr<SweepPlanner> planner(new SweepPlanner(spec, image_set, numerics_class));
  v1::SplitSpec split = spec.images().split();
  ASSIGN_OR_RETURN(const Split plain, MakeSplit(manifest, split, spec.seed()));
  planner->training_images_ = plain.training.size();
  std::vector<uint64_t> fold_images;
  for (uint32_t fold = 0; fold < planner->folds(); ++fold) {
    split.set_folds(planner->folds());
    split.set_fold(fold);
    ASSIGN_OR_RETURN(const Split part, MakeSplit(manifest, split, spec.seed()));
    fold_images.push_back(part.training.size());
  }
  const uint32_t epochs = EpochsOf(spec);
  planner->trials_.resize(TrialsOf(spec));
  RETURN_IF_ERROR(ForEachTrial(spec, [&](uint32_t trial, const v1::StudySpec& own) -> absl::Status {
    const v1::Recipe recipe = RecipeOf(own, image_set);
    for (uint32_t seed = 0; seed < planner->seeds(); ++seed) {
      v1::Recipe replica = recipe;
      replica.set_seed(spec.seed() + seed);
      if (fold_images.empty()) {
        RETURN_IF_ERROR(planner->AddTraining(trial, own, replica, planner->training_images_));
      }
      for (uint32_t fold = 0; fold < fold_images.size(); ++fold) {
        replica.mutable_images()->mutable_split()->set_folds(planner->folds());
        replica.mutable_images()->mutable_split()->set_fold(fold);
        RETURN_IF_ERROR(planner->AddTraining(trial, own, replica, fold_images[fold]));
      }
    }
    return absl::OkStatus();
  }));
  if (spec.has_sweep()) {
    for (Bracket& bracket : BracketsOf(spec.sweep(), epochs)) {
      planner->races_.push_back({std::move(bracket), {}, 0, 0});
    }
  } else {
    planner->races_.push_back({{0, 1, {}, 1}, {}, 0, 0});
  }
  planner->races_left_ = static_cast<uint32_t>(planner->races_.size());
  for (Race& race : planner->races_) {
    for (uint32_t k = 0; k < race.form.count; ++k) race.left.push_back(race.form.first + k);
    planner->Enter(race);
  }
  return planner;
}

std::unique_ptr<SweepPlanner> SweepPlanner::Given(const v1::StudySpec& spec,
                                                  const Digest& image_set, v1::ModelRef model,
                                                  const std::string& numerics_class) {
  std::unique_ptr<SweepPlanner> planner(new SweepPlanner(spec, image_set, numerics_class));
  v1::Recipe recipe = RecipeOf(spec, image_set);
  recipe.set_precision(spec.model().precision());
  planner->trials_.emplace_back().state = TrialState::kTrained;
  planner->trainings_.push_back(std::make_unique<Training>(Training{
      0, std::move(recipe), Digest(), TrainingPlanner::Given(std::move(model)), std::nullopt}));
  planner->chosen_ = 0;
  planner->finals_ = {0};
  return planner;
}

absl::Status SweepPlanner::AddTraining(uint32_t trial, const v1::StudySpec& own, v1::Recipe recipe,
                                       uint64_t training_images) {
  const uint64_t steps = StepsPerEpoch(training_images, recipe.batch_size());
  if (steps == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "study ", spec_.name(), trials_.size() > 1 ? absl::StrCat(", trial ", trial) : "",
        ": the training split has ", training_images,
        " images, fewer than one batch of training.batch_size = ", recipe.batch_size(),
        "; lower training.batch_size or give more images"));
  }
  ASSIGN_OR_RETURN(const Digest digest, RecipeDigest(recipe, numerics_class_));
  by_recipe_[digest].push_back(trainings());
  trainings_.push_back(std::make_unique<Training>(Training{
      trial, std::move(recipe), digest, TrainingPlanner(own.training(), steps), std::nullopt}));
  return absl::OkStatus();
}

void SweepPlanner::OnState(const Digest& recipe, const v1::TrainOutput& output) {
  const auto found = by_recipe_.find(recipe);
  if (found == by_recipe_.end()) return;
  // Look may add a training, and with it move what the map holds.
  const std::vector<uint32_t> indices = found->second;
  for (uint32_t index : indices) {
    TrainingPlanner& planner = trainings_[index]->planner;
    const uint32_t before = planner.epochs_done();
    planner.OnState(output);
    epochs_done_ += planner.epochs_done() - before;
    Look(index);
  }
}

void SweepPlanner::Look(uint32_t index) {
  const Training& training = *trainings_[index];
  if (!active_.contains(index)) return;
  if (chosen_) {
    if (training.planner.outcome()) active_.erase(index);
  } else if (training.planner.reached()) {
    active_.erase(index);
    if (--trials_[training.trial].waits_for == 0) Arrived(training.trial);
  }
}

void SweepPlanner::OnFailed(const Digest& recipe) {
  const auto found = by_recipe_.find(recipe);
  if (found == by_recipe_.end()) return;
  const std::vector<uint32_t> indices = found->second;
  for (uint32_t index : indices) {
    Training& training = *trainings_[index];
    if (!training.failed_after) training.failed_after = training.planner.epochs_done();
    if (!active_.contains(index)) continue;  // It may count at a later rung.
    if (chosen_) {
      active_.erase(index);
      failed_ = true;
      continue;
    }
    FailTrial(training.trial);
    Arrived(training.trial);
  }
}

void SweepPlanner::FailTrial(uint32_t t) {
  trials_[t].state = TrialState::kFailed;
  trials_[t].waits_for = 0;
  for (uint32_t k = 0; k < replicas(); ++k) active_.erase(t * replicas() + k);
}

void SweepPlanner::Arrived(uint32_t trial) {
  Race& race = RaceOf(trial);
  if (--race.waits_for > 0) return;
  if (Decide(race)) Enter(race);
}

void SweepPlanner::Enter(Race& race) {
  do {
    const bool last = race.rung == race.form.rungs.size();
    race.waits_for = 0;
    for (uint32_t t : race.left) {
      Trial& trial = trials_[t];
      trial.waits_for = 0;
      for (uint32_t index = t * replicas(); index < (t + 1) * replicas(); ++index) {
        TrainingPlanner& planner = trainings_[index]->planner;
        planner.SetLimit(last ? planner.max_epochs() : race.form.rungs[race.rung]);
        if (trainings_[index]->fails()) {
          FailTrial(t);
          break;
        }
        if (planner.reached()) continue;
        active_.insert(index);
        ++added_;
        ++trial.waits_for;
      }
      if (trial.waits_for > 0) ++race.waits_for;
    }
  } while (race.waits_for == 0 && Decide(race));
}

bool SweepPlanner::Decide(Race& race) {
  std::vector<uint32_t> sound;
  for (uint32_t t : race.left) {
    if (trials_[t].state == TrialState::kFailed) continue;
    Judge(t);
    sound.push_back(t);
  }
  if (race.rung == race.form.rungs.size() || sound.empty()) {
    for (uint32_t t : sound) trials_[t].state = TrialState::kTrained;
    race.left = std::move(sound);
    if (--races_left_ == 0) Choose();
    return false;
  }
  const size_t most = (race.left.size() + race.form.factor - 1) / race.form.factor;
  std::stable_sort(sound.begin(), sound.end(),
                   [this](uint32_t a, uint32_t b) { return Better(a, b); });
  for (size_t k = 0; k < sound.size(); ++k) {
    Trial& trial = trials_[sound[k]];
    ++trial.rung;
    if (k >= most) trial.state = TrialState::kDropped;
  }
  sound.resize(std::min(sound.size(), most));
  std::sort(sound.begin(), sound.end());
  race.left = std::move(sound);
  ++race.rung;
  return true;
}

// What is not a number is worse than all.
bool SweepPlanner::Better(uint32_t a, uint32_t b) const {
  const double x = *trials_[a].score, y = *trials_[b].score;
  if (std::isnan(y)) return !std::isnan(x);
  return by_accuracy() ? x > y : x < y;
}

void SweepPlanner::Judge(uint32_t t) {
  double sum = 0, squares = 0;
  const double n = replicas();
  std::vector<double> scores;
  for (uint32_t index = t * replicas(); index < (t + 1) * replicas(); ++index) {
    const v1::EpochMetrics& epoch = trainings_[index]->planner.chosen_epoch();
    scores.push_back(by_accuracy() ? epoch.validation_accuracy() : epoch.validation_loss());
    sum += scores.back();
  }
  for (double score : scores) squares += (score - sum / n) * (score - sum / n);
  trials_[t].score = sum / n;
  trials_[t].epochs = trainings_[t * replicas()]->planner.chosen_limit();
  trials_[t].deviation = n > 1 ? std::sqrt(squares / (n - 1)) : 0;
}

void SweepPlanner::Choose() {
  for (uint32_t t = 0; t < trials_.size(); ++t) {
    if (trials_[t].state != TrialState::kTrained) continue;
    if (!chosen_ || Better(t, *chosen_)) chosen_ = t;
  }
  if (!chosen_) {
    failed_ = true;
    return;
  }
  const v1::StudySpec own = SpecOfTrial(*chosen_);
  for (uint32_t seed = 0; seed < seeds(); ++seed) {
    if (folds() == 0) {
      finals_.push_back(*chosen_ * replicas() + seed);
      continue;
    }
    v1::Recipe recipe = RecipeOf(own, image_set_);
    recipe.set_seed(spec_.seed() + seed);
    // It has the shape of what was made before.
    if (!AddTraining(*chosen_, own, std::move(recipe), training_images_).ok()) {
      failed_ = true;
      return;
    }
    finals_.push_back(trainings() - 1);
  }
  for (const uint32_t index : finals_) {
    if (trainings_[index]->planner.outcome()) continue;
    if (trainings_[index]->failed_after) {
      failed_ = true;
    } else {
      active_.insert(index);
      ++added_;
    }
  }
}

const std::vector<uint32_t>* SweepPlanner::Find(const Digest& recipe) const {
  const auto found = by_recipe_.find(recipe);
  return found == by_recipe_.end() ? nullptr : &found->second;
}

const SweepPlanner::Training* SweepPlanner::FindActive(const Digest& recipe) const {
  if (const std::vector<uint32_t>* indices = Find(recipe)) {
    for (uint32_t index : *indices) {
      if (active_.contains(index)) return trainings_[index].get();
    }
  }
  return nullptr;
}

uint64_t SweepPlanner::epochs_total() const {
  uint64_t total = epochs_done_;
  for (uint32_t index : active_) {
    const TrainingPlanner& planner = trainings_[index]->planner;
    total += std::min(planner.limit(), planner.stop_epoch().value_or(planner.limit())) -
             std::min(planner.limit(), planner.epochs_done());
  }
  for (const Race& race : races_) {
    uint64_t left = race.left.size();
    for (uint32_t rung = race.rung; rung < race.form.rungs.size() && left > 0; ++rung) {
      left = (left + race.form.factor - 1) / race.form.factor;
      const uint64_t next = rung + 1 < race.form.rungs.size()
                                ? race.form.rungs[rung + 1]
                                : trainings_[race.form.first * replicas()]->planner.max_epochs();
      total += left * replicas() * (next - race.form.rungs[rung]);
    }
  }
  if (folds() > 0 && !chosen_) total += uint64_t{seeds()} * trainings_[0]->planner.max_epochs();
  return total;
}

Settings SweepPlanner::SettingsOfTrial(uint32_t trial) const {
  return spec_.has_sweep() ? SettingsOf(spec_.sweep(), spec_.seed(), trial) : Settings();
}

v1::StudySpec SweepPlanner::SpecOfTrial(uint32_t trial) const {
  const absl::StatusOr<v1::StudySpec> own = TrialSpec(spec_, trial);
  return own.ok() ? *own : spec_;  // It resolved when the planner was made.
}

SweepPlanner::Race& SweepPlanner::RaceOf(uint32_t trial) {
  return *std::find_if(races_.begin(), races_.end(), [trial](const Race& race) {
    return trial < race.form.first + race.form.count;
  });
}

}  // namespace dermis
