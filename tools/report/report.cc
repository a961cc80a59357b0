#include "tools/report/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/digest.h"
#include "common/evaluation/judge.h"
#include "common/evaluation/leak_check.h"
#include "common/metrics.h"
#include "common/spec_yaml.h"
#include "common/split.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "tools/ingest/csv.h"
#include "tools/report/augmented.h"
#include "tools/report/baselines.h"
#include "tools/report/check_summary.h"
#include "tools/report/checks.h"
#include "tools/report/embeddings.h"
#include "tools/report/explained.h"
#include "tools/report/given.h"
#include "tools/report/judged.h"
#include "tools/report/lesion.h"
#include "tools/report/plot.h"
#include "tools/report/style.h"
#include "tools/report/trials.h"

namespace dermis {
namespace {

// A row of the seed paper's Table 1. Its FPR and FNR are fractions of all 650 test images.
struct SeedRow {
  const char* name;
  double accuracy, precision, fpr_of_all, fnr_of_all;
};
constexpr SeedRow kSeedTable[] = {
    {"Seed paper: network (“ResNet”)", .872, .764, .080, .071},
    {"Seed paper: random forest", .763, .764, .144, .092},
    {"Seed paper: logistic regression", .769, .785, .106, .125},
};

// 95 % Wilson score interval of a fraction.
std::string WilsonInterval(uint64_t part, uint64_t whole) {
  if (whole == 0) return "";
  constexpr double kZ = 1.959964;
  const double n = static_cast<double>(whole), p = static_cast<double>(part) / n;
  const double centre = (p + kZ * kZ / (2 * n)) / (1 + kZ * kZ / n);
  const double half = kZ / (1 + kZ * kZ / n) * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n));
  return absl::StrFormat("%.3f – %.3f", std::max(0.0, centre - half), std::min(1.0, centre + half));
}

std::string Hex(const std::string& bytes) {
  const auto digest = Digest::FromBytes(bytes);
  return digest.ok() && !digest->none() ? digest->hex() : "–";
}

}  // namespace

namespace {

// Whether there is a row of logits for each test image of the set.
absl::Status CheckScores(const v1::StudyResults& results, const v1::ImageSetManifest& manifest) {
  const int classes = manifest.classes_size();
  if (results.test_images_size() == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("study ", results.status().id(), " has no evaluation yet"));
  }
  if (classes < 2 || results.test_logits_size() != results.test_images_size() * classes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "study ", results.status().id(), ": ", results.test_logits_size(), " logits for ",
        results.test_images_size(), " test images of ", classes, " classes; is this the study's image set?"));
  }
  for (int i = 0; i < results.test_images_size(); ++i) {
    const uint32_t image = results.test_images(i);
    if (image >= static_cast<uint32_t>(manifest.images_size())) {
      return absl::InvalidArgumentError(absl::StrCat("study ", results.status().id(), ": test image ", image,
                                                     " is not in the set '", manifest.name(), "'"));
    }
  }
  return absl::OkStatus();
}

// Of classes that tie, the last: as everywhere (the positive one at probability >= .5).
int PredictedClass(const std::vector<double>& p) {
  return static_cast<int>(p.rend() - std::max_element(p.rbegin(), p.rend())) - 1;
}

}  // namespace

absl::StatusOr<TestScores> ScoresOf(const v1::StudyResults& results,
                                    const v1::ImageSetManifest& manifest) {
  const int classes = manifest.classes_size();
  RETURN_IF_ERROR(CheckScores(results, manifest));
  if (manifest.unlabelled()) {
    return absl::FailedPreconditionError(
        absl::StrCat("study ", results.status().id(), ": its images have no labels to compare with"));
  }
  TestScores scores;
  for (int i = 0; i < results.test_images_size(); ++i) {
    const uint32_t image = results.test_images(i);
    scores.probability.push_back(Softmax({results.test_logits().data() + i * classes, static_cast<size_t>(classes)}).back());
    scores.label.push_back(manifest.images(image).label() + 1 == static_cast<uint32_t>(classes) ? 1 : 0);
  }
  return scores;
}

