// A made-up study with everything a report shows, for its tests and for looking at it (report_preview).
#ifndef DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_STUDY_H_
#define DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_STUDY_H_

#include <map>
#include <memory>
#include <string>

#include "common/image_set.h"
#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"

namespace dermis {

class FakeStudy {
 public:
  // `count` images of size x size, a quarter of which is tested; `explained` of these are explained.
  FakeStudy(uint32_t count, uint32_t size, uint32_t explained);

  v1::StudyResults results;
  std::map<std::string, v1::Payload> payloads;   // By task digest.
  std::unique_ptr<ImageSet> images;
  ReportInputs Inputs() const;
  // As a result to fetch.
  v1::TaskResult Store(v1::Payload payload);

  // Explains the image of that row of the test images.
  void AddExplained(uint32_t row, const std::string& why);

  // A baseline that explains all that is explained by now, with the network's superpixels.
  void AddBaseline(const std::string& name, uint32_t size, v1::OutputKind output);
};

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_TOOLS_REPORT_FAKE_STUDY_H_
