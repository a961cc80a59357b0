#include "tools/report/cards.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "common/bootstrap.h"
#include "common/digest.h"
#include "common/tasks.h"
#include "tools/report/architecture.h"
#include "tools/report/curves.h"
#include "tools/report/explained.h"
#include "tools/report/plot.h"
#include "worker/models/model.h"

namespace dermis {
namespace {

constexpr size_t kMostValues = 6;  // Of a column with few of them.

// `value` is HTML.
std::string Fact(const std::string& name, const std::string& value) {
  return absl::StrCat("<div><dt>", name, "</dt><dd>", value, "</dd></div>");
}

std::string Code(const std::string& bytes) {
  return bytes.empty() ? "–" : absl::StrCat("<code>", absl::BytesToHexString(bytes), "</code>");
}

std::string Percent(size_t part, size_t whole) {
  return whole == 0 ? "–"
                    : absl::StrFormat("%.0f %%", 100.0 * static_cast<double>(part) /
                                                     static_cast<double>(whole));
}

// "1524 nevus, 1156 melanoma, ...", by falling number.
std::string Counted(const std::map<std::string, size_t>& counts) {
  std::vector<std::pair<size_t, std::string>> sorted;
  for (const auto& [value, count] : counts) sorted.emplace_back(count, value);
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<std::string> parts;
  size_t others = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (i < kMostValues) {
      parts.push_back(absl::StrCat(sorted[i].first, " ", Escape(sorted[i].second)));
    } else {
      others += sorted[i].first;
    }
  }
  if (others > 0) parts.push_back(absl::StrCat(others, " others"));
  return absl::StrJoin(parts, ", ");
}

// What is known of the images: how many say it, and what they say where that is short.
std::string Columns(const v1::ImageSetManifest& manifest) {
  std::map<std::string, std::map<std::string, size_t>> columns;
  for (const v1::ImageEntry& entry : manifest.images()) {
    for (const v1::Attribute& attribute : entry.attributes()) {
      if (!attribute.value().empty()) ++columns[attribute.key()][attribute.value()];
    }
  }
  if (columns.empty()) return "";
  constexpr size_t kFew = 40;
  const size_t images = static_cast<size_t>(manifest.images_size());
  std::string body;
  for (const auto& [name, values] : columns) {
    size_t filled = 0;
    for (const auto& [value, count] : values) filled += count;
    absl::StrAppend(
        &body, "<tr><th scope=\"row\">", Escape(name), "</th><td>", Percent(filled, images),
        "</td><td class=\"words\">",
        values.size() <= kFew ? Counted(values) : absl::StrCat(values.size(), " different values"),
        "</td></tr>");
  }
  return absl::StrCat(
      "<details><summary>What is known of each image <span>", columns.size(),
      " columns</span></summary><div "
      "class=\"scroll\"><table><thead><tr><th>column</th><th>filled</th><th class=\"words\">values"
      "</th></tr></thead><tbody>",
      body, "</tbody></table></div></details>");
}

std::string OptimizerName(const v1::OptimizerSpec& optimizer) {
  const auto* field = optimizer.GetDescriptor()->oneof_decl_count() > 0
                          ? optimizer.GetReflection()->GetOneofFieldDescriptor(
                                optimizer, optimizer.GetDescriptor()->oneof_decl(0))
                          : nullptr;
  return field == nullptr ? "" : std::string(field->name());
}

// What was computed for the explanations, as their results say it.
std::string Trained(const v1::StudyResults& results) {
  const v1::TrainingSpec& training = results.spec().training();
  const int epochs = EpochsOf(results);
  const uint64_t steps = results.training().steps_per_epoch();
  return absl::StrCat(epochs, " epochs of ", steps, " steps of ", training.batch_size(),
                      " images (", static_cast<uint64_t>(epochs) * steps * training.batch_size(),
                      " images seen), ", OptimizerName(training.optimizer()), ", ",
                      training.precision() == v1::PRECISION_BF16 ? "bf16" : "fp32",
                      "; the weights of the ", training.has_early_stopping() ? "best" : "last",
                      " epoch are kept, best epoch ", BestEpoch(results));
}

// The seeds that were trained and are evaluated.
std::string Seeds(const v1::StudyResults& results) {
  std::vector<uint64_t> seeds;
  for (const v1::SeedResult& one : results.seeds()) seeds.push_back(one.seed());
  if (seeds.size() < 2) return absl::StrCat(results.spec().seed());
  return absl::StrCat(seeds[0], "; beside it, of the same setting, ",
                      absl::StrJoin(seeds.begin() + 1, seeds.end(), ", "));
}

// Not of the page's making: what the cluster's workers spent.
std::string Compute(const v1::StudyStatus& status) {
  uint64_t computed = 0, found = 0;
  for (const v1::StageProgress& stage : status.stages()) {
    computed += stage.computed();
    found += stage.reused();
  }
  const std::string reused =
      found == 0 ? "" : absl::StrCat(found, " were there already, and their hours are not counted");
  if (computed == 0) return found == 0 ? "nothing yet" : absl::StrCat("nothing: ", reused);
  const double hours = status.used_hours();
  return absl::StrCat(hours < 1 ? absl::StrFormat("%.1f minutes", hours * 60)
                                : absl::StrFormat("%.1f hours", hours),
                      " of one worker, for ", computed, " tasks", reused.empty() ? "" : "; ",
                      reused);
}

// A numerics class names the versions of what decides bits: "cpu/avx512/torch-2.11.0/...".
std::string Software(const std::string& numerics_class) {
  static constexpr std::pair<const char*, const char*> kNames[] = {
      {"torch", "LibTorch"}, {"onednn", "its oneDNN"}, {"dnnl", "oneDNN of the inference plans"},
      {"cuda", "CUDA"},      {"cudnn", "cuDNN"},       {"gcc", "GCC"},
      {"glibc", "glibc"}};
  std::vector<std::string> parts = {absl::StrCat("Dermis ", kVersion)};
  for (const absl::string_view part : absl::StrSplit(numerics_class, '/')) {
    for (const auto& [key, name] : kNames) {
      if (absl::StartsWith(part, absl::StrCat(key, "-")))
        parts.push_back(
            absl::StrCat(name, " ", Escape(std::string(part.substr(part.find('-') + 1)))));
    }
  }
  return absl::StrJoin(parts, ", ");
}

std::string Kind(const v1::StudyResults& results) {
  const v1::StudySpec& spec = results.spec();
  if (spec.has_model()) return absl::StrCat("given: ", Escape(spec.model().file()));
  return absl::StrCat(Escape(ModelName(spec.training().model())), ", trained in this study");
}

std::string Limits(const EvaluationReport& model) {
  std::vector<std::string> parts = {
      absl::StrFormat("measured on %d images of %d lesions of one collection", model.test_images,
                      model.test_lesions),
      absl::StrFormat(
          "probabilities are off by %.1f points on average before, %.1f after temperature %s",
          100 * model.before.error, 100 * model.after.error, Number(model.temperature.value, 2))};
  size_t too_few = 0;
  for (const Subgroup& row : model.subgroups) too_few += row.lesions < kFewestLesions ? 1 : 0;
  if (too_few > 0)
    parts.push_back(absl::StrCat(too_few, " subgroups are too small to say anything of them"));
  return absl::StrJoin(parts, "; ");
}

std::string Estimated(const Estimate& e) {
  const bool sure = std::isfinite(e.interval.low) && std::isfinite(e.interval.high);
  return absl::StrCat(
      Number(e.value),
      sure ? absl::StrCat(" (", Number(e.interval.low), " – ", Number(e.interval.high), ")") : "");
}

}  // namespace

