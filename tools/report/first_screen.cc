#include "tools/report/first_screen.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "tools/report/checks.h"
#include "tools/report/curves.h"
#include "tools/report/explained.h"
#include "tools/report/lesion.h"
#include "tools/report/partial.h"
#include "tools/report/plot.h"
#include "tools/report/trials.h"

namespace dermis {
namespace {

constexpr double kAlpha = 0.05;
// A calibration error from which probabilities mislead: a stated 80 % is seen as 75 or 85 %.
constexpr double kPoorCalibration = 0.05;

bool Has(const Interval& interval) {
  return std::isfinite(interval.low) && std::isfinite(interval.high);
}

std::string Range(const Interval& interval, double times, int digits) {
  if (!Has(interval)) return "";
  return absl::StrCat(Number(times * interval.low, digits), " – ",
                      Number(times * interval.high, digits));
}

std::string Tile(const Estimate& estimate, const std::string& name, const std::string& more) {
  const std::string range = Range(estimate.interval, 1, 3);
  return absl::StrCat("<div class=\"tile\"><b>",
                      std::isfinite(estimate.value) ? Number(estimate.value) : "–", "</b><span>",
                      name, "</span><small>", range, range.empty() || more.empty() ? "" : " · ",
                      more, "</small></div>");
}

// "72 (67 – 77)"
std::string OfHundred(const Estimate& estimate) {
  if (!std::isfinite(estimate.value)) return "an unknown number";
  const std::string range = Range(estimate.interval, 100, 0);
  return absl::StrCat("<b>", Number(100 * estimate.value, 0), "</b>",
                      range.empty() ? "" : absl::StrCat(" (", range, ")"));
}

// "5 seeds 0.815 ± 0.010"; empty of one training.
std::string OverSeedsOf(const std::optional<OverSeeds>& seeds, const SeedSpread OverSeeds::*of) {
  if (!seeds) return "";
  const SeedSpread& spread = (*seeds).*of;
  return absl::StrCat(spread.values.size(), " seeds ", Number(spread.mean), " ± ",
                      Number(spread.deviation));
}

std::string And(const std::string& first, const std::string& second) {
  return absl::StrCat(first, first.empty() || second.empty() ? "" : " · ", second);
}

std::string SeedText(const SeedSpread& spread) {
  return absl::StrCat("<b>", Number(spread.mean), "</b> ± ", Number(spread.deviation), " (",
                      Number(spread.low), " – ", Number(spread.high), ")");
}

// How much of the numbers is the training's chance; the intervals beside know of one training.
std::string SeedAnswer(const std::optional<OverSeeds>& seeds) {
  if (!seeds) return "";
  return absl::StrCat(
      "<p>The same setting, trained with ", seeds->areas.values.size(), " seeds: area under ROC ",
      SeedText(seeds->areas), ", accuracy ", SeedText(seeds->accuracies),
      "; mean ± standard deviation, in brackets the range. The mean of their scores reaches an "
      "area of <b>",
      Number(seeds->averaged_area->value), "</b> (", Range(seeds->averaged_area->interval, 1, 3),
      ").</p>");
}

std::string AnswerInDepth(const Judgement& judgement) {
  const EvaluationReport& model = judgement.view->models[0];
  const std::string positive = Escape(model.positive), negative = Escape(model.negative);
  std::string html =
      absl::StrCat("<p class=\"answer\">Of 100 ", positive, " images the network finds ",
                   OfHundred(model.at_chosen.recall), "; of 100 ", negative, " ones it leaves ",
                   OfHundred(model.at_chosen.specificity), " alone.</p><p>Shown one ", positive,
                   " and one ", negative, " image, it ranks the ", positive, " one higher ",
                   OfHundred(model.at_half.area), " times of 100; chance would be 50.");
  for (const ModelComparison& c : judgement.view->comparisons) {
    const Interval& i = c.area.interval;
    const bool told_apart = Has(i) && (i.low > 0 || i.high < 0);
    absl::StrAppend(&html, " ",
                    !told_apart ? absl::StrCat("These images do not tell it apart from ")
                    : i.low > 0 ? "It ranks better than "
                                : "It ranks <b>worse</b> than ",
                    Escape(c.second), " (a difference of ", Number(100 * c.area.value, 0),
                    " in 100, ", Range(i, 100, 0), ").");
  }
  return absl::StrCat(
      html, "</p>", SeedAnswer(judgement.seeds), "<div class=\"tiles\">",
      Tile(model.at_half.area, "area under ROC", OverSeedsOf(judgement.seeds, &OverSeeds::areas)),
      Tile(model.at_chosen.recall, "sensitivity", "at the chosen threshold"),
      Tile(model.at_chosen.specificity, "specificity", "at the chosen threshold"),
      Tile(model.at_half.accuracy, "accuracy",
           And("at .5", OverSeedsOf(judgement.seeds, &OverSeeds::accuracies))),
      "</div><p class=\"note\">On ", model.test_images, " test images of ", model.test_lesions,
      " lesions that took no part in training or in any choice. The threshold, ",
      std::isfinite(model.at_chosen.threshold) ? Number(model.at_chosen.threshold)
                                               : "beyond all scores",
      ", was chosen on ", model.validation_images,
      " validation images. Ranges: 95 % intervals, by 2,000 draws of whole lesions.");
}

// 95 % Wilson score interval of a fraction.
Estimate Share(uint64_t part, uint64_t whole) {
  if (whole == 0) return {std::nan(""), {std::nan(""), std::nan("")}};
  constexpr double kZ = 1.959964;
  const double n = static_cast<double>(whole), p = static_cast<double>(part) / n;
  const double centre = (p + kZ * kZ / (2 * n)) / (1 + kZ * kZ / n);
  const double half = kZ / (1 + kZ * kZ / n) * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n));
  return {p, {std::max(0.0, centre - half), std::min(1.0, centre + half)}};
}

