#include "tools/report/forest.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "tools/report/plot.h"

namespace dermis {
namespace {

constexpr double kWidth = 760, kLeft = 268, kRight = 624, kRow = 25, kTop = 30;

}  // namespace

std::string RenderForest(const Forest& forest) {
  const double height = kTop + kRow * static_cast<double>(forest.rows.size()) + 46;
  const double bottom = height - 42;
  const auto at = [&](double value) {
    const double clamped = std::clamp(value, forest.low, forest.high);
    return kLeft + (kRight - kLeft) * (clamped - forest.low) / (forest.high - forest.low);
  };
  std::string svg = absl::StrFormat(
      "<svg class=\"plot forest\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">",
      kWidth, height, Escape(forest.title));
  for (const double tick : Ticks(forest.low, forest.high, 6)) {
    absl::StrAppendFormat(&svg,
                          "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/><text x=\"%.1f\" y=\"%.1f\" "
                          "text-anchor=\"middle\">%g</text>",
                          at(tick), kTop - 4, bottom, at(tick), bottom + 16, tick);
  }
  absl::StrAppendFormat(&svg, "<path class=\"mark\" d=\"M%.1f %.1fV%.1f\"/>", at(forest.reference),
                        kTop - 4, bottom);
  absl::StrAppendFormat(&svg,
                        "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text><text "
                        "x=\"%.0f\" y=\"16\">%s</text>",
                        (kLeft + kRight) / 2, height - 8, Escape(forest.axis), kRight + 14,
                        Escape(forest.note_title));
  double y = kTop + kRow / 2;
  for (const ForestRow& row : forest.rows) {
    if (row.heading) {
      absl::StrAppendFormat(&svg, "<text class=\"head\" x=\"0\" y=\"%.1f\">%s</text>", y + 4,
                            Escape(row.name));
    } else {
      const char* const strong = row.strong ? " strong" : "";
      absl::StrAppendFormat(
          &svg,
          "<text class=\"name%s\" x=\"12\" y=\"%.1f\">%s</text><path class=\"line %s\" d=\"M%.1f "
          "%.1fH%.1f\"/><circle class=\"estimate%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/><text "
          "class=\"name%s\" x=\"%.0f\" y=\"%.1f\">%s</text>",
          strong, y + 4, Escape(row.name), row.strong ? "a" : "c", at(row.low), y, at(row.high),
          strong, at(row.value), y, strong, kRight + 14, y + 4, Escape(row.note));
    }
    y += kRow;
  }
  return svg + "</svg>";
}

}  // namespace dermis
