#include "tools/report/panel.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "common/model_methods.h"
#include "common/status_macros.h"
#include "tools/ingest/decode.h"
#include "tools/report/explained.h"
#include "tools/report/looking_inside.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

constexpr int kSide = 448;        // Of a picture, unless the image is larger.
constexpr size_t kLimeShown = 5;  // As lime's own display.
constexpr size_t kMostCircles = 6;
constexpr double kCircleFrom = 0.5;  // Of the largest attribution.
constexpr double kSmoothing = 0.03;  // Deviation, of the image's side.
constexpr double kRadius = 0.07;     // The same.
constexpr double kApart = 2.3;       // Radii between two circles' centres: they do not touch.
constexpr double kSamePicture = 12;  // Mean difference of two decodings of one photograph, of 255.

struct Case {
  const v1::ExplainedImage* explained = nullptr;
  double margin = 0;
  size_t rank = 0, of = 0;  // Among all test images of its outcome, the most confident first.
};

// Explained images of one outcome, the most confident first.
std::vector<Case> CasesOf(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                          bool predicted) {
  std::vector<std::pair<double, uint32_t>> all;  // Minus the confidence, image.
  std::map<uint32_t, double> margins;
  for (int i = 0; i < results.test_images_size(); ++i) {
    const uint32_t image = results.test_images(i);
    const double margin = static_cast<double>(results.test_logits(2 * i + 1)) -
                          static_cast<double>(results.test_logits(2 * i));
    if (manifest.images(static_cast<int>(image)).label() != 1 || (margin >= 0) != predicted)
      continue;
    all.emplace_back(-std::abs(margin), image);
    margins[image] = margin;
  }
  std::sort(all.begin(), all.end());
  std::vector<Case> cases;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    for (const v1::ExplainedImage& explained : results.explained()) {
      if (explained.image() != all[rank].second) continue;
      cases.push_back({&explained, margins[explained.image()], rank, all.size()});
      break;
    }
  }
  return cases;
}

cv::Mat MatOf(const Raster& raster) {
  return cv::Mat(raster.height, raster.width, CV_8UC3, const_cast<uint8_t*>(raster.data.data()));
}

Raster RasterOf(const cv::Mat& rgb) {
  const cv::Mat whole = rgb.isContinuous() ? rgb : rgb.clone();
  return {whole.cols, whole.rows, 3,
          std::vector<uint8_t>(whole.data, whole.data + whole.total() * 3)};
}

// A picture with room for thin lines.
cv::Mat Enlarged(const Raster& base) {
  cv::Mat large;
  const int factor = std::max(1, (kSide + base.width - 1) / base.width);
  cv::resize(MatOf(base), large, cv::Size(), factor, factor, cv::INTER_CUBIC);
  return large;
}

void Blend(cv::Vec3b& pixel, const Colour& colour, double opacity) {
  for (int c = 0; c < 3; ++c)
    pixel[c] = static_cast<uint8_t>(std::lround(pixel[c] * (1 - opacity) + colour[c] * opacity));
}

Raster CamPicture(const Raster& base, const v1::LayerMaps& layer, double sign) {
  cv::Mat shown = Enlarged(base);
  const Cam map = CamOf(layer, sign);
  const auto cam = NormaliseCam(map.values, map.sign);
  if (!cam) return RasterOf(shown * 0.5 + cv::Scalar::all(127));
  const std::vector<float> smooth =
      ResizeBilinear(*cam, static_cast<int>(layer.width()), static_cast<int>(layer.height()),
                     shown.cols, shown.rows);
  for (int y = 0; y < shown.rows; ++y) {
    for (int x = 0; x < shown.cols; ++x) {
      const double v = smooth[static_cast<size_t>(y) * shown.cols + x];
      Blend(shown.at<cv::Vec3b>(y, x), Inferno(v), .85 * v);
    }
  }
  return RasterOf(shown);
}

