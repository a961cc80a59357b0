// The baselines as files: safetensors (docs/formats.md), nothing that is code. Equal models give
// equal bytes. Reading takes files from anywhere: everything is checked before it is used.
#ifndef DERMIS_WORKER_CLASSICAL_MODEL_FILE_H_
#define DERMIS_WORKER_CLASSICAL_MODEL_FILE_H_

#include <string>
#include <string_view>
#include <variant>

#include "absl/status/statusor.h"

#include "worker/classical/forest.h"
#include "worker/classical/logistic.h"

namespace dermis {

// Metadata: dermis_model = logistic, size. Tensors: weights, mean: F64 [size, size, 3]; intercept:
// F64 [1].
std::string SerializeLogistic(const LogisticModel& model);

// Metadata: dermis_model = forest, size, classes. Tensors, T trees of N nodes in all, one after the
// other: starts I64 [T + 1] (a tree's first node; children count from there); feature, left, right
// I32 [N]; threshold F32 [N]; weight U32 [N]; probability F64 [N, classes]; mean_color F64 [3].
std::string SerializeForest(const Forest& forest);

using ClassicalModel = std::variant<LogisticModel, Forest>;
// INVALID_ARGUMENT with what is wrong: no safetensors file, not of these, another shape or type
// than above, size beyond 1..4096, classes beyond 2..1024, a number that is not finite or cannot
// be.
absl::StatusOr<ClassicalModel> ParseClassicalModel(std::string_view bytes);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_MODEL_FILE_H_
