#include "tools/report/judged.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "tools/report/explained.h"
#include "tools/report/forest.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

constexpr char kNone[] = "<td class=\"none\">–</td>";
constexpr double kAlpha = 0.05;

bool Has(const Interval& interval) {
  return std::isfinite(interval.low) && std::isfinite(interval.high);
}

std::string Signed(double value, int digits = 3) {
  const std::string text = Number(value, digits);
  // What rounds to nothing has no sign.
  return text.find_first_of("123456789") != std::string::npos && value > 0 ? "+" + text : text;
}

// A value, with its interval beneath.
std::string Cell(const Estimate& estimate, int digits = 3, bool is_signed = false) {
  if (!std::isfinite(estimate.value)) return kNone;
  const auto text = [&](double value) {
    return is_signed ? Signed(value, digits) : Number(value, digits);
  };
  std::string html = absl::StrCat("<td>", text(estimate.value));
  if (Has(estimate.interval)) {
    absl::StrAppend(&html, "<small>", text(estimate.interval.low), " … ",
                    text(estimate.interval.high), "</small>");
  }
  return html + "</td>";
}

std::string P(double p) {
  if (std::isnan(p)) return "–";
  return p < 0.001 ? "p < .001" : absl::StrFormat("p = %.3f", p);
}

// Of 100, with the interval: "91 (86 to 95)".
std::string OfHundred(const Estimate& estimate) {
  if (!std::isfinite(estimate.value)) return "–";
  std::string text = absl::StrFormat("%.0f", 100 * estimate.value);
  if (Has(estimate.interval)) {
    absl::StrAppendFormat(&text, " (%.0f to %.0f)", 100 * estimate.interval.low,
                          100 * estimate.interval.high);
  }
  return text;
}

std::string ThresholdText(double threshold) {
  return std::isinf(threshold) ? "nobody" : Number(threshold);
}

std::string Title(const std::string& title, const std::string& more = "") {
  return absl::StrCat("<h3>", Escape(title), more.empty() ? "" : " <span>", Escape(more),
                      more.empty() ? "" : "</span>", "</h3>");
}

// A paragraph that says what a figure shows, in words for everyone.
std::string Says(const std::string& html) {
  return absl::StrCat("<p class=\"verdict\">", html, "</p>");
}

std::string Row(const std::string& name, const std::string& cells, bool ours = false) {
  return absl::StrCat("<tr", ours ? " class=\"ours\"" : "", "><th scope=\"row\">", name, "</th>",
                      cells, "</tr>");
}

std::string Table(const std::string& head, const std::string& body, const char* more = "") {
  return absl::StrCat("<div class=\"scroll\"><table class=\"checks", more, "\"><thead>", head,
                      "</thead><tbody>", body, "</tbody></table></div>");
}

// With the spread over training seeds beneath, where there is one.
std::string SeedCell(const Estimate& estimate, const SeedSpread& spread) {
  std::string cell = Cell(estimate);
  if (spread.values.size() < 2) return cell;
  cell.insert(cell.size() - std::string("</td>").size(),
              absl::StrCat("<small>seeds ", Number(spread.mean), " ± ", Number(spread.deviation),
                           "</small>"));
  return cell;
}

