#include "tools/report/lesion.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/bootstrap.h"
#include "tools/report/explained.h"
#include "tools/report/forest.h"
#include "tools/report/picture.h"
#include "tools/report/plot.h"
#include "worker/pictures/lesion_zones.h"

namespace dermis {
namespace {

constexpr const char* kZoneNames[kZones] = {"lesion core", "inner border band", "outer band",
                                            "surroundings"};
constexpr Colour kZoneColours[kZones] = {
    {0x9c, 0x3d, 0x54}, {0xe0, 0x8a, 0x3c}, {0x4f, 0xa3, 0x9b}, {0x5b, 0x7f, 0xd1}};
constexpr uint32_t kIntervalDraws = 2000;

std::string Three(double value) { return absl::StrFormat("%.3f", value); }
std::string Signed(double value) { return absl::StrFormat("%+.3f", value); }

std::string PText(double p) {
  return p < 0.0005 ? absl::StrFormat("p = %.1e", p) : absl::StrFormat("p = %.3f", p);
}

std::string NameOf(v1::LesionHypothesis hypothesis) {
  switch (hypothesis) {
    case v1::LESION_HYPOTHESIS_BANDS_OVER_CORE:
      return "both bands over core";
    case v1::LESION_HYPOTHESIS_INNER_BAND_OVER_CORE:
      return "inner band over core";
    case v1::LESION_HYPOTHESIS_OUTER_BAND_OVER_CORE:
      return "outer band over core";
    case v1::LESION_HYPOTHESIS_LESION_OVER_SURROUNDINGS:
      return "lesion over surroundings";
    default:
      return "?";
  }
}

std::string NameOf(v1::LesionNull null) {
  switch (null) {
    case v1::LESION_NULL_SHIFTED:
      return "shifted";
    case v1::LESION_NULL_ROTATED:
      return "turned or mirrored";
    case v1::LESION_NULL_EXCHANGED:
      return "of another lesion";
    default:
      return "?";
  }
}

std::string NameOf(v1::LesionRegion region) {
  switch (region) {
    case v1::LESION_REGION_LESION:
      return "lesion only";
    case v1::LESION_REGION_SURROUNDINGS:
      return "surroundings only";
    case v1::LESION_REGION_BOX:
      return "bounding box only";
    default:
      return "whole image";
  }
}

// "expert" only where whoever ingested them said so.
std::string MasksOf(const std::string& origin) {
  if (origin.empty()) return "lesion masks of unknown origin";
  if (origin == "mixed") return "lesion masks of several origins";
  return absl::StrCat("lesion masks (origin: ", Escape(origin), ")");
}

std::string Css(const Colour& colour) {
  return absl::StrFormat("#%02x%02x%02x", colour[0], colour[1], colour[2]);
}

absl::StatusOr<v1::Payload> Fetch(const v1::SummaryResult& summary, const ReportInputs& inputs) {
  return inputs.fetch_payload(summary.result());
}

// The zones over an image whose lesion leaves room for all of them.
std::string ZonePicture(const v1::StudyResults& results, const ReportInputs& inputs, double band) {
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  const int height = static_cast<int>(manifest.height()),
            width = static_cast<int>(manifest.width());
  std::vector<uint32_t> candidates;
  for (const v1::ExplainedImage& explained : results.explained())
    candidates.push_back(explained.image());
  candidates.insert(candidates.end(), results.test_images().begin(), results.test_images().end());
  for (const uint32_t image : candidates) {
    if (!manifest.images(static_cast<int>(image)).has_mask()) continue;
    const auto mask = inputs.images->Mask(image);
    const auto pixels = inputs.images->Pixels(image);
    if (!mask.ok() || !pixels.ok()) continue;
    const std::vector<uint8_t> bytes(mask->begin(), mask->end());
    const std::vector<uint8_t> zones = LesionZones(bytes, height, width, band);
    const std::vector<uint32_t> sizes = ZoneSizes(zones);
    if (*std::min_element(sizes.begin(), sizes.end()) * 50 < zones.size()) continue;
    Raster raster{width, height, 3, {}};
    for (size_t i = 0; i < zones.size(); ++i) {
      for (int c = 0; c < 3; ++c) {
        const double shown = static_cast<uint8_t>((*pixels)[3 * i + c]);
        raster.data.push_back(static_cast<uint8_t>(0.5 * shown + 0.5 * kZoneColours[zones[i]][c]));
      }
    }
    return absl::StrCat("<figure><img class=\"zones\" alt=\"The four zones over an image\" src=\"",
                        PngUri(raster), "\"><figcaption>The zones of <b>",
                        Escape(manifest.images(static_cast<int>(image)).name()),
                        "</b></figcaption></figure>");
  }
  return "";
}

std::string ZoneTable(const v1::LesionSummary& summary, const std::string& positive) {
  std::string html = absl::StrCat(
      "<div class=\"scroll\"><table class=\"numbers\"><thead><tr><th>zone</th><th>of the image's "
      "area</th><th>of the sum of "
      "|Shapley value|</th><th>share per area</th><th>mean value towards ",
      positive, "</th></tr></thead><tbody>");
  for (int z = 0; z < kZones; ++z) {
    const double area = summary.areas(z), share = summary.shares(z);
    absl::StrAppend(&html, "<tr><th scope=\"row\"><i class=\"swatch\" style=\"background:",
                    Css(kZoneColours[z]), "\"></i>", kZoneNames[z], "</th><td>", Three(area),
                    "</td><td>", Three(share), "</td><td>",
                    area > 0 ? absl::StrFormat("%.2f", share / area) : "–", "</td><td>",
                    Signed(summary.values(z)), "</td></tr>");
  }
  return html + "</tbody></table></div>";
}

std::string FindingForest(const v1::LesionSummary& summary, const v1::ImageSetManifest& manifest) {
  Forest forest;
  forest.title = "Effects of the hypotheses with their intervals";
  forest.axis = "statistic where the zones are, minus its mean where the null lays them";
  forest.note_title = "adjusted";
  double most = 0.05;
  for (const v1::LesionFinding& finding : summary.findings()) {
    most = std::max({most, std::abs(finding.low()), std::abs(finding.high())});
  }
  forest.high = std::min(2.0, std::ceil(most * 10) / 10);
  forest.low = -forest.high;
  const auto add = [&](const v1::LesionFinding& finding, bool strong) {
    std::string name = NameOf(finding.hypothesis());
    if (finding.has_label() && static_cast<int>(finding.label()) < manifest.classes_size()) {
      absl::StrAppend(&name, ", ", manifest.classes(static_cast<int>(finding.label())));
    }
    forest.rows.push_back({name, false, strong, finding.effect(), finding.low(), finding.high(),
                           finding.lesions() == 0 ? "no lesions" : PText(finding.adjusted_p())});
  };
  forest.rows.push_back(
      {absl::StrCat("Primary, zones ", NameOf(summary.findings(0).null())), true});
  add(summary.findings(0), true);
  for (const v1::LesionNull null :
       {v1::LESION_NULL_SHIFTED, v1::LESION_NULL_ROTATED, v1::LESION_NULL_EXCHANGED}) {
    forest.rows.push_back({absl::StrCat("Zones ", NameOf(null)), true});
    for (int i = 1; i < summary.findings_size(); ++i) {
      if (summary.findings(i).null() == null) add(summary.findings(i), false);
    }
  }
  return absl::StrCat("<div class=\"scroll\">", RenderForest(forest), "</div>");
}

std::string LesionTest(const v1::StudyResults& results, const ReportInputs& inputs) {
  const v1::LesionTestSpec& spec = results.spec().explanation().lesion_test();
  std::string html = "<h3>Does the network look at the border?</h3>";
  const auto payload = results.lesion_test().result().task().empty()
                           ? absl::StatusOr<v1::Payload>(absl::NotFoundError("not there yet"))
                           : Fetch(results.lesion_test(), inputs);
  if (!payload.ok() || payload->lesion_summary().findings().empty()) {
    return absl::StrCat(html, "<p class=\"missing\">The lesion test is ",
                        Escape(std::string(payload.status().message())), ".</p>");
  }
  const v1::LesionSummary& summary = payload->lesion_summary();
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  const v1::LesionFinding& primary = summary.findings(0);
  const bool found = primary.p() < 0.05;
  absl::StrAppend(&html, "<p class=\"", found ? "praise" : "verdict", "\"><b>Primary hypothesis, ",
                  NameOf(primary.hypothesis()), ": ", found ? "supported" : "not supported",
                  ".</b> Effect ", Signed(primary.effect()), " (95 % interval ",
                  Signed(primary.low()), " to ", Signed(primary.high()), "), ", PText(primary.p()),
                  ", one-sided, ", primary.lesions(), " lesions, against zones ",
                  NameOf(primary.null()), ". It was named in the study before it ran.</p>");
  absl::StrAppend(&html, "<div class=\"lesion\">", ZonePicture(results, inputs, spec.band()),
                  "<div>",
                  ZoneTable(summary, manifest.classes_size() > 0
                                         ? Escape(manifest.classes(manifest.classes_size() - 1))
                                         : ""),
                  "</div></div>", FindingForest(summary, manifest));
  absl::StrAppend(&html,
                  "<p class=\"note\">Exact Shapley values of four zones (16 masked inputs) on ",
                  summary.images(), " test images of ", summary.lesions(), " lesions with ",
                  MasksOf(summary.mask_origin()), "; what is hidden is replaced by ",
                  HiddenText(spec.hidden()), ". A band is ", absl::StrFormat("%g", 100 * spec.band()),
                  " % of the lesion's equivalent diameter. Statistic: (a − b) / (a + b) of |value| "
                  "per area; its unit is the lesion, "
                  "never the pixel. Null: the same zones laid elsewhere, ",
                  spec.placements(), " times a kind and image; p from ", spec.draws(),
                  " draws of one placement a lesion. All but the primary are two-sided and "
                  "Holm-adjusted. Largest additivity residual ",
                  absl::StrFormat("%.1e", summary.additivity_residual()), ".</p>");
  return html;
}

std::string Shortcut(const v1::StudyResults& results, const ReportInputs& inputs) {
  std::string html = "<h3>Could it do without the lesion?</h3>";
  const auto payload = results.shortcut().result().task().empty()
                           ? absl::StatusOr<v1::Payload>(absl::NotFoundError("not there yet"))
                           : Fetch(results.shortcut(), inputs);
  if (!payload.ok() || payload->shortcut().areas().empty()) {
    return absl::StrCat(html, "<p class=\"missing\">The shortcut check is ",
                        Escape(std::string(payload.status().message())), ".</p>");
  }
  const v1::ShortcutOutput& shortcut = payload->shortcut();
  Forest forest;
  forest.title = "Area under ROC of parts of the images";
  forest.axis = "area under ROC";
  forest.note_title = "area";
  forest.reference = 0.5;
  forest.low = 0;
  forest.high = 1;
  const auto add = [&](const v1::ShortcutArea& area) {
    forest.rows.push_back({NameOf(area.hide().show()), false,
                           area.hide().show() == v1::LESION_REGION_SURROUNDINGS, area.area(),
                           area.low(), area.high(), Three(area.area())});
  };
  add(shortcut.areas(0));
  std::vector<v1::HiddenValue> seen;
  for (const v1::ShortcutArea& area : shortcut.areas()) {
    if (area.has_hide() &&
        std::find(seen.begin(), seen.end(), area.hide().hidden()) == seen.end()) {
      seen.push_back(area.hide().hidden());
    }
  }
  for (const v1::HiddenValue hidden : seen) {
    forest.rows.push_back({absl::StrCat("The rest is ", HiddenText(hidden)), true});
    for (const v1::ShortcutArea& area : shortcut.areas()) {
      if (area.has_hide() && area.hide().hidden() == hidden) add(area);
    }
  }
  return absl::StrCat(html, "<div class=\"scroll\">", RenderForest(forest), "</div>",
                      "<p class=\"note\">The network as it was trained, on ", shortcut.images(),
                      " test images of ", shortcut.lesions(),
                      " lesions with a mask, seeing a part of each. Intervals: 95 %, bootstrapped "
                      "by lesion. Images of which a part is "
                      "replaced are unlike all that it was trained on, so a low area does not say "
                      "that the part holds nothing; a study "
                      "with images.hide trains on the part alone.</p>");
}

std::string WarningText(const std::string& whose, double low, double high, double area) {
  return absl::StrCat("Shortcut: ", whose,
                      " tells malignant from benign without the lesion: area under ROC ",
                      Three(area), " (95 % interval ", Three(low), " to ", Three(high),
                      ") on the surroundings alone");
}

}  // namespace

std::vector<std::string> ShortcutWarnings(const v1::ShortcutOutput& shortcut) {
  std::vector<std::string> warnings;
  for (const v1::ShortcutArea& area : shortcut.areas()) {
    if (area.hide().show() != v1::LESION_REGION_SURROUNDINGS || area.low() <= 0.5) continue;
    warnings.push_back(
        absl::StrCat(WarningText("this network", area.low(), area.high(), area.area()),
                     ", the lesion replaced by ", HiddenText(area.hide().hidden()), "."));
  }
  return warnings;
}

std::vector<std::string> RetrainedWarnings(const v1::StudyResults& results,
                                           const v1::ImageSetManifest& manifest) {
  const v1::HideSpec& hide = results.spec().images().hide();
  const auto scores = ScoresOf(results, manifest);
  if (hide.show() != v1::LESION_REGION_SURROUNDINGS || !scores.ok()) return {};
  const WeightedArea area(scores->probability, scores->label);
  const std::vector<uint32_t> images(results.test_images().begin(), results.test_images().end());
  const Interval interval =
      BootstrapByGroup(GroupsOf(manifest, images), kIntervalDraws, results.spec().seed(),
                       [&](Counts counts) { return area(counts); });
  if (!(interval.low > 0.5)) return {};
  return {
      absl::StrCat(WarningText("a network that was trained on the surroundings alone", interval.low,
                               interval.high, area(std::vector<uint32_t>(images.size(), 1))),
                   ", the lesion replaced by ", HiddenText(hide.hidden()), ".")};
}

std::string RenderLesionWarnings(const v1::StudyResults& results, const ReportInputs& inputs) {
  std::vector<std::string> warnings = RetrainedWarnings(results, inputs.images->manifest());
  if (!results.shortcut().result().task().empty()) {
    if (const auto payload = Fetch(results.shortcut(), inputs); payload.ok()) {
      for (std::string& warning : ShortcutWarnings(payload->shortcut()))
        warnings.push_back(std::move(warning));
    }
  }
  if (warnings.empty()) return "";
  std::string html = "<ul class=\"flags first\">";
  for (const std::string& warning : warnings)
    absl::StrAppend(&html, "<li>", Escape(warning), "</li>");
  return html + "</ul>";
}

std::string RenderLesions(const v1::StudyResults& results, const ReportInputs& inputs) {
  std::string html;
  if (results.spec().explanation().has_lesion_test()) html += LesionTest(results, inputs);
  if (results.spec().explanation().has_shortcut()) html += Shortcut(results, inputs);
  return html;
}

}  // namespace dermis
