// The progress of a study on standard error: on a terminal one line that is redrawn, with a bar, a
// rate and the time that is left; elsewhere a plain line at every change of substance, at most one
// in five seconds. What keeps the study from going on is told once, on a line of its own.
#ifndef DERMIS_TOOLS_DERMIS_PROGRESS_H_
#define DERMIS_TOOLS_DERMIS_PROGRESS_H_

#include <cstddef>
#include <set>
#include <string>

#include "absl/time/time.h"
#include "dermis/v1/studies.pb.h"
#include "tools/dermis/remaining.h"

namespace dermis {

class ProgressPrinter {
 public:
  ProgressPrinter();
  ~ProgressPrinter();                       // Ends the line.
  void Update(const v1::StudyStatus& status);
  void Note(const std::string& text);       // A line of its own.

 private:
  const bool terminal_;
  bool open_ = false;                       // A line that is redrawn stands there.
  RemainingTime remaining_;
  std::string stage_;                       // What `remaining_` is of.
  std::string last_;                        // Line that was printed last.
  std::set<std::string> told_;              // Problems, each once.
  absl::Duration last_printed_ = absl::ZeroDuration();
};

// The stage that is worked on now: the first that is not done. Null: none.
const v1::StageProgress* CurrentStage(const v1::StudyStatus& status);

// "demo: training 12/100 epochs (loss .41, ...) | evaluation 0/650 images | 2 workers"
std::string ProgressLine(const v1::StudyStatus& status);

// "demo: explanation [=====>    ] 120/400 tasks, 33/s, about 9 s left | 2 workers", at most `width`
// characters.
std::string ProgressBar(const v1::StudyStatus& status, const RemainingTime& remaining, size_t width);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_PROGRESS_H_