std::string TableOne(const JudgedView& view) {
  std::string body;
  for (size_t i = 0; i < view.models.size(); ++i) {
    const EvaluationReport& model = view.models[i];
    for (const TableOneRow* row : {&model.at_half, &model.at_chosen}) {
      const bool half = row == &model.at_half;
      if (!half && model.rule_unknown) continue;
      std::string cells = SeedCell(row->accuracy, half ? model.accuracy : model.accuracy_chosen);
      for (const Estimate* e : {&row->fpr_of_all, &row->fnr_of_all, &row->fpr_of_class,
                                &row->fnr_of_class, &row->precision, &row->recall, &row->f1}) {
        cells += Cell(*e);
      }
      // The same at any threshold: said once.
      cells += half ? Cell(row->average_precision) + SeedCell(row->area, model.area)
                    : absl::StrCat(kNone, kNone);
      body += Row(absl::StrCat(Escape(model.name), "<small>at ", ThresholdText(row->threshold),
                               half ? "" : ", chosen", "</small>"),
                  cells, i == 0);
    }
  }
  const EvaluationReport& model = view.models[0];
  const Estimate& found = model.at_chosen.recall;
  const Estimate& spared = model.at_chosen.specificity;
  const std::string positive = Escape(model.positive), negative = Escape(model.negative);
  return absl::StrCat(
      Title("Table 1", "as the seed paper has it, and as usual"),
      Says(absl::StrCat(model.rule_unknown
                            ? "At a threshold of .5, of 100 "
                            : "At the threshold that the validation images chose, of 100 ",
                        positive, " images ", OfHundred(found), " are found, and of 100 ", negative,
                        " images ", OfHundred(spared), " are left alone.")),
      Table("<tr><th rowspan=\"2\">classifier</th><th rowspan=\"2\">accuracy</th><th "
            "colspan=\"2\">of all test images</th><th colspan=\"2\">of the class</th><th "
            "rowspan=\"2\">precision</th><th rowspan=\"2\">recall</th><th rowspan=\"2\">F1</th>"
            "<th rowspan=\"2\">average precision</th><th rowspan=\"2\">ROC area</th></tr><tr>"
            "<th>FPR</th><th>FNR</th><th>FPR</th><th>FNR</th></tr>",
            body, " wide"),
      "<p class=\"note\">Positive: ", positive, ". ", model.test_images, " test images (",
      model.test_positives, " ", positive, ") of ", model.test_lesions,
      " lesions. Beneath each number: its 95 % interval, by 2,000 draws of whole lesions. "
      "Precision "
      "is TP / (TP + FP); average precision stands beside because the seed paper does not say "
      "which "
      "it means. ",
      model.rule_unknown
          ? std::string("No threshold is known that validation images would have chosen.")
          : absl::StrCat("The chosen threshold has the largest sensitivity + specificity (Youden) "
                         "on ",
                         model.validation_images, " validation images."),
      model.runs > 1 ? " Seeds: mean ± standard deviation over training seeds." : "", "</p>");
}

std::string NameOf(ThresholdRule rule) {
  switch (rule) {
    case ThresholdRule::kHalf:
      return ".5<small>not chosen</small>";
    case ThresholdRule::kYouden:
      return "best balance<small>Youden</small>";
    case ThresholdRule::kBestAccuracy:
      return "best accuracy";
    case ThresholdRule::kSensitivity90:
      return "90 % sensitivity";
    case ThresholdRule::kSensitivity95:
      return "95 % sensitivity";
    case ThresholdRule::kSpecificity90:
      return "90 % specificity";
    case ThresholdRule::kSpecificity95:
      return "95 % specificity";
  }
  return "";
}

