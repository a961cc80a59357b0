// Writes the report of a made-up study, to look at: report_preview PATH
#include <cstdio>

#include "tests/unit/tools/report/fake_checks.h"
#include "tests/unit/tools/report/fake_lesions.h"
#include "tests/unit/tools/report/fake_study.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: report_preview PATH\n");
    return 2;
  }
  dermis::FakeStudy study(400, 224, 6);
  dermis::AddFakeChecks(study);
  study.AddBaseline("random forest", 32, dermis::v1::OUTPUT_KIND_PROBABILITY);
  study.AddBaseline("logistic regression", 32, dermis::v1::OUTPUT_KIND_MARGIN);
  dermis::AddFakeLesions(study, .68);
  const absl::Status status = dermis::WriteReport(study.results, study.Inputs(), argv[1]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
