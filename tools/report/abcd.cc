#include "tools/report/abcd.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include <opencv2/imgproc.hpp>

#include "common/model_methods.h"
#include "common/status_macros.h"
#include "tools/ingest/csv.h"
#include "tools/report/explained.h"
#include "tools/report/forest.h"
#include "tools/report/looking_inside.h"
#include "tools/report/picture.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

constexpr int kFewestPixels = 16;
constexpr uint32_t kDraws = 2000;
constexpr uint64_t kFewestImages = 5;
constexpr double kContrastDistance = 0.03;  // Of the picture's side.

// CIELAB, float, L in 0..100.
cv::Mat Lab(std::string_view pixels, int height, int width) {
  const cv::Mat rgb(height, width, CV_8UC3, const_cast<char*>(pixels.data()));
  cv::Mat scaled, lab;
  rgb.convertTo(scaled, CV_32FC3, 1 / 255.);
  cv::cvtColor(scaled, lab, cv::COLOR_RGB2Lab);
  return lab;
}

double Distance(const cv::Vec3f& a, const cv::Vec3f& b) {
  return std::sqrt(std::pow(static_cast<double>(a[0] - b[0]), 2) +
                   std::pow(static_cast<double>(a[1] - b[1]), 2) +
                   std::pow(static_cast<double>(a[2] - b[2]), 2));
}

// The lesion turned so that its principal axes lie along the canvas's, its centroid in the middle.
cv::Mat Upright(const cv::Mat& lesion, const cv::Moments& m) {
  const double x = m.m10 / m.m00, y = m.m01 / m.m00;
  const double angle = 0.5 * std::atan2(2 * m.mu11, m.mu20 - m.mu02);
  const int side = 2 * static_cast<int>(std::ceil(std::hypot(lesion.cols, lesion.rows))) + 1;
  cv::Mat turn = cv::getRotationMatrix2D({static_cast<float>(x), static_cast<float>(y)},
                                         angle * 180 / CV_PI, 1);
  turn.at<double>(0, 2) += side / 2 - x;
  turn.at<double>(1, 2) += side / 2 - y;
  cv::Mat upright;
  cv::warpAffine(lesion, upright, turn, {side, side}, cv::INTER_NEAREST);
  return upright;
}

double Asymmetry(const cv::Mat& lesion, const cv::Moments& moments) {
  const cv::Mat upright = Upright(lesion, moments);
  const double area = cv::countNonZero(upright);
  if (area == 0) return 0;
  double sum = 0;
  for (const int axis : {0, 1}) {
    cv::Mat mirrored, differs;
    cv::flip(upright, mirrored, axis);
    cv::bitwise_xor(upright, mirrored, differs);
    sum += cv::countNonZero(differs) / (2 * area);
  }
  return sum / 2;
}

struct TestLesion {
  LesionShape shape;
  double margin = 0;
  uint32_t image = 0, label = 0;
};

absl::StatusOr<std::optional<LesionShape>> ShapeIn(const ImageSet& images, uint32_t image) {
  const v1::ImageSetManifest& manifest = images.manifest();
  if (!manifest.images(static_cast<int>(image)).has_mask()) return std::optional<LesionShape>();
  ASSIGN_OR_RETURN(const std::string_view pixels, images.Pixels(image));
  ASSIGN_OR_RETURN(const std::string_view mask, images.Mask(image));
  return ShapeOf(pixels, mask, static_cast<int>(manifest.height()),
                 static_cast<int>(manifest.width()));
}

void AddCorrelations(const std::vector<TestLesion>& lesions, const std::string& among,
                     const v1::ImageSetManifest& manifest, uint64_t seed,
                     std::vector<AbcdCorrelation>& out) {
  std::vector<double> margins;
  std::vector<uint32_t> images;
  for (const TestLesion& lesion : lesions) {
    margins.push_back(lesion.margin);
    images.push_back(lesion.image);
  }
  const std::vector<uint32_t> groups = GroupsOf(manifest, images);
  for (const auto& [name, property] : {std::pair{"asymmetry", &LesionShape::asymmetry},
                                       std::pair{"border irregularity", &LesionShape::border},
                                       std::pair{"colour variegation", &LesionShape::colour},
                                       std::pair{"diameter", &LesionShape::diameter}}) {
    std::vector<double> values;
    for (const TestLesion& lesion : lesions) values.push_back(lesion.shape.*property);
    out.push_back(
        {name, among, lesions.size(), SpearmanByGroup(values, margins, groups, kDraws, seed)});
  }
}

