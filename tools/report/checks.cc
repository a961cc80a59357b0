#include "tools/report/checks.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "tools/report/explained.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

constexpr size_t kColours = 6;  // Of lines: classes m0 .. m5; priors have p0 .. p2.
constexpr char kNone[] = "<td class=\"none\">–</td>";
// How priors read in a sentence.
constexpr const char* kPriorPhrases[kPriors] = {"a random order", "nearness to the centre",
                                                "strength of edges"};

std::string Title(const CheckedMap& map) {
  if (!map.prior) return map.title;
  return map.title == "random"   ? "random order"
         : map.title == "centre" ? "centre prior"
                                 : "edge magnitude";
}

// Median, with the quartiles beneath.
std::string Cell(const Spread& spread, int digits = 2, const std::string& mark = "") {
  if (spread.images == 0) return kNone;
  return absl::StrCat("<td>", Number(spread.median, digits), mark, "<small>",
                      Number(spread.low, digits), " … ", Number(spread.high, digits),
                      "</small></td>");
}

std::string Residual(const Spread& spread, bool bf16) {
  if (bf16) return "<td class=\"none\">not available: bf16</td>";
  if (spread.images == 0) return kNone;
  const auto text = [](double value) {
    return value == 0 ? std::string("0") : absl::StrFormat("%.0e", value);
  };
  return absl::StrCat("<td>", text(spread.median), "<small>… ", text(spread.high), "</small></td>");
}

std::string AgainstCell(const Against& deletion, const Against& insertion) {
  if (deletion.images == 0) return kNone;
  const auto part = [](const Against& against) {
    return absl::StrCat(against.Shown() ? "<b>" : "", against.better,
                        against.Shown() ? "</b>" : "");
  };
  return absl::StrCat("<td>", part(deletion), " / ", part(insertion), "<small>of ", deletion.images,
                      "</small></td>");
}

bool HasCurves(const CheckedMap& map) { return !map.deletion.probability.empty(); }
bool HasStability(const CheckedMap& map) {
  return map.max_sensitivity.images > 0 || map.noise_rank.images > 0 || map.seed_rank.images > 0 ||
         map.second_hidden_rank.images > 0 || map.random_rank.images > 0;
}

std::string Row(const CheckedMap& map, const std::string& cells) {
  return absl::StrCat("<tr", map.prior ? " class=\"prior\"" : "", "><th scope=\"row\">",
                      Escape(Title(map)), "</th>", cells, "</tr>");
}

std::string FidelityTable(const CheckSummary& summary) {
  std::string html =
      "<div class=\"scroll\"><table class=\"checks\"><thead><tr><th rowspan=\"2\">method</th>"
      "<th colspan=\"2\">area under deletion ↓</th><th colspan=\"2\">area under insertion ↑</th>"
      "<th colspan=\"3\">images where it is better (deletion / insertion) than</th><th "
      "rowspan=\"2\">infidelity ↓</th>"
      "<th rowspan=\"2\">additivity residual</th><th "
      "rowspan=\"2\">R²</th></tr><tr><th>probability</th><th>margin</th>"
      "<th>probability</th><th>margin</th><th>random "
      "order</th><th>centre</th><th>edges</th></tr></thead><tbody>";
  for (const CheckedMap& map : summary.maps) {
    if (!HasCurves(map)) continue;
    std::string cells = absl::StrCat(Cell(map.deletion_probability), Cell(map.deletion_margin),
                                     Cell(map.insertion_probability), Cell(map.insertion_margin));
    for (size_t k = 0; k < kPriors; ++k) {
      const bool itself = map.prior && map.title == kPriorNames[k];
      cells += itself ? kNone : AgainstCell(map.deletion_against[k], map.insertion_against[k]);
    }
    const bool fitted = map.infidelity_kind == v1::INFIDELITY_KIND_FITTED;
    const bool gradient = map.infidelity_kind == v1::INFIDELITY_KIND_GRADIENT;
    absl::StrAppend(&cells,
                    Cell(map.infidelity, 2,
                         fitted     ? "<sup>†</sup>"
                         : gradient ? "<sup>‡</sup>"
                                    : ""),
                    Residual(map.residual, map.residual_in_bf16), Cell(map.r_squared));
    html += Row(map, cells);
  }
  return html + "</tbody></table></div>";
}

// Which lines a pair of plots shows.
using Chosen = std::vector<std::pair<const CheckedMap*, std::string>>;  // With their style.

std::string Legend(const Chosen& chosen) {
  std::string html = "<ul class=\"keys\">";
  for (const auto& [map, style] : chosen) {
    absl::StrAppend(&html, "<li><svg viewBox=\"0 0 22 8\" aria-hidden=\"true\"><path class=\"line ",
                    style, "\" d=\"M1 4h20\"/></svg>", Escape(Title(*map)), "</li>");
  }
  return html + "</ul>";
}

