#include "common/evaluation/judge.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace dermis {
namespace {

struct Scored {
  ScoredImages validation, test;
  double chosen = 0.5;
};

absl::StatusOr<Scored> Score(const JudgedImages& images, const ScoredRun& run) {
  Scored scored;
  ASSIGN_OR_RETURN(
      scored.validation,
      MakeScoredImages(run.validation_logits, images.validation_label, images.validation_group));
  ASSIGN_OR_RETURN(scored.test,
                   MakeScoredImages(run.test_logits, images.test_label, images.test_group));
  scored.chosen =
      ChooseThreshold(kTableOneRule, scored.validation.probability, scored.validation.label);
  return scored;
}

std::vector<double> AfterTemperature(const ScoredImages& images, double temperature) {
  std::vector<double> probability;
  for (const double margin : images.margin) {
    probability.push_back(
        Sigmoid(std::clamp(margin, -kLargestMargin, kLargestMargin) / temperature));
  }
  return probability;
}

void Finish(SeedSpread& spread) {
  const double n = static_cast<double>(spread.values.size());
  double sum = 0, squares = 0;
  for (const double value : spread.values) sum += value;
  spread.mean = sum / n;
  for (const double value : spread.values) {
    squares += (value - spread.mean) * (value - spread.mean);
  }
  spread.deviation = spread.values.size() < 2 ? std::numeric_limits<double>::quiet_NaN()
                                              : std::sqrt(squares / (n - 1));
  spread.low = *std::min_element(spread.values.begin(), spread.values.end());
  spread.high = *std::max_element(spread.values.begin(), spread.values.end());
}

// The area of the runs' mean probability; its interval comes with the pass, into where `area` is.
void AddAveraged(const std::vector<ScoredImages>& tests, std::optional<Estimate>& area,
                 BootstrapPass& pass) {
  if (tests.size() < 2) return;
  std::vector<double> mean(tests[0].probability.size(), 0.0);
  for (const ScoredImages& test : tests) {
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += test.probability[i];
  }
  for (double& value : mean) value /= static_cast<double>(tests.size());
  const WeightedArea weighted(mean, tests[0].label);
  area.emplace().value = weighted(std::vector<uint32_t>(mean.size(), 1));
  pass.Add({&area->interval},
           [weighted](Counts counts, absl::Span<double> values) { values[0] = weighted(counts); });
}

absl::Status CheckRuns(const std::string& name, absl::Span<const ScoredRun> runs) {
  if (!runs.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("model ", name, " has no scores to judge"));
}

absl::Status CheckColumns(const JudgedImages& images) {
  for (const SubgroupColumn& column : images.columns) {
    if (column.value.size() == images.test_label.size()) continue;
    return absl::InvalidArgumentError(absl::StrCat("column '", column.title, "' has ",
                                                   column.value.size(), " values for ",
                                                   images.test_label.size(), " test images"));
  }
  return absl::OkStatus();
}

// All that is said of one run's test images under a rule, but for the intervals, which are added to
// `pass`; `report` must stay where it is until that has run. validation: null where a rule was
// given.
void Describe(const std::string& name, const JudgedImages& images, const DecisionRule& rule,
              const ScoredImages* validation, const ScoredImages& test, const JudgeOptions& options,
              EvaluationReport& report, BootstrapPass& pass) {
  report.name = name;
  report.negative = images.negative;
  report.positive = images.positive;
  report.validation_images = rule.validation_images;
  report.test_images = test.label.size();
  report.test_positives =
      static_cast<uint64_t>(std::count(test.label.begin(), test.label.end(), 1u));
  std::vector<uint32_t> lesions = test.group;
  std::sort(lesions.begin(), lesions.end());
  report.test_lesions =
      static_cast<uint64_t>(std::unique(lesions.begin(), lesions.end()) - lesions.begin());

  report.at_half = TableOneRowOf(test, 0.5);
  report.at_chosen = TableOneRowOf(test, rule.threshold);
  if (validation != nullptr) report.operating_points = OperatingPointsOf(*validation, test);
  report.before = CalibrationOf(test, 1);
  report.after = CalibrationOf(test, rule.temperature);
  report.decision_curve = DecisionCurve(test.probability, test.label);
  report.decision_curve_after = DecisionCurve(AfterTemperature(test, rule.temperature), test.label);
  if (const auto delong = DeLong(test.probability, test.label, test.group); delong.ok()) {
    report.delong = *delong;
  } else {
    report.why_no_delong = std::string(delong.status().message());
  }
  report.subgroup_threshold = rule.threshold;
  const SubgroupOptions subgroups{rule.threshold, options.permutations, options.seed};
  report.subgroups = SubgroupsOf(test, images.columns, subgroups);

  AddIntervals(test, report.at_half, pass);
  AddIntervals(test, report.at_chosen, pass);
  AddIntervals(test, report.operating_points, pass);
  AddIntervals(test, 1, report.before, pass);
  AddIntervals(test, rule.temperature, report.after, pass);
  AddIntervals(test, images.columns, subgroups, report.subgroups, pass);
}

}  // namespace

