// A study's models, judged: computed once, read by the first screen, the evaluation's section, the
// model card and the files of figures.
#ifndef DERMIS_TOOLS_REPORT_JUDGEMENT_H_
#define DERMIS_TOOLS_REPORT_JUDGEMENT_H_

#include <optional>
#include <string>

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
  std::optional<Split> split;  // Absent where none can be made: the set is not the study's.
};

// INVALID_ARGUMENT where results and image set do not belong together.
absl::StatusOr<Judgement> JudgeStudy(const v1::StudyResults& results, const ImageSet& images);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_JUDGEMENT_H_
