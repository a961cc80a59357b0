#include "tools/report/waterfall.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "tools/report/explained.h"
#include "tools/report/picture.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

constexpr size_t kShown = 7;
constexpr double kRow = 19, kWidth = 400, kLeft = 92,
                 kRight = 340;  // Of the bars; values stand at the right.

std::string Signed(double value) { return absl::StrCat(value > 0 ? "+" : "", Number(value)); }

}  // namespace

std::string RenderWaterfall(const Scene& scene, const v1::Attribution& fit,
                            const std::string& title) {
  const std::vector<int> strongest = LargestByMagnitude(fit.values(), kShown);
  if (strongest.empty()) return "";
  struct Step {
    std::string name;
    double value;
  };
  std::vector<Step> steps;
  double rest = std::accumulate(fit.values().begin(), fit.values().end(), 0.0);
  for (const int k : strongest) {
    steps.push_back({absl::StrCat(steps.size() + 1), fit.values(k)});
    rest -= fit.values(k);
  }
  const int others = fit.values_size() - static_cast<int>(strongest.size());
  if (others > 0) steps.push_back({absl::StrCat(others, others == 1 ? " other" : " others"), rest});
  double low = fit.hidden(), high = low, sum = low;
  for (const Step& step : steps) {
    sum += step.value;
    low = std::min(low, sum);
    high = std::max(high, sum);
  }
  if (!(high > low) || !std::isfinite(high - low)) return "";
  const auto at = [&](double value) {
    return kLeft + (kRight - kLeft) * (value - low) / (high - low);
  };
  const double height = kRow * static_cast<double>(steps.size() + 2) + 4;
  std::string svg = absl::StrFormat(
      "<svg class=\"waterfall\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">", kWidth,
      height,
      Escape(absl::StrCat(title, ": from ", Number(fit.hidden()), " with all hidden to ",
                          Number(fit.full()), " of the image")));
  const auto end = [&](const std::string& name, double value, double y) {
    absl::StrAppendFormat(
        &svg,
        "<text x=\"0\" y=\"%.1f\">%s</text><path class=\"end\" d=\"M%.1f %.1fv%.0f\"/>"
        "<text class=\"value\" x=\"%.0f\" y=\"%.1f\">%s</text>",
        y + 14, name, at(value), y + 2, kRow - 3, kWidth, y + 14, Number(value));
  };
  end("all hidden", fit.hidden(), 0);
  double y = kRow;
  sum = fit.hidden();
  for (const Step& step : steps) {
    const double from = at(sum), to = at(sum + step.value);
    absl::StrAppendFormat(
        &svg,
        "<text x=\"0\" y=\"%.1f\">%s</text><path class=\"link\" d=\"M%.1f %.1fv%.0f\"/>"
        "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.0f\" rx=\"1.5\"/>"
        "<text class=\"value\" x=\"%.0f\" y=\"%.1f\">%s</text>",
        y + 14, step.name, from, y - 3, 7.0, step.value >= 0 ? "up" : "down", std::min(from, to),
        y + 4, std::max(1.0, std::abs(to - from)), kRow - 8, kWidth, y + 14, Signed(step.value));
    sum += step.value;
    y += kRow;
  }
  end("the image", fit.full(), y);
  return Figure(svg + "</svg>",
                absl::StrCat("<b>", Escape(title), "</b> how the superpixels add up, towards <em>",
                             Escape(scene.positive), "</em>; the numbers are on the picture"),
                "wide");
}

std::string WaterfallNumbers(const Scene& scene, const v1::Attribution& fit,
                             absl::Span<const int> labels) {
  std::string svg;
  const std::vector<int> strongest = LargestByMagnitude(fit.values(), kShown);
  for (size_t rank = 0; rank < strongest.size(); ++rank) {
    double x = 0, y = 0;
    std::vector<size_t> pixels;
    for (size_t p = 0; p < labels.size(); ++p) {
      if (labels[p] != strongest[rank]) continue;
      pixels.push_back(p);
      x += static_cast<double>(p % scene.width);
      y += static_cast<double>(p / scene.width);
    }
    if (pixels.empty()) continue;
    x /= static_cast<double>(pixels.size());
    y /= static_cast<double>(pixels.size());
    // A superpixel need not hold its own centre: its pixel that is nearest to it.
    const auto distance = [&](size_t p) {
      return std::hypot(static_cast<double>(p % scene.width) - x,
                        static_cast<double>(p / scene.width) - y);
    };
    const size_t nearest = *std::min_element(pixels.begin(), pixels.end(), [&](size_t a, size_t b) {
      return distance(a) < distance(b);
    });
    absl::StrAppendFormat(
        &svg, "<text class=\"number overlay\" x=\"%d\" y=\"%d\" font-size=\"%.1f\">%d</text>",
        static_cast<int>(nearest) % scene.width, static_cast<int>(nearest) / scene.width,
        .06 * scene.width, rank + 1);
  }
  return svg;
}

}  // namespace dermis