std::string OperatingPoints(const EvaluationReport& model) {
  if (model.operating_points.empty()) {
    return absl::StrCat(
        Title("Operating points"),
        "<p class=\"missing\">Not available: the validation images that would choose "
        "them are not here.</p>");
  }
  std::string body, says;
  const std::string positive = Escape(model.positive), negative = Escape(model.negative);
  for (const OperatingPoint& point : model.operating_points) {
    const auto plain = [](double value) {
      return std::isfinite(value) ? absl::StrCat("<td>", Number(value), "</td>")
                                  : std::string(kNone);
    };
    body += Row(
        NameOf(point.rule),
        absl::StrCat("<td>", ThresholdText(point.threshold), "</td>",
                     plain(point.validation.sensitivity()), plain(point.validation.specificity()),
                     Cell(point.sensitivity), Cell(point.specificity), Cell(point.accuracy),
                     Cell(point.precision), Cell(point.negative_predictive_value)),
        point.rule == kTableOneRule);
    if (point.rule == ThresholdRule::kSensitivity95) {
      const Estimate flagged{
          1 - point.specificity.value,
          {1 - point.specificity.interval.high, 1 - point.specificity.interval.low}};
      says = absl::StrCat("Set on the validation images to find 95 of 100 ", positive,
                          " images, the model finds ", OfHundred(point.sensitivity),
                          " of 100 in the test images. The price: of 100 ", negative, " images ",
                          OfHundred(flagged), " are flagged, too.");
    }
  }
  return absl::StrCat(
      Title("Operating points"), says.empty() ? "" : Says(says),
      Table("<tr><th rowspan=\"2\">chosen for</th><th rowspan=\"2\">threshold</th><th "
            "colspan=\"2\">on validation</th><th colspan=\"5\">achieved on test</th></tr><tr>"
            "<th>sensitivity</th><th>specificity</th><th>sensitivity</th><th>specificity</th>"
            "<th>accuracy</th><th>precision</th><th>negative predictive value</th></tr>",
            body),
      "<p class=\"note\">Thresholds are chosen on validation images alone and then left as they "
      "are. "
      "Predictive values hold for this collection’s share of ",
      positive, " images (",
      Number(100.0 * static_cast<double>(model.test_positives) /
                 static_cast<double>(model.test_images),
             0),
      " %), which is far above a clinic’s.</p>");
}

PlotLine CalibrationLine(const Calibration& calibration, const char* name, const char* style) {
  PlotLine line{name, style, {}};
  for (const ReliabilityPoint& point : calibration.curve) {
    line.points.emplace_back(point.mean_probability, point.share_positive);
  }
  return line;
}

std::string CalibrationVerdict(const EvaluationReport& model) {
  const Interval& slope = model.before.slope.interval;
  std::string html;
  if (!std::isfinite(model.before.slope.value) || !Has(slope)) {
    html = "No calibration slope can be fitted: the scores separate the classes.";
  } else if (slope.high < 1) {
    html =
        "Before it is calibrated the model is over-confident: its probabilities are too close to "
        "0 and to 1.";
  } else if (slope.low > 1) {
    html =
        "Before it is calibrated the model is under-confident: its probabilities are too close to "
        "the middle.";
  } else {
    html = "How spread out the model’s probabilities are agrees with what is seen.";
  }
  absl::StrAppendFormat(&html, " On average a stated probability is %.1f points from what is seen",
                        100 * model.before.error);
  if (model.rule_unknown) {
    return html + "; no temperature is known that validation images would have chosen.";
  }
  absl::StrAppendFormat(
      &html,
      "; after one number, a temperature of %s, is fitted on the validation images, %.1f points.",
      Number(model.temperature.value, 2), 100 * model.after.error);
  if (model.temperature.at_bound) {
    html += " The temperature stands at its bound: the validation images give no best one.";
  }
  return html;
}

std::string CalibrationTable(const EvaluationReport& model) {
  const auto row = [](const char* name, const Calibration& c) {
    return Row(name, absl::StrCat(Cell(c.brier), Cell(c.slope, 2), Cell(c.intercept, 2, true),
                                  Cell(c.in_the_large, 2, true), "<td>", Number(c.error),
                                  "</td><td>", Number(c.log_loss), "</td>"));
  };
  return Table(
      "<tr><th></th><th>Brier score ↓</th><th>slope (1 is right)</th><th>intercept (0 is "
      "right)</th>"
      "<th>intercept at slope 1</th><th>expected calibration error ↓</th><th>log loss ↓</th></tr>",
      row("as it is", model.before) +
          (model.rule_unknown ? "" : row("after temperature", model.after)));
}

