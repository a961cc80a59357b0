#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "tools/dermis/client.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/doctor.h"
#include "tools/dermis/output.h"

namespace dermis {
namespace {

struct DoctorOptions {
  std::string cluster, format;
};

absl::Status Doctor(const DoctorOptions& options) {
  static constexpr const char* kStates[] = {"ok", "warning", "bad"};
  const std::vector<Check> checks = Examine(options.cluster);
  Json list = Json::array();
  int bad = 0;
  for (const Check& check : checks) {
    bad += check.state == Check::kBad;
    if (options.format == "json") {
      list.push_back({{"check", check.name},
                      {"state", kStates[check.state]},
                      {"detail", check.detail},
                      {"next", check.next}});
      continue;
    }
    const std::string state = absl::StrFormat("%-8s", kStates[check.state]);
    const Color color = check.state == Check::kOk        ? Color::kGreen
                        : check.state == Check::kWarning ? Color::kYellow
                                                         : Color::kRed;
    std::printf("%s %-24s %s\n", Paint(color, state).c_str(), check.name.c_str(), check.detail.c_str());
    if (!check.next.empty()) std::printf("         -> %s\n", check.next.c_str());
  }
  if (options.format == "json") PrintJson({{"good", bad == 0}, {"checks", std::move(list)}});
  if (bad == 0) return absl::OkStatus();
  std::fflush(stdout);
  return absl::FailedPreconditionError(absl::StrCat(bad, bad == 1 ? " check is" : " checks are", " bad"));
}

}  // namespace

void AddDoctorCommand(CLI::App& app, absl::Status& outcome) {
  auto* doctor = app.add_subcommand(
      "doctor", "Check this machine and its cluster, and say what to do; exit code 1 where something is bad");
  auto options = std::make_shared<DoctorOptions>();
  AddClusterOption(*doctor, options->cluster);
  AddOutputOption(*doctor, options->format);
  doctor->footer("Examples:\n  dermis doctor\n  dermis doctor -o json | jq '.checks[] | select(.state != \"ok\")'");
  doctor->callback([options, &outcome] { outcome = Doctor(*options); });
}

}  // namespace dermis
