#include "tools/report/compare.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/status_macros.h"
#include "tools/report/report.h"

namespace dermis {
namespace {

// One seed for all: who compares again gets the same interval.
constexpr uint64_t kSeed = 1;

struct Scored {
  ComparedModel model;
  WeightedArea area;
};

absl::StatusOr<Scored> Score(absl::Span<const v1::StudyResults> studies,
                             const v1::StudyResults& reference,
                             const v1::ImageSetManifest& manifest) {
  std::vector<double> mean(reference.test_images_size(), 0.0);
  std::vector<uint32_t> label;
  ComparedModel model;
  for (const v1::StudyResults& study : studies) {
    if (study.image_set() != reference.image_set() ||
        !std::equal(study.test_images().begin(), study.test_images().end(),
                    reference.test_images().begin(), reference.test_images().end())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "study ", study.status().id(), " was tested on other images than study ",
          reference.status().id(), ": only models with one test split can be compared"));
    }
    ASSIGN_OR_RETURN(const std::vector<TestScores> trainings, ScoresBySeed(study, manifest));
    for (const TestScores& scores : trainings) {
      label = scores.label;
      model.areas.push_back(Evaluate(scores.probability, scores.label).roc_area);
      for (size_t i = 0; i < mean.size(); ++i) mean[i] += scores.probability[i];
    }
  }
  for (double& value : mean) value /= static_cast<double>(model.areas.size());
  return Scored{std::move(model), WeightedArea(mean, label)};
}

std::string Line(const char* name, const ComparedModel& model) {
  std::string areas;
  for (double area : model.areas) absl::StrAppendFormat(&areas, " %.3f", area);
  return absl::StrFormat("%-8s area under ROC %.3f (95 %% %.3f to %.3f); each alone:%s\n", name,
                         model.area, model.interval.low, model.interval.high, areas);
}

}  // namespace

absl::StatusOr<Comparison> CompareModels(absl::Span<const v1::StudyResults> first,
                                         absl::Span<const v1::StudyResults> second,
                                         const v1::ImageSetManifest& manifest) {
  if (first.empty() || second.empty()) {
    return absl::InvalidArgumentError("a comparison needs a study on each side");
  }
  if (manifest.classes_size() != 2) {
    return absl::InvalidArgumentError(absl::StrCat("the image set has ", manifest.classes_size(),
                                                   " classes: an area under ROC needs two"));
  }
  ASSIGN_OR_RETURN(Scored a, Score(first, first[0], manifest));
  ASSIGN_OR_RETURN(Scored b, Score(second, first[0], manifest));
  const std::vector<uint32_t> group = GroupsOf(
      manifest, {first[0].test_images().data(), static_cast<size_t>(first[0].test_images_size())});
  const std::vector<uint32_t> once(group.size(), 1);
  const auto interval = [&](const std::function<double(Counts)>& statistic) {
    return BootstrapByGroup(group, kComparisonDraws, kSeed, statistic);
  };
  Comparison comparison;
  comparison.images = group.size();
  comparison.groups = *std::max_element(group.begin(), group.end()) + uint64_t{1};
  a.model.area = a.area(once);
  b.model.area = b.area(once);
  a.model.interval = interval([&](Counts counts) { return a.area(counts); });
  b.model.interval = interval([&](Counts counts) { return b.area(counts); });
  comparison.difference = a.model.area - b.model.area;
  comparison.interval = interval([&](Counts counts) { return a.area(counts) - b.area(counts); });
  comparison.first = std::move(a.model);
  comparison.second = std::move(b.model);
  return comparison;
}

std::string Describe(const Comparison& comparison) {
  return absl::StrCat(
      Line("first", comparison.first), Line("second", comparison.second),
      absl::StrFormat("first - second: %+.3f (95 %% %+.3f to %+.3f), %d test images in %d groups, "
                      "%d bootstrap draws by group\n",
                      comparison.difference, comparison.interval.low, comparison.interval.high,
                      comparison.images, comparison.groups, kComparisonDraws));
}

}  // namespace dermis