std::string CalibrationAndDecision(const EvaluationReport& model) {
  const UsefulRange useful = UsefulRangeOf(model.decision_curve_after);
  const std::string low = Number(100 * useful.low, 0), high = Number(100 * useful.high, 0);
  const std::string benefit =
      useful.high > 0
          ? absl::StrCat(
                "Acting on the model does more good than acting on everyone or on nobody, "
                "for whoever would act at a probability ",
                low == high ? absl::StrCat("of ", low)
                            : absl::StrCat("between ", low, " % and ", high),
                " %.")
          : std::string(
                "At no threshold does acting on the model do more good than acting on "
                "everyone or on nobody.");
  return absl::StrCat(
      Title("Calibration", "do probabilities mean what they say?"), Says(CalibrationVerdict(model)),
      "<div class=\"duo\">", RenderPlot(CalibrationPlot(model)), RenderPlot(DecisionPlot(model)),
      "</div>", CalibrationTable(model), "<p class=\"note\">Left: ", kCalibrationBins,
      " bins of equally many test images; the dotted line is right. Slope and intercept by "
      "logistic "
      "recalibration (Cox). No interval of the calibration error: resampling only adds to it. "
      "Right: the decision curve (Vickers &amp; Elkin)",
      model.rule_unknown ? "" : " after temperature", "; dotted: act on nobody. ", benefit, "</p>");
}

struct MeasureView {
  const char* title;
  std::string axis;
  const SubgroupMeasure Subgroup::*measure;
};

std::optional<Forest> SubgroupForest(const EvaluationReport& model, const MeasureView& of, double overall) {
  Forest forest;
  forest.title = absl::StrCat(of.title, " by subgroup");
  forest.axis = of.axis;
  forest.note_title = "p (Holm)";
  forest.reference = overall;
  forest.high = 1;
  double least = overall;
  std::string column;
  bool any = false;
  for (const Subgroup& row : model.subgroups) {
    const SubgroupMeasure& m = row.*of.measure;
    if (!std::isfinite(m.estimate.value)) continue;
    any = true;
    if (row.column != column) forest.rows.push_back({row.column, true});
    column = row.column;
    const bool sure = Has(m.estimate.interval);
    const double low = sure ? m.estimate.interval.low : m.estimate.value;
    const double high = sure ? m.estimate.interval.high : m.estimate.value;
    least = std::min(least, low);
    forest.rows.push_back({absl::StrCat(row.value, " (", row.n, ")"), false,
                           !std::isnan(m.holm) && m.holm < kAlpha, m.estimate.value, low, high,
                           !std::isnan(m.holm) ? P(m.holm)
                           : sure              ? ""
                                               : "too few to say"});
  }
  if (!any) return std::nullopt;
  forest.low = std::clamp(std::floor(least * 10) / 10, 0.0, 0.9);  // Wide also where all are 1.
  return forest;
}

std::string ScrolledForest(const EvaluationReport& model, const MeasureView& of, double overall) {
  const std::optional<Forest> forest = SubgroupForest(model, of, overall);
  return forest ? absl::StrCat("<div class=\"scroll\">", RenderForest(*forest), "</div>") : "";
}

std::string SubgroupTable(const EvaluationReport& model) {
  std::string body, column;
  for (const Subgroup& row : model.subgroups) {
    if (row.column != column) {
      absl::StrAppend(&body, "<tr><th scope=\"rowgroup\" colspan=\"8\"><b>", Escape(row.column),
                      "</b></th></tr>");
    }
    column = row.column;
    std::string cells =
        absl::StrCat("<td>", row.n, "</td><td>", row.positives, "</td><td>", row.lesions, "</td>");
    for (const SubgroupMeasure* m :
         {&row.accuracy, &row.sensitivity, &row.specificity, &row.area}) {
      std::string cell = Cell(m->estimate);
      if (!std::isnan(m->holm)) {
        cell.insert(cell.size() - 5, absl::StrCat("<small>", Signed(m->difference, 2), ", ",
                                                  P(m->holm), "</small>"));
      }
      cells += cell;
    }
    body += Row(Escape(row.value), cells);
  }
  return Table(
      "<tr><th>subgroup</th><th>images</th><th>positive</th><th>lesions</th><th>accuracy</th>"
      "<th>sensitivity</th><th>specificity</th><th>ROC area</th></tr>",
      body);
}