absl::StatusOr<Evaluation> EvaluateStudy(const v1::StudyResults& results,
                                         const v1::ImageSetManifest& manifest) {
  ASSIGN_OR_RETURN(const TestScores scores, ScoresOf(results, manifest));
  return Evaluate(scores.probability, scores.label);
}

absl::StatusOr<Evaluation> EvaluateBaseline(const v1::StudyResults& results, const v1::BaselineResult& baseline,
                                            const v1::ImageSetManifest& manifest) {
  v1::StudyResults own;
  *own.mutable_status() = results.status();
  *own.mutable_test_images() = results.test_images();
  *own.mutable_test_logits() = baseline.test_logits();
  return EvaluateStudy(own, manifest);
}

namespace {

std::string Tile(const std::string& value, const std::string& name, const std::string& more) {
  return absl::StrCat("<div class=\"tile\"><b>", value, "</b><span>", name, "</span><small>", more,
                      "</small></div>");
}

std::string ResultTable(const Evaluation& e, const std::vector<std::pair<std::string, Evaluation>>& baselines) {
  std::string html =
      "<div class=\"scroll\"><table><thead><tr><th rowspan=\"2\">classifier</th><th rowspan=\"2\">accuracy</th>"
      "<th rowspan=\"2\">precision</th><th colspan=\"2\">of all test images</th><th colspan=\"2\">of the class</th>"
      "<th rowspan=\"2\">sensitivity</th><th rowspan=\"2\">specificity</th><th rowspan=\"2\">ROC area</th>"
      "<th rowspan=\"2\">average precision</th></tr><tr><th>FPR</th><th>FNR</th><th>FPR</th><th>FNR</th></tr>"
      "</thead><tbody>";
  const auto add = [&](const std::string& name, const Evaluation& row, bool network) {
    absl::StrAppend(&html, "<tr", network ? " class=\"ours\"" : "", "><th scope=\"row\">", Escape(name), "</th>");
    for (double v : {row.accuracy, row.precision, row.fpr_of_all, row.fnr_of_all, row.fpr_of_class, row.fnr_of_class,
                     row.sensitivity, row.specificity, row.roc_area, row.average_precision}) {
      absl::StrAppend(&html, "<td>", Number(v), "</td>");
    }
    html += "</tr>";
  };
  add(baselines.empty() ? "This study" : "This study: network", e, true);
  for (const auto& [name, row] : baselines) add("This study: " + name, row, false);
  for (const SeedRow& row : kSeedTable) {
    absl::StrAppend(&html, "<tr><th scope=\"row\">", row.name, "</th>");
    for (double v : {row.accuracy, row.precision, row.fpr_of_all, row.fnr_of_all}) {
      absl::StrAppend(&html, "<td>", Number(v), "</td>");
    }
    for (int i = 0; i < 6; ++i) html += "<td class=\"none\">–</td>";
    html += "</tr>";
  }
  return html +
         "</tbody></table></div><p class=\"note\">The seed paper tested on 650 images of another set, and its "
         "network’s row contradicts itself (.080 + .071 ≠ 1 − .872): read it as a landmark, not as a rival. Its "
         "rates are fractions of all test images; the usual ones, of the class, stand beside.</p>";
}

ScoredRun RunOf(const google::protobuf::RepeatedField<float>& validation,
                const google::protobuf::RepeatedField<float>& test) {
  return {{validation.begin(), validation.end()}, {test.begin(), test.end()}};
}

// All that can be said of the models' scores. Empty where there are no validation images to choose
// thresholds by, or not two classes.
absl::StatusOr<std::string> JudgeStudy(const v1::StudyResults& results, const ImageSet& images) {
  // Every image is read for it, over the network.
  constexpr int kMostFingerprints = 20'000;
  const v1::ImageSetManifest& manifest = images.manifest();
  ASSIGN_OR_RETURN(const JudgedImages judged,
                   ImagesToJudge(manifest, results.validation_images(), results.test_images()));
  JudgedView view;
  std::vector<std::pair<std::string, ScoredRun>> models = {
      {"network", RunOf(results.validation_logits(), results.test_logits())}};
  for (const v1::BaselineResult& baseline : results.baselines()) {
    if (baseline.test_logits().empty()) continue;
    models.emplace_back(NameOf(baseline), RunOf(baseline.validation_logits(), baseline.test_logits()));
  }
  for (const auto& [name, run] : models) {
    ASSIGN_OR_RETURN(EvaluationReport report, JudgeModel(name, judged, {&run, 1}));
    view.models.push_back(std::move(report));
    if (view.models.size() == 1) continue;
    ASSIGN_OR_RETURN(ModelComparison comparison,
                     CompareModels(models[0].first, models[0].second, name, run, judged));
    view.comparisons.push_back(std::move(comparison));
  }
  ASSIGN_OR_RETURN(const Split split, MakeSplit(manifest, results.spec().images().split(), results.spec().seed()));
  std::vector<ImageFingerprint> fingerprints;
  if (manifest.images_size() <= kMostFingerprints) {
    ASSIGN_OR_RETURN(fingerprints, FingerprintsOf(images));
  }
  ASSIGN_OR_RETURN(view.leaks, CheckLeaks(manifest, split, fingerprints));
  return RenderJudged(view, manifest);
}

// The page stands without it.
std::string RenderEvaluation(const v1::StudyResults& results, const ImageSet& images) {
  if (images.manifest().classes_size() != 2 || results.validation_images().empty()) return "";
  const absl::StatusOr<std::string> html = JudgeStudy(results, images);
  if (html.ok()) return *html;
  return absl::StrCat("<p class=\"missing\">", Escape(std::string(html.status().message())), "</p>");
}

// How often these test images have been looked at: who looks often, finds something.
std::string TestUseNote(const v1::TestUse& use) {
  if (use.models() == 0) return "";
  return absl::StrCat(" This test split was evaluated ", use.models(), use.models() == 1 ? " time by " : " times by ",
                      use.studies(), use.studies() == 1 ? " study" : " studies", " of this cluster.");
}

std::string Confusion(const Evaluation& e, const v1::ImageSetManifest& manifest) {
  const int classes = manifest.classes_size();
  const std::string positive = Escape(manifest.classes(classes - 1));
  const std::string negative = classes == 2 ? Escape(manifest.classes(0)) : "not " + positive;
  const auto cell = [](uint64_t count, uint64_t of, bool right, const char* name) {
    const double share = of == 0 ? 0 : static_cast<double>(count) / static_cast<double>(of);
    return absl::StrFormat(
        "<td class=\"%s\" style=\"--share:%.3f\"><b>%d</b><span>%s</span><small>%.1f %% of the class</small></td>",
        right ? "right" : "wrong", share, count, name, share * 100);
  };
  const uint64_t negatives = e.true_negative + e.false_positive, positives = e.true_positive + e.false_negative;
  return absl::StrCat(
      "<div class=\"panel\"><p>confusion matrix</p><table class=\"confusion\"><thead><tr><td></td><th>predicted ", negative,
      "</th><th>predicted ", positive, "</th></tr></thead><tbody><tr><th scope=\"row\">is ", negative, "</th>",
      cell(e.true_negative, negatives, true, "true negatives"),
      cell(e.false_positive, negatives, false, "false positives"), "</tr><tr><th scope=\"row\">is ", positive,
      "</th>", cell(e.false_negative, positives, false, "false negatives"),
      cell(e.true_positive, positives, true, "true positives"), "</tr></tbody></table></div>");
}

std::vector<std::pair<double, double>> PointsOf(const std::vector<CurvePoint>& curve) {
  std::vector<std::pair<double, double>> points;
  for (const CurvePoint& p : curve) points.emplace_back(p.x, p.y);
  return points;
}

std::string Curves(const Evaluation& e) {
  Plot roc, pr;
  roc.title = absl::StrFormat("Receiver operating characteristic, area %.3f", e.roc_area);
  roc.width = pr.width = 350;
  roc.x_label = "false positive rate";
  roc.y_label = "true positive rate";
  roc.lines = {{"", "guide", {{0, 0}, {1, 1}}},
               {absl::StrFormat("area %.3f", e.roc_area), "a", PointsOf(e.roc)}};
  roc.mark_point = {e.fpr_of_class, e.sensitivity};
  roc.mark_point_name = "probability ≥ .5";
  pr.title = absl::StrFormat("Precision and recall, average precision %.3f", e.average_precision);
  pr.x_label = "recall";
  pr.y_label = "precision";
  const double share = e.n == 0 ? 0 : static_cast<double>(e.true_positive + e.false_negative) / static_cast<double>(e.n);
  pr.lines = {{"", "guide", {{0, share}, {1, share}}},
              {absl::StrFormat("average %.3f", e.average_precision), "a", PointsOf(e.precision_recall)}};
  pr.mark_point = {e.sensitivity, e.precision};
  pr.mark_point_name = "probability ≥ .5";
  return absl::StrCat(RenderPlot(roc), RenderPlot(pr));
}

// Epochs that ran beyond the stop belong to no result.
int EpochsOf(const v1::StudyResults& results) {
  const int ran = results.training().epochs_size();
  return results.stop_epoch() == 0 ? ran : std::min<int>(ran, results.stop_epoch());
}

uint32_t BestEpoch(const v1::StudyResults& results) {
  const auto& epochs = results.training().epochs();
  int best = 0;
  for (int i = 1; i < EpochsOf(results); ++i) {
    if (Better(results.spec().training().early_stopping().metric(), epochs[i], epochs[best])) best = i;
  }
  return epochs[best].epoch();
}

std::string TrainingCurves(const v1::StudyResults& results) {
  const auto& epochs = results.training().epochs();
  const int shown = EpochsOf(results);
  Plot loss, accuracy;
  PlotLine training_loss{"training", "b", {}}, validation_loss{"validation", "a", {}};
  PlotLine training_accuracy = training_loss, validation_accuracy = validation_loss;
  double most = 0;
  for (int i = 0; i < shown; ++i) {
    const v1::EpochMetrics& m = epochs[i];
    training_loss.points.emplace_back(m.epoch(), m.training_loss());
    validation_loss.points.emplace_back(m.epoch(), m.validation_loss());
    training_accuracy.points.emplace_back(m.epoch(), m.training_accuracy());
    validation_accuracy.points.emplace_back(m.epoch(), m.validation_accuracy());
    for (double v : {m.training_loss(), m.validation_loss()}) {
      if (std::isfinite(v)) most = std::max(most, v);
    }
  }
  // One wild epoch must not flatten all others.
  std::vector<double> sorted;
  for (const auto& [x, y] : validation_loss.points) if (std::isfinite(y)) sorted.push_back(y);
  for (const auto& [x, y] : training_loss.points) if (std::isfinite(y)) sorted.push_back(y);
  std::sort(sorted.begin(), sorted.end());
  if (sorted.size() >= 10) most = std::min(most, 2.5 * sorted[sorted.size() * 9 / 10]);
  loss.title = "Loss by epoch";
  accuracy.title = "Accuracy by epoch";
  loss.y_label = "cross entropy";
  accuracy.y_label = "accuracy";
  for (Plot* plot : {&loss, &accuracy}) {
    plot->x_label = "epoch";
    plot->x_min = shown > 1 ? 1 : 0;
    plot->x_max = std::max(shown, 1);
    plot->mark_x = BestEpoch(results);
    plot->mark_name = absl::StrCat("best epoch ", BestEpoch(results));
  }
  loss.y_max = most > 0 ? most * 1.05 : 1;
  double least = 1;
  for (const PlotLine* line : {&training_accuracy, &validation_accuracy}) {
    for (const auto& [x, y] : line->points) if (std::isfinite(y)) least = std::min(least, y);
  }
  accuracy.y_min = std::max(0.0, std::floor(least * 10 - 0.5) / 10);
  loss.lines = {training_loss, validation_loss};
  accuracy.lines = {training_accuracy, validation_accuracy};
  return absl::StrCat(RenderPlot(loss), RenderPlot(accuracy));
}

std::string Fact(const std::string& name, const std::string& value, bool code = false) {
  return absl::StrCat("<div><dt>", name, "</dt><dd>", code ? "<code>" : "", Escape(value), code ? "</code>" : "",
                      "</dd></div>");
}

std::string Provenance(const v1::StudyResults& results, const v1::ImageSetManifest& manifest) {
  const v1::StudySpec& spec = results.spec();
  const auto spec_digest = MessageDigest(spec);
  std::string html = "<dl class=\"provenance\">";
  html += Fact("study", results.status().id());
  html += Fact("image set", absl::StrCat(manifest.name(), ", ", manifest.images_size(), " images of ",
                                         manifest.width(), " × ", manifest.height(), " pixels; ",
                                         manifest.preprocessing()));
  html += Fact("image set digest", Hex(results.image_set()), true);
  html += Fact("spec digest", spec_digest.ok() ? spec_digest->hex() : "–", true);
  html += Fact("weights", Hex(results.model().weights()), true);
  html += Fact("numerics class", results.numerics_class(), true);
  html += Fact("software", absl::StrCat("Dermis ", kVersion));
  if (results.training().epochs_size() > 0) {
    const bool early = spec.training().has_early_stopping();
    const std::string ran = results.stop_epoch() > 0
                                ? absl::StrCat(results.stop_epoch())
                                : absl::StrCat("so far ", results.training().epochs_size());
    html += Fact("epochs", absl::StrCat(ran, " of at most ", spec.training().epochs(), "; best epoch ",
                                        BestEpoch(results), "; the weights of the ",
                                        early ? "best" : "last", " epoch are used"));
    html += Fact("steps an epoch", absl::StrCat(results.training().steps_per_epoch()));
  }
  const auto split = MakeSplit(manifest, spec.images().split(), spec.seed());
  if (split.ok()) {
    html += Fact("split", absl::StrCat(split->training.size(), " training, ", split->validation.size(),
                                       " validation, ", split->test.size(), " test images"));
    if (spec.training().batch_size() > 0) {
      html += Fact("left out an epoch",
                   absl::StrCat(split->training.size() % spec.training().batch_size(), " of ",
                                split->training.size(),
                                " training images: training steps are always full; others are left out in the "
                                "next epoch"));
    }
  }
  return absl::StrCat(html, "</dl><details><summary>The study as it ran <span>every default filled</span></summary>"
                            "<pre>",
                      Escape(ToYaml(spec)), "</pre></details>");
}

// All explained images where they are few; else the first of each outcome in turn: a page holds no more.
std::vector<int> ShownCases(const v1::StudyResults& results) {
  constexpr size_t kMost = 60;
  std::map<std::string, std::vector<int>> outcomes;
  for (int i = 0; i < results.explained_size(); ++i) outcomes[results.explained(i).why()].push_back(i);
  std::vector<int> shown;
  const size_t most = std::min<size_t>(kMost, static_cast<size_t>(results.explained_size()));
  for (size_t round = 0; shown.size() < most; ++round) {
    for (const auto& [why, images] : outcomes) {
      if (round < images.size() && shown.size() < most) shown.push_back(images[round]);
    }
  }
  std::sort(shown.begin(), shown.end());
  return shown;
}

std::string Section(const std::string& id, const std::string& title, const std::string& body) {
  return absl::StrCat("<section id=\"", id, "\"><h2>", title, "</h2>", body, "</section>");
}

absl::Status WriteFileAtomically(const std::string& path, const std::string& text) {
  std::error_code no_such;
  const auto type = std::filesystem::status(path, no_such).type();
  if (type != std::filesystem::file_type::regular && type != std::filesystem::file_type::not_found) {
    // A device or a pipe: it stays what it is.
    std::ofstream out(path, std::ios::binary);
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    out.close();
    if (out) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat(path, " cannot be written: is it a folder, or full?"));
  }
  const std::string temporary = path + ".part";
  std::ofstream out(temporary, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(temporary, path, error);
  if (!out || error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    return absl::UnavailableError(
        absl::StrCat(path, " cannot be written", error ? ": " + error.message() : "",
                     "; does its folder exist, and is there space?"));
  }
  return absl::OkStatus();
}

// All of it is HTML.
std::string Page(const std::string& name, const std::string& lead, const std::string& links, const std::string& body) {
  return absl::StrCat(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><title>",
      name, " – Dermis report</title><style>", kReportStyle,
      "</style></head><body><svg class=\"defs\" aria-hidden=\"true\"><filter id=\"grey\" "
      "color-interpolation-filters=\"sRGB\"><feColorMatrix values=\".2989 .587 .114 0 0 .2989 .587 .114 0 0 .2989 "
      ".587 .114 0 0 0 0 0 1 0\"/></filter></svg><header class=\"top\"><p class=\"brand\">Dermis</p><h1>",
      name, "</h1><p class=\"lead\">", lead, "</p><nav>", links, "</nav></header><main>", body,
      "</main><footer>Not for clinical use. Made by Dermis ", kVersion,
      ": same study, same bits, on any number of workers.</footer></body></html>\n");
}

}  // namespace

