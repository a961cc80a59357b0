#include "coordinator/planners/explanation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/metrics.h"
#include "common/philox.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {
namespace {

std::string CellName(const v1::ImageSetManifest& manifest, uint32_t label, uint32_t predicted,
                     uint32_t classes) {
  const auto name = [&](uint32_t c) {
    return c < static_cast<uint32_t>(manifest.classes_size())
               ? manifest.classes(static_cast<int>(c))
               : absl::StrCat("class ", c);
  };
  if (manifest.unlabelled()) return absl::StrCat("predicted as ", name(predicted));
  if (classes == 2) {
    return absl::StrCat(label == predicted ? "true " : "false ",
                        predicted == 1 ? "positive" : "negative");
  }
  return absl::StrCat(name(label), " predicted as ", name(predicted));
}

// Grows with the probability of the predicted class, and does not saturate as that does: minus the
// logarithm of the odds against it. Of two classes it is a difference of floats, exact, with no
// libm in it. NaN counts as none.
double Confidence(absl::Span<const float> logits, uint32_t predicted) {
  if (logits.size() == 2) {
    const double margin =
        static_cast<double>(logits[predicted]) - static_cast<double>(logits[1 - predicted]);
    return margin == margin ? margin : -std::numeric_limits<double>::infinity();
  }
  double against = 0;
  for (size_t c = 0; c < logits.size(); ++c) {
    if (c != predicted)
      against += std::exp(static_cast<double>(logits[c]) - static_cast<double>(logits[predicted]));
  }
  return against == against ? -against : -std::numeric_limits<double>::infinity();
}

struct Scored {
  uint32_t image;
  double confidence;
  std::string digest;
  uint64_t draw;
};

}  // namespace

std::vector<ChosenImage> ChooseImages(const v1::ExplainedImages& spec,
                                      const v1::ImageSetManifest& manifest,
                                      absl::Span<const uint32_t> test,
                                      absl::Span<const float> logits, uint32_t classes,
                                      uint64_t seed) {
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Scored>> cells;
  std::vector<ChosenImage> chosen;
  for (size_t i = 0; i < test.size(); ++i) {
    const v1::ImageEntry& entry = manifest.images(static_cast<int>(test[i]));
    const absl::Span<const float> row = logits.subspan(i * classes, classes);
    uint32_t predicted = 0;
    for (uint32_t c = 1; c < classes; ++c) {
      if (row[c] >= row[predicted]) predicted = c;  // At .5 of two: the positive class.
    }
    const std::array<uint32_t, 4> block = PhiloxBlock(seed, Purpose::kChoice, test[i], 0, 0);
    if (spec.all_test()) {
      chosen.push_back(
          {test[i], absl::StrCat(CellName(manifest, entry.label(), predicted, classes))});
      continue;
    }
    cells[{entry.label(), predicted}].push_back(
        {test[i], Confidence(row, predicted), entry.digest(),
         (static_cast<uint64_t>(block[0]) << 32) | block[1]});
  }
  for (auto& [cell, images] : cells) {
    const std::string name = CellName(manifest, cell.first, cell.second, classes);
    const auto take = [&](uint32_t n, const char* how, auto less) {
      std::sort(images.begin(), images.end(), less);
      const size_t count = std::min<size_t>(n, images.size());
      for (size_t i = 0; i < count; ++i) {
        chosen.push_back({images[i].image, absl::StrCat(name, ", ", how)});
      }
      images.erase(images.begin(), images.begin() + static_cast<std::ptrdiff_t>(count));
    };
    const v1::CellChoice& choice = spec.per_confusion_cell();
    take(choice.most_confident(), "most confident", [](const Scored& a, const Scored& b) {
      return std::tie(b.confidence, a.digest, a.image) < std::tie(a.confidence, b.digest, b.image);
    });
    take(choice.least_confident(), "least confident", [](const Scored& a, const Scored& b) {
      return std::tie(a.confidence, a.digest, a.image) < std::tie(b.confidence, b.digest, b.image);
    });
    take(choice.random(), "random", [](const Scored& a, const Scored& b) {
      return std::tie(a.draw, a.digest, a.image) < std::tie(b.draw, b.digest, b.image);
    });
  }
  return chosen;
}

ExplanationPlanner::ExplanationPlanner(const v1::ExplanationSpec& spec, const v1::Recipe& recipe,
                                       v1::ModelRef model, uint64_t seed,
                                       std::vector<ChosenImage> chosen, std::string numerics_class)
    : spec_(spec),
      images_(recipe.images()),
      precision_(recipe.precision()),
      model_(std::move(model)),
      seed_(seed),
      chosen_(std::move(chosen)),
      numerics_class_(std::move(numerics_class)) {}

v1::TaskSpec ExplanationPlanner::Activations(uint32_t image) const {
  v1::TaskSpec task;
  v1::ActivationTask& activations = *task.mutable_activations();
  *activations.mutable_images() = images_;
  activations.set_image(image);
  *activations.mutable_model() = model_;
  activations.set_output(spec_.output());
  return MakeTask(std::move(task), numerics_class_);
}

