// Line plots as inline SVG, with the colours of the page around them. Why not by a library:
// docs/architecture.md.
#ifndef DERMIS_TOOLS_REPORT_PLOT_H_
#define DERMIS_TOOLS_REPORT_PLOT_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dermis {

struct PlotLine {
  std::string name;                                // In the legend; "" = not there.
  std::string style;                               // CSS class: "a", "b" (series) or "guide".
  std::vector<std::pair<double, double>> points;   // Not finite: a gap.
};

// Where the lines' names stand: beside each other above the plot, or below each other where its lines leave room.
enum class PlotLegend { kTop, kLowerRight, kLowerLeft };

struct Plot {
  std::string title;         // Spoken, not drawn.
  double width = 460;        // In units of its text; the page scales it. Height: 300.
  std::string x_label, y_label;
  double x_min = 0, x_max = 1, y_min = 0, y_max = 1;
  std::vector<PlotLine> lines;
  PlotLegend legend = PlotLegend::kTop;
  std::optional<double> mark_x;                        // A vertical line ...
  std::string mark_name;                               // ... and what it is.
  std::optional<std::pair<double, double>> mark_point; // A dot ...
  std::string mark_point_name;
};

// "&", "<", ">" and both quotes as entities.
std::string Escape(const std::string& text);

// About `count` round numbers within [low, high].
std::vector<double> Ticks(double low, double high, int count);

std::string RenderPlot(const Plot& plot);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_PLOT_H_