// The superpixels that speak most for a class, the rest dimmed.
Raster LimePicture(const Raster& base, const v1::Attribution& fit, const std::vector<int>& labels,
                   double sign) {
  cv::Mat shown = Enlarged(base);
  const int factor = shown.cols / base.width;
  const std::vector<int> best = LargestTowards(fit.values(), sign, kLimeShown);
  std::vector<bool> is_best(static_cast<size_t>(fit.values_size()));
  for (const int k : best) is_best[static_cast<size_t>(k)] = true;
  const auto label = [&](int y, int x) {
    return labels[static_cast<size_t>(y / factor) * base.width + x / factor];
  };
  for (int y = 0; y < shown.rows; ++y) {
    for (int x = 0; x < shown.cols; ++x) {
      cv::Vec3b& pixel = shown.at<cv::Vec3b>(y, x);
      const int here = label(y, x);
      const bool inside = is_best[static_cast<size_t>(here)];
      bool border = false;
      for (const auto& [dy, dx] :
           {std::pair{1, 0}, std::pair{0, 1}, std::pair{-1, 0}, std::pair{0, -1}}) {
        const int ny = y + dy, nx = x + dx;
        if (ny < 0 || nx < 0 || ny >= shown.rows || nx >= shown.cols) continue;
        const int there = label(ny, nx);
        border |= there != here && (inside || is_best[static_cast<size_t>(there)]);
      }
      if (border) {
        pixel = {255, 225, 77};
      } else if (!inside) {
        Blend(pixel, {24, 24, 24}, .62);
      }
    }
  }
  return RasterOf(shown);
}

// Attribution of each of width x height cells, as shap draws it.
Raster ShapPicture(const Raster& base, absl::Span<const double> values,
                   absl::Span<const int> labels, int width, int height, double sign) {
  cv::Mat large = Enlarged(base), grey, shown;
  cv::cvtColor(large, grey, cv::COLOR_RGB2GRAY);
  cv::cvtColor(grey, shown, cv::COLOR_GRAY2RGB);
  shown = shown * .15 + cv::Scalar::all(255 * .85);
  const double limit = PixelPercentile(values, labels, 99.9);
  for (int y = 0; y < shown.rows; ++y) {
    for (int x = 0; x < shown.cols; ++x) {
      const int cell =
          labels[static_cast<size_t>(y * height / shown.rows) * width + x * width / shown.cols];
      const double t =
          limit > 0 ? std::clamp(sign * values[static_cast<size_t>(cell)] / limit, -1.0, 1.0) : 0;
      Blend(shown.at<cv::Vec3b>(y, x), t > 0 ? Colour{255, 0, 81} : Colour{0, 139, 251},
            std::abs(t));
    }
  }
  return RasterOf(shown);
}

// All of a layer's channels side by side, each scaled to its own range. Cells stay cells.
Raster TilesPicture(const v1::LayerMaps& layer) {
  const Raster tiles = Tiles(layer.activations(), static_cast<int>(layer.channels()),
                             static_cast<int>(layer.width()), static_cast<int>(layer.height()));
  cv::Mat rgb(tiles.height, tiles.width, CV_8UC3, cv::Scalar::all(255));  // Gaps: white.
  for (int p = 0; p < tiles.width * tiles.height; ++p) {
    const uint8_t* rgba = &tiles.data[4 * static_cast<size_t>(p)];
    if (rgba[3] != 0) std::copy(rgba, rgba + 3, rgb.data + 3 * static_cast<size_t>(p));
  }
  const int factor = std::max(1, (kSide + tiles.width - 1) / tiles.width);
  cv::resize(rgb, rgb, cv::Size(), factor, factor, cv::INTER_NEAREST);
  return RasterOf(rgb);
}

// A map of what speaks for the positive class, on a grid of its own.
struct Attributed {
  std::string title;
  std::vector<double> values;
  std::vector<int> labels;  // Of the cells of width x height.
  int width = 0, height = 0;
};

class Panel {
 public:
  Panel(const v1::StudyResults& results, const ReportInputs& inputs, const Case& chosen)
      : results_(results), inputs_(inputs), chosen_(chosen), manifest_(inputs.images->manifest()) {}

