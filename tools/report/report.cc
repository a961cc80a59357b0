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
#include "common/metrics.h"
#include "common/spec_yaml.h"
#include "common/split.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "tools/ingest/csv.h"
#include "tools/report/abcd.h"
#include "tools/report/augmented.h"
#include "tools/report/baselines.h"
#include "tools/report/cards.h"
#include "tools/report/check_summary.h"
#include "tools/report/checks.h"
#include "tools/report/curves.h"
#include "tools/report/embeddings.h"
#include "tools/report/explained.h"
#include "tools/report/first_screen.h"
#include "tools/report/flow.h"
#include "tools/report/given.h"
#include "tools/report/judged.h"
#include "tools/report/judgement.h"
#include "tools/report/lesion.h"
#include "tools/report/panel.h"
#include "tools/report/plot.h"
#include "tools/report/script.h"
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

absl::StatusOr<std::vector<TestScores>> ScoresBySeed(const v1::StudyResults& results,
                                                     const v1::ImageSetManifest& manifest) {
  std::vector<TestScores> scores(1);
  ASSIGN_OR_RETURN(scores[0], ScoresOf(results, manifest));
  for (int k = 1; k < results.seeds_size(); ++k) {
    if (results.seeds(k).test_logits().empty()) continue;
    v1::StudyResults own;
    *own.mutable_status() = results.status();
    *own.mutable_test_images() = results.test_images();
    *own.mutable_test_logits() = results.seeds(k).test_logits();
    ASSIGN_OR_RETURN(scores.emplace_back(), ScoresOf(own, manifest));
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

std::string ResultTable(const NamedEvaluations& models) {
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
  for (const auto& [name, row] : models) {
    const bool network = &row == &models[0].second;
    add(models.size() == 1 ? "This study" : "This study: " + name, row, network);
  }
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

std::string TrainingCurves(const v1::StudyResults& results) {
  return absl::StrCat(RenderPlot(LossPlot(results)), RenderPlot(AccuracyPlot(results)));
}

std::string Fact(const std::string& name, const std::string& value, bool code = false) {
  return absl::StrCat("<div><dt>", name, "</dt><dd>", code ? "<code>" : "", Escape(value), code ? "</code>" : "",
                      "</dd></div>");
}

std::string AuditFact(const std::string& audit) { return Fact("audit log at this report", audit, true); }

std::string Provenance(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                       const std::string& audit) {
  const v1::StudySpec& spec = results.spec();
  const auto spec_digest = MessageDigest(spec);
  std::string html = "<dl class=\"provenance\">";
  html += Fact("study", results.status().id());
  html += Fact("image set", absl::StrCat(SetName(results, manifest, ", "), manifest.images_size(),
                                         " images of ", manifest.width(), " × ", manifest.height(),
                                         " pixels; ", manifest.preprocessing()));
  html += Fact("image set digest", Hex(results.image_set()), true);
  html += Fact("spec digest", spec_digest.ok() ? spec_digest->hex() : "–", true);
  html += Fact("weights", Hex(results.model().weights()), true);
  html += Fact("numerics class", results.numerics_class(), true);
  html += Fact("software", absl::StrCat("Dermis ", kVersion));
  if (!audit.empty()) html += AuditFact(audit);
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

// The order in which explained images are taken into the page: the first of each outcome, then the second of each, ...
std::vector<int> InTurn(const v1::StudyResults& results) {
  std::map<std::string, std::vector<int>> outcomes;
  for (int i = 0; i < results.explained_size(); ++i) outcomes[results.explained(i).why()].push_back(i);
  std::vector<int> turn;
  for (size_t round = 0; turn.size() < static_cast<size_t>(results.explained_size()); ++round) {
    for (const auto& [why, images] : outcomes) {
      if (round < images.size()) turn.push_back(images[round]);
    }
  }
  return turn;
}

std::string Section(const std::string& id, const std::string& title, const std::string& body) {
  return absl::StrCat("<section id=\"", id, "\"><h2>", title, "</h2>", body, "</section>");
}

// All of it is HTML.
std::string Page(const std::string& name, const std::string& lead, const std::string& links, const std::string& body) {
  return absl::StrCat(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><title>",
      name, " – Dermis report</title><style>", kReportStyle, kPlotStyle,
      "</style></head><body><svg class=\"defs\" aria-hidden=\"true\"><filter id=\"grey\" "
      "color-interpolation-filters=\"sRGB\"><feColorMatrix values=\".2989 .587 .114 0 0 .2989 .587 .114 0 0 .2989 "
      ".587 .114 0 0 0 0 0 1 0\"/></filter></svg><header class=\"top\"><p class=\"brand\">Dermis</p><h1>",
      name, "</h1><p class=\"lead\">", lead, "</p><nav>", links, "</nav></header><main>", body,
      "</main><footer>Not for clinical use. Made by Dermis ", kVersion,
      ": same study, same bits, on any number of workers.</footer><script>", kReportScript, "</script></body></html>\n");
}

absl::StatusOr<std::string> ResultSection(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                                          const Judgement& judgement) {
  if (results.test_images_size() == 0) return std::string("<p class=\"missing\">The test images are not evaluated yet.</p>");
  if (manifest.unlabelled()) {
    RETURN_IF_ERROR(CheckScores(results, manifest));
    return RenderPredictions(results, manifest);
  }
  const NamedEvaluations& models = judgement.models;
  std::string html = absl::StrCat(ResultTable(models), "<div class=\"trio\">", RenderPlot(RocPlot(models)),
                                  RenderPlot(PrecisionRecallPlot(models)), RenderConfusion(models[0].first, models[0].second, manifest));
  for (size_t i = 1; i < models.size(); ++i) html += RenderConfusion(models[i].first, models[i].second, manifest);
  return html + "</div>";
}

// The page is to stay below 20 MB, and room is left for what follows the images.
constexpr size_t kMostBytes = 18'500'000;

// `elsewhere`: bytes that the rest of the page takes.
absl::StatusOr<std::string> ExplanationSection(const v1::StudyResults& results, const ReportInputs& inputs, size_t elsewhere) {
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  const int classes = manifest.classes_size();
  std::map<uint32_t, int> row_of;
  for (int i = 0; i < results.test_images_size(); ++i) row_of[results.test_images(i)] = i;
  std::map<int, std::string> articles;
  size_t bytes = elsewhere;
  for (const int i : InTurn(results)) {
    const v1::ExplainedImage& explained = results.explained(i);
    ExplainedView view;
    view.number = i + 1;
    view.results = &results;
    view.explained = &explained;
    if (const auto row = row_of.find(explained.image()); row != row_of.end()) {
      view.logits = results.test_logits().data() + row->second * classes;
    }
    ASSIGN_OR_RETURN(std::string article, RenderExplained(view, inputs));
    bytes += article.size();
    if (bytes > kMostBytes && !articles.empty()) break;
    articles[i] = std::move(article);
  }

  const v1::OutputKind kind = results.spec().explanation().output();
  const std::string positive = classes > 0 ? Escape(manifest.classes(classes - 1)) : "";
  const std::string f = kind == v1::OUTPUT_KIND_PROBABILITY ? "the probability of " + positive
                        : kind == v1::OUTPUT_KIND_LOGIT     ? "the logit of " + positive
                                                            : "the margin: the logit of " + positive + " minus the mean of the others";
  std::string html = absl::StrCat("<p>Every method explains the same function f, ", f, ".");
  if (results.spec().explanation().baselines()) {
    absl::StrAppend(&html,
                    " Beneath the network’s explanations stand the baselines’, of the same image "
                    "by the same masks, and of "
                    "their own f",
                    kind == v1::OUTPUT_KIND_PROBABILITY
                        ? ""
                        : "; a forest’s is the probability, because where all its trees agree its "
                          "margin is infinite",
                    ".");
  }
  html += "</p>";
  if (articles.size() < static_cast<size_t>(results.explained_size())) {
    absl::StrAppend(&html, "<p class=\"note\">", articles.size(), " of ", results.explained_size(),
                    " explained images are shown, evenly from each outcome: a page that holds more opens slowly. All are written by "
                    "<code>dermis results STUDY --explanations DIR</code>.</p>");
  }
  html += "<nav class=\"index\" aria-label=\"Explained images\">";
  std::string all;
  for (const auto& [i, article] : articles) {
    const v1::ExplainedImage& explained = results.explained(i);
    absl::StrAppend(&html, "<a href=\"#case", i + 1, "\" title=\"", Escape(explained.why()), "\">",
                    Escape(manifest.images(static_cast<int>(explained.image())).name()), "</a>");
    all += article;
  }
  return absl::StrCat(html, "</nav>", all);
}

}  // namespace

absl::StatusOr<std::string> RenderReport(const v1::StudyResults& results, const ReportInputs& inputs) {
  if (inputs.images == nullptr || !inputs.fetch_payload) {
    return absl::InvalidArgumentError("a report needs the study's image set and a way to its payloads");
  }
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  const std::string name = Escape(results.status().id().empty() ? results.spec().name() : results.status().id());
  ASSIGN_OR_RETURN(const Judgement judgement, JudgeStudy(results, *inputs.images));
  CheckSummary checks;
  if (results.explained_size() > 0) {
    ASSIGN_OR_RETURN(checks, SummariseChecks(results, inputs));
  }
  std::string body, links;
  const auto add = [&](const std::string& id, const std::string& title, const std::string& html) {
    if (html.empty()) return;
    body += Section(id, title, html);
    absl::StrAppend(&links, "<a href=\"#", id, "\">", title, "</a>");
  };

  ASSIGN_OR_RETURN(const std::string shown, ResultSection(results, manifest, judgement));
  add("results", "Results", shown);
  if (judgement.split) {
    add("images", "Images", absl::StrCat("<div class=\"scroll\">", RenderFlow(results, manifest, *judgement.split), "</div>",
                                         RenderDataCard(results, manifest, judgement)));
  }
  add("evaluation", "Evaluation in depth",
      judgement.view            ? RenderJudged(*judgement.view, manifest)
      : judgement.why_not.empty() ? ""
                                : absl::StrCat("<p class=\"missing\">", Escape(judgement.why_not), "</p>"));
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
  const std::string baselines = RenderBaselines(results, inputs);
  ASSIGN_OR_RETURN(const std::string embeddings, RenderEmbeddings(results, inputs));
  ASSIGN_OR_RETURN(const AbcdReport abcd, JudgeAbcd(results, inputs));
  const std::string lesions = RenderLesions(results, inputs) + RenderAbcd(abcd);
  const std::string after = absl::StrCat(baselines, embeddings, lesions);  // Room that it takes is not the images'.
  if (results.explained_size() > 0) {
    ASSIGN_OR_RETURN(const std::vector<CasePanel> panels, CasePanels(results, inputs));
    add("panels", "Two cases", RenderPanels(panels));
    ASSIGN_OR_RETURN(const std::string cases, ExplanationSection(results, inputs, body.size() + after.size()));
    add("explanations", "Explanations", cases);
    add("checks", "Checks", RenderChecks(checks, results.spec().explanation()));
  }
  add("baselines", "Baselines", baselines);
  add("embeddings", "Embeddings", embeddings);
  add("lesions", "Lesions", lesions);
  add("model-card", "Model card", RenderModelCard(results, manifest, judgement));
  add("provenance", "Provenance", Provenance(results, manifest, inputs.audit));

  return Page(name,
              absl::StrCat(Escape(SetName(results, manifest, " · ")), manifest.images_size(),
                           " images · ", results.explained_size(), " explained"),
              links, absl::StrCat(RenderFirstScreen(results, inputs, judgement, checks), body));
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

absl::Status WriteJudgedPage(const std::string& title, const std::string& lead, const JudgedView& view,
                             const v1::ImageSetManifest& manifest, const std::string& audit, const std::string& path) {
  std::string body = Section("evaluation", "Evaluation", RenderJudged(view, manifest));
  if (!audit.empty()) {
    body += Section("provenance", "Provenance",
                    absl::StrCat("<dl class=\"provenance\">", AuditFact(audit), "</dl>"));
  }
  return WriteFileAtomically(path, Page(Escape(title), Escape(lead), "", body));
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