std::string SetName(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                    const std::string& separator) {
  const std::string& name =
      manifest.name().empty() ? results.spec().images().set() : manifest.name();
  return name.empty() ? "" : name + separator;
}

std::string RenderDataCard(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                           const Judgement& judgement) {
  const size_t images = static_cast<size_t>(manifest.images_size());
  std::map<std::string, size_t> classes, origins;
  std::set<std::string> groups;
  size_t masks = 0, grouped = 0;
  for (const v1::ImageEntry& entry : manifest.images()) {
    if (entry.label() < static_cast<uint32_t>(manifest.classes_size()))
      ++classes[manifest.classes(static_cast<int>(entry.label()))];
    if (entry.has_mask()) {
      ++masks;
      ++origins[entry.mask_origin().empty() ? "of unknown origin" : entry.mask_origin()];
    }
    if (entry.group().empty()) continue;
    ++grouped;
    groups.insert(entry.group());
  }
  std::string html = "<dl class=\"provenance\">";
  html += Fact("image set",
               absl::StrCat(Escape(SetName(results, manifest, ", ")), images, " images of ",
                            manifest.width(), " × ", manifest.height(), " pixels"));
  html += Fact("digest", Code(results.image_set()));
  html += Fact("made by", Escape(manifest.preprocessing()));
  html += Fact("classes",
               manifest.unlabelled() ? "nobody said what the images show" : Counted(classes));
  html += Fact("lesions",
               grouped == 0
                   ? "not named: each image counts as one of its own"
                   : absl::StrCat(groups.size(), " named, for ", Percent(grouped, images),
                                  " of the images; each other image counts as one of its own"));
  html += Fact("masks", masks == 0 ? "none"
                                   : absl::StrCat(Percent(masks, images),
                                                  " of the images: ", Counted(origins)));
  if (judgement.view && judgement.view->leaks) {
    const LeakReport& leaks = *judgement.view->leaks;
    html += Fact("across the split",
                 leaks.clean() ? "no image twice, no lesion twice"
                               : absl::StrCat(leaks.same_pixels + leaks.same_file +
                                                  leaks.near_duplicate + leaks.same_lesion,
                                              " pairs that should not be: see the leak check"));
  }
  html += Fact("left to say by whoever collected it",
               "how patients and images were selected, who labelled them and how sure they were, "
               "consent and licence: an image "
               "set does not hold that");
  return absl::StrCat(html, "</dl>", Columns(manifest));
}

