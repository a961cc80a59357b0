#include "coordinator/planners/checks.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "common/checks.h"
#include "common/lesion_tasks.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {

CheckPlanner::CheckPlanner(const v1::ExplanationSpec& spec, const v1::Recipe& recipe,
                           v1::ModelRef model, uint64_t seed, std::vector<CheckedImage> images,
                           std::string numerics_class)
    : explanation_(spec),
      spec_(spec.checks()),
      output_(spec.output()),
      images_(recipe.images()),
      precision_(recipe.precision()),
      model_(std::move(model)),
      seed_(seed),
      checked_(std::move(images)),
      numerics_class_(std::move(numerics_class)),
      sampled_(checked_.size(), false) {
  if (!spec_.has_stability()) return;
  std::vector<size_t> order(checked_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::tie(checked_[a].digest, checked_[a].image) <
           std::tie(checked_[b].digest, checked_[b].image);
  });
  order.resize(std::min<size_t>(order.size(), spec_.stability().images()));
  for (const size_t i : order) sampled_[i] = true;
}

v1::TaskSpec CheckPlanner::FidelityOf(const CheckedImage& image,
                                      const v1::TaskSpec* attribution) const {
  v1::TaskSpec task;
  v1::FidelityTask& fidelity = *task.mutable_fidelity();
  *fidelity.mutable_images() = images_;
  fidelity.set_image(image.image);
  *fidelity.mutable_model() = model_;
  fidelity.set_precision(precision_);
  fidelity.set_output(output_);
  *fidelity.mutable_superpixels() = spec_.superpixels();
  fidelity.set_hidden(spec_.hidden());
  if (auto hiding = HidingOf(explanation_, spec_.hidden(), seed_)) {
    *fidelity.mutable_hiding() = *std::move(hiding);
  }
  fidelity.set_blur(spec_.blur());
  fidelity.set_halves(spec_.halves());
  fidelity.set_seed(seed_);
  if (attribution != nullptr) {
    *fidelity.mutable_attribution() = *attribution;
  } else {
    fidelity.mutable_priors()->set_random_orders(spec_.random_orders());
  }
  return MakeTask(std::move(task), numerics_class_);
}

v1::TaskSpec CheckPlanner::StabilityOf(const CheckedImage& image,
                                       const v1::TaskSpec* attribution) const {
  const v1::StabilitySpec& spec = spec_.stability();
  v1::TaskSpec task;
  v1::StabilityTask& stability = *task.mutable_stability();
  *stability.mutable_images() = images_;
  stability.set_image(image.image);
  *stability.mutable_superpixels() = spec_.superpixels();
  stability.set_noise_draws(spec.noise_draws());
  stability.set_noise_radius(spec.noise_radius());
  stability.set_seed(seed_);
  if (spec.randomisation()) {
    for (const std::string& layer : RandomisableLayers(model_.kind())) stability.add_layers(layer);
  }
  if (attribution == nullptr) {
    stability.mutable_priors()->set_random_orders(1);
    return MakeTask(std::move(task), numerics_class_);
  }
  *stability.mutable_attribution() = *attribution;
  if (DrawsAtRandom(*attribution)) stability.set_seeds(spec.seeds());
  stability.set_second_hidden(SecondHidden(*attribution, spec.second_hidden()));
  if (auto hiding = HidingOf(explanation_, stability.second_hidden(), seed_)) {
    *stability.mutable_second_hiding() = *std::move(hiding);
  }
  return MakeTask(std::move(task), numerics_class_);
}

std::vector<CheckPlanner::Check> CheckPlanner::ChecksOf(size_t i) const {
  const CheckedImage& image = checked_[i];
  std::vector<Check> checks;
  if (image.attributions.empty()) return checks;
  const auto add = [&](auto&& task_of) {
    checks.push_back({std::nullopt, task_of(nullptr)});
    for (const auto& [method, attribution] : image.attributions) {
      checks.push_back({method, task_of(&attribution)});
    }
  };
  if (spec_.fidelity()) {
    add([&](const v1::TaskSpec* attribution) { return FidelityOf(image, attribution); });
  }
  if (sampled_[i]) {
    add([&](const v1::TaskSpec* attribution) { return StabilityOf(image, attribution); });
  }
  return checks;
}

absl::StatusOr<CheckPlanner::Wants> CheckPlanner::Start(
    const std::function<bool(const Digest&)>& is_done) {
  Wants wants;
  started_ = true;
  for (size_t i = 0; i < checked_.size(); ++i) {
    for (Check& check : ChecksOf(i)) {
      RETURN_IF_ERROR(Add(std::move(check.task), is_done, wants).status());
    }
  }
  return wants;
}

absl::StatusOr<Digest> CheckPlanner::Add(v1::TaskSpec task,
                                         const std::function<bool(const Digest&)>& is_done,
                                         Wants& wants) {
  ASSIGN_OR_RETURN(const Digest digest, TaskDigest(task));
  if (graph_.Has(digest) || is_done(digest)) return digest;
  std::vector<Digest> open;
  for (v1::TaskSpec& need : NeedsOf(task)) {
    ASSIGN_OR_RETURN(const Digest needed, Add(std::move(need), is_done, wants));
    if (graph_.Has(needed)) open.push_back(needed);  // Else done.
  }
  graph_.Add(digest, std::move(task), open, wants);
  return digest;
}

}  // namespace dermis
