#include "tools/report/scatter.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "common/status_macros.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

constexpr double kWidth = 460, kHeight = 400, kLeft = 22, kRight = 10, kTop = 24, kBottom = 24;
constexpr int kQuality = 78;
constexpr size_t kFew = 600;  // Points that have room to be large.

// Pixels of a thumbnail's side: many images must not make the page large.
int ThumbnailSide(size_t images) { return images <= 4000 ? 28 : 18; }

}  // namespace

const char kScatterScript[] = R"js(
(() => {
  const data = document.getElementById('scatter-data');
  if (!data) return;
  const d = JSON.parse(data.textContent), atlas = document.getElementById('scatter-atlas');
  const box = document.createElement('div');
  box.className = 'hover'; box.hidden = true;
  box.innerHTML = '<canvas width="140" height="140"></canvas><span></span>';
  document.body.append(box);
  addEventListener('pointerdown', (event) => { if (!event.target.closest('.scatter svg')) box.hidden = true; });
  const tile = (i) => [i % d.columns * d.side, Math.floor(i / d.columns) * d.side, d.side, d.side];
  for (const plot of document.querySelectorAll('.scatter')) {
    const svg = plot.querySelector('svg');
    const points = plot.dataset.points.split(' ').map(Number);
    const nearest = (x, y) => {
      let best = -1, least = 144;
      for (let i = 0; i < points.length; i += 2) {
        const far = (points[i] - x) ** 2 + (points[i + 1] - y) ** 2;
        if (far < least) { least = far; best = i / 2; }
      }
      return best;
    };
    const show = (event) => {
      const area = svg.getBoundingClientRect(), scale = 460 / area.width;
      const i = nearest((event.clientX - area.left) * scale, (event.clientY - area.top) * scale);
      box.hidden = i < 0;
      if (i < 0) return;
      const context = box.firstChild.getContext('2d');
      context.imageSmoothingEnabled = true;
      context.drawImage(atlas, ...tile(i), 0, 0, 140, 140);
      box.lastChild.textContent = d.names[i] + ' · ' + d.classes[d.labels[i]] + ' · ' + d.parts[d.part[i]];
      box.style.left = Math.min(event.pageX + 16, document.documentElement.clientWidth - 180) + 'px';
      box.style.top = event.pageY + 16 + 'px';
    };
    svg.addEventListener('pointermove', show);
    svg.addEventListener('pointerdown', show);
    // A finger that is lifted has left, too: its image stays until the next touch.
    svg.addEventListener('pointerleave', (event) => { if (event.pointerType !== 'touch') box.hidden = true; });
    const button = document.createElement('button');
    button.type = 'button'; button.textContent = 'show images'; button.setAttribute('aria-pressed', 'false');
    let canvas = null;
    button.addEventListener('click', () => {
      if (canvas) {
        canvas.remove(); canvas = null;
      } else {
        canvas = document.createElement('canvas');
        canvas.width = 1380; canvas.height = 1200;
        const context = canvas.getContext('2d');
        for (let i = 0; i < points.length; i += 2) {
          context.drawImage(atlas, ...tile(i / 2), points[i] * 3 - 15, points[i + 1] * 3 - 15, 30, 30);
        }
        svg.parentNode.append(canvas);
      }
      button.setAttribute('aria-pressed', String(!!canvas));
    });
    plot.querySelector('figcaption').append(' ', button);
  }
})();
)js";

