// Which images train, validate and test: a pure function of the manifest, so coordinator and workers
// compute it alike. Groups are never torn apart; each class keeps its share (stratified by label).
#ifndef DERMIS_COMMON_SPLIT_H_
#define DERMIS_COMMON_SPLIT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"

namespace dermis {

struct Split {
  std::vector<uint32_t> training;     // Ascending image indices, each.
  std::vector<uint32_t> validation;
  std::vector<uint32_t> test;
};

// `spec` resolved; with masked_only, images without a mask are in no part; with test = 1 all images test and the other parts are empty. Errors (INVALID_ARGUMENT): no such column, another value than train | validation |
// test, a group on both sides of the column's split, a class with fewer than two groups (or than folds), an
// empty part.
absl::StatusOr<Split> MakeSplit(const v1::ImageSetManifest& manifest, const v1::SplitSpec& spec,
                                uint64_t seed);

}  // namespace dermis

#endif  // DERMIS_COMMON_SPLIT_H_