std::string CurvePlot(const Chosen& chosen, bool deletion, bool probability) {
  Plot plot;
  plot.title = absl::StrCat(deletion ? "Deletion" : "Insertion", ": mean ",
                            probability ? "probability" : "margin", " of the predicted class");
  plot.x_label = deletion ? "share of superpixels hidden"
                          : "share of superpixels shown, from the blurred image on";
  plot.y_label =
      absl::StrCat(deletion ? "deletion: " : "insertion: ", probability ? "probability" : "margin",
                   " of the predicted class");
  double least = 0, most = 0;
  for (const auto& [map, style] : chosen) {
    const MeanCurve& curve = deletion ? map->deletion : map->insertion;
    const std::vector<double>& values = probability ? curve.probability : curve.margin;
    PlotLine line{"", style, {}};
    for (size_t i = 0; i < values.size(); ++i) {
      line.points.emplace_back(static_cast<double>(i) / (kCurvePoints - 1), values[i]);
      least = std::min(least, values[i]);
      most = std::max(most, values[i]);
    }
    plot.lines.push_back(std::move(line));
  }
  if (!probability && most > least) {
    plot.y_min = least - 0.04 * (most - least);
    plot.y_max = most + 0.04 * (most - least);
  }
  return RenderPlot(plot);
}

std::string CurvePlots(const Chosen& chosen) {
  return absl::StrCat(Legend(chosen), "<div class=\"duo curves\">", CurvePlot(chosen, true, true),
                      CurvePlot(chosen, false, true), CurvePlot(chosen, true, false),
                      CurvePlot(chosen, false, false), "</div>");
}

// A line's style, by its place among the methods of a plot.
std::string MethodStyle(size_t place) { return absl::StrCat("m", place % kColours); }

// Maps in their order, by method.
std::vector<std::vector<const CheckedMap*>> ByMethod(const CheckSummary& summary) {
  std::vector<std::vector<const CheckedMap*>> methods;
  for (const CheckedMap& map : summary.maps) {
    if (map.prior) continue;
    if (methods.empty() || methods.back()[0]->method != map.method) methods.emplace_back();
    methods.back().push_back(&map);
  }
  return methods;
}

// Each method by its only map, or that of its last layer; and each method's layers; always beside
// the priors.
std::string Curves(const CheckSummary& summary) {
  Chosen priors, methods;
  for (const CheckedMap& map : summary.maps) {
    if (map.prior && HasCurves(map)) priors.emplace_back(&map, absl::StrCat("p", priors.size()));
  }
  std::string details;
  for (const std::vector<const CheckedMap*>& maps : ByMethod(summary)) {
    if (!HasCurves(*maps.back())) continue;
    methods.emplace_back(maps.back(), MethodStyle(methods.size()));
    if (maps.size() < 2) continue;
    Chosen layers;
    for (const CheckedMap* map : maps) layers.emplace_back(map, MethodStyle(layers.size()));
    layers.insert(layers.end(), priors.begin(), priors.end());
    absl::StrAppend(&details, "<details><summary>", Escape(maps[0]->method), " by layer</summary>",
                    CurvePlots(layers), "</details>");
  }
  methods.insert(methods.end(), priors.begin(), priors.end());
  return CurvePlots(methods) + details;
}

// A square of rank correlations: warm where methods agree.
std::string AgreementTable(const CheckSummary& summary) {
  std::string head, body;
  bool others = false;
  for (size_t i = 0; i < summary.maps.size(); ++i) {
    if (!HasCurves(summary.maps[i])) continue;
    const std::string title = Escape(Title(summary.maps[i]));
    absl::StrAppend(&head, "<th>", title, "</th>");
    absl::StrAppend(&body, "<tr><th scope=\"row\">", title, "</th>");
    for (size_t j = 0; j < summary.maps.size(); ++j) {
      if (!HasCurves(summary.maps[j])) continue;
      const Spread& spread = summary.agreement[i][j];
      if (i == j || spread.images == 0) {
        const std::string &a = summary.maps[i].reference, &b = summary.maps[j].reference;
        const bool apart = !a.empty() && !b.empty() && a != b;
        others |= apart;
        body += apart ? absl::StrCat("<td class=\"none\" title=\"against ", Escape(a), "; against ",
                                     Escape(b), "\">≠</td>")
                      : kNone;
        continue;
      }
      absl::StrAppendFormat(
          &body, "<td class=\"%s\" style=\"--share:%.2f\" title=\"quartiles %s to %s\">%s</td>",
          spread.median < 0 ? "less" : "more", std::abs(spread.median), Number(spread.low, 2),
          Number(spread.high, 2), Number(spread.median, 2));
    }
    body += "</tr>";
  }
  return absl::StrCat(
      "<details open><summary>Agreement between methods <span>median rank correlation on the same "
      "superpixels</span></summary><div class=\"scroll\"><table "
      "class=\"agreement\"><thead><tr><td></td>",
      head, "</tr></thead><tbody>", body, "</tbody></table></div>",
      others ? "<p class=\"note\">≠: one measures against another value than the other (what stands in the "
               "place of what is hidden), so their ranks are no answer to one question. The study's "
               "<code>hidden</code> of both makes them comparable.</p>"
             : "",
      "</details>");
}