absl::StatusOr<JudgedImages> ImagesToJudge(const v1::ImageSetManifest& manifest,
                                           absl::Span<const uint32_t> validation,
                                           absl::Span<const uint32_t> test) {
  if (manifest.classes_size() != 2 || manifest.unlabelled()) {
    return absl::InvalidArgumentError(
        absl::StrCat("image set '", manifest.name(), "' has ",
                     manifest.unlabelled() ? std::string("no labels")
                                           : absl::StrCat(manifest.classes_size(), " classes"),
                     ": thresholds, calibration and the rest are of two labelled classes"));
  }
  JudgedImages judged;
  judged.negative = manifest.classes(0);
  judged.positive = manifest.classes(1);
  for (const bool is_test : {false, true}) {
    const absl::Span<const uint32_t> part = is_test ? test : validation;
    if (is_test && part.empty()) {
      return absl::InvalidArgumentError("there are no test images to judge by");
    }
    for (const uint32_t image : part) {
      if (image >= static_cast<uint32_t>(manifest.images_size())) {
        return absl::InvalidArgumentError(
            absl::StrCat("image ", image, " is not in the set '", manifest.name(), "'"));
      }
      (is_test ? judged.test_label : judged.validation_label)
          .push_back(manifest.images(static_cast<int>(image)).label());
    }
  }
  judged.validation_group = GroupsOf(manifest, validation);
  judged.test_group = GroupsOf(manifest, test);
  judged.columns = SubgroupColumnsOf(manifest, test);
  return judged;
}

absl::StatusOr<DecisionRule> ChooseRule(const JudgedImages& images, const ScoredRun& run) {
  ASSIGN_OR_RETURN(
      const ScoredImages validation,
      MakeScoredImages(run.validation_logits, images.validation_label, images.validation_group));
  return DecisionRule{ChooseThreshold(kTableOneRule, validation.probability, validation.label),
                      FitTemperature(validation.margin, validation.label).value,
                      validation.label.size()};
}

absl::StatusOr<EvaluationReport> JudgeModel(const std::string& name, const JudgedImages& images,
                                            absl::Span<const ScoredRun> runs,
                                            const JudgeOptions& options) {
  RETURN_IF_ERROR(CheckRuns(name, runs));
  RETURN_IF_ERROR(CheckColumns(images));
  EvaluationReport report;
  report.runs = runs.size();
  std::vector<ScoredImages> tests;
  for (const ScoredRun& run : runs) {
    ASSIGN_OR_RETURN(Scored scored, Score(images, run));
    const TableOneRow half = TableOneRowOf(scored.test, 0.5);
    const TableOneRow chosen = TableOneRowOf(scored.test, scored.chosen);
    report.area.values.push_back(half.area.value);
    report.accuracy.values.push_back(half.accuracy.value);
    report.accuracy_chosen.values.push_back(chosen.accuracy.value);
    report.sensitivity_chosen.values.push_back(chosen.recall.value);
    report.specificity_chosen.values.push_back(chosen.specificity.value);
    tests.push_back(std::move(scored.test));
  }
  for (SeedSpread* spread : {&report.area, &report.accuracy, &report.accuracy_chosen,
                             &report.sensitivity_chosen, &report.specificity_chosen}) {
    Finish(*spread);
  }
  ASSIGN_OR_RETURN(const Scored first, Score(images, runs[0]));
  report.temperature = FitTemperature(first.validation.margin, first.validation.label);
  const DecisionRule rule{first.chosen, report.temperature.value, first.validation.label.size()};
  BootstrapPass pass;
  Describe(name, images, rule, &first.validation, first.test, options, report, pass);
  AddAveraged(tests, report.averaged_area, pass);
  pass.Run(first.test.group, options.draws, options.seed);
  return report;
}

absl::StatusOr<EvaluationReport> JudgeWithRule(const std::string& name, const JudgedImages& images,
                                               const ScoredRun& run,
                                               const std::optional<DecisionRule>& rule,
                                               const JudgeOptions& options) {
  RETURN_IF_ERROR(CheckColumns(images));
  ASSIGN_OR_RETURN(const ScoredImages test,
                   MakeScoredImages(run.test_logits, images.test_label, images.test_group));
  EvaluationReport report;
  report.runs = 1;
  report.rule_unknown = !rule.has_value();
  report.temperature.value = rule.value_or(DecisionRule()).temperature;
  BootstrapPass pass;
  Describe(name, images, rule.value_or(DecisionRule()), nullptr, test, options, report, pass);
  pass.Run(test.group, options.draws, options.seed);
  return report;
}