std::string Subgroups(const EvaluationReport& model) {
  if (model.subgroups.empty()) {
    return absl::StrCat(Title("Subgroups"),
                        "<p class=\"missing\">The image set says nothing of its images that they "
                        "could be parted by (diagnosis, source, sex, age, site).</p>");
  }
  const std::string positive = Escape(model.positive), negative = Escape(model.negative);
  const MeasureView measures[] = {
      {"Sensitivity", absl::StrCat("share of ", model.positive, " images that are found"),
       &Subgroup::sensitivity},
      {"Specificity", absl::StrCat("share of ", model.negative, " images that are left alone"),
       &Subgroup::specificity},
      {"ROC area", "area under ROC", &Subgroup::area},
  };
  std::vector<std::string> found;
  size_t tested = 0;
  for (const MeasureView& of : measures) {
    for (const Subgroup& row : model.subgroups) {
      const SubgroupMeasure& m = row.*of.measure;
      if (std::isnan(m.holm)) continue;
      ++tested;
      if (m.holm >= kAlpha) continue;
      found.push_back(absl::StrCat("<li>", Escape(row.column), " <b>", Escape(row.value),
                                   "</b>: ", of.title, " ", Number(m.estimate.value, 2), ", ",
                                   Signed(m.difference, 2), " from the rest (", P(m.holm),
                                   ")</li>"));
    }
  }
  const std::string verdict =
      found.empty()
          ? Says(absl::StrCat("No subgroup differs from the rest by more than chance explains (",
                              tested, " tests, adjusted). A small subgroup can hide a difference."))
          : absl::StrCat("<ul class=\"flags\">", absl::StrJoin(found, ""), "</ul>");
  return absl::StrCat(
      Title("Subgroups", "does it serve all alike?"), verdict,
      ScrolledForest(model, measures[0], model.at_chosen.recall.value),
      "<details><summary>Specificity and ROC area by subgroup</summary>",
      ScrolledForest(model, measures[1], model.at_chosen.specificity.value),
      ScrolledForest(model, measures[2], model.at_half.area.value),
      "</details><details><summary>All numbers of the subgroups <span>interval, then the "
      "difference "
      "from the rest</span></summary>",
      SubgroupTable(model), "</details><p class=\"note\">At the ",
      model.rule_unknown ? "" : "validation-chosen ", "threshold ",
      ThresholdText(model.subgroup_threshold),
      "; in brackets the number of images; the dotted line is the measure of all. p: lesions of a "
      "class "
      "change places at random, so an accuracy is found to differ only where its mix of classes "
      "does "
      "not explain it; Holm-adjusted over the subgroups of a measure. Subgroups with fewer than ",
      kFewestLesions, " lesions have no interval and no test.</p>");
}