// |attribution| per area and mean contrast of each cell: a superpixel, or a pixel of the model's
// input.
struct Cells {
  std::vector<double> attribution, contrast;
};

std::optional<Cells> CellsOf(const v1::Attribution& fit, const std::vector<int>& labels,
                             const std::vector<double>& contrast) {
  const auto count = static_cast<size_t>(fit.values_size());
  if (labels.size() != contrast.size() || std::any_of(labels.begin(), labels.end(), [&](int label) {
        return label < 0 || static_cast<size_t>(label) >= count;
      })) {
    return std::nullopt;
  }
  std::vector<double> area(count), sum(count);
  for (size_t p = 0; p < labels.size(); ++p) {
    ++area[static_cast<size_t>(labels[p])];
    sum[static_cast<size_t>(labels[p])] += contrast[p];
  }
  Cells cells;
  for (size_t k = 0; k < count; ++k) {
    if (area[k] == 0) continue;
    cells.attribution.push_back(std::abs(fit.values(static_cast<int>(k))) / area[k]);
    cells.contrast.push_back(sum[k] / area[k]);
  }
  return cells;
}

Cells CellsOf(const v1::PixelAttribution& pixels, const std::vector<double>& contrast, int height,
              int width) {
  const int rows = static_cast<int>(pixels.height()), columns = static_cast<int>(pixels.width());
  const int channels = static_cast<int>(pixels.channels());
  cv::Mat small;
  cv::resize(cv::Mat(height, width, CV_64F, const_cast<double*>(contrast.data())), small,
             {columns, rows}, 0, 0, cv::INTER_AREA);
  Cells cells;
  for (int p = 0; p < rows * columns; ++p) {
    double sum = 0;
    for (int c = 0; c < channels; ++c) sum += static_cast<double>(pixels.values(p * channels + c));
    cells.attribution.push_back(std::abs(sum));
    cells.contrast.push_back(small.at<double>(p / columns, p % columns));
  }
  return cells;
}

// What of one explained image can be had; methods whose values are not shares of the output are
// left out.
absl::Status AddContrast(const v1::ExplainedImage& explained, const ReportInputs& inputs,
                         std::map<std::string, std::vector<std::pair<uint32_t, double>>>& rho) {
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  const int height = static_cast<int>(manifest.height()),
            width = static_cast<int>(manifest.width());
  ASSIGN_OR_RETURN(const std::string_view pixels, inputs.images->Pixels(explained.image()));
  const std::vector<double> contrast = LocalContrast(
      pixels, height, width, std::max(1, static_cast<int>(std::lround(kContrastDistance * width))));
  for (const v1::MethodResult& method : explained.results()) {
    const v1::MethodSpec& spec = method.method();
    if (method.result().task().empty() ||
        (!spec.has_lime() && !spec.has_shapley() && !spec.has_deep_shap()))
      continue;
    const auto payload = inputs.fetch_payload(method.result());
    if (!payload.ok()) continue;  // The page says so where it shows the image.
    std::optional<Cells> cells;
    if (spec.has_deep_shap()) {
      if (CheckPixels(payload->gradient()).ok())
        cells = CellsOf(payload->gradient(), contrast, height, width);
    } else if (!method.superpixels().task().empty()) {
      const auto superpixels = inputs.fetch_payload(method.superpixels());
      if (superpixels.ok())
        cells =
            CellsOf(payload->fit(), LabelsOn(superpixels->superpixels(), width, height), contrast);
    }
    if (!cells) continue;
    if (const auto one = Spearman(cells->attribution, cells->contrast)) {
      rho[MethodTitle(spec)].emplace_back(explained.image(), *one);
    }
  }
  return absl::OkStatus();
}

