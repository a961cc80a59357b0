#include "tools/report/looking_inside.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "tools/report/explained.h"
#include "tools/report/picture.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

std::string CamFigure(const Scene& scene, const std::string& title, const v1::LayerMaps& layer,
                      double full) {
  const int width = static_cast<int>(layer.width()), height = static_cast<int>(layer.height());
  std::string caption = absl::StrCat("<b>", Escape(layer.layer()), "</b> ", width, " × ", height);
  if (layer.has_offset()) {
    const double sum = std::accumulate(layer.cam().begin(), layer.cam().end(), layer.offset());
    absl::StrAppend(&caption, " · exact: the map and ", Number(layer.offset()), " add up to ",
                    Number(sum), " (f(x) = ", Number(full), ")");
  }
  const Cam map = CamOf(layer, scene.cam_sign);
  const auto cam = NormaliseCam(map.values, map.sign);
  if (!cam) {
    return Figure(
        absl::StrCat(
            "<span class=\"pair\">",
            OpenSvg(scene, absl::StrCat(title, " of ", layer.layer(), ": no positive evidence")),
            UseBase(scene, " filter=\"url(#grey)\" opacity=\".35\""),
            "<text class=\"none\" x=\"50%\" y=\"52%\">no positive evidence</text></svg></span>"),
        caption);
  }
  // Smooth as it is, half of the picture's size will do; the browser goes on from there.
  const int wide = std::max(width, scene.width / 2), high = std::max(height, scene.height / 2);
  const Raster smooth = Heat(ResizeBilinear(*cam, width, height, wide, high), wide, high, Inferno, /*veil=*/true);
  return Figure(
      absl::StrCat("<span class=\"pair\">",
                   OpenSvg(scene, absl::StrCat(title, " of ", layer.layer(), " over the image")),
                   UseBase(scene), Overlay(scene, smooth, "", "opacity=\".85\""),
                   "</svg><img class=\"native\" alt=\"",
                   Escape(absl::StrCat(title, " of ", layer.layer(), " on its own grid of ", width,
                                       " by ", height)),
                   "\" src=\"", PngUri(Heat(*cam, width, height, Inferno)), "\"></span>"),
      caption);
}

}  // namespace

// Whichever the task was about.
Cam CamOf(const v1::LayerMaps& layer, double sign) {
  const size_t pixels = size_t{layer.width()} * layer.height();
  if (layer.cam().empty()) return {layer.grad_cam(), sign};
  const absl::Span<const float> maps = layer.cam();
  if (maps.size() != 2 * pixels) return {maps, sign};
  return {maps.subspan(sign < 0 ? pixels : 0, pixels), 1};  // That of -f is a map of its own.
}

absl::Status CheckPixels(const v1::PixelAttribution& pixels) {
  const uint64_t count = uint64_t{pixels.height()} * pixels.width() * pixels.channels();
  if (count == 0 || pixels.channels() > 16 ||
      static_cast<uint64_t>(pixels.values_size()) != count) {
    return absl::InvalidArgumentError("the attribution's values and size differ");
  }
  return absl::OkStatus();
}

std::string PixelFigure(const Scene& scene, const v1::PixelAttribution& pixels,
                        const std::string& title) {
  const int width = static_cast<int>(pixels.width()), height = static_cast<int>(pixels.height());
  const int channels = static_cast<int>(pixels.channels());
  std::vector<double> sums(static_cast<size_t>(width) * height, 0.0);
  for (int i = 0; i < pixels.values_size(); ++i) sums[i / channels] += pixels.values(i);
  std::vector<int> itself(sums.size());  // Each pixel is a region of its own.
  std::iota(itself.begin(), itself.end(), 0);
  const double limit = PixelPercentile(sums, itself, 99.9);
  const bool shares = pixels.has_reference();
  return Figure(
      absl::StrCat(
          OpenSvg(scene, absl::StrCat(title, ": red pixels raise, blue ones lower the output for ",
                                      scene.positive)),
          PaleBase(scene),
          Overlay(scene, ShapleyOverlay(sums, itself, width, height, limit), "grid"),
          "</svg>"),
      absl::StrCat(
          "<b>", Escape(title), "</b> ",
          shares ? "of each pixel, towards " : "how brighter pixels change the output for ", "<em>",
          Escape(scene.positive), "</em>", SignedScale(limit)));
}

std::string PixelNumbersRow(const v1::PixelAttribution& pixels, const std::string& title) {
  const std::string none = "<td class=\"none\">not available</td>";
  std::string row = absl::StrCat("<tr data-method=\"", Escape(title), "\"><th scope=\"row\">", Escape(title), "</th><td>",
                                 pixels.evaluations(), "</td><td>", Number(pixels.full()), "</td>");
  if (pixels.has_reference()) {
    absl::StrAppend(&row, "<td>", Number(pixels.reference()), "</td><td>",
                    absl::StrFormat("%.1e", pixels.additivity_residual()), "</td>");
  } else {
    row += none + none;
  }
  const auto& errors = pixels.standard_errors();
  if (errors.empty()) {
    row += none + none;
  } else {
    const double largest = *std::max_element(errors.begin(), errors.end());
    absl::StrAppend(
        &row, absl::StrFormat("<td>%.1e</td><td>%.1e</td>", pixels.sum_standard_error(), largest));
  }
  absl::StrAppend(&row, pixels.background().empty()
                            ? none
                            : absl::StrCat("<td><code>",
                                           absl::BytesToHexString(pixels.background().substr(0, 6)),
                                           "</code></td>"));
  return row + "</tr>";
}

std::string PixelNumbersTable(const std::string& rows) {
  return absl::StrCat(
      "<div class=\"scroll\"><table class=\"numbers\"><thead><tr><th>method</th><th>gradients</th>"
      "<th>f(x)</th><th>mean f of what it is compared with</th><th>additivity residual</th>"
      "<th>standard error of the sum</th><th>largest standard error of a pixel</th>"
      "<th>background set</th></tr></thead><tbody>",
      rows, "</tbody></table></div>");
}

std::string CamSection(const Scene& scene, const std::string& title,
                       const v1::ActivationOutput& maps, bool open) {
  std::string figures;
  for (const v1::LayerMaps& layer : maps.layers()) {
    const size_t size = CamOf(layer, scene.cam_sign).values.size();
    if (size == 0 || size != size_t{layer.width()} * layer.height()) {
      return Missing(title, absl::StrCat("maps of layer ", layer.layer(), " differ in size"));
    }
    figures += CamFigure(scene, title, layer, maps.full());
  }
  return absl::StrCat(open ? "<details open>" : "<details>", "<summary>", Escape(title),
                      " by layer <span>towards ", Escape(scene.cam_target),
                      "; bilinear over the image, its own grid beside; standard errors not "
                      "available</span></summary><div "
                      "class=\"figures cams\">",
                      figures, "</div></details>");
}

}  // namespace dermis
