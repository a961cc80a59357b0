// Three made-up models on made-up images with attributes, judged and compared: for the tests of the
// report's section and for looking at it (judged_preview).
#ifndef DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_JUDGED_H_
#define DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_JUDGED_H_

#include <cstdint>

#include "dermis/v1/image_set.pb.h"
#include "tools/report/judged.h"

namespace dermis {

struct FakeJudged {
  v1::ImageSetManifest manifest;
  JudgedView view;
};
// `images`: two fifths of them validate, the others test. `each`: images of a lesion. With `leaks`,
// two images of the test part are known from the validation part.
FakeJudged MakeFakeJudged(uint32_t images, uint32_t each, bool leaks, const JudgeOptions& options);

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_JUDGED_H_
