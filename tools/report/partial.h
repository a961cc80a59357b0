// A study that is not done: its results are some of those that it would have.
#ifndef DERMIS_TOOLS_REPORT_PARTIAL_H_
#define DERMIS_TOOLS_REPORT_PARTIAL_H_

#include <string>

#include "dermis/v1/studies.pb.h"

namespace dermis {

// "Study demo was CANCELLED: explanation 129 of 192 tasks; what follows is partial"; "" where the
// study is done, or nothing is known of its state.
std::string PartialNote(const v1::StudyStatus& status);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_PARTIAL_H_