std::string Spread(const EvaluationReport& model) {
  if (model.runs < 2) {
    return absl::StrCat(Title("Over training seeds"),
                        "<p class=\"missing\">Spread over training seeds ", kOneTraining, ".</p>");
  }
  std::string body;
  for (const auto& [name, spread] :
       {std::pair{"ROC area", &model.area}, std::pair{"accuracy at .5", &model.accuracy},
        std::pair{"accuracy, chosen", &model.accuracy_chosen},
        std::pair{"sensitivity, chosen", &model.sensitivity_chosen},
        std::pair{"specificity, chosen", &model.specificity_chosen}}) {
    std::vector<std::string> values;
    for (const double value : spread->values) values.push_back(Number(value));
    body +=
        Row(name, absl::StrCat("<td>", Number(spread->mean), "</td><td>", Number(spread->deviation),
                               "</td><td>", Number(spread->low), " … ", Number(spread->high),
                               "</td><td>", absl::StrJoin(values, " · "), "</td>"));
  }
  std::string averaged;
  if (model.averaged_area) {
    averaged =
        absl::StrCat(" The mean of their scores reaches ", Number(model.averaged_area->value),
                     Has(model.averaged_area->interval)
                         ? absl::StrCat(" (", Number(model.averaged_area->interval.low), " to ",
                                        Number(model.averaged_area->interval.high),
                                        ", by draws of whole lesions)")
                         : std::string(),
                     ".");
  }
  return absl::StrCat(
      Title("Over training seeds"),
      Says(absl::StrCat(
          "Trained ", model.runs, " times, differing by chance alone, the ROC area is ",
          Number(model.area.mean), " ± ", Number(model.area.deviation), ".", averaged)),
      Table("<tr><th></th><th>mean</th><th>standard deviation</th><th>range</th><th>each</th></tr>",
            body),
      "<p class=\"note\">The rest of this section is of the first training: its intervals are "
      "about "
      "other test images, this table about another training. Each training chose its own threshold "
      "on validation.</p>");
}

std::string ComparisonText(const ModelComparison& c, const std::string& positive) {
  const std::string first = Escape(c.first), second = Escape(c.second);
  const Interval& i = c.area.interval;
  const std::string numbers = absl::StrCat("ROC area ", Signed(c.area.value), " (", Signed(i.low),
                                           " to ", Signed(i.high), ")");
  if (Has(i) && (i.low > 0 || i.high < 0)) {
    return absl::StrCat(i.low > 0 ? first : second, " ranks ", Escape(positive),
                        " images above the others better than ", i.low > 0 ? second : first, ": ",
                        numbers, ".");
  }
  return absl::StrCat("These test images do not tell ", first, " and ", second, " apart: ", numbers,
                      ".");
}

std::string Comparisons(const JudgedView& view) {
  if (view.comparisons.empty()) return "";
  std::string html = Title("Comparisons", "on the same test images");
  Forest forest;
  forest.title = "Differences of models with their intervals";
  forest.axis = "difference, first minus second";
  forest.note_title = "95 %";
  double most = 0.05;
  std::string body;
  std::vector<std::string> texts;
  const std::string positive = view.models.empty() ? "positive" : view.models[0].positive;
  for (const ModelComparison& c : view.comparisons) {
    texts.push_back(absl::StrCat("<li>", ComparisonText(c, positive), "</li>"));
    forest.rows.push_back({absl::StrCat(c.first, " − ", c.second), true});
    for (const auto& [name, estimate] :
         {std::pair{"ROC area", &c.area}, std::pair{"average precision", &c.average_precision},
          std::pair{"accuracy at .5", &c.accuracy},
          std::pair{"accuracy, chosen threshold", &c.accuracy_chosen}}) {
      if (!std::isfinite(estimate->value) || !Has(estimate->interval)) continue;
      most = std::max({most, std::abs(estimate->interval.low), std::abs(estimate->interval.high)});
      forest.rows.push_back(
          {name, false, estimate == &c.area, estimate->value, estimate->interval.low,
           estimate->interval.high,
           absl::StrCat(Signed(estimate->interval.low), " … ", Signed(estimate->interval.high))});
    }
    std::string cells = absl::StrCat(Cell(c.area, 3, true), Cell(c.accuracy, 3, true),
                                     Cell(c.accuracy_chosen, 3, true), Cell(c.brier, 3, true));
    cells += c.delong ? absl::StrCat("<td>", P(c.delong->p), "<small>z = ", Number(c.delong->z, 2),
                                     "</small></td>")
                      : std::string(kNone);
    cells += c.mcnemar ? absl::StrCat("<td>", P(c.mcnemar->p), "<small>", c.mcnemar->only_first,
                                      " : ", c.mcnemar->only_second, ", ",
                                      c.mcnemar->exact ? "exact" : "mid-p", "</small></td>")
                       : std::string(kNone);
    body += Row(absl::StrCat(Escape(c.first), " − ", Escape(c.second)), cells);
  }
  forest.high = std::ceil(most * 20) / 20;
  forest.low = -forest.high;
  absl::StrAppend(
      &html, "<ul class=\"verdict list\">", absl::StrJoin(texts, ""), "</ul><div class=\"scroll\">",
      RenderForest(forest), "</div>",
      Table("<tr><th>models</th><th>ROC area</th><th>accuracy at .5</th><th>accuracy, chosen</th>"
            "<th>Brier score</th><th>DeLong, area</th><th>McNemar, chosen</th></tr>",
            body));
  std::string note =
      "Intervals: both models on the same draws of whole lesions. McNemar: images that only the "
      "first, "
      "and only the second, gets right, each at its own validation-chosen threshold. No adjustment "
      "for "
      "the number of comparisons.";
  for (const ModelComparison& c : view.comparisons) {
    if (c.why_no_tests.empty()) continue;
    absl::StrAppend(&note, " No p-values: ", Escape(c.why_no_tests), ".");
    break;
  }
  return absl::StrCat(html, "<p class=\"note\">", note, "</p>");
}