  absl::Status Load() {
    ASSIGN_OR_RETURN(const std::string_view pixels,
                     inputs_.images->Pixels(chosen_.explained->image()));
    base_ = {static_cast<int>(manifest_.width()), static_cast<int>(manifest_.height()), 3,
             std::vector<uint8_t>(pixels.begin(), pixels.end())};
    for (const v1::MethodResult& method : chosen_.explained->results()) Take(method);
    return absl::OkStatus();
  }

  const std::string& name() const {
    return manifest_.images(static_cast<int>(chosen_.explained->image())).name();
  }

  std::vector<PanelPicture> Pictures() const {
    const std::string negative = manifest_.classes(0), positive = manifest_.classes(1);
    std::vector<PanelPicture> pictures = {{"original", "the image", RasterOf(Enlarged(base_))}};
    const double sign =
        chosen_.margin >= 0 || results_.spec().explanation().output() == v1::OUTPUT_KIND_LOGIT ? 1
                                                                                               : -1;
    for (const v1::LayerMaps& layer : activations_.layers()) {
      if (layer.activations().empty() ||
          static_cast<uint64_t>(layer.activations_size()) !=
              uint64_t{layer.channels()} * layer.width() * layer.height()) {
        continue;
      }
      pictures.push_back({absl::StrCat("activation-", layer.layer()),
                          absl::StrCat("activation maps, ", layer.layer(), ": ", layer.channels(),
                                       " of ", layer.width(), " × ", layer.height()),
                          TilesPicture(layer)});
    }
    for (const v1::LayerMaps& layer : maps_.layers()) {
      const Cam cam = CamOf(layer, sign);
      if (cam.values.size() != size_t{layer.width()} * layer.height() || cam.values.empty())
        continue;
      const bool any = NormaliseCam(cam.values, cam.sign).has_value();
      pictures.push_back(
          {absl::StrCat(cam_title_, "-", layer.layer()),
           absl::StrCat(cam_title_, ", ", layer.layer(), ", towards ",
                        sign > 0 ? positive : negative, any ? "" : ": no positive evidence"),
           CamPicture(base_, layer, sign)});
    }
    for (const auto& [of, towards] : {std::pair{&positive, 1.0}, std::pair{&negative, -1.0}}) {
      if (!lime_labels_.empty()) {
        pictures.push_back({absl::StrCat("lime-", *of),
                            absl::StrCat(lime_title_, ": what speaks most for ", *of),
                            LimePicture(base_, lime_, lime_labels_, towards)});
      }
    }
    for (const auto& [of, towards] : {std::pair{&positive, 1.0}, std::pair{&negative, -1.0}}) {
      if (shap_) {
        pictures.push_back({absl::StrCat("shap-", *of),
                            absl::StrCat(shap_->title, " of the margin: red speaks for ", *of),
                            ShapPicture(base_, shap_->values, shap_->labels, shap_->width,
                                        shap_->height, towards)});
      }
    }
    return pictures;
  }

  std::string MissingText() const {
    std::string text;
    for (const auto& [there, what] :
         {std::pair{activations_.layers_size() > 0, " No activation maps: the study has none."},
          std::pair{maps_.layers_size() > 0, " No class activation maps: the study has none."},
          std::pair{!lime_labels_.empty(), " No LIME: the study has none."},
          std::pair{shap_.has_value(), " No SHAP: the study has none."}}) {
      if (!there) text += what;
    }
    return text;
  }

