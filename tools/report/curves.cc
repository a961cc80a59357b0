#include "tools/report/curves.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dermis {
namespace {

constexpr size_t kStyles = 6;  // m0 to m5.

std::vector<std::pair<double, double>> PointsOf(const std::vector<CurvePoint>& curve) {
  std::vector<std::pair<double, double>> points;
  for (const CurvePoint& p : curve) points.emplace_back(p.x, p.y);
  return points;
}

// One line a model, the page's own drawn last: over the others. The area stands in the legend.
std::vector<PlotLine> LinesOf(const NamedEvaluations& models, double Evaluation::*area,
                              std::vector<CurvePoint> Evaluation::*curve) {
  std::vector<PlotLine> lines;
  for (size_t i = models.size(); i-- > 0;) {
    const auto& [name, e] = models[i];
    lines.push_back({absl::StrFormat("%s %.3f", name, e.*area), absl::StrCat("m", i % kStyles),
                     PointsOf(e.*curve)});
  }
  return lines;
}

// The axes that both plots of a training share.
Plot ByEpoch(const v1::StudyResults& results, const char* title, const char* measure) {
  Plot plot;
  plot.title = title;
  plot.x_label = "epoch";
  plot.y_label = measure;
  const int shown = EpochsOf(results);
  plot.x_min = shown > 1 ? 1 : 0;
  plot.x_max = std::max(shown, 1);
  plot.mark_x = BestEpoch(results);
  plot.mark_name = absl::StrCat("best epoch ", BestEpoch(results));
  return plot;
}

void AddLines(const v1::StudyResults& results, double (v1::EpochMetrics::*training)() const,
              double (v1::EpochMetrics::*validation)() const, Plot& plot) {
  plot.lines = {{"training", "b", {}}, {"validation", "a", {}}};
  for (int i = 0; i < EpochsOf(results); ++i) {
    const v1::EpochMetrics& epoch = results.training().epochs(i);
    plot.lines[0].points.emplace_back(epoch.epoch(), (epoch.*training)());
    plot.lines[1].points.emplace_back(epoch.epoch(), (epoch.*validation)());
  }
}

// Ascending.
std::vector<double> FiniteValues(const Plot& plot) {
  std::vector<double> values;
  for (const PlotLine& line : plot.lines) {
    for (const auto& [x, y] : line.points) {
      if (std::isfinite(y)) values.push_back(y);
    }
  }
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

Plot RocPlot(const NamedEvaluations& models) {
  const Evaluation& e = models[0].second;
  Plot plot;
  plot.title = absl::StrFormat("Receiver operating characteristic, area %.3f", e.roc_area);
  plot.width = 350;
  plot.x_label = "false positive rate";
  plot.y_label = "true positive rate";
  plot.legend = PlotLegend::kLowerRight;
  plot.lines = LinesOf(models, &Evaluation::roc_area, &Evaluation::roc);
  plot.lines.insert(plot.lines.begin(), {"", "guide", {{0, 0}, {1, 1}}});
  plot.mark_point = {e.fpr_of_class, e.sensitivity};
  plot.mark_point_name = "p ≥ .5";
  return plot;
}

Plot PrecisionRecallPlot(const NamedEvaluations& models) {
  const Evaluation& e = models[0].second;
  Plot plot;
  plot.title = absl::StrFormat("Precision and recall, average precision %.3f", e.average_precision);
  plot.width = 350;
  plot.x_label = "recall";
  plot.y_label = "precision";
  plot.legend = PlotLegend::kLowerLeft;
  const double share =
      e.n == 0 ? 0
               : static_cast<double>(e.true_positive + e.false_negative) / static_cast<double>(e.n);
  plot.lines = LinesOf(models, &Evaluation::average_precision, &Evaluation::precision_recall);
  plot.lines.insert(plot.lines.begin(), {"", "guide", {{0, share}, {1, share}}});
  plot.mark_point = {e.sensitivity, e.precision};
  plot.mark_point_name = "p ≥ .5";
  return plot;
}

std::string RenderConfusion(const std::string& name, const Evaluation& e,
                            const v1::ImageSetManifest& manifest) {
  const int classes = manifest.classes_size();
  const std::string positive = manifest.classes(classes - 1);
  const std::string negative = classes == 2 ? manifest.classes(0) : "not " + positive;
  const uint64_t negatives = e.true_negative + e.false_positive,
                 positives = e.true_positive + e.false_negative;
  constexpr double kSide = 112, kLeft = 96, kTop = 62;
  std::string svg = absl::StrFormat(
      "<svg class=\"plot confusion\" viewBox=\"0 0 350 300\" role=\"img\" aria-label=\"%s\"><text "
      "class=\"name\" x=\"0\" "
      "y=\"12\">%s</text>",
      Escape(absl::StrCat("Confusion matrix of ", name, ": ", e.true_positive, " true positives, ",
                          e.false_negative, " false negatives, ", e.false_positive,
                          " false positives, ", e.true_negative, " true negatives")),
      Escape(name));
  const auto cell = [&](int row, int column, uint64_t count, uint64_t of, const char* what) {
    const double share = of == 0 ? 0 : static_cast<double>(count) / static_cast<double>(of);
    const double x = kLeft + column * (kSide + 6), y = kTop + row * (kSide + 6);
    absl::StrAppendFormat(
        &svg,
        "<rect class=\"cell %s\" x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" rx=\"9\" "
        "fill-opacity=\"%.3f\"/>",
        row == column ? "right" : "wrong", x, y, kSide, kSide,
        row == column ? .03 + .38 * share : .03 + .7 * share);
    const double middle = x + kSide / 2;
    absl::StrAppendFormat(
        &svg,
        "<text class=\"count\" text-anchor=\"middle\" x=\"%g\" y=\"%g\">%d</text><text "
        "class=\"what\" "
        "text-anchor=\"middle\" x=\"%g\" y=\"%g\">%s</text><text class=\"share\" "
        "text-anchor=\"middle\" "
        "x=\"%g\" y=\"%g\">%.1f %% of the class</text>",
        middle, y + 52, count, middle, y + 72, what, middle, y + 88, share * 100);
  };
  cell(0, 0, e.true_negative, negatives, "true negatives");
  cell(0, 1, e.false_positive, negatives, "false positives");
  cell(1, 0, e.false_negative, positives, "false negatives");
  cell(1, 1, e.true_positive, positives, "true positives");
  // Names from outside may be long: they are drawn into the room that there is.
  const auto text = [&](const std::string& words, double x, double y, const char* anchor,
                        double room) {
    const std::string fit =
        6.0 * static_cast<double>(words.size()) > room
            ? absl::StrFormat(" textLength=\"%g\" lengthAdjust=\"spacingAndGlyphs\"", room)
            : "";
    absl::StrAppendFormat(&svg, "<text text-anchor=\"%s\" x=\"%g\" y=\"%g\"%s>%s</text>", anchor, x,
                          y, fit, Escape(words));
  };
  text("predicted", kLeft + kSide / 2, kTop - 24, "middle", kSide);
  text(negative, kLeft + kSide / 2, kTop - 9, "middle", kSide);
  text("predicted", kLeft + kSide * 1.5 + 6, kTop - 24, "middle", kSide);
  text(positive, kLeft + kSide * 1.5 + 6, kTop - 9, "middle", kSide);
  text("is " + negative, kLeft - 9, kTop + kSide / 2 + 4, "end", kLeft - 12);
  text("is " + positive, kLeft - 9, kTop + kSide * 1.5 + 10, "end", kLeft - 12);
  return svg + "</svg>";
}

int EpochsOf(const v1::StudyResults& results) {
  const int ran = results.training().epochs_size();
  return results.stop_epoch() == 0 ? ran
                                   : std::min<int>(ran, static_cast<int>(results.stop_epoch()));
}

uint32_t BestEpoch(const v1::StudyResults& results) {
  const auto& epochs = results.training().epochs();
  int best = 0;
  for (int i = 1; i < EpochsOf(results); ++i) {
    if (Better(results.spec().training().early_stopping().metric(), epochs[i], epochs[best]))
      best = i;
  }
  return epochs[best].epoch();
}

Plot LossPlot(const v1::StudyResults& results) {
  Plot plot = ByEpoch(results, "Loss by epoch", "cross entropy");
  AddLines(results, &v1::EpochMetrics::training_loss, &v1::EpochMetrics::validation_loss, plot);
  const std::vector<double> values = FiniteValues(plot);
  double most = values.empty() ? 0 : values.back();
  // One wild epoch must not flatten all others.
  if (values.size() >= 10) most = std::min(most, 2.5 * values[values.size() * 9 / 10]);
  plot.y_max = most > 0 ? most * 1.05 : 1;
  return plot;
}

Plot AccuracyPlot(const v1::StudyResults& results) {
  Plot plot = ByEpoch(results, "Accuracy by epoch", "accuracy");
  AddLines(results, &v1::EpochMetrics::training_accuracy, &v1::EpochMetrics::validation_accuracy,
           plot);
  const std::vector<double> values = FiniteValues(plot);
  plot.y_min = values.empty() ? 0 : std::max(0.0, std::floor(values.front() * 10 - 0.5) / 10);
  return plot;
}

}  // namespace dermis