absl::StatusOr<std::string> RenderReport(const v1::StudyResults& results, const ReportInputs& inputs) {
  if (inputs.images == nullptr || !inputs.fetch_payload) {
    return absl::InvalidArgumentError("a report needs the study's image set and a way to its payloads");
  }
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  const int classes = manifest.classes_size();
  const std::string name = Escape(results.status().id().empty() ? results.spec().name() : results.status().id());
  std::string body, links;
  const auto add = [&](const std::string& id, const std::string& title, const std::string& html) {
    body += Section(id, title, html);
    absl::StrAppend(&links, "<a href=\"#", id, "\">", title, "</a>");
  };

  const bool tested = results.test_images_size() > 0;
  std::map<uint32_t, int> row_of;
  std::string tiles;
  for (int i = 0; i < results.test_images_size(); ++i) row_of[results.test_images(i)] = i;
  if (tested && manifest.unlabelled()) {
    RETURN_IF_ERROR(CheckScores(results, manifest));
    add("results", "Results", RenderPredictions(results, manifest));
  } else if (tested) {
    ASSIGN_OR_RETURN(const Evaluation e, EvaluateStudy(results, manifest));
    tiles = absl::StrCat(
        "<div class=\"tiles\">",
        Tile(Number(e.accuracy), "accuracy", WilsonInterval(e.true_positive + e.true_negative, e.n)),
        Tile(Number(e.roc_area), "area under ROC", absl::StrCat("average precision ", Number(e.average_precision))),
        Tile(Number(e.sensitivity), "sensitivity", WilsonInterval(e.true_positive, e.true_positive + e.false_negative)),
        Tile(Number(e.specificity), "specificity", WilsonInterval(e.true_negative, e.true_negative + e.false_positive)),
        "</div><p class=\"note\">On ", e.n,
        results.spec().has_model() ? " test images (what the model was trained on is not known here)"
                                   : " test images that took no part in training",
        "; ranges are 95 % Wilson intervals.", TestUseNote(results.test_use()), "</p>");
    std::vector<std::pair<std::string, Evaluation>> baselines;
    for (const v1::BaselineResult& baseline : results.baselines()) {
      if (auto judged = EvaluateBaseline(results, baseline, manifest); judged.ok()) {
        baselines.emplace_back(NameOf(baseline), *std::move(judged));
      }
    }
    add("results", "Results",
        absl::StrCat(ResultTable(e, baselines), "<div class=\"trio\">", Confusion(e, manifest), Curves(e), "</div>"));
    const std::string judged = RenderEvaluation(results, *inputs.images);
    if (!judged.empty()) add("evaluation", "Evaluation in depth", judged);
  } else {
    add("results", "Results", "<p class=\"missing\">The test images are not evaluated yet.</p>");
  }
  if (results.trials_size() > 0) add("trials", "Trials", RenderTrials(results));
  if (results.spec().has_model()) {
    add("training", "Model", RenderGivenModel(results.spec().model()));
  } else {
    add("training", "Training",
      (results.training().epochs_size() == 0
          ? "<p class=\"missing\">No epoch is completed yet.</p>"
          : absl::StrCat("<div class=\"duo\">", TrainingCurves(results), "</div>",
                         "<p class=\"note\">Training curves hold dropout and augmentation, validation curves "
                         "neither: validation may lie better.</p>")) +
          RenderAugmented(results.spec(), *inputs.images));
  }

  if (results.explained_size() > 0) {
    const v1::OutputKind kind = results.spec().explanation().output();
    const std::string positive = classes > 0 ? Escape(manifest.classes(classes - 1)) : "";
    const std::string f =
        kind == v1::OUTPUT_KIND_PROBABILITY ? "the probability of " + positive
        : kind == v1::OUTPUT_KIND_LOGIT     ? "the logit of " + positive
                                            : "the margin: the logit of " + positive + " minus the mean of the others";
    std::string cases = absl::StrCat("<p>Every method explains the same function f, ", f, ".</p>");
    std::string articles;
    const std::vector<int> shown = ShownCases(results);
    if (shown.size() < static_cast<size_t>(results.explained_size())) {
      absl::StrAppend(&cases, "<p class=\"note\">", shown.size(), " of ", results.explained_size(),
                      " explained images are shown, evenly from each outcome. All are written by <code>dermis results "
                      "STUDY --explanations DIR</code>.</p>");
    }
    cases += "<nav class=\"index\">";
    for (const int i : shown) {
      const v1::ExplainedImage& explained = results.explained(i);
      ExplainedView view;
      view.number = i + 1;
      view.results = &results;
      view.explained = &explained;
      if (const auto row = row_of.find(explained.image()); row != row_of.end()) {
        view.logits = results.test_logits().data() + row->second * classes;
      }
      ASSIGN_OR_RETURN(const std::string article, RenderExplained(view, inputs));
      articles += article;
      absl::StrAppend(&cases, "<a href=\"#case", i + 1, "\" title=\"", Escape(explained.why()), "\">",
                      Escape(manifest.images(explained.image()).name()), "</a>");
    }
    add("explanations", "Explanations", absl::StrCat(cases, "</nav>", articles));
    ASSIGN_OR_RETURN(const CheckSummary checks, SummariseChecks(results, inputs));
    const std::string judged = RenderChecks(checks, results.spec().explanation());
    if (!judged.empty()) add("checks", "Checks", judged);
  }
  const std::string baselines = RenderBaselines(results, inputs);
  if (!baselines.empty()) add("baselines", "Baselines", baselines);
  ASSIGN_OR_RETURN(const std::string embeddings, RenderEmbeddings(results, inputs));
  if (!embeddings.empty()) add("embeddings", "Embeddings", embeddings);
  const std::string lesions = RenderLesions(results, inputs);
  if (!lesions.empty()) add("lesions", "Lesions", lesions);
  add("provenance", "Provenance", Provenance(results, manifest));

  return Page(name,
              absl::StrCat(Escape(manifest.name().empty() ? results.spec().images().set() : manifest.name()), " · ",
                           manifest.images_size(), " images · ", results.explained_size(), " explained"),
              links, absl::StrCat(RenderLesionWarnings(results, inputs), tiles, body));
}