std::string RenderModelCard(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                            const Judgement& judgement) {
  const v1::StudySpec& spec = results.spec();
  const int classes = manifest.classes_size();
  std::string html = "<dl class=\"provenance\">";
  html += Fact("model", Kind(results));
  html += Fact("input", absl::StrCat("an image, cut and resized as the set’s were, at ",
                                     spec.images().size(), " × ", spec.images().size(), " pixels"));
  html += Fact("output", absl::StrCat("a logit for each of ", classes, " classes; positive: ",
                                      classes > 0 ? Escape(manifest.classes(classes - 1)) : ""));
  html += Fact(
      "intended use",
      "research: to study what such a network learns from such images and how it can be explained");
  html += Fact("not for",
               "diagnosis, triage or any decision about a patient; images from other devices, "
               "skins or lesions than the "
               "set’s, until it is evaluated on them (<code>dermis evaluate</code>)");
  if (EpochsOf(results) > 0 && !spec.has_model()) html += Fact("training", Trained(results));
  html += Fact(results.seeds_size() > 1 ? "seeds" : "seed", Seeds(results));
  if (judgement.view) {
    const EvaluationReport& model = judgement.view->models[0];
    html += Fact("performance", absl::StrCat("ROC area ", Estimated(model.at_half.area),
                                             "; at the validation-chosen threshold ",
                                             Number(model.at_chosen.threshold), ": sensitivity ",
                                             Estimated(model.at_chosen.recall), ", specificity ",
                                             Estimated(model.at_chosen.specificity)));
    html += Fact("limits", Limits(model));
  }
  html += Fact("computed on", absl::StrCat("<code>", Escape(results.numerics_class()), "</code>"));
  html += Fact("weights", Code(results.model().weights()));
  const auto digest = MessageDigest(spec);
  html += Fact("study", absl::StrCat(digest.ok() ? absl::StrCat("<code>", digest->hex(), "</code>")
                                                 : std::string("–"),
                                     ": the same study gives the same weights"));
  html += Fact("software", Software(results.numerics_class()));
  html += Fact("computing", Compute(results.status()));
  html += "</dl>";
  const Architecture architecture = ArchitectureOf(results, classes);
  if (architecture.rows.empty()) return html;
  return absl::StrCat(html, "<details><summary>Architecture <span>Table 2 of the seed paper: ",
                      architecture.total(), " parameters</span></summary>",
                      RenderArchitecture(architecture), "</details>");
}

}  // namespace dermis
