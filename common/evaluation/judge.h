// Everything that is said of a model, and of one against another: what the report and the command
// line show. Pure: the same scores give the same bits.
#ifndef DERMIS_COMMON_EVALUATION_JUDGE_H_
#define DERMIS_COMMON_EVALUATION_JUDGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/evaluation/calibration.h"
#include "common/evaluation/decision_curve.h"
#include "common/evaluation/delong.h"
#include "common/evaluation/mcnemar.h"
#include "common/evaluation/scores.h"
#include "common/evaluation/subgroups.h"
#include "common/evaluation/table_one.h"
#include "common/evaluation/thresholds.h"
#include "dermis/v1/image_set.pb.h"

namespace dermis {

// The images that models are judged on: the same for all models that are compared.
struct JudgedImages {
  std::string negative, positive;  // Names of the classes.
  std::vector<uint32_t> validation_label, validation_group, test_label, test_group;
  std::vector<SubgroupColumn> columns;  // Of the test images.
};
// INVALID_ARGUMENT: not two classes, an unlabelled set, an image that is not in the set, no test
// image. The columns are SubgroupColumnsOf's; more (the size of the lesion, say) may be added.
absl::StatusOr<JudgedImages> ImagesToJudge(const v1::ImageSetManifest& manifest,
                                           absl::Span<const uint32_t> validation,
                                           absl::Span<const uint32_t> test);

// What one training gave: two logits an image, in the order of the images.
struct ScoredRun {
  std::vector<float> validation_logits, test_logits;
};

struct JudgeOptions {
  uint32_t draws = kJudgeDraws;
  uint32_t permutations = 4999;
  uint64_t seed = 1;  // One for all: who judges again gets the same intervals.
};

// A number over trainings with different seeds.
struct SeedSpread {
  std::vector<double> values;  // By run.
  double mean = 0, low = 0, high = 0;
  double deviation = 0;  // n - 1; NaN of one run, which says nothing of others.
};
// How the report, the command line and JSON say that there is no spread.
inline constexpr char kOneTraining[] = "not available: one training";

// What a model's own validation images chose, and what is left as it is on other images.
struct DecisionRule {
  double threshold = 0.5;  // kTableOneRule's.
  double temperature = 1;
  uint64_t validation_images = 0;
};
// INVALID_ARGUMENT as MakeScoredImages, of the validation images.
absl::StatusOr<DecisionRule> ChooseRule(const JudgedImages& images, const ScoredRun& run);

struct EvaluationReport {
  std::string name, negative, positive;
  uint64_t validation_images = 0, test_images = 0, test_positives = 0, test_lesions = 0;
  // Nothing has chosen a threshold or a temperature: at_chosen is at_half, `after` is `before`.
  bool rule_unknown = false;
  TableOneRow at_half, at_chosen;  // .5, and kTableOneRule's threshold.
  std::vector<OperatingPoint> operating_points;  // Empty of a rule that was given.
  Temperature temperature;    // Of the validation images.
  Calibration before, after;  // Test images; after: with the temperature.
  std::vector<NetBenefit> decision_curve, decision_curve_after;
  std::optional<DeLongArea> delong;  // Where each lesion has one test image ...
  std::string why_no_delong;         // ... else why not.
  double subgroup_threshold = 0.5;   // kTableOneRule's: what a reader would use.
  std::vector<Subgroup> subgroups;
  // Over runs; at the threshold that each run's own validation images chose, too.
  uint64_t runs = 0;
  SeedSpread area, accuracy, accuracy_chosen, sensitivity_chosen, specificity_chosen;
  // Of the mean of the runs' probabilities; absent of one run.
  std::optional<Estimate> averaged_area;
};

// All of runs[0]; the others give the spread. INVALID_ARGUMENT as MakeScoredImages, or without a
// run.
absl::StatusOr<EvaluationReport> JudgeModel(const std::string& name, const JudgedImages& images,
                                            absl::Span<const ScoredRun> runs,
                                            const JudgeOptions& options = {});

// A model on images that had no part in anything: with the rule that its own validation images
// chose, or with none. The validation images and logits are not looked at. INVALID_ARGUMENT as
// MakeScoredImages.
absl::StatusOr<EvaluationReport> JudgeWithRule(const std::string& name, const JudgedImages& images,
                                               const ScoredRun& run,
                                               const std::optional<DecisionRule>& rule,
                                               const JudgeOptions& options = {});

// The part of it that is over runs, and the first one's two intervals, which need no validation
// images: the same numbers as JudgeModel's.
struct OverSeeds {
  Estimate area, accuracy;  // Of runs[0]; at .5.
  SeedSpread areas, accuracies;
  std::optional<Estimate> averaged_area;
};
absl::StatusOr<OverSeeds> JudgeSeeds(const JudgedImages& images, absl::Span<const ScoredRun> runs,
                                     const JudgeOptions& options = {});

// first - second, on the same test images.
struct ModelComparison {
  std::string first, second;
  Estimate area, average_precision, brier;
  Estimate accuracy, accuracy_chosen;  // At .5, and each at its own validation-chosen threshold.
  // At its validation-chosen threshold, too: predictions as they would be used.
  std::optional<DeLongTest> delong;
  std::optional<McNemarTest> mcnemar;
  std::string why_no_tests;  // Where they are not there.
};
// Both models are scored on the same sample in each draw. INVALID_ARGUMENT as JudgeModel.
absl::StatusOr<ModelComparison> CompareModels(const std::string& first_name, const ScoredRun& first,
                                              const std::string& second_name,
                                              const ScoredRun& second, const JudgedImages& images,
                                              const JudgeOptions& options = {});

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_JUDGE_H_
