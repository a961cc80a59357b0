// A study's `model`: one that is there already instead of a training. Pure.
#ifndef DERMIS_COMMON_MODEL_SPEC_H_
#define DERMIS_COMMON_MODEL_SPEC_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// A black box has outputs and nothing else to look at.
inline bool IsBlackBox(const v1::ModelSpec& model) {
  return model.format() == v1::MODEL_FORMAT_TORCHSCRIPT || model.format() == v1::MODEL_FORMAT_ONNX;
}

// Whether a method needs only outputs of masked inputs.
bool TakesBlackBoxes(const v1::MethodSpec& method);

// Fills `format` from the file's ending. INVALID_ARGUMENT: it is of none.
absl::Status FillFormat(v1::ModelSpec& model);

// Fills the defaults of spec.model, and of what it is explained by; checks its values. Idempotent.
// The study has a `model`. INVALID_ARGUMENT says which key, why, and what would be right.
absl::Status ResolveModelSpec(v1::StudySpec& spec);

// The model of a resolved study on these images. INVALID_ARGUMENT: it has no output for one of
// their classes.
absl::StatusOr<v1::ModelRef> ModelRefOf(const v1::ModelSpec& model,
                                        const v1::ImageSetManifest& manifest);

}  // namespace dermis

#endif  // DERMIS_COMMON_MODEL_SPEC_H_