// Where there are no validation images to choose a threshold on, or more than two classes.
std::string PlainAnswer(const v1::StudyResults& results, const Judgement& judgement) {
  const Evaluation& e = judgement.models[0].second;
  const Estimate area = {e.roc_area, {std::nan(""), std::nan("")}};
  return absl::StrCat(
      SeedAnswer(judgement.seeds), "<div class=\"tiles\">",
      Tile(Share(e.true_positive + e.true_negative, e.n), "accuracy",
           OverSeedsOf(judgement.seeds, &OverSeeds::accuracies)),
      Tile(area, "area under ROC",
           And(absl::StrCat("average precision ", Number(e.average_precision)),
               OverSeedsOf(judgement.seeds, &OverSeeds::areas))),
      Tile(Share(e.true_positive, e.true_positive + e.false_negative), "sensitivity", ""),
      Tile(Share(e.true_negative, e.true_negative + e.false_positive), "specificity", ""),
      "</div><p class=\"note\">On ", e.n,
      results.spec().has_model() ? " test images (what the model was trained on is not known here)"
                                 : " test images that took no part in training",
      "; at a threshold of .5; ranges are 95 % Wilson intervals.");
}

std::string Link(const std::string& section, const std::string& text) {
  return absl::StrCat("<a href=\"#", section, "\">", text, "</a>");
}

void SubgroupCaveats(const EvaluationReport& model, std::vector<std::string>& caveats) {
  std::vector<std::string> found;
  for (const Subgroup& row : model.subgroups) {
    for (const auto& [name, m] :
         {std::pair{"sensitivity", &row.sensitivity}, std::pair{"specificity", &row.specificity},
          std::pair{"ROC area", &row.area}}) {
      if (std::isnan(m->holm) || m->holm >= kAlpha || m->difference >= 0) continue;
      found.push_back(absl::StrCat(Escape(row.column), " <b>", Escape(row.value), "</b> (", name,
                                   " ", Number(m->estimate.value, 2), ", ",
                                   Number(m->difference, 2), " from the rest)"));
    }
  }
  if (found.empty()) return;
  constexpr size_t kMost = 3;
  const size_t shown = std::min(found.size(), kMost);
  caveats.push_back(absl::StrCat(
      "It serves some worse: ",
      absl::StrJoin(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(shown), "; "),
      found.size() > shown ? absl::StrCat(", and ", found.size() - shown, " more") : "", ". ",
      Link("evaluation", "All subgroups"), "."));
}

void LeakCaveats(const std::optional<LeakReport>& leaks, std::vector<std::string>& caveats) {
  if (!leaks) return;
  if (!leaks->clean()) {
    caveats.push_back(absl::StrCat(
        "<b>", leaks->same_pixels + leaks->same_file + leaks->near_duplicate + leaks->same_lesion,
        "</b> pairs of images stand in two parts of the split: the numbers may flatter. ",
        Link("evaluation", "Leak check"), "."));
  } else if (!leaks->not_looked_for.empty()) {
    caveats.push_back(absl::StrCat("Near-duplicates across the split were not looked for: ",
                                   Escape(leaks->not_looked_for), "."));
  }
}

void JudgedCaveats(const JudgedView& view, std::vector<std::string>& caveats) {
  const EvaluationReport& model = view.models[0];
  LeakCaveats(view.leaks, caveats);
  SubgroupCaveats(model, caveats);
  if (model.before.error >= kPoorCalibration) {
    caveats.push_back(absl::StrFormat(
        "Its probabilities are off by %.1f points on average (%.1f after a temperature fitted on "
        "validation): read scores "
        "as ranks. %s.",
        100 * model.before.error, 100 * model.after.error, Link("evaluation", "Calibration")));
  }
  const double share = static_cast<double>(model.test_positives) /
                       static_cast<double>(std::max<uint64_t>(1, model.test_images));
  caveats.push_back(absl::StrFormat(
      "%.0f %% of the test images are %s: where their share is another, as in a clinic, predictive "
      "values do not carry over.",
      100 * share, Escape(model.positive)));
}