absl::StatusOr<OverSeeds> JudgeSeeds(const JudgedImages& images, absl::Span<const ScoredRun> runs,
                                     const JudgeOptions& options) {
  RETURN_IF_ERROR(CheckRuns("over seeds", runs));
  OverSeeds over;
  std::vector<ScoredImages> tests;
  for (const ScoredRun& run : runs) {
    ASSIGN_OR_RETURN(ScoredImages test,
                     MakeScoredImages(run.test_logits, images.test_label, images.test_group));
    const TableOneRow half = TableOneRowOf(test, 0.5);
    over.areas.values.push_back(half.area.value);
    over.accuracies.values.push_back(half.accuracy.value);
    tests.push_back(std::move(test));
  }
  Finish(over.areas);
  Finish(over.accuracies);
  over.area.value = over.areas.values[0];
  over.accuracy.value = over.accuracies.values[0];
  const WeightedArea area(tests[0].probability, tests[0].label);
  const WeightedOutcomes outcomes(tests[0].probability, tests[0].label, 0.5);
  BootstrapPass pass;
  pass.Add({&over.area.interval, &over.accuracy.interval},
           [&](Counts counts, absl::Span<double> values) {
             values[0] = area(counts);
             values[1] = outcomes(counts).accuracy();
           });
  AddAveraged(tests, over.averaged_area, pass);
  pass.Run(tests[0].group, options.draws, options.seed);
  return over;
}

absl::StatusOr<ModelComparison> CompareModels(const std::string& first_name, const ScoredRun& first,
                                              const std::string& second_name,
                                              const ScoredRun& second, const JudgedImages& images,
                                              const JudgeOptions& options) {
  ASSIGN_OR_RETURN(const Scored a, Score(images, first));
  ASSIGN_OR_RETURN(const Scored b, Score(images, second));
  const std::vector<uint32_t>& label = images.test_label;
  struct Side {
    WeightedArea area;
    WeightedAveragePrecision precision;
    WeightedOutcomes half, chosen;
    std::vector<double> squares;
  };
  const auto side = [&](const Scored& of) {
    Side made{WeightedArea(of.test.probability, label),
              WeightedAveragePrecision(of.test.probability, label),
              WeightedOutcomes(of.test.probability, label, 0.5),
              WeightedOutcomes(of.test.probability, label, of.chosen),
              {}};
    for (size_t i = 0; i < label.size(); ++i) {
      const double off = of.test.probability[i] - label[i];
      made.squares.push_back(off * off);
    }
    return made;
  };
  const Side sides[2] = {side(a), side(b)};
  const auto differences = [&](Counts counts, absl::Span<double> values) {
    double of[2][5];
    for (int s = 0; s < 2; ++s) {
      double squares = 0, n = 0;
      for (size_t i = 0; i < counts.size(); ++i) {
        squares += counts[i] * sides[s].squares[i];
        n += counts[i];
      }
      of[s][0] = sides[s].area(counts);
      of[s][1] = sides[s].precision(counts);
      of[s][2] = squares / n;
      of[s][3] = sides[s].half(counts).accuracy();
      of[s][4] = sides[s].chosen(counts).accuracy();
    }
    for (size_t m = 0; m < 5; ++m) values[m] = of[0][m] - of[1][m];
  };

  ModelComparison comparison;
  comparison.first = first_name;
  comparison.second = second_name;
  Estimate* const estimates[5] = {&comparison.area, &comparison.average_precision,
                                  &comparison.brier, &comparison.accuracy,
                                  &comparison.accuracy_chosen};
  const std::vector<uint32_t> once(label.size(), 1);
  std::vector<double> values(5);
  differences(once, absl::MakeSpan(values));
  BootstrapPass pass;
  std::vector<Interval*> into;
  for (size_t m = 0; m < 5; ++m) {
    estimates[m]->value = values[m];
    into.push_back(&estimates[m]->interval);
  }
  pass.Add(into, differences);
  pass.Run(images.test_group, options.draws, options.seed);

  const auto delong =
      PairedDeLong(a.test.probability, b.test.probability, label, images.test_group);
  if (delong.ok()) {
    comparison.delong = *delong;
  } else {
    comparison.why_no_tests = std::string(delong.status().message());
  }
  std::vector<uint32_t> predicted[2];
  for (size_t i = 0; i < label.size(); ++i) {
    predicted[0].push_back(a.test.probability[i] >= a.chosen ? 1 : 0);
    predicted[1].push_back(b.test.probability[i] >= b.chosen ? 1 : 0);
  }
  if (const auto mcnemar = McNemar(predicted[0], predicted[1], label, images.test_group);
      mcnemar.ok()) {
    comparison.mcnemar = *mcnemar;
  }
  return comparison;
}

}  // namespace dermis