bool ExplanationPlanner::PerturbationOf(uint32_t image, const v1::MethodSpec& method,
                                        v1::Perturbation& out) const {
  out.Clear();
  switch (method.kind_case()) {
    case v1::MethodSpec::kLime:
      *out.mutable_superpixels() = method.lime().superpixels();
      out.set_hidden(method.lime().hidden());
      out.mutable_lime()->set_samples(method.lime().samples());
      break;
    case v1::MethodSpec::kShapley:
      *out.mutable_superpixels() = method.shapley().superpixels();
      out.set_hidden(method.shapley().hidden());
      out.mutable_shapley()->set_permutations(method.shapley().permutations());
      break;
    default:
      return false;
  }
  *out.mutable_images() = images_;
  out.set_image(image);
  *out.mutable_model() = model_;
  out.set_precision(precision_);
  out.set_seed(seed_);
  return true;
}

absl::StatusOr<ExplanationPlanner::Wants> ExplanationPlanner::Start() {
  Wants wants;
  started_ = true;
  for (const ChosenImage& chosen : chosen_) {
    for (const v1::MethodSpec& method : spec_.methods()) {
      v1::Perturbation perturbation;
      if (!PerturbationOf(chosen.image, method, perturbation)) {
        v1::TaskSpec task = Activations(chosen.image);
        ASSIGN_OR_RETURN(Digest digest, TaskDigest(task));
        const auto [node, fresh] = nodes_.try_emplace(digest);
        if (!fresh) continue;  // Grad-CAM and activation maps share it.
        node->second.kind = Kind::kActivations;
        ++tasks_total_;
        wants.emplace_back(digest, std::move(task));
        continue;
      }
      v1::TaskSpec fit;
      *fit.mutable_fit()->mutable_perturbation() = perturbation;
      fit.mutable_fit()->set_output(spec_.output());
      fit = MakeTask(std::move(fit), numerics_class_);
      ASSIGN_OR_RETURN(Digest fit_digest, TaskDigest(fit));
      if (nodes_.contains(fit_digest)) continue;  // The method is named twice.
      const uint32_t runs = RunCount(perturbation);
      Node& node = nodes_[fit_digest];
      node.waits_for = runs;
      node.spec = std::move(fit);
      tasks_total_ += 1 + runs;

      v1::TaskSpec superpixels = SuperpixelTaskOf(perturbation, numerics_class_);
      ASSIGN_OR_RETURN(Digest digest, TaskDigest(superpixels));
      const auto [parent, fresh] = nodes_.try_emplace(digest);
      parent->second.dependents.push_back(fit_digest);
      if (fresh) {
        parent->second.kind = Kind::kSuperpixels;
        ++tasks_total_;
        wants.emplace_back(digest, std::move(superpixels));
      }
    }
  }
  return wants;
}

absl::StatusOr<ExplanationPlanner::Wants> ExplanationPlanner::OnDone(const Digest& task) {
  Wants wants;
  auto it = nodes_.find(task);
  if (it == nodes_.end() || it->second.done) return wants;
  it->second.done = true;
  ++tasks_done_;
  const Kind kind = it->second.kind;
  const std::vector<Digest> dependents = std::move(it->second.dependents);
  it->second.dependents.clear();
  for (const Digest& dependent : dependents) {
    Node& fit = nodes_.at(dependent);
    if (kind == Kind::kSuperpixels) {
      const v1::Perturbation& perturbation = fit.spec.fit().perturbation();
      for (uint32_t run = 0; run < RunCount(perturbation); ++run) {
        v1::TaskSpec spec = PerturbTaskOf(perturbation, run, numerics_class_);
        ASSIGN_OR_RETURN(Digest digest, TaskDigest(spec));
        Node& node = nodes_[digest];
        node.kind = Kind::kRun;
        node.dependents.push_back(dependent);
        wants.emplace_back(digest, std::move(spec));
      }
    } else if (kind == Kind::kRun && --fit.waits_for == 0) {
      wants.emplace_back(dependent, std::move(fit.spec));
      fit.spec.Clear();
    }
  }
  return wants;
}

absl::StatusOr<ExplanationPlanner::MethodTask> ExplanationPlanner::TaskOf(
    size_t chosen, const v1::MethodSpec& method) const {
  MethodTask out;
  const uint32_t image = chosen_[chosen].image;
  v1::Perturbation perturbation;
  if (PerturbationOf(image, method, perturbation)) {
    ASSIGN_OR_RETURN(out.superpixels, TaskDigest(SuperpixelTaskOf(perturbation, numerics_class_)));
    *out.task.mutable_fit()->mutable_perturbation() = std::move(perturbation);
    out.task.mutable_fit()->set_output(spec_.output());
    out.task = MakeTask(std::move(out.task), numerics_class_);
  } else {
    out.task = Activations(image);
  }
  ASSIGN_OR_RETURN(out.digest, TaskDigest(out.task));
  return out;
}

}  // namespace dermis