absl::StatusOr<std::string> RenderScatterImages(const ImageSet& set,
                                                absl::Span<const uint32_t> images,
                                                const std::vector<uint8_t>& parts) {
  const v1::ImageSetManifest& manifest = set.manifest();
  const int side = ThumbnailSide(images.size());
  const int columns = std::max(1, static_cast<int>(std::ceil(std::sqrt(images.size()))));
  const int rows = (static_cast<int>(images.size()) + columns - 1) / columns;
  cv::Mat atlas(std::max(1, rows) * side, columns * side, CV_8UC3, cv::Scalar::all(255));
  nlohmann::json data;
  data["side"] = side;
  data["columns"] = columns;
  data["parts"] = {"training", "validation", "test"};
  data["part"] = parts;
  for (const std::string& name : manifest.classes()) data["classes"].push_back(name);
  for (size_t i = 0; i < images.size(); ++i) {
    const v1::ImageEntry& entry = manifest.images(static_cast<int>(images[i]));
    data["names"].push_back(entry.name());
    data["labels"].push_back(entry.label());
    ASSIGN_OR_RETURN(const std::string_view pixels, set.Pixels(images[i]));
    const cv::Mat image(static_cast<int>(manifest.height()), static_cast<int>(manifest.width()),
                        CV_8UC3, const_cast<char*>(pixels.data()));
    const cv::Rect place(static_cast<int>(i) % columns * side, static_cast<int>(i) / columns * side,
                         side, side);
    cv::Mat small;
    cv::resize(image, small, place.size(), 0, 0, cv::INTER_AREA);
    cv::cvtColor(small, small, cv::COLOR_RGB2BGR);
    small.copyTo(atlas(place));
  }
  std::vector<uint8_t> jpeg;
  cv::imencode(".jpg", atlas, jpeg, {cv::IMWRITE_JPEG_QUALITY, kQuality});
  // "</" would end the element, "<!--" change what ends it.
  std::string json =
      data.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  for (size_t at = 0; (at = json.find('<', at)) != std::string::npos; ++at) {
    json.replace(at, 1, "\\u003c");
  }
  std::string encoded;  // The form that returns it is newer than Debian's Abseil.
  absl::Base64Escape({reinterpret_cast<const char*>(jpeg.data()), jpeg.size()}, &encoded);
  return absl::StrCat(
      "<img id=\"scatter-atlas\" hidden alt=\"\" src=\"data:image/jpeg;base64,", encoded,
      "\"><script type=\"application/json\" id=\"scatter-data\">", json, "</script>");
}

namespace {

// Where each point lies in the plot's area of kWidth x kHeight: x, y of each.
std::vector<double> Places(const Scatter& scatter) {
  const size_t n = scatter.points.size() / 2;
  float low[2] = {0, 0}, high[2] = {1, 1};
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < 2; ++k) {
      const float value = scatter.points[2 * i + k];
      low[k] = i == 0 ? value : std::min(low[k], value);
      high[k] = i == 0 ? value : std::max(high[k], value);
    }
  }
  const auto place = [&](size_t k, float value, double from, double to) {
    return high[k] > low[k] ? from + static_cast<double>(value - low[k]) / static_cast<double>(high[k] - low[k]) * (to - from)
                            : (from + to) / 2;
  };
  std::vector<double> places;
  for (size_t i = 0; i < n; ++i) {
    places.push_back(place(0, scatter.points[2 * i], kLeft + 6, kWidth - kRight - 6));
    places.push_back(place(1, scatter.points[2 * i + 1], kHeight - kBottom - 6, kTop + 6));
  }
  return places;
}

}  // namespace

