// What the checks of a study's explanations add up to, over its images. For the report and for
// JSON.
#ifndef DERMIS_TOOLS_REPORT_CHECK_SUMMARY_H_
#define DERMIS_TOOLS_REPORT_CHECK_SUMMARY_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/checks.h"
#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"

namespace dermis {

inline constexpr size_t kPriors = 3;     // kPriorNames.
inline constexpr int kCurvePoints = 51;  // Of a mean curve, from 0 to 1.
inline constexpr uint32_t kFewestImages =
    5;  // Below, even all images on one side prove nothing (p < .05).

// Of one number over images.
struct Spread {
  uint32_t images = 0;                   // That have it; the rest is 0 without any.
  double low = 0, median = 0, high = 0;  // Quartiles.
};

// Means over images, by the share of superpixels that is hidden or shown.
struct MeanCurve {
  std::vector<double> probability, margin;  // kCurvePoints; empty: no image.
};

// In how many images a map's area is better than a prior's.
struct Against {
  uint32_t better = 0, images = 0;
  // One-sided sign test, p < .05.
  bool Shown() const;
};

enum class Verdict {
  kNotChecked,
  kTooFewImages,
  kPassed,
  kFlagged,
};

// Everything about one map of one method, or about a prior.
struct CheckedMap {
  std::string title;  // "Shapley · SLIC", "Grad-CAM conv3", "edges".
  bool prior = false;
  bool layer = false;  // One of several maps of its method.
  std::string method;  // "Grad-CAM"; empty for a prior.
  // What its values are measured against: "the training images' mean colour". Empty: against nothing
  // (priors, CAMs).
  std::string reference;

  // Area under a curve: its mean height. A good order has a small one in deletion, a large one in
  // insertion.
  MeanCurve deletion, insertion;
  Spread deletion_probability, deletion_margin, insertion_probability, insertion_margin;
  std::array<Against, kPriors> deletion_against,
      insertion_against;  // By margin, which does not saturate.
  Spread infidelity;
  v1::InfidelityKind infidelity_kind = v1::INFIDELITY_KIND_UNSPECIFIED;
  Spread residual;  // |f(x) - f(reference) - sum phi| / max(|f(x) - f(reference)|, .01 sum |phi|).
  bool residual_in_bf16 = false;  // Then it is left out.
  Spread r_squared;

  Spread max_sensitivity, noise_rank, seed_rank, second_hidden_rank;
  std::vector<Spread> cascading, independent;             // Rank correlation, by layer.
  Spread random_rank, random_absolute_rank, random_ssim;  // All layers randomised.
  // What the similarity under random weights has to be below: over seeds, or where a method draws
  // none over noise.
  bool bar_is_noise = false;
  Spread bar_rank, bar_absolute_rank;
  Verdict verdict = Verdict::kNotChecked;
};

struct CheckSummary {
  std::vector<CheckedMap> maps;  // Methods in the order of the study; then the priors.
  // Rank correlation of maps[i] and maps[j]; of two with different references nothing.
  std::vector<std::vector<Spread>> agreement;
  std::vector<std::string> layers;             // That were randomised, from the output on.
  uint32_t fidelity_images = 0, stability_images = 0;
  uint32_t pending = 0;  // Checks that are not there yet, or could not be read.
  bool empty() const { return maps.empty(); }
};

// INVALID_ARGUMENT: results that do not belong together. Empty where nothing was checked.
//
// The verdict (Adebayo et al. 2018): a map that is as similar to itself under random weights as it
// is when nothing that matters is changed does not depend on what was learned. For each image,
// similarity under all-random weights is compared with the mean similarity between seeds; a map
// that draws nothing at random has no spread over seeds (it would be similar to itself to the last
// bit, and any change at all would let it pass), so it is compared with its similarity under
// imperceptible noise. It passes where, by a sign test over images, the former is lower (p < .05),
// both for signed maps and for absolute ones; a map that does not vary under random weights has a
// similarity of 0.
absl::StatusOr<CheckSummary> SummariseChecks(const v1::StudyResults& results,
                                             const ReportInputs& inputs);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_CHECK_SUMMARY_H_