const char* NameOf(LeakKind kind) {
  switch (kind) {
    case LeakKind::kSamePixels:
      return "the same pixels";
    case LeakKind::kSameFile:
      return "made from the same file";
    case LeakKind::kNearDuplicate:
      return "near-duplicate";
    case LeakKind::kSameLesion:
      return "the same lesion or patient";
  }
  return "";
}
const char* NameOf(SplitPart part) {
  return part == SplitPart::kTraining     ? "training"
         : part == SplitPart::kValidation ? "validation"
                                          : "test";
}

std::string Leaks(const LeakReport& report, const v1::ImageSetManifest& manifest) {
  std::string html = Title("Leak check", "has the model seen a test image before?");
  const bool looked = report.not_looked_for.empty();
  if (report.clean()) {
    absl::StrAppend(&html,
                    "<p class=\"praise\">No image stands in two parts of the split: by pixels, "
                    "by file, by lesion",
                    looked ? absl::StrCat(" or as a near-duplicate (", report.pairs,
                                          " pairs of images were compared)")
                           : std::string(),
                    ".</p>");
  } else {
    html += "<ul class=\"flags\">";
    for (const auto& [kind, count] : {std::pair{LeakKind::kSamePixels, report.same_pixels},
                                      std::pair{LeakKind::kSameFile, report.same_file},
                                      std::pair{LeakKind::kNearDuplicate, report.near_duplicate},
                                      std::pair{LeakKind::kSameLesion, report.same_lesion}}) {
      if (count == 0) continue;
      absl::StrAppend(&html, "<li><b>", count, "</b> pair", count == 1 ? "" : "s",
                      " of images in different parts: ", NameOf(kind), "</li>");
    }
    html += "</ul>";
    std::string body;
    for (const Leak& leak : report.leaks) {
      const std::string likeness =
          leak.kind == LeakKind::kNearDuplicate
              ? absl::StrFormat("<td>%d bits<small>correlation %.3f</small></td>", leak.distance,
                                leak.correlation)
              : std::string(kNone);
      const auto name = [&](uint32_t image, SplitPart part) {
        return absl::StrCat("<td>", Escape(manifest.images(static_cast<int>(image)).name()),
                            "<small>", NameOf(part), "</small></td>");
      };
      body += Row(NameOf(leak.kind), absl::StrCat(name(leak.first, leak.first_part),
                                                  name(leak.second, leak.second_part), likeness));
    }
    absl::StrAppend(
        &html, "<details><summary>The pairs <span>",
        report.leaks.size() == kMostLeaks ? absl::StrCat("the first ", kMostLeaks) : "all",
        "</span></summary>",
        Table("<tr><th>kind</th><th>image</th><th>image</th><th>likeness</th></tr>", body),
        "</details>");
  }
  if (!looked) {
    absl::StrAppend(&html, "<p class=\"missing\">Near-duplicates were not looked for: ",
                    Escape(report.not_looked_for), ".</p>");
  }
  return absl::StrCat(
      html, "<p class=\"note\">Near-duplicates: perceptual hashes within ", kHashRadius,
      " of 64 bits in any flip or quarter turn, and thumbnails that correlate by ",
      Number(kSamePicture, 2),
      " or more. Finds copies that were saved anew, resized, made brighter, flipped or turned; not "
      "crops, and not other photographs of a lesion that nobody numbered.</p>");
}

}  // namespace

