#include "tools/report/explained.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/estimators.h"
#include "common/metrics.h"
#include "common/model_methods.h"
#include "common/status_macros.h"
#include "tools/report/baselines.h"
#include "tools/report/estimators.h"
#include "tools/report/looking_inside.h"
#include "tools/report/picture.h"
#include "tools/report/plot.h"
#include "tools/report/scene.h"
#include "tools/report/waterfall.h"

namespace dermis {
namespace {

constexpr size_t kLimeShown = 5;    // lime's own display of positive evidence.
constexpr size_t kSignsShown = 10;
// Where no superpixel moves a probability by so much, LIME's coefficients say nothing.
constexpr double kHardlyMoves = 0.01;

std::string LimeFigures(const Scene& scene, const v1::Attribution& fit, const std::vector<int>& labels,
                        const std::string& title) {
  const std::vector<int> best = LargestTowards(fit.values(), scene.sign, kLimeShown);
  std::vector<int> chosen(labels.size(), -1);
  for (size_t p = 0; p < labels.size(); ++p) {
    if (std::find(best.begin(), best.end(), labels[p]) != best.end()) chosen[p] = labels[p];
  }
  const std::string path = OutlinePath(chosen, scene.width, scene.height);
  std::string html = Figure(
      absl::StrCat(OpenSvg(scene, absl::StrCat(title, ": outlines of the ", best.size(),
                                               " superpixels that speak most for ", scene.predicted)),
                   UseBase(scene), "<path class=\"halo overlay\" d=\"", path, "\"/><path class=\"outline overlay\" d=\"", path,
                   "\"/></svg>"),
      absl::StrCat("<b>", Escape(title), "</b> ",
                   best.empty() ? "no superpixel speaks for "
                                : absl::StrCat("the ", best.size(), " superpixels most for "),
                   "<em>", Escape(scene.predicted), "</em>"));
  const std::vector<int> strongest = LargestByMagnitude(fit.values(), kSignsShown);
  html += Figure(
      absl::StrCat(OpenSvg(scene, absl::StrCat(title, ": strongest superpixels, green for and red against ",
                                               scene.predicted)),
                   UseBase(scene),
                   Overlay(scene,
                           SignOverlay(fit.values(), strongest, scene.sign, labels, scene.width, scene.height),
                           "lighten"),
                   "</svg>"),
      absl::StrCat("<b>", Escape(title), "</b> the ", strongest.size(), " strongest, <span class=\"key\"><i class=\"for\"></i>for</span> and ",
                   "<span class=\"key\"><i class=\"against\"></i>against</span> <em>", Escape(scene.predicted),
                   "</em>"));
  return html;
}

// RISE's values are mean outputs: what tells superpixels apart is how far each is from all others.
v1::Attribution FromTheirMean(v1::Attribution fit) {
  double mean = 0;
  for (double value : fit.values()) mean += value / fit.values_size();
  for (double& value : *fit.mutable_values()) value -= mean;
  return fit;
}

std::string ShapleyFigure(const Scene& scene, const v1::Attribution& fit,
                          const std::vector<int>& labels, const std::string& title,
                          const std::string& what = "", const std::string& over = "") {
  const double limit = PixelPercentile(fit.values(), labels, 99.9);
  return Figure(
      absl::StrCat(
          OpenSvg(scene,
                  absl::StrCat(title, ": red superpixels raise, blue ones lower the output for ",
                               scene.positive)),
          "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
          UseBase(scene, " filter=\"url(#grey)\" opacity=\".15\""),
          Overlay(scene, ShapleyOverlay(fit.values(), labels, scene.width, scene.height, limit),
                  ""),
          over, "</svg>"),
      absl::StrCat("<b>", Escape(title), "</b> ", what, "towards <em>", Escape(scene.positive),
                   "</em><span class=\"scale\"><span>", Number(-limit), "</span><i></i><span>+",
                   Number(limit), "</span></span>"));
}

std::string TileFigures(const v1::ActivationOutput& maps) {
  std::string html;
  for (const v1::LayerMaps& layer : maps.layers()) {
    const Raster tiles =
        Tiles(layer.activations(), layer.channels(), layer.width(), layer.height());
    html += Figure(absl::StrCat("<img class=\"tiles\" ", LazySize(tiles), " alt=\"",
                                Escape(absl::StrCat("The ", layer.channels(),
                                                    " activation maps of ", layer.layer())),
                                "\" src=\"", PngUri(tiles), "\">"),
                   absl::StrCat("<b>", Escape(layer.layer()), "</b> ", layer.channels(),
                                " channels of ", layer.width(), " × ", layer.height()));
  }
  return html;
}

// Of a fit of a probability that is nearly the same whatever is hidden: nearly 0 or 1, mostly.
bool HardlyMoves(const v1::Attribution& fit) {
  return !fit.values().empty() &&
         std::all_of(fit.values().begin(), fit.values().end(),
                     [](double value) { return std::abs(value) < kHardlyMoves; });
}

// `name`: of the row; `title`: of the method that it belongs to. `more`: a note, plain text.
// `bf16`: how masked inputs were run.
std::string NumbersRow(const v1::MethodSpec& method, const std::string& title,
                       const v1::Attribution& fit, const std::string& name, const std::string& more,
                       bool bf16) {
  const bool lime = method.has_lime(), adds_up = method.has_shapley();
  const std::string none = "<td class=\"none\">–</td>";
  std::vector<std::string> notes = {EstimatorNote(method, fit), more};
  std::erase(notes, "");
  const std::string note = absl::StrJoin(notes, "; ");
  std::string row = absl::StrCat(
      "<tr data-method=\"", Escape(title), "\"><th scope=\"row\">", Escape(name),
      note.empty() ? "" : absl::StrCat("<small class=\"note\">", Escape(note), "</small>"),
      "</th><td>", fit.count(), "</td><td>", fit.evaluations(), "</td><td>", Number(fit.full()),
      "</td>", adds_up ? absl::StrCat("<td>", Number(fit.hidden()), "</td>") : none);
  absl::StrAppend(&row, !adds_up ? none
                        : bf16   ? "<td class=\"none\">not available: bf16</td>"
                                 : absl::StrFormat("<td>%.1e</td>", fit.additivity_residual()));
  absl::StrAppend(&row, lime ? absl::StrCat("<td>", Number(fit.r_squared()), "</td>") : none);
  const auto& errors = fit.standard_errors();
  absl::StrAppend(&row, errors.empty()
                            ? "<td class=\"none\">not available</td>"
                            : absl::StrCat("<td>", Number(*std::max_element(errors.begin(), errors.end()), 4),
                                           "</td>"));
  return row + "</tr>";
}

// An attribution must fit its superpixels and the picture, or indices would run out.
absl::Status CheckFits(const Scene& scene, const v1::Attribution& fit, const v1::SuperpixelOutput& superpixels,
                       const std::vector<int>& labels) {
  const bool sizes = labels.size() == static_cast<size_t>(scene.width) * scene.height;
  if (!sizes || static_cast<int>(superpixels.count()) != fit.values_size() ||
      std::any_of(labels.begin(), labels.end(), [&](int label) { return label >= fit.values_size(); })) {
    return absl::InvalidArgumentError("attribution, superpixels and picture differ in size");
  }
  return absl::OkStatus();
}

using Fetch = std::function<absl::StatusOr<const v1::Payload*>(const v1::TaskResult&)>;

// What the methods with superpixels say of an image, of one model.
struct Shown {
  std::string figures, rows, missing;
};

void ShowSuperpixels(const Scene& scene, const v1::MethodResult& method, const Fetch& fetch,
                     Shown& shown) {
  const std::string title = MethodTitle(method.method());
  const auto lacks = [&](const absl::Status& why) {
    shown.missing += Missing(title, std::string(why.message()));
  };
  const auto payload = fetch(method.result());
  if (!payload.ok()) return lacks(payload.status());
  const auto superpixels = fetch(method.superpixels());
  if (!superpixels.ok()) return lacks(superpixels.status());
  const v1::Attribution& fit = (*payload)->fit();
  const std::vector<int> labels =
      LabelsOn((*superpixels)->superpixels(), scene.width, scene.height);
  if (const absl::Status fits = CheckFits(scene, fit, (*superpixels)->superpixels(), labels);
      !fits.ok()) {
    return lacks(fits);
  }
  shown.figures += OfMethod(
      title, method.method().has_lime() ? LimeFigures(scene, fit, labels, title)
             : method.method().has_rise()
                 ? ShapleyFigure(scene, FromTheirMean(fit), labels, title, "from their mean, ")
             : method.method().has_shapley() ? ShapleyFigure(scene, fit, labels, title, "",
                                                             WaterfallNumbers(scene, fit, labels)) +
                                                   RenderWaterfall(scene, fit, title)
                                             : ShapleyFigure(scene, fit, labels, title));
  const bool dull = method.method().has_lime() && HardlyMoves(fit) &&
                    method.task().fit().output() == v1::OUTPUT_KIND_PROBABILITY;
  shown.rows +=
      NumbersRow(method.method(), title, fit, title,
                 dull ? absl::StrCat("no coefficient reaches ", kHardlyMoves,
                                     ": the probability hardly changes, whatever is hidden")
                      : "",
                 RunInBf16(method));
  if (method.margin().task().empty()) return;
  const auto beside = fetch(method.margin());
  const std::string name = title + ", of the margin";
  if (const absl::Status fits =
          beside.ok() ? CheckFits(scene, (*beside)->fit(), (*superpixels)->superpixels(), labels)
                      : beside.status();
      !fits.ok()) {
    shown.missing += Missing(name, std::string(fits.message()));
    return;
  }
  if (dull) shown.figures += OfMethod(title, LimeFigures(scene, (*beside)->fit(), labels, name));
  v1::MethodSpec of_margin;
  of_margin.mutable_lime();  // A tolerance was the probability's.
  shown.rows += NumbersRow(of_margin, title, (*beside)->fit(), name, "", RunInBf16(method));
}

std::string NumbersTable(const std::string& rows) {
  if (rows.empty()) return "";
  return absl::StrCat(
      "<div class=\"scroll\"><table "
      "class=\"numbers\"><thead><tr><th>method</th><th>superpixels</th>"
      "<th>masked inputs</th><th>f(x)</th><th>f(hidden)</th><th>additivity residual</th><th>R²</th>"
      "<th>largest standard error</th></tr></thead><tbody>",
      rows, "</tbody></table></div>");
}

// The image as a baseline sees it, beneath what the network says: by its own prediction and its own
// f.
std::string BaselineSection(Scene scene, const v1::StudyResults& results, uint32_t image,
                            const v1::ExplainedBaseline& explained, const Fetch& fetch) {
  if (explained.baseline() >= static_cast<uint32_t>(results.baselines_size())) return "";
  const v1::BaselineResult& baseline = results.baselines(static_cast<int>(explained.baseline()));
  std::string name = NameOf(baseline), says;
  name[0] = absl::ascii_toupper(static_cast<unsigned char>(name[0]));
  const auto at = std::find(results.test_images().begin(), results.test_images().end(), image);
  const auto row = 2 * (at - results.test_images().begin());  // Baselines tell two classes apart.
  if (at != results.test_images().end() && row + 2 <= baseline.test_logits_size()) {
    const std::vector<double> p = Softmax({baseline.test_logits().data() + row, 2});
    scene.sign = p[1] >= p[0] ? 1 : -1;
    scene.predicted = scene.sign > 0 ? scene.positive : scene.negative;
    says = absl::StrCat(" <span>predicts ", Escape(scene.predicted), "; probability of ",
                        Escape(scene.positive), " ", Number(p[1]), "</span>");
  }
  Shown shown;
  for (const v1::MethodResult& method : explained.results())
    ShowSuperpixels(scene, method, fetch, shown);
  const bool probability =
      explained.results_size() > 0 &&
      explained.results(0).task().fit().output() == v1::OUTPUT_KIND_PROBABILITY;
  return absl::StrCat("<div class=\"of-model\"><h4>", Escape(name), says,
                      "</h4><div class=\"figures\">", shown.figures, "</div>", shown.missing,
                      NumbersTable(shown.rows),
                      probability ? absl::StrCat("<p class=\"note\">Its f is the probability of ",
                                                 Escape(scene.positive), ".</p>")
                                  : "",
                      "</div>");
}

absl::Status CheckMaps(const v1::ActivationOutput& maps) {
  for (const v1::LayerMaps& layer : maps.layers()) {
    const uint64_t pixels = uint64_t{layer.width()} * layer.height();
    if (pixels == 0 || layer.channels() == 0 || static_cast<uint64_t>(layer.grad_cam_size()) != pixels ||
        static_cast<uint64_t>(layer.activations_size()) != pixels * layer.channels()) {
      return absl::InvalidArgumentError(absl::StrCat("maps of layer ", layer.layer(), " differ in size"));
    }
  }
  return absl::OkStatus();
}

std::string SuperpixelTitle(const v1::SuperpixelSpec& superpixels) {
  const std::string at = superpixels.resolution() == v1::RESOLUTION_MODEL ? ", model size" : "";
  switch (superpixels.kind_case()) {
    case v1::SuperpixelSpec::kQuickshift:
      return "quickshift" + at;
    case v1::SuperpixelSpec::kGrid:
      return "grid" + at;
    case v1::SuperpixelSpec::kLabelMap:
      return "label map" + at;
    case v1::SuperpixelSpec::kLesionZones:
      return "lesion zones" + at;
    default:
      return "SLIC" + at;
  }
}

}  // namespace

std::string Number(double value, int digits) {
  if (std::isnan(value)) return "not a number";
  std::string text = absl::StrFormat("%.*f", digits, value);
  if (text.find_first_not_of("-0.") == std::string::npos && text[0] == '-') text.erase(0, 1);
  if (text[0] == '-') text.replace(0, 1, "−");
  return text;
}

std::string HiddenText(v1::HiddenValue hidden) {
  switch (hidden) {
    case v1::HIDDEN_VALUE_TRAINING_MEAN:
      return "the training images' mean colour";
    case v1::HIDDEN_VALUE_SUPERPIXEL_MEAN:
      return "the mean colour of what is hidden";
    case v1::HIDDEN_VALUE_BLUR:
      return "the blurred image";
    case v1::HIDDEN_VALUE_INPAINT:
      return "a smooth continuation";
    case v1::HIDDEN_VALUE_CONSTANT:
      return "one colour";
    case v1::HIDDEN_VALUE_BACKGROUND:
      return "training images";
    default:
      return "?";
  }
}

std::string MethodTitle(const v1::MethodSpec& method) {
  switch (method.kind_case()) {
    case v1::MethodSpec::kLime:
      return absl::StrCat("LIME · ", SuperpixelTitle(method.lime().superpixels()));
    case v1::MethodSpec::kShapley: {
      const v1::Estimator estimator = method.shapley().estimator();
      const std::string by = estimator == v1::ESTIMATOR_UNSPECIFIED
                                 ? std::string()
                                 : absl::StrCat(" (", EstimatorName(estimator), ")");
      return absl::StrCat("Shapley", by, " · ", SuperpixelTitle(method.shapley().superpixels()));
    }
    case v1::MethodSpec::kOcclusion:
      return absl::StrCat("Occlusion · ", SuperpixelTitle(method.occlusion().superpixels()));
    case v1::MethodSpec::kRise:
      return absl::StrCat("RISE · ", SuperpixelTitle(method.rise().superpixels()));
    case v1::MethodSpec::kDeepShap:
      return "DeepSHAP";
    case v1::MethodSpec::kExpectedGradients:
      return "Expected gradients";
    case v1::MethodSpec::kIntegratedGradients:
      return "Integrated gradients";
    case v1::MethodSpec::kSmoothGrad:
      return "SmoothGrad";
    case v1::MethodSpec::kCam:
      return "CAM";
    case v1::MethodSpec::kGradCam:
      return "Grad-CAM";
    case v1::MethodSpec::kGradCamPlusPlus:
      return "Grad-CAM++";
    case v1::MethodSpec::kHiresCam:
      return "HiResCAM";
    case v1::MethodSpec::kLayerCam:
      return "Layer-CAM";
    case v1::MethodSpec::kActivationMaps:
      return "Activation maps";
    default:
      break;
  }
  return "Unknown method";
}

absl::StatusOr<std::string> RenderExplained(const ExplainedView& view, const ReportInputs& inputs) {
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  const v1::ExplainedImage& explained = *view.explained;
  if (explained.image() >= static_cast<uint32_t>(manifest.images_size())) {
    return absl::InvalidArgumentError(absl::StrCat("explained image ", explained.image(), " is not in the set '",
                                                   manifest.name(), "' of ", manifest.images_size()));
  }
  const v1::ImageEntry& entry = manifest.images(explained.image());
  const int classes = manifest.classes_size();
  Scene scene;
  scene.id = absl::StrCat("picture", view.number);
  scene.width = manifest.width();
  scene.height = manifest.height();
  scene.name = entry.name();
  scene.positive = classes > 0 ? manifest.classes(classes - 1) : "the positive class";
  if (classes == 2) scene.negative = manifest.classes(0);
  const std::string truth =
      entry.label() < static_cast<uint32_t>(classes) ? manifest.classes(entry.label()) : "unknown";
  std::string verdict =
      manifest.unlabelled() ? "" : absl::StrCat("<span class=\"chip\">is ", Escape(truth), "</span>");
  std::string numbers, confidence;
  if (view.logits != nullptr) {
    const absl::Span<const float> logits(view.logits, classes);
    const std::vector<double> p = Softmax(logits);
    const size_t predicted = std::max_element(p.begin(), p.end()) - p.begin();
    scene.predicted = manifest.classes(static_cast<int>(predicted));
    scene.sign = static_cast<int>(predicted) == classes - 1 ? 1 : -1;
    confidence = absl::StrFormat("%.4f", p[predicted]);
    const bool right = predicted == entry.label();
    const bool judged = !manifest.unlabelled();
    absl::StrAppend(&verdict, "<span class=\"chip", !judged ? "" : right ? " right" : " wrong", "\">predicted ",
                    Escape(scene.predicted), !judged ? "" : right ? " ✓" : " ✗", "</span>");
    numbers = absl::StrCat("<dl class=\"facts\"><div><dt>probability of ", Escape(scene.positive), "</dt><dd>",
                           Number(p.back()), "</dd></div><div><dt>margin</dt><dd>",
                           Number(OutputOf(v1::OUTPUT_KIND_MARGIN, logits)), "</dd></div></dl>");
  } else {
    scene.predicted = scene.positive;
  }
  // Grad-CAM is linear in the gradient before its ReLU: the map towards the other of two classes is that of -f,
  // which a single logit does not have.
  const bool signed_f = view.results->spec().explanation().output() != v1::OUTPUT_KIND_LOGIT;
  scene.cam_sign = signed_f ? scene.sign : 1;
  scene.cam_target = signed_f ? scene.predicted : scene.positive;

  ASSIGN_OR_RETURN(const std::string_view pixels, inputs.images->Pixels(explained.image()));
  const Raster base{scene.width, scene.height, 3, std::vector<uint8_t>(pixels.begin(), pixels.end())};
  std::string original = absl::StrCat(
      OpenSvg(scene, absl::StrCat("The image ", scene.name)), "<image id=\"", scene.id, "\" width=\"",
      scene.width, "\" height=\"", scene.height, "\" href=\"", JpegUri(base), "\"/>");
  std::string original_caption = "<b>Original</b>";
  if (entry.has_mask()) {
    if (const auto mask = inputs.images->Mask(explained.image()); mask.ok()) {
      std::vector<int> inside(mask->size(), -1);
      for (size_t p = 0; p < inside.size(); ++p) inside[p] = (*mask)[p] != 0 ? (*mask)[p] : -1;
      absl::StrAppend(&original, "<path class=\"mask\" d=\"", OutlinePath(inside, scene.width, scene.height),
                      "\"/>");
      original_caption += " with the outline of its mask";
    }
  }
  original += "</svg>";

  Shown shown;
  std::string& figures = shown.figures;
  std::string& missing = shown.missing;
  figures = Figure(original, original_caption);
  std::string cams, tiles, pixel_rows;
  std::map<std::string, v1::Payload> fetched;   // Grad-CAM and activation maps share one result.
  const auto fetch = [&](const v1::TaskResult& result) -> absl::StatusOr<const v1::Payload*> {
    if (result.task().empty()) return absl::NotFoundError("is not computed yet");
    if (const auto it = fetched.find(result.task()); it != fetched.end()) return &it->second;
    ASSIGN_OR_RETURN(v1::Payload payload, inputs.fetch_payload(result));
    return &(fetched[result.task()] = std::move(payload));
  };
  for (const v1::MethodResult& method : explained.results()) {
    if (HasMasks(method.method())) {
      ShowSuperpixels(scene, method, fetch, shown);
      continue;
    }
    const std::string title = MethodTitle(method.method());
    const auto payload = fetch(method.result());
    if (!payload.ok()) {
      missing += Missing(title, std::string(payload.status().message()));
      continue;
    }
    if (IsPixelMethod(method.method())) {
      if (const absl::Status fits = CheckPixels((*payload)->gradient()); !fits.ok()) {
        missing += Missing(title, std::string(fits.message()));
        continue;
      }
      figures += OfMethod(title, PixelFigure(scene, (*payload)->gradient(), title));
      pixel_rows += PixelNumbersRow((*payload)->gradient(), title);
      continue;
    }
    const v1::ActivationOutput& maps = (*payload)->activations();
    if (const v1::CamKind kind = CamKindOf(method.method()); kind != v1::CAM_KIND_UNSPECIFIED) {
      cams += OfMethod(title, CamSection(scene, title, maps, cams.empty()));
      continue;
    }
    if (const absl::Status fits = CheckMaps(maps); !fits.ok()) {
      missing += Missing(title, std::string(fits.message()));
    } else if (method.method().has_grad_cam()) {
      cams += OfMethod(title, CamSection(scene, title, maps, cams.empty()));
    } else {
      tiles = TileFigures(maps);
    }
  }

  // "true positive, most confident": the outcome is what comes before the comma.
  const std::string outcome = explained.why().substr(0, explained.why().find(','));
  std::string html = absl::StrCat("<article class=\"case\" id=\"case", view.number, "\" data-cell=\"", Escape(outcome), "\"",
                                  confidence.empty() ? "" : absl::StrCat(" data-confidence=\"", confidence, "\""), "><header><h3>",
                                  Escape(scene.name), "</h3>", verdict, "<span class=\"why\">",
                                  Escape(explained.why()), "</span></header>", numbers, "<div class=\"figures\">",
                                  figures, "</div>", missing);
  html += NumbersTable(shown.rows);
  if (!pixel_rows.empty()) absl::StrAppend(&html, PixelNumbersTable(pixel_rows));
  for (const v1::ExplainedBaseline& baseline : explained.baselines()) {
    html += BaselineSection(scene, *view.results, explained.image(), baseline, fetch);
  }
  html += cams;
  if (!tiles.empty()) {
    html += OfMethod("Activation maps",
                     absl::StrCat("<details><summary>Activation maps by layer <span>every channel, each scaled to its own range"
                                  "</span></summary><div class=\"figures maps\">",
                                  tiles, "</div></details>"));
  }
  return html + "</article>";
}

}  // namespace dermis
