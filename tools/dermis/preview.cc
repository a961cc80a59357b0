#include "tools/dermis/preview.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/background.h"
#include "common/checks.h"
#include "common/baselines.h"
#include "common/lesion_tasks.h"
#include "common/model_methods.h"
#include "common/number_text.h"
#include "common/spec_yaml.h"
#include "common/split.h"
#include "common/status_macros.h"
#include "common/sweep.h"
#include "common/tasks.h"
#include "worker/models/cost.h"

namespace dermis {
namespace {

// About what one core of a Xeon with AVX-512 reaches in fp32 training (docs/benchmarks.md).
constexpr double kCoreFlops = 100e9;

std::string Count(uint64_t n, const std::string& what) {
  return absl::StrCat(NumberText(static_cast<double>(n)), " ", what, n == 1 ? "" : "s");
}

// Of a trial: how long it trains, and the operations of one epoch.
struct TrialCost {
  uint32_t epochs = 0;
  double epoch_operations = 0;
};

absl::StatusOr<std::vector<TrialCost>> CostsOf(const v1::StudySpec& spec,
                                               const v1::ImageSetManifest& manifest,
                                               const Split& split) {
  if (spec.has_model()) return std::vector<TrialCost>();
  // Validation has no backward pass, which is two thirds of the work.
  const double images =
      static_cast<double>(split.training.size()) + static_cast<double>(split.validation.size()) / 3;
  std::vector<TrialCost> costs;
  RETURN_IF_ERROR(ForEachTrial(spec, [&](uint32_t, const v1::StudySpec& own) -> absl::Status {
    const v1::TrainingSpec& training = own.training();
    ASSIGN_OR_RETURN(const ModelLayout layout,
                     LayoutOf(training.model(), own.images().size(),
                              static_cast<uint32_t>(manifest.classes_size()), training.stem()));
    costs.push_back({training.epochs(), images * 6 * static_cast<double>(MultiplyAdds(layout))});
    return absl::OkStatus();
  }));
  return costs;
}

std::string PreviewTraining(const v1::StudySpec& spec, const std::vector<TrialCost>& costs) {
  if (spec.has_model()) return "Training: none (the model is given)\n";
  const uint32_t replicas =
      spec.has_sweep() ? spec.sweep().seeds() * std::max(1u, spec.sweep().folds()) : 1;
  std::vector<Bracket> brackets = {{0, 1, {}, 1}};
  if (spec.has_sweep()) brackets = BracketsOf(spec.sweep(), EpochsOf(spec));
  std::string rungs;
  double operations = 0, epochs = 0;
  for (const Bracket& bracket : brackets) {
    uint64_t left = bracket.count;
    uint32_t from = 0;
    for (size_t rung = 0; rung <= bracket.rungs.size(); ++rung) {
      const bool last = rung == bracket.rungs.size();
      // Which trials go on is not known: the mean of all.
      double mean_operations = 0, mean_epochs = 0;
      for (uint32_t t = bracket.first; t < bracket.first + bracket.count; ++t) {
        const uint32_t to = last ? costs[t].epochs : bracket.rungs[rung];
        const double more = to - std::min(from, to);
        mean_epochs += more / bracket.count;
        mean_operations += more * costs[t].epoch_operations / bracket.count;
      }
      operations += mean_operations * static_cast<double>(left * replicas);
      epochs += mean_epochs * static_cast<double>(left * replicas);
      if (spec.has_sweep()) {
        absl::StrAppend(
            &rungs, "  ", Count(left, "trial"),
            last ? std::string(" to the end") : absl::StrCat(" to epoch ", bracket.rungs[rung]),
            "\n");
      }
      if (last) break;
      from = bracket.rungs[rung];
      left = (left + bracket.factor - 1) / bracket.factor;
    }
  }
  if (spec.sweep().folds() > 0) {  // The one that is taken is trained once more, with each seed.
    const auto longest = std::max_element(costs.begin(), costs.end(), [](auto& a, auto& b) {
      return a.epochs * a.epoch_operations < b.epochs * b.epoch_operations;
    });
    epochs += static_cast<double>(spec.sweep().seeds()) * longest->epochs;
    operations += spec.sweep().seeds() * longest->epochs * longest->epoch_operations;
  }
  return absl::StrCat(
      "Training: ", Count(costs.size(), "trial"), ", ", Count(costs.size() * replicas, "training"),
      ", at most ", NumberText(epochs), " epochs: ", NumberText(operations / 1e12, 3),
      " TFLOP, about ", NumberText(operations / kCoreFlops / 3600, 2),
      " core-hours (a core with AVX-512 does about ", kCoreFlops / 1e9, " GFLOP/s in fp32)\n", rungs);
}

std::string Priced(const std::string& what, uint64_t images, uint64_t tasks, uint64_t inputs,
                   uint64_t gradients) {
  const auto about = [](uint64_t number, const char* of) {
    return number == 0 ? "" : absl::StrCat(", about ", NumberText(static_cast<double>(number), 3), of);
  };
  return absl::StrCat(what, ": at most ", Count(images, "image"), ", ", Count(tasks, "task"),
                      about(inputs, " masked inputs"), about(gradients, " gradients"), "\n");
}

std::string PreviewExplanation(const v1::StudySpec& spec, uint64_t test, uint64_t masked,
                               uint64_t classes) {
  const ExplanationSize size = SizeOf(spec.explanation(), test, classes);
  uint64_t gradients = 0;
  for (const v1::MethodSpec& method : spec.explanation().methods()) {
    gradients += GradientsOf(method, classes * BackgroundPerClass(spec.explanation()));
  }
  std::string text =
      Priced("Explanation", size.images, size.tasks, size.inputs, size.images * gradients);
  if (const ExplanationSize baselines = SizeOfExplainedBaselines(spec, test, classes);
      baselines.tasks > 0) {
    text += Priced(absl::StrCat("Explanation of ", Count(FamiliesOf(spec, {}).size(), "baseline")),
                   baselines.images, baselines.tasks, baselines.inputs, 0);
  }
  const CheckPrices checks =
      PricesOfChecks(spec.explanation(),
                     spec.has_model() ? spec.model().kind() : spec.training().model(), classes);
  const uint64_t sample =
      std::min<uint64_t>(size.images, spec.explanation().checks().stability().images());
  for (const auto& [what, images, each] :
       {std::tuple("Checks, fidelity", size.images, checks.fidelity),
        std::tuple("Checks, stability", sample, checks.stability)}) {
    if (each.tasks > 0)
      text +=
          Priced(what, images, images * each.tasks, images * each.inputs, images * each.gradients);
  }
  const LesionSize lesions =
      SizeOfLesions(spec.explanation(), masked, spec.evaluation().batch_size());
  if (lesions.tasks > 0) {
    text += Priced("Lesion test and shortcut check", masked, lesions.tasks, lesions.inputs, 0);
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string> Preview(const v1::StudySpec& spec,
                                    const v1::ImageSetManifest& manifest) {
  ASSIGN_OR_RETURN(const Split split, MakeSplit(manifest, spec.images().split(), spec.seed()));
  ASSIGN_OR_RETURN(const std::vector<TrialCost> costs, CostsOf(spec, manifest, split));
  const uint32_t batch = spec.evaluation().batch_size();
  const uint64_t models = spec.has_sweep() ? spec.sweep().seeds() : 1;
  std::string text = absl::StrCat(
      "Images: ",
      spec.has_model() && split.training.empty()
          ? ""
          : absl::StrCat(split.training.size(), " training, ", split.validation.size(), " validation, "),
      split.test.size(), " test\n", PreviewTraining(spec, costs),
      "Evaluation: ", Count(models * ((split.test.size() + batch - 1) / batch), "task"),
      " on the test split",
      !spec.has_sweep() ? ""
      : models == 1     ? ", of the one model that is taken"
                    : absl::StrCat(", of the ", models, " trainings of the trial that is taken"),
      "\n");
  if (spec.has_explanation()) {
    text +=
        PreviewExplanation(spec, split.test.size(), MaskedImages(manifest, split.test).size(),
                           static_cast<uint64_t>(manifest.classes_size()));
  }
  if (spec.has_baselines()) {
    for (const BaselineFamily& family : FamiliesOf(spec, {})) {
      absl::StrAppend(&text, "Baseline ", family.name, " at ", family.size, " px: ",
                      Count(family.points.size(), "point"), ", ",
                      Count(family.points.size() * spec.baselines().folds() + 1, "fit"), " of about ",
                      (split.training.size() + split.validation.size()) *
                          (spec.baselines().folds() - 1) / spec.baselines().folds(),
                      " images\n");
    }
  }
  if (spec.has_embeddings()) {
    const int sources = spec.embeddings().of_size();
    absl::StrAppend(&text, "Embeddings: ",
                    Count(static_cast<uint64_t>(sources * (2 + spec.embeddings().tsne().inputs_size())), "task"),
                    " on ", split.training.size() + split.validation.size() + split.test.size(), " images\n");
  }
  return text + "What the cluster has computed before costs nothing. Nothing was sent.\n";
}

}  // namespace dermis