Plot CalibrationPlot(const EvaluationReport& model) {
  Plot plot;
  plot.title = "Calibration: stated probability against the share that is seen";
  plot.x_label = absl::StrCat("stated probability of ", model.positive);
  plot.y_label = absl::StrCat("share that is ", model.positive);
  plot.lines = {{"", "guide", {{0, 0}, {1, 1}}}, CalibrationLine(model.before, "as it is", "b")};
  if (!model.rule_unknown) {
    plot.lines.push_back(CalibrationLine(model.after, "after temperature", "a"));
  }
  return plot;
}

Plot DecisionPlot(const EvaluationReport& model) {
  const double share =
      static_cast<double>(model.test_positives) / static_cast<double>(model.test_images);
  Plot plot;
  plot.title = "Decision curve: net benefit by threshold probability";
  plot.x_label = "threshold probability at which one would act";
  plot.y_label = "net benefit";
  plot.y_max = std::ceil(share * 20 + 0.5) / 20;
  plot.y_min = -0.25 * plot.y_max;
  PlotLine acting{"model", "a", {}}, all{"act on all", "b", {}};
  for (const NetBenefit& point : model.decision_curve_after) {
    // A line that leaves the plot ends there.
    const auto shown = [&](double value) {
      return value < plot.y_min ? std::numeric_limits<double>::quiet_NaN() : value;
    };
    acting.points.emplace_back(point.threshold, shown(point.model));
    all.points.emplace_back(point.threshold, shown(point.treat_all));
  }
  plot.lines = {{"", "guide", {{0, 0}, {1, 0}}}, all, acting};
  return plot;
}

std::string SensitivityBySubgroup(const EvaluationReport& model) {
  const std::optional<Forest> forest = SubgroupForest(
      model, {"Sensitivity", absl::StrCat("share of ", model.positive, " images that are found"), &Subgroup::sensitivity},
      model.at_chosen.recall.value);
  return forest ? RenderForest(*forest) : "";
}

std::string RenderJudged(const JudgedView& view, const v1::ImageSetManifest& manifest) {
  if (view.models.empty() && view.comparisons.empty() && !view.leaks) return "";
  std::string html = "<div class=\"judged\">";
  if (!view.models.empty()) html += TableOne(view);
  for (size_t i = 0; i < view.models.size(); ++i) {
    const EvaluationReport& model = view.models[i];
    const std::string parts = absl::StrCat(OperatingPoints(model), CalibrationAndDecision(model),
                                           Subgroups(model), i == 0 ? Spread(model) : "");
    // The model that the page is about lies open; others are a click away.
    html += i == 0
                ? parts
                : absl::StrCat("<details class=\"model\"><summary>", Escape(model.name),
                               " <span>operating points, calibration, subgroups</span></summary>",
                               parts, "</details>");
  }
  html += Comparisons(view);
  if (view.leaks) html += Leaks(*view.leaks, manifest);
  return html + "</div>";
}

}  // namespace dermis
