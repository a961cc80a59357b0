// A lesion test and a shortcut check added to a made-up study.
#ifndef DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_LESIONS_H_
#define DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_LESIONS_H_

#include "tests/unit/tools/report/fake_study.h"

namespace dermis {

// surroundings: the network's area on the surroundings alone, its interval .08 to either side.
void AddFakeLesions(FakeStudy& study, double surroundings, double p = 0.004);

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_LESIONS_H_