  // The seed's Figure 8, on the image as it was photographed where that is given.
  std::optional<CasePanel> Circles() const {
    if (!shap_) return std::nullopt;
    CasePanel panel{"8", "Where the attribution is high", "", {}};
    std::string why_not;
    std::optional<cv::Mat> full = FullResolution(why_not);
    cv::Mat shown = full ? *full : Enlarged(base_);
    // The set holds the centre square of the photograph.
    const double side = std::min(shown.cols, shown.rows);
    const double left = (shown.cols - side) / 2, top = (shown.rows - side) / 2;
    const std::vector<std::pair<double, double>> peaks = Peaks();
    const int thick = std::max(2, static_cast<int>(std::lround(side / 240)));
    for (const auto& [x, y] : peaks) {
      const cv::Point centre(static_cast<int>(std::lround(left + x * side)),
                             static_cast<int>(std::lround(top + y * side)));
      const int radius = static_cast<int>(std::lround(kRadius * side));
      cv::circle(shown, centre, radius, {255, 255, 255}, thick + 2, cv::LINE_AA);
      cv::circle(shown, centre, radius, {214, 24, 50}, thick, cv::LINE_AA);
    }
    const std::string towards = manifest_.classes(chosen_.margin >= 0 ? 1 : 0);
    panel.note = absl::StrFormat(
        "%s, %d × %d pixels. Circles: %d %s where what %s gives for %s, smoothed over %.0f %% of "
        "the side, is at least half of "
        "its largest value.%s%s",
        name(), shown.cols, shown.rows, peaks.size(), peaks.size() == 1 ? "place" : "places",
        shap_->title, towards, 100 * kSmoothing, why_not.empty() ? "" : " ", why_not);
    panel.pictures.push_back({full ? "full-resolution" : "display-size",
                              absl::StrCat("high attribution in ", name()), RasterOf(shown)});
    return panel;
  }

 private:
  absl::StatusOr<v1::Payload> Fetch(const v1::TaskResult& result) const {
    if (result.task().empty()) return absl::NotFoundError("is not computed yet");
    return inputs_.fetch_payload(result);
  }

  bool SizesFit(const v1::Attribution& fit, const std::vector<int>& labels) const {
    return labels.size() == static_cast<size_t>(base_.width) * base_.height &&
           std::all_of(labels.begin(), labels.end(),
                       [&](int label) { return label < fit.values_size(); });
  }

  // The first of a kind is shown; DeepSHAP, of single pixels as the seed's, before Shapley values
  // of superpixels.
  void Take(const v1::MethodResult& method) {
    const v1::MethodSpec& spec = method.method();
    const bool cam = spec.has_grad_cam() || CamKindOf(spec) != v1::CAM_KIND_UNSPECIFIED;
    const bool takes = (cam && maps_.layers_size() == 0) || spec.has_activation_maps() ||
                       (spec.has_lime() && lime_labels_.empty()) ||
                       (spec.has_shapley() && !shap_) || (spec.has_deep_shap() && !deep_);
    if (!takes) return;
    auto payload = Fetch(method.result());
    if (!payload.ok()) return;
    if (cam) {
      cam_title_ = MethodTitle(spec);
      maps_ = std::move(*payload->mutable_activations());
    } else if (spec.has_activation_maps()) {
      activations_ = std::move(*payload->mutable_activations());
    } else if (spec.has_deep_shap()) {
      TakePixels(payload->gradient(), MethodTitle(spec));
    } else {
      const auto superpixels = Fetch(method.superpixels());
      if (!superpixels.ok()) return;
      std::vector<int> labels = LabelsOn(superpixels->superpixels(), base_.width, base_.height);
      const v1::Attribution& fit = payload->fit();
      if (!SizesFit(fit, labels)) return;
      if (spec.has_lime()) {
        lime_title_ = MethodTitle(spec);
        lime_ = fit;
        lime_labels_ = std::move(labels);
      } else {
        shap_ = Attributed{MethodTitle(spec),
                           {fit.values().begin(), fit.values().end()},
                           std::move(labels),
                           base_.width,
                           base_.height};
      }
    }
  }

  void TakePixels(const v1::PixelAttribution& pixels, const std::string& title) {
    if (!CheckPixels(pixels).ok()) return;
    Attributed map{
        title, {}, {}, static_cast<int>(pixels.width()), static_cast<int>(pixels.height())};
    map.values.resize(size_t{pixels.width()} * pixels.height());
    for (int i = 0; i < pixels.values_size(); ++i) {
      map.values[static_cast<size_t>(i) / pixels.channels()] +=
          static_cast<double>(pixels.values(i));
    }
    for (size_t p = 0; p < map.values.size(); ++p) map.labels.push_back(static_cast<int>(p));
    shap_ = std::move(map);
    deep_ = true;
  }