std::string Signed(double value) {
  const std::string text = Number(value, 2);
  return value >= 0.005 ? "+" + text : text;
}

bool Has(const Interval& interval) {
  return std::isfinite(interval.low) && std::isfinite(interval.high);
}

bool IsClear(const AbcdCorrelation& one) {
  return one.margin.rho && Has(one.margin.interval) &&
         (one.margin.interval.low > 0 || one.margin.interval.high < 0);
}

std::string RangeText(const Interval& interval) {
  return Has(interval) ? absl::StrCat(Signed(interval.low), " … ", Signed(interval.high))
                       : "too few to say";
}

}  // namespace

std::optional<LesionShape> ShapeOf(std::string_view pixels, std::string_view mask, int height,
                                   int width) {
  cv::Mat lesion(height, width, CV_8U);
  std::transform(mask.begin(), mask.end(), lesion.begin<uint8_t>(),
                 [](char c) { return static_cast<uint8_t>(c != 0 ? 255 : 0); });
  const double area = cv::countNonZero(lesion);
  if (area < kFewestPixels) return std::nullopt;
  LesionShape shape;
  shape.area = area / (static_cast<double>(height) * width);
  shape.asymmetry = Asymmetry(lesion, cv::moments(lesion, /*binaryImage=*/true));

  std::vector<std::vector<cv::Point>> contours;
  cv::findContours(lesion, contours, cv::RETR_EXTERNAL, cv::CHAIN_APPROX_NONE);
  std::vector<cv::Point> all, hull;
  double largest = 0;
  for (const std::vector<cv::Point>& contour : contours) {
    all.insert(all.end(), contour.begin(), contour.end());
    // Contours run through the centres of pixels, so both are of a lesion that is half a pixel
    // smaller all around.
    const double inside = cv::contourArea(contour), around = cv::arcLength(contour, true);
    if (inside <= largest) continue;
    largest = inside;
    shape.border = around * around / (4 * CV_PI * inside);
  }
  if (largest == 0) return std::nullopt;
  cv::convexHull(all, hull);
  for (size_t i = 0; i < hull.size(); ++i) {
    for (size_t j = 0; j < i; ++j)
      shape.diameter =
          std::max(shape.diameter, std::hypot(hull[i].x - hull[j].x, hull[i].y - hull[j].y) + 1);
  }
  shape.cut = cv::countNonZero(lesion.row(0)) + cv::countNonZero(lesion.row(height - 1)) +
                  cv::countNonZero(lesion.col(0)) + cv::countNonZero(lesion.col(width - 1)) >
              0;

  const cv::Mat lab = Lab(pixels, height, width);
  const cv::Scalar mean = cv::mean(lab, lesion);
  const cv::Vec3f centre(static_cast<float>(mean[0]), static_cast<float>(mean[1]),
                         static_cast<float>(mean[2]));
  double squares = 0;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      if (lesion.at<uint8_t>(y, x) != 0)
        squares += std::pow(Distance(lab.at<cv::Vec3f>(y, x), centre), 2);
    }
  }
  shape.colour = std::sqrt(squares / area);
  return shape;
}

std::vector<double> LocalContrast(std::string_view pixels, int height, int width, int distance) {
  const cv::Mat lab = Lab(pixels, height, width);
  std::vector<double> contrast(static_cast<size_t>(height) * width);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      double sum = 0;
      int neighbours = 0;
      for (int dy = -1; dy <= 1; ++dy) {
        for (int dx = -1; dx <= 1; ++dx) {
          const int ny = y + dy * distance, nx = x + dx * distance;
          if ((dy == 0 && dx == 0) || ny < 0 || nx < 0 || ny >= height || nx >= width) continue;
          sum += Distance(lab.at<cv::Vec3f>(y, x), lab.at<cv::Vec3f>(ny, nx));
          ++neighbours;
        }
      }
      contrast[static_cast<size_t>(y) * width + x] = neighbours > 0 ? sum / neighbours : 0;
    }
  }
  return contrast;
}

