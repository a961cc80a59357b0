#include "tools/report/judgement.h"

#include <utility>
#include <vector>

#include "common/evaluation/judge.h"
#include "common/evaluation/leak_check.h"
#include "common/status_macros.h"
#include "tools/report/abcd.h"
#include "tools/report/baselines.h"
#include "tools/report/report.h"

namespace dermis {
namespace {

// Beyond, fingerprints are not taken: every image is read for them, over the network.
constexpr int kMostFingerprints = 20'000;
constexpr int kMostMasks = 20'000;  // The same of the sizes of lesions.

using Floats = google::protobuf::RepeatedField<float>;

ScoredRun RunOf(const Floats& validation, const Floats& test) {
  return {{validation.begin(), validation.end()}, {test.begin(), test.end()}};
}

absl::StatusOr<JudgedView> InDepth(const v1::StudyResults& results, const ImageSet& images) {
  const v1::ImageSetManifest& manifest = images.manifest();
  ASSIGN_OR_RETURN(JudgedImages judged,
                   ImagesToJudge(manifest, results.validation_images(), results.test_images()));
  if (results.test_images_size() <= kMostMasks) {
    ASSIGN_OR_RETURN(std::optional<SubgroupColumn> sizes,
                     LesionSizes(images, results.test_images()));
    if (sizes) judged.columns.push_back(*std::move(sizes));
  }
  JudgedView view;
  std::vector<std::pair<std::string, std::vector<ScoredRun>>> models = {
      {"network", RunsOf(results)}};
  for (const v1::BaselineResult& baseline : results.baselines()) {
    if (baseline.test_logits().empty()) continue;
    models.push_back(
        {NameOf(baseline), {RunOf(baseline.validation_logits(), baseline.test_logits())}});
  }
  for (const auto& [name, runs] : models) {
    ASSIGN_OR_RETURN(EvaluationReport report, JudgeModel(name, judged, runs));
    view.models.push_back(std::move(report));
    if (view.models.size() == 1) continue;
    ASSIGN_OR_RETURN(ModelComparison comparison,
                     CompareModels(models[0].first, models[0].second[0], name, runs[0], judged));
    view.comparisons.push_back(std::move(comparison));
  }
  ASSIGN_OR_RETURN(const Split split,
                   MakeSplit(manifest, results.spec().images().split(), results.spec().seed()));
  std::vector<ImageFingerprint> fingerprints;
  if (manifest.images_size() <= kMostFingerprints) {
    ASSIGN_OR_RETURN(fingerprints, FingerprintsOf(images));
  }
  ASSIGN_OR_RETURN(view.leaks, CheckLeaks(manifest, split, fingerprints));
  return view;
}

}  // namespace

std::vector<ScoredRun> RunsOf(const v1::StudyResults& results) {
  std::vector<ScoredRun> runs = {RunOf(results.validation_logits(), results.test_logits())};
  for (int k = 1; k < results.seeds_size(); ++k) {
    const v1::SeedResult& seed = results.seeds(k);
    if (seed.test_logits().empty()) continue;
    runs.push_back(RunOf(seed.validation_logits(), seed.test_logits()));
  }
  return runs;
}

absl::StatusOr<OverSeeds> JudgeSeedsOf(const v1::StudyResults& results,
                                       const v1::ImageSetManifest& manifest) {
  ASSIGN_OR_RETURN(const JudgedImages images, ImagesToJudge(manifest, {}, results.test_images()));
  return JudgeSeeds(images, RunsOf(results));
}

absl::StatusOr<Judgement> JudgeStudy(const v1::StudyResults& results, const ImageSet& images) {
  const v1::ImageSetManifest& manifest = images.manifest();
  Judgement judgement;
  if (auto split = MakeSplit(manifest, results.spec().images().split(), results.spec().seed());
      split.ok()) {
    judgement.split = *std::move(split);
  }
  if (results.test_images_size() == 0 || manifest.unlabelled()) return judgement;
  ASSIGN_OR_RETURN(Evaluation network, EvaluateStudy(results, manifest));
  judgement.models.emplace_back("network", std::move(network));
  for (const v1::BaselineResult& baseline : results.baselines()) {
    if (auto judged = EvaluateBaseline(results, baseline, manifest); judged.ok()) {
      judgement.models.emplace_back(NameOf(baseline), *std::move(judged));
    }
  }
  if (manifest.classes_size() != 2) return judgement;
  if (RunsOf(results).size() > 1) {
    ASSIGN_OR_RETURN(judgement.seeds, JudgeSeedsOf(results, manifest));
  }
  if (results.validation_images().empty()) return judgement;
  // The page stands without it.
  if (auto view = InDepth(results, images); view.ok()) {
    judgement.view = *std::move(view);
  } else {
    judgement.why_not = std::string(view.status().message());
  }
  return judgement;
}

}  // namespace dermis