  // Places where the smoothed evidence for the predicted class is high, as fractions of the side.
  std::vector<std::pair<double, double>> Peaks() const {
    const double sign = chosen_.margin >= 0 ? 1 : -1;
    std::vector<double> area(shap_->values.size());
    for (const int label : shap_->labels) ++area[static_cast<size_t>(label)];
    cv::Mat density(shap_->height, shap_->width, CV_32F);
    for (int y = 0; y < density.rows; ++y) {
      for (int x = 0; x < density.cols; ++x) {
        const auto cell =
            static_cast<size_t>(shap_->labels[static_cast<size_t>(y) * shap_->width + x]);
        density.at<float>(y, x) =
            static_cast<float>(std::max(0.0, sign * shap_->values[cell] / area[cell]));
      }
    }
    cv::Mat map;
    cv::resize(density, map, cv::Size(base_.width, base_.height), 0, 0, cv::INTER_LINEAR);
    cv::GaussianBlur(map, map, cv::Size(), kSmoothing * base_.width);
    std::vector<std::pair<double, double>> peaks;
    double most = 0;
    while (peaks.size() < kMostCircles) {
      double value = 0;
      cv::Point at;
      cv::minMaxLoc(map, nullptr, &value, nullptr, &at);
      if (peaks.empty()) most = value;
      if (!(value > 0) || value < kCircleFrom * most) break;
      peaks.emplace_back((at.x + .5) / base_.width, (at.y + .5) / base_.height);
      cv::circle(map, at, static_cast<int>(kApart * kRadius * base_.width), cv::Scalar(0),
                 cv::FILLED);
    }
    return peaks;
  }

