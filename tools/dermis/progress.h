// The progress of a study: one line that is redrawn on a terminal, a plain line at every change of substance
// elsewhere. What keeps the study from going on is told once, on a line of its own.
#ifndef DERMIS_TOOLS_DERMIS_PROGRESS_H_
#define DERMIS_TOOLS_DERMIS_PROGRESS_H_

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
  // " | about 3 min left of explanation"; empty: not known.
  std::string LeftOf(absl::Duration now, const v1::StudyStatus& status);

  bool terminal_;
  bool open_ = false;
  std::string stage_;                       // The one whose remaining time is told.
  RemainingTime remaining_;
  std::string last_;
  std::set<std::string> told_;              // Problems, each once.
  absl::Duration last_printed_ = absl::ZeroDuration();
};

// "training 12/100 epochs, loss .41, validation .39 | evaluation 0/650 images"
std::string ProgressLine(const v1::StudyStatus& status);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_PROGRESS_H_