absl::StatusOr<AbcdReport> JudgeAbcd(const v1::StudyResults& results, const ReportInputs& inputs) {
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  AbcdReport report;
  if (manifest.classes_size() != 2 || manifest.unlabelled() ||
      results.test_logits_size() != 2 * results.test_images_size()) {
    return report;
  }
  std::vector<TestLesion> lesions;
  for (int i = 0; i < results.test_images_size(); ++i) {
    const uint32_t image = results.test_images(i);
    ASSIGN_OR_RETURN(const std::optional<LesionShape> shape, ShapeIn(*inputs.images, image));
    if (!shape) {
      ++report.without_mask;
      continue;
    }
    report.cut += shape->cut ? 1 : 0;
    lesions.push_back({*shape,
                       static_cast<double>(results.test_logits(2 * i + 1)) -
                           static_cast<double>(results.test_logits(2 * i)),
                       image, manifest.images(static_cast<int>(image)).label()});
  }
  report.images = lesions.size();
  if (!lesions.empty()) {
    AddCorrelations(lesions, "all", manifest, results.spec().seed(), report.properties);
    for (uint32_t label = 0; label < 2; ++label) {
      std::vector<TestLesion> of_class;
      std::copy_if(lesions.begin(), lesions.end(), std::back_inserter(of_class),
                   [&](const TestLesion& lesion) { return lesion.label == label; });
      AddCorrelations(of_class, manifest.classes(static_cast<int>(label)), manifest,
                      results.spec().seed(), report.properties);
    }
  }
  std::map<std::string, std::vector<std::pair<uint32_t, double>>> rho;
  for (const v1::ExplainedImage& explained : results.explained()) {
    if (explained.image() >= static_cast<uint32_t>(manifest.images_size())) continue;
    RETURN_IF_ERROR(AddContrast(explained, inputs, rho));
  }
  for (const auto& [method, of_images] : rho) {
    ContrastCorrelation& out = report.contrast.emplace_back();
    out.method = method;
    out.images = of_images.size();
    std::vector<uint32_t> images;
    for (const auto& [image, value] : of_images) {
      images.push_back(image);
      out.mean += value / static_cast<double>(of_images.size());
    }
    out.interval = {std::numeric_limits<double>::quiet_NaN(),
                    std::numeric_limits<double>::quiet_NaN()};
    if (out.images < kFewestImages) continue;
    out.interval = BootstrapByGroup(GroupsOf(manifest, images), kDraws, results.spec().seed(),
                                    [&](Counts counts) {
                                      double sum = 0, n = 0;
                                      for (size_t i = 0; i < counts.size(); ++i) {
                                        sum += counts[i] * of_images[i].second;
                                        n += counts[i];
                                      }
                                      return sum / n;
                                    });
  }
  return report;
}

absl::StatusOr<std::optional<SubgroupColumn>> LesionSizes(const ImageSet& images,
                                                          absl::Span<const uint32_t> test) {
  constexpr double kEdges[] = {10, 30};
  std::vector<double> percent;
  bool any = false;
  for (const uint32_t image : test) {
    percent.push_back(std::numeric_limits<double>::quiet_NaN());
    if (!images.manifest().images(static_cast<int>(image)).has_mask()) continue;
    ASSIGN_OR_RETURN(const std::string_view mask, images.Mask(image));
    const auto inside = std::count_if(mask.begin(), mask.end(), [](char c) { return c != 0; });
    if (inside == 0) continue;
    percent.back() = 100.0 * static_cast<double>(inside) / static_cast<double>(mask.size());
    any = true;
  }
  if (!any) return std::optional<SubgroupColumn>();
  return std::optional<SubgroupColumn>(
      BandsOf("lesion, share of the image", percent, kEdges, " %"));
}