std::string VerdictCell(const CheckedMap& map) {
  switch (map.verdict) {
    case Verdict::kPassed:
      return "<td><span class=\"chip right\">changes with the weights</span></td>";
    case Verdict::kFlagged:
      return "<td><span class=\"chip wrong\">flagged</span></td>";
    case Verdict::kTooFewImages:
      return "<td><span class=\"chip\">too few images</span></td>";
    case Verdict::kNotChecked:
      break;
  }
  return kNone;
}

std::string StabilityTable(const CheckSummary& summary) {
  std::string html =
      "<div class=\"scroll\"><table class=\"checks\"><thead><tr><th rowspan=\"2\">method</th><th "
      "rowspan=\"2\">"
      "max-sensitivity ↓</th><th colspan=\"3\">rank correlation with itself</th><th "
      "colspan=\"3\">the same, all weights "
      "randomised ↓</th><th rowspan=\"2\">verdict</th></tr><tr><th>under noise</th><th>over "
      "seeds</th><th>hidden "
      "otherwise</th><th>signed</th><th>absolute</th><th>SSIM</th></tr></thead><tbody>";
  for (const CheckedMap& map : summary.maps) {
    if (!HasStability(map)) continue;
    html += Row(
        map, absl::StrCat(Cell(map.max_sensitivity), Cell(map.noise_rank), Cell(map.seed_rank),
                          Cell(map.second_hidden_rank), Cell(map.random_rank),
                          Cell(map.random_absolute_rank), Cell(map.random_ssim), VerdictCell(map)));
  }
  return html + "</tbody></table></div>";
}

std::string RandomisationPlot(const CheckSummary& summary, const Chosen& chosen, bool cascading) {
  const auto layers = static_cast<double>(summary.layers.size());
  Plot plot;
  plot.title = cascading ? "Rank correlation after layers are randomised from the output on"
                         : "Rank correlation after one layer is randomised";
  plot.x_label = cascading
                     ? absl::StrCat("layers randomised, from ", summary.layers.front(), " to ",
                                    summary.layers.back())
                     : absl::StrCat("the layer randomised: ", absl::StrJoin(summary.layers, ", "));
  plot.y_label = "rank correlation with the trained network's map";
  plot.x_min = cascading ? 0 : 1;
  plot.x_max = std::max(layers, 2.0);
  plot.y_min = -0.5;
  for (const auto& [map, style] : chosen) {
    PlotLine line{"", style, {}};
    if (cascading) line.points.emplace_back(0, 1);
    const std::vector<Spread>& ranks = cascading ? map->cascading : map->independent;
    for (size_t i = 0; i < ranks.size(); ++i)
      line.points.emplace_back(static_cast<double>(i + 1), ranks[i].median);
    plot.lines.push_back(std::move(line));
  }
  return RenderPlot(plot);
}

// Methods by their only map or that of their last layer, and the edge detector as the control.
std::string Randomisation(const CheckSummary& summary) {
  Chosen chosen;
  for (const std::vector<const CheckedMap*>& maps : ByMethod(summary)) {
    if (maps.back()->cascading.empty()) continue;
    chosen.emplace_back(maps.back(), MethodStyle(chosen.size()));
  }
  for (const CheckedMap& map : summary.maps) {
    if (map.prior && map.title == "edges" && !map.cascading.empty())
      chosen.emplace_back(&map, "p2");
  }
  if (chosen.empty() || summary.layers.empty()) return "";
  return absl::StrCat(Legend(chosen), "<div class=\"duo\">",
                      RandomisationPlot(summary, chosen, true),
                      RandomisationPlot(summary, chosen, false), "</div>");
}

std::string Images(uint32_t count) {
  return absl::StrCat(count, count == 1 ? " image" : " images");
}

std::string FlagList(const CheckSummary& summary) {
  const std::vector<std::string> flags = CheckFlags(summary);
  if (flags.empty())
    return "<p class=\"praise\">No method was found wanting by the checks that were run.</p>";
  std::string html = "<ul class=\"flags\">";
  for (const std::string& flag : flags) absl::StrAppend(&html, "<li>", Escape(flag), "</li>");
  return html + "</ul>";
}

}  // namespace

