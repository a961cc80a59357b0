#include "tools/report/baselines.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/baselines.h"
#include "tools/report/picture.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

// What the points differ in along a plot, and from line to line.
double AlongOf(const v1::BaselineTask& task) {
  return task.has_forest() ? task.forest().trees() : std::log10(task.logistic().c());
}
std::string LineOf(const v1::BaselineTask& task) {
  if (task.has_forest()) return absl::StrCat("depth ", task.forest().depth());
  return task.logistic().penalty() == v1::PENALTY_L1 ? "l1" : "l2";
}

std::string PlotOf(const v1::BaselineResult& baseline) {
  std::map<std::string, std::vector<std::pair<double, double>>> lines;
  Plot plot;
  plot.title = "Accuracy over folds of " + NameOf(baseline);
  plot.y_label = "accuracy, mean over folds";
  double low = 1, high = 0;
  plot.x_min = std::numeric_limits<double>::infinity();
  plot.x_max = -plot.x_min;
  for (const v1::BaselinePoint& point : baseline.points()) {
    const double x = AlongOf(point.task());
    lines[LineOf(point.task())].emplace_back(x, point.mean());
    low = std::min(low, point.mean());
    high = std::max(high, point.mean());
    plot.x_min = std::min(plot.x_min, x);
    plot.x_max = std::max(plot.x_max, x);
  }
  plot.x_label = baseline.points(0).task().has_forest() ? "trees" : "log10 of C: weaker penalty to the right";
  if (lines.size() > 2 || !(plot.x_max > plot.x_min)) return "";  // More than a plot tells apart, or a point.
  plot.y_min = std::floor(low * 50 - .2) / 50;
  plot.y_max = std::ceil(high * 50 + .2) / 50;
  const char* style = "a";
  for (auto& [name, points] : lines) {
    std::sort(points.begin(), points.end());
    plot.lines.push_back({name, style, points});
    style = "b";
  }
  const v1::BaselinePoint& chosen = baseline.points(static_cast<int>(baseline.chosen()));
  plot.mark_point = {AlongOf(chosen.task()), chosen.mean()};
  plot.mark_point_name = "taken";
  return RenderPlot(plot);
}

// Where a model looks: importance as heat, coefficients towards either class in two colours.
std::string PictureOf(const v1::BaselineOutput& output, uint32_t size, bool regression) {
  if (static_cast<uint64_t>(output.importance_size()) != uint64_t{3} * size * size) return "";
  std::vector<double> sums(size_t{size} * size);
  double largest = 0;
  for (size_t p = 0; p < sums.size(); ++p) {
    for (size_t c = 0; c < 3; ++c) sums[p] += output.importance(static_cast<int>(3 * p + c));
    largest = std::max(largest, std::abs(sums[p]));
  }
  Raster raster;
  raster.width = raster.height = static_cast<int>(size);
  for (const double sum : sums) {
    const double t = largest > 0 ? sum / largest : 0;
    Colour colour;
    if (regression) {  // White where nothing counts.
      const auto fade = [&](int full) {
        return static_cast<uint8_t>(std::lround(255 + (full - 255) * std::abs(t)));
      };
      colour = t > 0 ? Colour{fade(255), fade(0), fade(81)} : Colour{fade(0), fade(139), fade(251)};
    } else {
      colour = Viridis(t);
    }
    raster.data.insert(raster.data.end(), colour.begin(), colour.end());
  }
  return absl::StrCat(
      "<figure><img class=\"picture pixels\" alt=\"", regression ? "coefficients" : "importance",
      " of each pixel\" src=\"", PngUri(raster), "\"><figcaption>",
      regression ? "<b>Coefficients</b>, summed over colours: red pixels speak for the positive class where they are bright, blue ones "
                   "against it"
                 : "<b>Importance</b>: each pixel’s share in making the leaves purer, summed over colours",
      "</figcaption></figure>");
}

}  // namespace

std::string NameOf(const v1::BaselineResult& baseline) {
  return absl::StrCat(baseline.name(), ", ", baseline.size(), " px");
}

std::string RenderBaselines(const v1::StudyResults& results, const ReportInputs& inputs) {
  std::string html;
  for (const v1::BaselineResult& baseline : results.baselines()) {
    absl::StrAppend(&html, "<h3>", Escape(NameOf(baseline)), "</h3>");
    if (!baseline.has_chosen()) {
      html += "<p class=\"missing\">Its grid is not through yet.</p>";
      continue;
    }
    const v1::BaselinePoint& chosen = baseline.points(static_cast<int>(baseline.chosen()));
    absl::StrAppendFormat(
        &html, "<p>Taken: <b>%s</b>, accuracy %.3f over %d folds of the images that are not test.%s</p>",
        Describe(chosen.task()), chosen.mean(), chosen.accuracy_size(),
        baseline.on_edge() ? " It lies on the edge of its grid: a wider one may hold a better one." : "");
    html += "<div class=\"duo\">" + PlotOf(baseline);
    if (!baseline.fit().task().empty()) {
      if (auto payload = inputs.fetch_payload(baseline.fit()); payload.ok()) {
        absl::StrAppend(&html, "<div class=\"panel\">",
                        PictureOf(payload->baseline(), baseline.size(), chosen.task().has_logistic()),
                        absl::StrFormat("<p>Accuracy %.3f on the training images that it was fitted to, %.3f on "
                                        "the validation images.</p></div>",
                                        payload->baseline().training_accuracy(), payload->baseline().accuracy()));
      } else {
        absl::StrAppend(&html, "<p class=\"missing\">", Escape(std::string(payload.status().message())), "</p>");
      }
    }
    html += "</div>";
  }
  return html;
}

}  // namespace dermis
