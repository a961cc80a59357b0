// A study's models, judged: computed once, read by the first screen, the evaluation's section, the
// model card and the files of figures.
#ifndef DERMIS_TOOLS_REPORT_JUDGEMENT_H_
#define DERMIS_TOOLS_REPORT_JUDGEMENT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/image_set.h"
#include "common/split.h"
#include "dermis/v1/studies.pb.h"
#include "tools/report/curves.h"
#include "tools/report/judged.h"

namespace dermis {

struct Judgement {
  NamedEvaluations models;  // At a threshold of .5, the network first; empty: nothing is evaluated,
                            // or nothing labelled.
  std::optional<JudgedView>
      view;  // In depth; absent without validation images or with other than two classes ...
  std::string why_not;         // ... or because of this.
  // Over the taken trial's training seeds; absent where there is one training, or with other than
  // two classes.
  std::optional<OverSeeds> seeds;
  std::optional<Split> split;  // Absent where none can be made: the set is not the study's.
};

// Each training of the taken trial that is evaluated, by seed. Not empty.
std::vector<ScoredRun> RunsOf(const v1::StudyResults& results);
// INVALID_ARGUMENT: not two labelled classes, or nothing that is evaluated.
absl::StatusOr<OverSeeds> JudgeSeedsOf(const v1::StudyResults& results,
                                       const v1::ImageSetManifest& manifest);

// INVALID_ARGUMENT where results and image set do not belong together.
absl::StatusOr<Judgement> JudgeStudy(const v1::StudyResults& results, const ImageSet& images);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_JUDGEMENT_H_