absl::Status WriteJudgedPage(const std::string& title, const std::string& lead, const JudgedView& view,
                             const v1::ImageSetManifest& manifest, const std::string& path) {
  return WriteFileAtomically(path, Page(Escape(title), Escape(lead), "",
                                        Section("evaluation", "Evaluation", RenderJudged(view, manifest))));
}

absl::Status WriteReport(const v1::StudyResults& results, const ReportInputs& inputs,
                         const std::string& path) {
  ASSIGN_OR_RETURN(const std::string html, RenderReport(results, inputs));
  return WriteFileAtomically(path, html);
}

absl::Status WriteScoresCsv(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                            const std::string& path) {
  const int classes = manifest.classes_size();
  RETURN_IF_ERROR(CheckScores(results, manifest));
  std::string csv = "index,image,label,predicted,probability,margin";
  for (const std::string& name : manifest.classes()) absl::StrAppend(&csv, ",", CsvField("logit_" + name));
  csv += "\r\n";
  for (int i = 0; i < results.test_images_size(); ++i) {
    const v1::ImageEntry& entry = manifest.images(results.test_images(i));
    const absl::Span<const float> logits(results.test_logits().data() + i * classes, classes);
    const std::vector<double> p = Softmax(logits);
    const int predicted = PredictedClass(p);
    absl::StrAppendFormat(&csv, "%d,%s,%s,%s,%.9g,%.9g", results.test_images(i), CsvField(entry.name()),
                          CsvField(entry.label() < static_cast<uint32_t>(classes) && !manifest.unlabelled()
                                       ? manifest.classes(entry.label())
                                       : ""),
                          CsvField(manifest.classes(predicted)), p.back(), OutputOf(v1::OUTPUT_KIND_MARGIN, logits));
    for (float v : logits) absl::StrAppendFormat(&csv, ",%.9g", v);
    csv += "\r\n";
  }
  return WriteFileAtomically(path, csv);
}

}  // namespace dermis
