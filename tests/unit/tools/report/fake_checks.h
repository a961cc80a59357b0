// Made-up checks of a made-up study: some methods follow the output and the weights, an edge
// detector follows neither.
#ifndef DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_CHECKS_H_
#define DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_CHECKS_H_

#include "tests/unit/tools/report/fake_study.h"

namespace dermis {

// Fidelity and stability of every explained image.
void AddFakeChecks(FakeStudy& study);

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_CHECKS_H_