std::string AbcdSvg(const AbcdReport& report) {
  Forest forest;
  forest.title = "Correlation of lesions' properties with the network's margin";
  forest.axis = "Spearman’s correlation with the margin";
  forest.note_title = "95 %";
  std::string among;
  for (const AbcdCorrelation& one : report.properties) {
    if (!one.margin.rho) continue;
    if (one.among != among) {
      forest.rows.push_back(
          {absl::StrCat(one.among == "all" ? "all lesions" : one.among, " (", one.images, ")"),
           true});
    }
    among = one.among;
    const bool sure = Has(one.margin.interval);
    forest.rows.push_back({one.property, false, IsClear(one), *one.margin.rho,
                           sure ? one.margin.interval.low : *one.margin.rho,
                           sure ? one.margin.interval.high : *one.margin.rho,
                           RangeText(one.margin.interval)});
  }
  return forest.rows.empty() ? "" : RenderForest(forest);
}

std::string RenderAbcd(const AbcdReport& report) {
  std::string html;
  if (const std::string forest = AbcdSvg(report); !forest.empty()) {
    std::string found;
    for (const AbcdCorrelation& one : report.properties) {
      if (one.among != "all" || !IsClear(one)) continue;
      absl::StrAppend(&found, found.empty() ? "" : ", ", one.property, " (",
                      Signed(*one.margin.rho), ")");
    }
    absl::StrAppend(
        &html, "<h3>Does it go by what dermatologists look at?</h3><p class=\"verdict\">",
        found.empty() ? "Neither asymmetry, border, colour nor diameter is shown to go with the "
                        "network’s margin."
                      : absl::StrCat("The network’s margin goes with ", found,
                                     ". That is an association: malignant lesions differ in these, "
                                     "too, so look within each class."),
        "</p><div class=\"scroll\">", forest, "</div><p class=\"note\">", report.images,
        " test images with a mask (", report.without_mask,
        " have none, or one of nothing). Asymmetry: what of the lesion does not fall onto itself, "
        "mirrored at its principal axes. "
        "Border: perimeter² / (4π area). Colour: spread around its mean colour, CIELAB. Diameter "
        "in pixels of the picture, not in "
        "millimetres: photographs differ in scale. ",
        report.cut,
        " lesions reach the picture’s edge; of these what is seen is measured. Intervals: 95 %, "
        "bootstrap by lesion.</p>");
  }
  if (report.contrast.empty()) return html;
  std::string body;
  for (const ContrastCorrelation& one : report.contrast) {
    absl::StrAppend(&body, "<tr><th scope=\"row\">", Escape(one.method), "</th><td>", one.images,
                    "</td><td>", Signed(one.mean), "</td><td>", RangeText(one.interval),
                    "</td></tr>");
  }
  return absl::StrCat(
      html,
      "<h3>Does attribution follow contrast in colour?</h3><div "
      "class=\"scroll\"><table><thead><tr><th>method</th><th>images</th><th>mean correlation</th>"
      "<th>95 %</th></tr></thead><tbody>",
      body,
      "</tbody></table></div><p class=\"note\">The seed paper saw it so in one image. Spearman’s "
      "correlation of |attribution| per area "
      "with local contrast (mean CIELAB difference to what lies ",
      Number(100 * kContrastDistance, 0),
      " % of the side away), over the superpixels or pixels of each explained image; then the mean "
      "over images. The images were "
      "chosen by outcome, not at random.</p>");
}

std::string AbcdCsv(const AbcdReport& report) {
  std::string csv = "property,among,images,spearman,low,high\r\n";
  const auto number = [](double value) {
    return std::isfinite(value) ? absl::StrFormat("%.9g", value) : std::string();
  };
  for (const AbcdCorrelation& one : report.properties) {
    if (!one.margin.rho) continue;
    absl::StrAppend(&csv, one.property, ",", CsvField(one.among), ",", one.images, ",",
                    number(*one.margin.rho), ",", number(one.margin.interval.low), ",",
                    number(one.margin.interval.high), "\r\n");
  }
  return csv;
}

}  // namespace dermis
