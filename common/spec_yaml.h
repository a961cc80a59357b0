// YAML is the spelling of StudySpec: read by descriptor, so a new field needs no code here.
#ifndef DERMIS_COMMON_SPEC_YAML_H_
#define DERMIS_COMMON_SPEC_YAML_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "dermis/v1/spec.pb.h"

namespace dermis {

inline constexpr size_t kMaxYamlBytes = 1 << 20;  // Of a study's text.

// Errors name file:line:column, the key, and the nearest known key ("unknown key 'epoch' ... did
// you mean 'epochs'?"). At most kMaxYamlBytes of text. `file` is for messages.
absl::StatusOr<v1::StudySpec> ParseStudyYaml(std::string_view text, std::string_view file);

// Every default filled, every value checked (ranges, V a power of two that divides the batch size, name's
// characters, ...). Idempotent. The training of a sweep stays as it was given: defaults depend on what a
// trial sets (TrialSpec); it is checked that every trial resolves. INVALID_ARGUMENT says which key, why, and what would be right.
absl::StatusOr<v1::StudySpec> ResolveSpec(const v1::StudySpec& spec);

// Where `key` ("training.epochs", "explanation.methods[0].lime") stands in the YAML of a study, as ":3:5"; "": nowhere.
std::string PlaceOf(std::string_view text, std::string_view key);

// Sets what `key` ("training.optimizer.sgd.momentum", "explanation.methods[0].lime.samples") names to what `value` spells. INVALID_ARGUMENT: no
// such key, or no such value.
absl::Status SetByKey(v1::StudySpec& spec, const std::string& key, const std::string& value);

// `--set key=value` of a command line: as SetByKey, but the value may be any YAML ("[1, 2]", "{sgd: {}}"). Errors
// begin with the setting and are those of ParseStudyYaml.
absl::Status Override(v1::StudySpec& spec, std::string_view setting);

// training.epochs, or its default where a sweep leaves it open.
uint32_t EpochsOf(const v1::StudySpec& spec);

// The YAML of a spec, as `dermis` prints it.
std::string ToYaml(const v1::StudySpec& spec);

}  // namespace dermis

#endif  // DERMIS_COMMON_SPEC_YAML_H_