std::vector<std::string> CheckFlags(const CheckSummary& summary) {
  std::vector<std::string> unlearned, unordered;
  for (const CheckedMap& map : summary.maps) {
    if (map.prior) continue;  // They are meant to fail.
    if (map.verdict == Verdict::kFlagged) {
      unlearned.push_back(absl::StrCat(
          map.title,
          " does not depend on what the network learned: with all weights randomised its maps "
          "correlate by ",
          Number(map.random_rank.median, 2), " (absolute ones by ",
          Number(map.random_absolute_rank.median, 2),
          ") with the trained network’s, which is not shown to be below their similarity ",
          map.bar_is_noise ? "under imperceptible noise" : "between seeds", ", ",
          Number(map.bar_rank.median, 2), " (", Number(map.bar_absolute_rank.median, 2), ")."));
    }
    std::vector<std::string> worse;
    uint32_t images = 0;
    for (size_t k = 0; k < kPriors; ++k) {
      const Against& deletion = map.deletion_against[k];
      images = std::max(images, deletion.images);
      if (deletion.images < kFewestImages || deletion.Shown() || map.insertion_against[k].Shown())
        continue;
      worse.push_back(absl::StrCat(kPriorPhrases[k], " (better in deletion on ", deletion.better,
                                   ", in insertion on ", map.insertion_against[k].better, ")"));
    }
    if (!worse.empty()) {
      unordered.push_back(absl::StrCat(map.title, " is not shown to order superpixels better than ",
                                       absl::StrJoin(worse, ", or "), " of ", images, " images."));
    }
  }
  unlearned.insert(unlearned.end(), unordered.begin(), unordered.end());
  return unlearned;
}

std::string RenderChecks(const CheckSummary& summary, const v1::ExplanationSpec& spec) {
  if (summary.empty() && summary.pending == 0) return "";
  const v1::ChecksSpec& checks = spec.checks();
  std::string html;
  if (summary.pending > 0) {
    absl::StrAppend(&html, "<p class=\"missing\">", summary.pending,
                    summary.pending == 1 ? " check is" : " checks are", " not there yet.</p>");
  }
  if (summary.empty()) return html;
  html += FlagList(summary);
  if (summary.fidelity_images > 0) {
    absl::StrAppend(
        &html, "<h3>Does the output follow the map?</h3><p class=\"note\">On ",
        Images(summary.fidelity_images),
        ". All methods order the same superpixels by how much they speak for the predicted class; "
        "one superpixel a step "
        "is hidden (deletion) or shown again in the image blurred by ",
        Number(checks.blur(), 2),
        " of its side (insertion). Cells: median, quartiles beneath; bold counts are more than "
        "chance (sign test, p &lt; .05; by margin).</p>",
        FidelityTable(summary), Curves(summary), "<p class=\"note\">Infidelity: ", checks.halves(),
        " random halves of the superpixels are hidden; mean squared error of what the map says of "
        "the output’s change, "
        "over the output’s variance: 0 is perfect, 1 is what a constant reaches. † The map has no "
        "units and was "
        "multiplied by what suits it best; RISE’s zero means nothing either, so it was shifted, "
        "too. ‡ Of gradients: as published, over noise, not divided "
        "by the variance. Random "
        "orders: mean of ",
        checks.random_orders(), ". Lines are means over images.</p>", AgreementTable(summary));
  }
  if (summary.stability_images > 0) {
    const v1::StabilitySpec& stability = checks.stability();
    absl::StrAppend(
        &html,
        "<h3>Does it change with what matters, and only with that?</h3><p class=\"note\">On ",
        Images(summary.stability_images),
        ", the first explained ones by digest. Noise: ", stability.noise_draws(),
        " draws, uniform within ±", Number(stability.noise_radius(), 3),
        " of the pixels’ range; superpixels and masks stay. Max-sensitivity is the largest "
        "relative change. Weights are "
        "randomised layer by layer (Adebayo et al. 2018).</p>",
        StabilityTable(summary), Randomisation(summary),
        "<p class=\"note\">A method passes where its maps are less alike under random weights than "
        "over seeds (sign test "
        "over images, p &lt; .05; signed and absolute maps). A method that draws nothing at random "
        "is the same over "
        "seeds to the last bit, so it is held against its similarity under imperceptible noise. "
        "The priors do not see "
        "the network: they must be flagged, and show that the check works.</p>");
  } else if (!checks.has_stability()) {
    html +=
        "<p class=\"note\">Not asked for: how much each map agrees with itself under a second "
        "hidden "
        "value, under noise, over seeds and under random weights. <code>explanation: {checks: "
        "{stability: {}}}</code> asks for it; <code>--preview</code> says what that costs.</p>";
  }
  return html;
}

}  // namespace dermis
