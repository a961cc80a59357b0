#include "tools/dermis/decision_rule.h"

#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/safetensors.h"
#include "common/status_macros.h"
#include "tools/report/judgement.h"

namespace dermis {
namespace {

constexpr char kThreshold[] = "threshold", kTemperature[] = "temperature",
               kImages[] = "validation_images";

}  // namespace

std::optional<DecisionRule> RuleOf(const v1::StudyResults& results,
                                   const v1::ImageSetManifest& manifest) {
  if (results.validation_images().empty() || results.test_images().empty()) return std::nullopt;
  const auto images = ImagesToJudge(manifest, results.validation_images(), results.test_images());
  if (!images.ok()) return std::nullopt;
  const auto rule = ChooseRule(*images, RunsOf(results)[0]);
  return rule.ok() ? std::optional(*rule) : std::nullopt;
}

absl::StatusOr<std::string> WithRule(const std::string& bytes, const DecisionRule& rule) {
  ASSIGN_OR_RETURN(SafetensorsView file, ParseSafetensors(bytes));
  // Digits that read back exactly; infinite where the best rule calls nobody positive.
  file.metadata[kThreshold] = absl::StrFormat("%.17g", rule.threshold);
  file.metadata[kTemperature] = absl::StrFormat("%.17g", rule.temperature);
  file.metadata[kImages] = absl::StrCat(rule.validation_images);
  return SerializeSafetensors(file.tensors, file.metadata);
}

absl::StatusOr<RuledModel> WithoutRule(std::string bytes) {
  RuledModel out;
  absl::StatusOr<SafetensorsView> file = ParseSafetensors(bytes);
  if (!file.ok() || !file->metadata.contains(kThreshold)) {
    out.bytes = std::move(bytes);
    return out;
  }
  DecisionRule& rule = out.rule.emplace();
  std::map<std::string, std::string>& metadata = file->metadata;
  if (!absl::SimpleAtod(metadata[kThreshold], &rule.threshold) || std::isnan(rule.threshold) ||
      !absl::SimpleAtod(metadata[kTemperature], &rule.temperature) ||
      !std::isfinite(rule.temperature) || rule.temperature <= 0 ||
      !absl::SimpleAtoi(metadata[kImages], &rule.validation_images)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model's decision rule is threshold '", metadata[kThreshold],
                     "', temperature '", metadata[kTemperature], "', of '", metadata[kImages],
                     "' validation images: three numbers are due, the temperature above 0"));
  }
  for (const char* key : {kThreshold, kTemperature, kImages}) metadata.erase(key);
  out.bytes = SerializeSafetensors(file->tensors, metadata);
  return out;
}

}  // namespace dermis
