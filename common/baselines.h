// The baselines of a study: the points of their grids as tasks, and which of them is taken. Shared by
// the planner and readers of results. Pure functions.
#ifndef DERMIS_COMMON_BASELINES_H_
#define DERMIS_COMMON_BASELINES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "common/digest.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// All products of two images of a set lie in a worker's memory, and a few copies of them: 8 n^2 bytes
// each.
inline constexpr size_t kMostProducts = 12'000;  // Images.

// Fills defaults and checks every value. `size`: images.size.
absl::Status ResolveBaselines(uint32_t size, v1::BaselinesSpec& baselines);
absl::Status ResolveEmbeddings(v1::EmbeddingsSpec& embeddings);

// One kind of model at one size: from its points one is taken.
struct BaselineFamily {
  std::string name;  // "random forest", "logistic regression".
  uint32_t size = 0;
  std::vector<v1::BaselineTask> points;  // As fitted to the study's training split.
};
// By size, forests first. `resolved`: the study; `images`: what its network sees.
std::vector<BaselineFamily> FamiliesOf(const v1::StudySpec& resolved,
                                       const v1::ImageSource& images);

// The point, scored on a fold.
v1::BaselineTask OnFold(const v1::BaselineTask& point, uint32_t folds, uint32_t fold);

// The point of the best accuracy; ties go to the smaller C, or to fewer trees and then to lower ones,
// and at last to the earlier point. NaN ranks last.
size_t ChoosePoint(const BaselineFamily& family, absl::Span<const double> accuracy);

// Whether the chosen value is the smallest or largest of several that were tried.
bool IsOnEdge(const BaselineFamily& family, size_t chosen);

// What of a study's explanation a baseline can be asked: the methods that hide superpixels. A
// forest's output is its probability, for where all trees agree the margin, a logarithm of odds, is
// infinite.
v1::ExplanationSpec ExplanationOf(const v1::ExplanationSpec& resolved,
                                  const v1::BaselineTask& baseline);

// "l2, C = 0.01", "20 trees of depth 5".
std::string Describe(const v1::BaselineTask& point);

}  // namespace dermis

#endif  // DERMIS_COMMON_BASELINES_H_
