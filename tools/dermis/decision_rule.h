// The threshold and the temperature that a study's validation images chose, kept in the metadata of
// the model's file: `dermis evaluate --model` uses them on other images. They are not the
// network's: a file is addressed by its bytes without them, so that its results are those of its
// study.
#ifndef DERMIS_TOOLS_DERMIS_DECISION_RULE_H_
#define DERMIS_TOOLS_DERMIS_DECISION_RULE_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "common/evaluation/judge.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

// nullopt: nothing chose one (no validation images, other than two labelled classes).
std::optional<DecisionRule> RuleOf(const v1::StudyResults& results,
                                   const v1::ImageSetManifest& manifest);

// `bytes`: a safetensors file.
absl::StatusOr<std::string> WithRule(const std::string& bytes, const DecisionRule& rule);

struct RuledModel {
  std::string bytes;                 // Without the rule: what is uploaded and addressed.
  std::optional<DecisionRule> rule;  // Absent: the file has none.
};
// A file that is no safetensors file comes back as it is. INVALID_ARGUMENT: a rule that is none.
absl::StatusOr<RuledModel> WithoutRule(std::string bytes);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_DECISION_RULE_H_
