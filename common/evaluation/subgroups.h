// Does a model serve all alike? Its measures on parts of the test images, by what the image set
// says of them. Pure.
#ifndef DERMIS_COMMON_EVALUATION_SUBGROUPS_H_
#define DERMIS_COMMON_EVALUATION_SUBGROUPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "common/evaluation/scores.h"
#include "dermis/v1/image_set.pb.h"

namespace dermis {

// One way to part the images.
struct SubgroupColumn {
  std::string title;               // "sex"
  std::vector<std::string> value;  // Of each image; "unknown" where the set does not say.
  std::vector<std::string> order;  // The values in the order of tables.
};
inline constexpr char kUnknown[] = "unknown";
// Values beyond so many, the rarest, are "other".
inline constexpr size_t kMostValues = 12;

// The columns of the manifest that reviewers ask for, where at least one image has a value, under
// the names that ISIC, HAM10000 and this project's sets use: diagnosis (diagnosis, dx), source
// (source, dataset), image size (obtained_as, image_size), sex, age (age, age_approx: below 30, 30
// - 49, 50 - 69, 70 and above), site (site, anatom_site_general, localization). Empty, "unknown",
// "nan" and "n/a" are unknown. Values by falling number of images (age by age), unknown last.
std::vector<SubgroupColumn> SubgroupColumnsOf(const v1::ImageSetManifest& manifest,
                                              absl::Span<const uint32_t> images);

// Numbers as a column: below edges[0], up to the next edge, ..., at least the last; NaN is unknown.
// `unit` follows each number.
SubgroupColumn BandsOf(const std::string& title, absl::Span<const double> values,
                       absl::Span<const double> edges, const std::string& unit = "");

// Holm's adjusted p-values (Holm 1979), in the order given; NaN is no test and stays NaN.
std::vector<double> HolmAdjusted(absl::Span<const double> p);

struct SubgroupMeasure {
  Estimate estimate;
  double difference = 0;  // From all other test images.
  double p = 0, holm = 0;
};

struct Subgroup {
  std::string column, value;
  uint64_t n = 0, positives = 0, lesions = 0;
  // NaN where there is nothing to measure. No interval and no test where this subgroup or the rest
  // has fewer than kFewestLesions lesions (of the class that the measure is about; of each class
  // for the area): a bootstrap of few lesions says too little.
  SubgroupMeasure accuracy, sensitivity, specificity, area;
};
inline constexpr uint64_t kFewestLesions = 10;

struct SubgroupOptions {
  double threshold = 0.5;
  uint32_t permutations = 4999;
  uint64_t seed = 1;
};

// One row for each value that occurs, without intervals.
//
// p: a permutation test. Lesions of a class change places at random (a lesion's class and value are
// those of its first image), so both the number of lesions and the share of positives in each
// subgroup stay what they are; two-sided, twice the smaller tail with the observed one counted.
// That the mix of classes stays is why an accuracy may differ from the rest's and not be found: a
// subgroup of melanomas only is harder because melanomas are. Holm's adjustment is over all
// subgroups that were tested by the same measure; the two halves of a column are one question that
// counts twice, which errs on the careful side.
std::vector<Subgroup> SubgroupsOf(const ScoredImages& images,
                                  absl::Span<const SubgroupColumn> columns,
                                  const SubgroupOptions& options);
// Adds the intervals; `subgroups` (of these images and columns) must stay where they are.
void AddIntervals(const ScoredImages& images, absl::Span<const SubgroupColumn> columns,
                  const SubgroupOptions& options, std::vector<Subgroup>& subgroups,
                  BootstrapPass& pass);

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_SUBGROUPS_H_
