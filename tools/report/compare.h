// One model against another on the same test images, over training seeds.
#ifndef DERMIS_TOOLS_REPORT_COMPARE_H_
#define DERMIS_TOOLS_REPORT_COMPARE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/bootstrap.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

// A model, trained with other seeds: in studies of their own, in one study (sweep.seeds), or both.
// An image's score is the mean of its probabilities of the positive class.
struct ComparedModel {
  std::vector<double> areas;  // Under ROC, of each training alone.
  double area = 0;            // Of the mean scores.
  Interval interval;
};

struct Comparison {
  uint64_t images = 0, groups = 0;
  ComparedModel first, second;
  double difference = 0;  // first.area - second.area.
  Interval interval;  // 95 %, by bootstrap over groups; both models are scored on the same sample.
};

inline constexpr uint32_t kComparisonDraws = 2000;

// FAILED_PRECONDITION: a study has no evaluation yet. INVALID_ARGUMENT: the studies have other test
// images, or the classes are not two.
absl::StatusOr<Comparison> CompareModels(absl::Span<const v1::StudyResults> first,
                                         absl::Span<const v1::StudyResults> second,
                                         const v1::ImageSetManifest& manifest);

// For a terminal, three lines.
std::string Describe(const Comparison& comparison);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_COMPARE_H_
