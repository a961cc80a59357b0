#include "tools/report/plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dermis {

std::string Escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::vector<double> Ticks(double low, double high, int count) {
  std::vector<double> ticks;
  if (!(high > low) || count < 1) return ticks;
  const double raw = (high - low) / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = power;
  for (double factor : {1.0, 2.0, 5.0, 10.0}) {
    step = power * factor;
    if (step >= raw * (1 - 1e-9)) break;
  }
  // By index, so that errors do not add up.
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) {
    ticks.push_back(i * step + 0.0);   // No -0.
  }
  return ticks;
}

namespace {

// About the width of a legend's text; it is UTF-8.
double TextWidth(const std::string& text) {
  return 6.2 * static_cast<double>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string LegendAbove(const Plot& plot, double right) {
  std::string svg;
  for (auto line = plot.lines.rbegin(); line != plot.lines.rend(); ++line) {
    if (line->name.empty()) continue;
    const double width = TextWidth(line->name);
    absl::StrAppendFormat(&svg, "<text class=\"legend\" x=\"%.1f\" y=\"12\">%s</text>", right - width, Escape(line->name));
    absl::StrAppendFormat(&svg, "<path class=\"line %s\" d=\"M%.1f 8.5h14\"/>", line->style, right - width - 19);
    right -= width + 34;
  }
  return svg;
}

// From the bottom upwards, the line that is drawn last at the top.
std::string LegendInside(const Plot& plot, double edge, double bottom, bool right) {
  std::string svg;
  double y = bottom;
  for (const PlotLine& line : plot.lines) {
    if (line.name.empty()) continue;
    absl::StrAppendFormat(&svg, "<path class=\"line %s\" d=\"M%.1f %.1fh14\"/>", line.style, right ? edge - 14 : edge,
                          y - 3.5);
    absl::StrAppendFormat(&svg, "<text class=\"legend halo\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\">%s</text>",
                          right ? "end" : "start", right ? edge - 20 : edge + 20, y, Escape(line.name));
    y -= 17;
  }
  return svg;
}

}  // namespace

std::string RenderPlot(const Plot& plot) {
  const double kWidth = plot.width;
  constexpr double kHeight = 300, kLeft = 46, kRight = 14, kTop = 34, kBottom = 40;
  const auto x_at = [&](double x) {
    return kLeft + (x - plot.x_min) / (plot.x_max - plot.x_min) * (kWidth - kLeft - kRight);
  };
  const auto y_at = [&](double y) {
    return kHeight - kBottom - (y - plot.y_min) / (plot.y_max - plot.y_min) * (kHeight - kTop - kBottom);
  };
  std::string svg = absl::StrFormat(
      "<svg class=\"plot\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">", kWidth, kHeight,
      Escape(plot.title));
  for (double y : Ticks(plot.y_min, plot.y_max, 5)) {
    absl::StrAppendFormat(&svg, "<path class=\"grid\" d=\"M%g %.1fH%g\"/>", kLeft, y_at(y), kWidth - kRight);
    absl::StrAppendFormat(&svg, "<text class=\"tick\" text-anchor=\"end\" x=\"%g\" y=\"%.1f\">%g</text>",
                          kLeft - 7, y_at(y) + 3.5, y);
  }
  for (double x : Ticks(plot.x_min, plot.x_max, 6)) {
    absl::StrAppendFormat(&svg, "<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%g\">%g</text>",
                          x_at(x), kHeight - kBottom + 16, x);
  }
  absl::StrAppendFormat(&svg, "<path class=\"axis\" d=\"M%g %gH%g\"/>", kLeft, kHeight - kBottom,
                        kWidth - kRight);
  absl::StrAppendFormat(&svg, "<text class=\"label\" text-anchor=\"middle\" x=\"%g\" y=\"%g\">%s</text>",
                        (kLeft + kWidth - kRight) / 2, kHeight - 6, Escape(plot.x_label));
  absl::StrAppendFormat(&svg, "<text class=\"label\" x=\"0\" y=\"12\">%s</text>", Escape(plot.y_label));

  if (plot.mark_x) {
    absl::StrAppendFormat(&svg, "<path class=\"mark\" d=\"M%.1f %gV%g\"/>", x_at(*plot.mark_x), kTop,
                          kHeight - kBottom);
  }
  if (plot.legend == PlotLegend::kTop) svg += LegendAbove(plot, kWidth - kRight);
  for (const PlotLine& line : plot.lines) {
    std::string path;
    bool gap = true;
    for (const auto& [x, y] : line.points) {
      if (!std::isfinite(x) || !std::isfinite(y)) {
        gap = true;
        continue;
      }
      absl::StrAppendFormat(&path, "%c%.1f %.1f", gap ? 'M' : 'L', x_at(x),
                            y_at(std::clamp(y, plot.y_min, plot.y_max)));
      gap = false;
    }
    absl::StrAppend(&svg, "<path class=\"line ", line.style, "\" d=\"", path, "\"/>");
  }
  if (plot.mark_x) {  // Its name over the lines, with a halo.
    const double x = x_at(*plot.mark_x);
    const bool left = x > kWidth * 0.7;   // The name stays inside.
    absl::StrAppendFormat(&svg, "<text class=\"label halo\" text-anchor=\"%s\" x=\"%.1f\" y=\"%g\">%s</text>",
                          left ? "end" : "start", x + (left ? -5 : 5), kTop + 8, Escape(plot.mark_name));
  }
  if (plot.mark_point) {
    const double x = x_at(plot.mark_point->first), y = y_at(plot.mark_point->second);
    absl::StrAppendFormat(&svg, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/>", x, y);
    const bool left = x > kWidth * 0.6;
    absl::StrAppendFormat(&svg, "<text class=\"label halo\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\">%s</text>",
                          left ? "end" : "start", x + (left ? -9 : 9), y + 16, Escape(plot.mark_point_name));
  }
  if (plot.legend != PlotLegend::kTop) {
    const bool right = plot.legend == PlotLegend::kLowerRight;
    svg += LegendInside(plot, right ? kWidth - kRight - 4 : kLeft + 8, kHeight - kBottom - 10, right);
  }
  return svg + "</svg>";
}

}  // namespace dermis
