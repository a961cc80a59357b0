#include "tools/dermis/summary.h"

#include <algorithm>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/baselines.h"
#include "tools/report/judgement.h"
#include "tools/report/partial.h"
#include "tools/report/report.h"
#include "tools/report/trials.h"

namespace dermis {

Digest BitsOf(const v1::StudyResults& results) {
  Sha256 hash;
  hash.Update(results.model().weights().data(), results.model().weights().size());
  hash.Update(results.test_logits().data(), results.test_logits_size() * sizeof(float));
  for (const v1::ExplainedImage& image : results.explained()) {
    for (const v1::MethodResult& method : image.results()) {
      for (const v1::TaskResult* result : {&method.result(), &method.margin()}) {
        hash.Update(result->payload_digest().data(), result->payload_digest().size());
      }
    }
    for (const v1::CheckResult& check : image.checks()) {
      hash.Update(check.result().payload_digest().data(), check.result().payload_digest().size());
    }
    for (const v1::ExplainedBaseline& baseline : image.baselines()) {
      for (const v1::MethodResult& method : baseline.results()) {
        hash.Update(method.result().payload_digest().data(),
                    method.result().payload_digest().size());
      }
    }
  }
  for (const v1::SummaryResult* summary : {&results.lesion_test(), &results.shortcut()}) {
    hash.Update(summary->result().payload_digest().data(),
                summary->result().payload_digest().size());
  }
  const auto add = [&](const auto& logits) {
    hash.Update(logits.data(), static_cast<size_t>(logits.size()) * sizeof(float));
  };
  add(results.validation_logits());
  for (int k = 1; k < results.seeds_size(); ++k) {  // The first is the model.
    const v1::SeedResult& seed = results.seeds(k);
    hash.Update(seed.weights().data(), seed.weights().size());
    add(seed.test_logits());
    add(seed.validation_logits());
  }
  for (const v1::BaselineResult& baseline : results.baselines()) {
    hash.Update(baseline.fit().payload_digest().data(), baseline.fit().payload_digest().size());
    add(baseline.test_logits());
    add(baseline.validation_logits());
  }
  for (const v1::SummaryResult& embedding : results.embeddings()) {
    hash.Update(embedding.result().payload_digest().data(),
                embedding.result().payload_digest().size());
  }
  return hash.Finish();
}

namespace {

// The best trials, the taken one first.
std::string SummariseTrials(const v1::StudyResults& results) {
  if (results.trials().empty()) return "";
  constexpr size_t kShown = 10;
  std::string text =
      absl::StrCat(results.trials_size(), results.trials_size() == 1 ? " trial" : " trials",
                   ", by ", MetricName(results.spec().sweep().metric()), ":\n");
  const std::vector<const v1::TrialResult*> ranked = RankTrials(results);
  for (size_t k = 0; k < std::min(ranked.size(), kShown); ++k) {
    const v1::TrialResult& trial = *ranked[k];
    absl::StrAppendFormat(&text, "  %s %5d  %s", trial.state() == "chosen" ? "*" : " ",
                          trial.trial(),
                          trial.has_score() ? absl::StrFormat("%.4f", trial.score()) : "     -");
    if (trial.deviation() > 0) absl::StrAppendFormat(&text, " +- %.4f", trial.deviation());
    absl::StrAppend(&text, "  ", trial.state(), " after ", trial.epochs(),
                    trial.epochs() == 1 ? " epoch  " : " epochs  ", trial.settings(), "\n");
  }
  if (ranked.size() > kShown) absl::StrAppend(&text, "  and ", ranked.size() - kShown, " more\n");
  return text;
}

// The one model's intervals, and what other seeds of its setting come to.
std::string SummariseSeeds(const v1::StudyResults& results, const v1::ImageSetManifest& manifest) {
  const absl::StatusOr<OverSeeds> judged = JudgeSeedsOf(results, manifest);
  if (!judged.ok()) return "";  // Other than two classes.
  const Interval &accuracy = judged->accuracy.interval, &area = judged->area.interval;
  std::string text = absl::StrFormat(
      "  95 %% of this model, bootstrap by lesion: accuracy %.3f to %.3f, area under ROC %.3f to "
      "%.3f\n",
      accuracy.low, accuracy.high, area.low, area.high);
  if (!judged->averaged_area) {
    return absl::StrCat(text, "Spread over training seeds: ", kOneTraining, "\n");
  }
  const auto spread = [](const SeedSpread& s) {
    return absl::StrFormat("%.3f +- %.3f (%.3f to %.3f)", s.mean, s.deviation, s.low, s.high);
  };
  absl::StrAppendFormat(
      &text,
      "Over %d training seeds, mean +- deviation (range): accuracy %s, area under ROC %s\n"
      "  area under ROC of their averaged scores %.3f (95 %% %.3f to %.3f)\n",
      judged->areas.values.size(), spread(judged->accuracies), spread(judged->areas),
      judged->averaged_area->value, judged->averaged_area->interval.low,
      judged->averaged_area->interval.high);
  return text;
}

// Each baseline beside the network.
std::string SummariseBaselines(const v1::StudyResults& results,
                               const v1::ImageSetManifest& manifest) {
  std::string text;
  for (const v1::BaselineResult& baseline : results.baselines()) {
    absl::StrAppendFormat(&text, "Baseline %s at %d px: ", baseline.name(), baseline.size());
    if (!baseline.has_chosen()) {
      text += "not chosen yet\n";
      continue;
    }
    const v1::BaselinePoint& point = baseline.points(static_cast<int>(baseline.chosen()));
    absl::StrAppendFormat(&text, "%s (accuracy %.3f over %d folds%s)", Describe(point.task()),
                          point.mean(), point.accuracy_size(),
                          baseline.on_edge() ? "; on the edge of its grid" : "");
    if (auto evaluation = EvaluateBaseline(results, baseline, manifest); evaluation.ok()) {
      absl::StrAppendFormat(&text, "; test: accuracy %.3f, area under ROC %.3f",
                            evaluation->accuracy, evaluation->roc_area);
    }
    text += "\n";
  }
  return text;
}

}  // namespace

std::string Summarise(const v1::StudyResults& results, const v1::ImageSetManifest& manifest) {
  const std::string partial = PartialNote(results.status());
  std::string text = partial.empty() ? "" : partial + "\n";
  text += SummariseTrials(results);
  if (results.stop_epoch() == 0 && results.training().epochs_size() > 0) {
    absl::StrAppendFormat(&text, "%d epochs trained so far (best %d)\n",
                          results.training().epochs_size(), results.training().best_epoch());
  } else if (results.training().epochs_size() > 0) {
    absl::StrAppendFormat(&text, "Trained %d epochs (best %d); weights %s\n", results.stop_epoch(),
                          results.training().best_epoch(),
                          absl::BytesToHexString(results.model().weights()));
  }
  if (results.spec().has_model()) {
    absl::StrAppend(&text, "Model ", results.spec().model().file(), ", ", results.spec().model().digest(), "\n");
  }
  if (auto evaluation = EvaluateStudy(results, manifest); evaluation.ok()) {
    const Evaluation& e = *evaluation;
    absl::StrAppendFormat(
        &text,
        "Test split, %d images: accuracy %.3f, sensitivity %.3f, specificity %.3f, precision %.3f\n"
        "  area under ROC %.3f, average precision %.3f\n"
        "  false positives %d (%.3f of all, %.3f of the class), false negatives %d (%.3f of all, "
        "%.3f of the class)\n",
        e.n, e.accuracy, e.sensitivity, e.specificity, e.precision, e.roc_area, e.average_precision,
        e.false_positive, e.fpr_of_all, e.fpr_of_class, e.false_negative, e.fnr_of_all,
        e.fnr_of_class);
    text += SummariseSeeds(results, manifest);
  }
  text += SummariseBaselines(results, manifest);
  absl::StrAppend(&text,
                  partial.empty() ? "Bits of all results: " : "Bits so far (not comparable): ",
                  BitsOf(results).hex(), "\n");
  uint64_t computed = 0, reused = 0;
  for (const v1::StageProgress& stage : results.status().stages()) {
    computed += stage.computed();
    reused += stage.reused();
  }
  if (results.explained_size() > 0)
    absl::StrAppendFormat(&text, "%d images explained\n", results.explained_size());
  if (computed == 0) {
    absl::StrAppendFormat(&text, "Nothing was computed: all %d results were there\n", reused);
  } else {
    absl::StrAppendFormat(&text, "%d tasks computed, %d found\n", computed, reused);
  }
  return text;
}

}  // namespace dermis