  std::optional<cv::Mat> FullResolution(std::string& why_not) const {
    namespace fs = std::filesystem;
    if (inputs_.full_resolution.empty()) {
      why_not = "The photograph itself is not in the image set; --full-resolution FOLDER names it.";
      return std::nullopt;
    }
    const fs::path within = fs::path(name()).lexically_normal();
    if (within.is_absolute() || *within.begin() == "..") {
      why_not = absl::StrCat("The name ", name(), " leads out of ", inputs_.full_resolution, ".");
      return std::nullopt;
    }
    std::error_code error;
    fs::path path = fs::path(inputs_.full_resolution) / within;
    if (!fs::is_regular_file(path, error))
      path = fs::path(inputs_.full_resolution) / within.filename();
    std::ifstream in(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    const auto decoded = bytes.empty() ? absl::StatusOr<std::string>(absl::NotFoundError(""))
                                       : DecodeImage(bytes, manifest_.width());
    if (!decoded.ok()) {
      why_not = absl::StrCat("There is no picture ", name(), " in ", inputs_.full_resolution, ".");
      return std::nullopt;
    }
    double difference = 0;
    for (size_t i = 0; i < decoded->size(); ++i) {
      difference += std::abs(static_cast<uint8_t>((*decoded)[i]) - static_cast<int>(base_.data[i]));
    }
    if (difference / static_cast<double>(decoded->size()) > kSamePicture) {
      why_not = absl::StrCat("The picture ", name(), " in ", inputs_.full_resolution,
                             " shows something else, or another part of it.");
      return std::nullopt;
    }
    cv::Mat bgr = cv::imdecode(std::vector<uint8_t>(bytes.begin(), bytes.end()), cv::IMREAD_COLOR),
            rgb;
    cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
    return rgb;
  }

  const v1::StudyResults& results_;
  const ReportInputs& inputs_;
  const Case chosen_;
  const v1::ImageSetManifest& manifest_;
  Raster base_;
  std::string cam_title_, lime_title_;
  v1::ActivationOutput activations_, maps_;  // Of the layers' channels; towards a class.
  v1::Attribution lime_;
  std::vector<int> lime_labels_;
  std::optional<Attributed> shap_;
  bool deep_ = false;
};

std::string Ordinal(size_t rank) {
  const size_t n = rank + 1;
  const char* ending = n % 10 == 1 && n % 100 != 11   ? "st"
                       : n % 10 == 2 && n % 100 != 12 ? "nd"
                       : n % 10 == 3 && n % 100 != 13 ? "rd"
                                                      : "th";
  return absl::StrCat(n, ending);
}

absl::Status Add(const v1::StudyResults& results, const ReportInputs& inputs, const Case& chosen,
                 const char* figure, const char* title, const char* outcome, bool circles,
                 std::vector<CasePanel>& panels) {
  Panel panel(results, inputs, chosen);
  RETURN_IF_ERROR(panel.Load());
  panels.push_back({figure, title,
                    absl::StrFormat("%s: of %d %s it is the %s by confidence, margin %s.%s",
                                    panel.name(), chosen.of, outcome, Ordinal(chosen.rank),
                                    Number(chosen.margin, 2), panel.MissingText()),
                    panel.Pictures()});
  if (!circles) return absl::OkStatus();
  if (auto circled = panel.Circles()) panels.push_back(*std::move(circled));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<CasePanel>> CasePanels(const v1::StudyResults& results,
                                                  const ReportInputs& inputs) {
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  std::vector<CasePanel> panels;
  if (manifest.classes_size() != 2 || manifest.unlabelled() ||
      results.test_logits_size() != 2 * results.test_images_size()) {
    return panels;
  }
  const std::vector<Case> found = CasesOf(results, manifest, true),
                          missed = CasesOf(results, manifest, false);
  if (!found.empty()) {
    const auto far = [](const Case& c) {
      return std::abs(static_cast<double>(c.rank) - static_cast<double>(c.of - 1) / 2);
    };
    const Case& median = *std::min_element(
        found.begin(), found.end(), [&](const Case& a, const Case& b) { return far(a) < far(b); });
    RETURN_IF_ERROR(Add(results, inputs, median, "7",
                        far(median) < 1
                            ? "The true positive of median confidence"
                            : "The explained true positive nearest to median confidence",
                        "true positives", true, panels));
  }
  if (!missed.empty()) {
    RETURN_IF_ERROR(Add(results, inputs, missed[0], "13",
                        missed[0].rank == 0 ? "The most confident false negative"
                                            : "The most confident explained false negative",
                        "false negatives", false, panels));
  }
  return panels;
}

namespace {

// As large as the page shows it.
Raster Reduced(const Raster& raster) {
  constexpr int kShown = 340;
  if (raster.width <= kShown) return raster;
  cv::Mat small;
  cv::resize(MatOf(raster), small, cv::Size(kShown, raster.height * kShown / raster.width), 0, 0,
             cv::INTER_AREA);
  return RasterOf(small);
}

}  // namespace

std::string RenderPanels(const std::vector<CasePanel>& panels) {
  std::string html;
  for (const CasePanel& panel : panels) {
    absl::StrAppend(&html, "<h3>", Escape(panel.title), " <span>Figure ", panel.figure,
                    " of the seed paper</span></h3><div class=\"",
                    panel.pictures.size() == 1 ? "figures one" : "figures", "\">");
    for (const PanelPicture& picture : panel.pictures) {
      const bool one = panel.pictures.size() == 1, wide = !one && picture.wide();
      const Raster shown = one || wide ? picture.raster : Reduced(picture.raster);
      absl::StrAppend(&html, wide ? "<figure class=\"wide\">" : "<figure>",
                      "<img class=\"picture\" ", LazySize(shown), " alt=\"",
                      Escape(picture.caption), "\" src=\"", JpegUri(shown), "\"><figcaption>",
                      Escape(picture.caption), "</figcaption></figure>");
    }
    absl::StrAppend(&html, "</div><p class=\"note\">", Escape(panel.note), "</p>");
  }
  return html;
}

}  // namespace dermis