void SeedCaveat(const v1::StudyResults& results, const Judgement& judgement,
                std::vector<std::string>& caveats) {
  if (results.spec().has_model() || judgement.models.empty()) return;
  if (judgement.seeds) {
    caveats.push_back(
        absl::StrCat("Intervals and explanations are of the first training: another seed gives "
                     "another network. ",
                     Link("evaluation", "Over training seeds"), "."));
    return;
  }
  caveats.push_back(absl::StrCat(
      "Spread over training seeds ", kOneTraining,
      ". How far another seed would move these numbers is not measured here (sweep: {seeds: 5})."));
}

void TrainingCaveats(const v1::StudyResults& results, std::vector<std::string>& caveats) {
  if (results.spec().has_model() || EpochsOf(results) == 0) return;
  const v1::TrainingSpec& training = results.spec().training();
  if (training.has_early_stopping() && results.stop_epoch() >= training.epochs() &&
      BestEpoch(results) + training.early_stopping().patience() > training.epochs()) {
    caveats.push_back(absl::StrCat(
        "Training ended at its limit of ", training.epochs(),
        " epochs while validation still got better: it may not be trained to its end."));
  }
}

void ImageCaveats(const v1::ImageSetManifest& manifest, std::vector<std::string>& caveats) {
  if (manifest.unlabelled()) return;
  std::set<std::string> groups;
  int grouped = 0;
  for (const v1::ImageEntry& entry : manifest.images()) grouped += entry.group().empty() ? 0 : 1;
  if (grouped == manifest.images_size()) return;
  caveats.push_back(absl::StrCat(
      grouped == 0 ? std::string("The set does not say")
                   : absl::StrCat("For ", manifest.images_size() - grouped, " of ",
                                  manifest.images_size(), " images the set does not say"),
      " which lesion or patient they show: images of one may stand on both sides of the split, and "
      "intervals may be too "
      "narrow."));
}

}  // namespace

std::string TestUseNote(const v1::TestUse& use) {
  if (use.evaluations() == 0) return "";
  return absl::StrCat(
      " ", use.evaluations(), use.evaluations() == 1 ? " model" : " models",
      use.models() == use.evaluations()
          ? ""
          : absl::StrCat(" (", use.models(),
                         " trainings: those of one setting with other seeds are one model)"),
      use.evaluations() == 1 ? " was" : " were", " evaluated on images of this test split, in ",
      use.studies(), use.studies() == 1 ? " study" : " studies", " of this cluster.");
}

std::vector<std::string> Caveats(const v1::StudyResults& results, const ReportInputs& inputs,
                                 const Judgement& judgement, const CheckSummary& checks) {
  std::vector<std::string> caveats;
  if (judgement.view) JudgedCaveats(*judgement.view, caveats);
  SeedCaveat(results, judgement, caveats);
  TrainingCaveats(results, caveats);
  if (const size_t flags = CheckFlags(checks).size(); flags > 0) {
    caveats.push_back(absl::StrCat(
        "<b>", flags, "</b> ", flags == 1 ? "check" : "checks",
        " of the explanations raised a flag: pictures that look right may not show what the "
        "network uses. ",
        Link("checks", "Checks"), "."));
  }
  ImageCaveats(inputs.images->manifest(), caveats);
  return caveats;
}

std::string RenderFirstScreen(const v1::StudyResults& results, const ReportInputs& inputs,
                              const Judgement& judgement, const CheckSummary& checks) {
  const std::string partial = PartialNote(results.status());
  std::string html = absl::StrCat(
      partial.empty() ? ""
                      : absl::StrCat("<ul class=\"flags first\" id=\"partial\"><li>", Escape(partial),
                                     ".</li></ul>"),
      RenderLesionWarnings(results, inputs));
  if (!judgement.models.empty()) {
    absl::StrAppend(&html, "<div class=\"first\">",
                    judgement.view ? AnswerInDepth(judgement) : PlainAnswer(results, judgement),
                    TestUseNote(results.test_use()), "</p></div>");
  }
  std::vector<std::string> items = Caveats(results, inputs, judgement, checks);
  items.insert(
      items.begin(),
      "Not for clinical use: measured on images that someone collected, not on patients who came.");
  return absl::StrCat(html, "<div class=\"caveats\"><h2>Before you rely on it</h2><ul><li>",
                      absl::StrJoin(items, "</li><li>"), "</li></ul></div>");
}

}  // namespace dermis