std::string ScatterSvg(const Scatter& scatter) {
  const std::vector<double> places = Places(scatter);
  std::string paths[4];  // Faint and full, of both classes.
  for (size_t i = 0; i < places.size() / 2; ++i) {
    const bool full = scatter.marked.empty() || scatter.marked[i];
    absl::StrAppendFormat(&paths[(full ? 2 : 0) + (scatter.positive[i] ? 1 : 0)], "M%.1f %.1fh0", places[2 * i], places[2 * i + 1]);
  }
  std::string svg = absl::StrFormat("<svg class=\"plot\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">", kWidth,
                                    kHeight, Escape(scatter.title));
  absl::StrAppendFormat(&svg, "<path class=\"axis\" d=\"M%g %gV%gM%g %gH%g\"/>", kLeft, kTop, kHeight - kBottom,
                        kLeft, kHeight - kBottom, kWidth - kRight);
  constexpr const char* kStyles[] = {"points faint", "points b faint", "points", "points b"};
  for (size_t k = 0; k < 4; ++k) {
    if (paths[k].empty()) continue;
    absl::StrAppend(&svg, "<path class=\"", kStyles[k], places.size() / 2 <= kFew ? " few" : "",
                    "\" d=\"", paths[k], "\"/>");
  }
  absl::StrAppendFormat(
      &svg,
      "<text class=\"label\" text-anchor=\"end\" x=\"%g\" y=\"%g\">%s</text>"
      "<text class=\"label\" text-anchor=\"start\" x=\"%g\" y=\"14\">%s</text>",
      kWidth - kRight, kHeight - 8, Escape(scatter.x_label), kLeft - 8, Escape(scatter.y_label));
  const std::string* const names[] = {&scatter.negative_name, &scatter.positive_name};
  double x = kWidth - kRight;
  for (int k = 1; k >= 0; --k) {
    x -= 6.2 * static_cast<double>(names[k]->size());
    absl::StrAppendFormat(&svg,
                          "<text class=\"legend\" x=\"%.1f\" y=\"14\">%s</text><path "
                          "class=\"points few%s\" d=\"M%.1f 10h0\"/>",
                          x, Escape(*names[k]), k == 1 ? " b" : "", x - 9);
    x -= 28;
  }
  return svg + "</svg>";
}

std::string RenderScatter(const Scatter& scatter) {
  std::string where;
  for (const double place : Places(scatter)) absl::StrAppendFormat(&where, "%s%.0f", where.empty() ? "" : " ", place);
  return absl::StrCat("<figure class=\"scatter\" data-points=\"", where, "\"><div class=\"canvas\">", ScatterSvg(scatter),
                      "</div><figcaption><b>", Escape(scatter.title), "</b></figcaption></figure>");
}

absl::StatusOr<Raster> ScatterOfImages(const Scatter& scatter, const ImageSet& set, absl::Span<const uint32_t> images) {
  constexpr int kScale = 4, kSide = 30;
  const v1::ImageSetManifest& manifest = set.manifest();
  cv::Mat canvas(static_cast<int>(kHeight) * kScale, static_cast<int>(kWidth) * kScale, CV_8UC3, cv::Scalar::all(255));
  const std::vector<double> places = Places(scatter);
  const size_t n = std::min(images.size(), places.size() / 2);
  // Far from the order of names, which is often that of classes: neither class hides the other.
  size_t stride = n * 618 / 1000 + 1;
  while (std::gcd(stride, n) > 1) ++stride;
  for (size_t k = 0; k < n; ++k) {
    const size_t i = k * stride % n;
    ASSIGN_OR_RETURN(const std::string_view pixels, set.Pixels(images[i]));
    const cv::Mat image(static_cast<int>(manifest.height()), static_cast<int>(manifest.width()), CV_8UC3,
                        const_cast<char*>(pixels.data()));
    cv::Mat small;
    cv::resize(image, small, cv::Size(kSide, kSide), 0, 0, cv::INTER_AREA);
    const cv::Scalar frame = scatter.positive[i] ? cv::Scalar(185, 114, 44) : cv::Scalar(13, 122, 111);
    cv::rectangle(small, cv::Rect(0, 0, kSide, kSide), frame, 2);
    const int x = std::clamp(static_cast<int>(places[2 * i] * kScale) - kSide / 2, 0, canvas.cols - kSide);
    const int y = std::clamp(static_cast<int>(places[2 * i + 1] * kScale) - kSide / 2, 0, canvas.rows - kSide);
    small.copyTo(canvas(cv::Rect(x, y, kSide, kSide)));
  }
  return Raster{canvas.cols, canvas.rows, 3, std::vector<uint8_t>(canvas.data, canvas.data + canvas.total() * 3)};
}

}  // namespace dermis
