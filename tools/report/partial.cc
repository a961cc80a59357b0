#include "tools/report/partial.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace dermis {

std::string PartialNote(const v1::StudyStatus& status) {
  std::string state;
  switch (status.phase()) {
    case v1::StudyStatus::RUNNING:
      state = status.paused() ? " is PAUSED" : " is still RUNNING";
      break;
    case v1::StudyStatus::FAILED:
      state = " has FAILED";
      break;
    case v1::StudyStatus::CANCELLED:
      state = " was CANCELLED";
      break;
    default:
      return "";
  }
  std::vector<std::string> open;
  for (const v1::StageProgress& stage : status.stages()) {
    if (stage.total() > 0 && stage.done() >= stage.total()) continue;
    open.push_back(stage.total() == 0 ? absl::StrCat(stage.stage(), " not begun")
                                      : absl::StrCat(stage.stage(), " ", stage.done(), " of ",
                                                     stage.total(), " ", stage.unit()));
  }
  return absl::StrCat("Study ", status.id(), state, open.empty() ? "" : ": ",
                      absl::StrJoin(open, ", "), "; what follows is partial");
}

}  // namespace dermis
