#include "tools/dermis/output.h"

#include <unistd.h>

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace dermis {
namespace {

constexpr char kExitCode[] = "dermis/exit-code";  // A status' payload.
std::string color_mode = "auto";

bool Colored(FILE* stream) {
  if (color_mode != "auto") return color_mode == "always";
  const char* off = std::getenv("NO_COLOR");
  return (off == nullptr || *off == 0) && IsTerminal(stream);
}

}  // namespace

bool IsTerminal(FILE* stream) {
  const char* terminal = std::getenv("TERM");
  return (terminal == nullptr || absl::string_view(terminal) != "dumb") && isatty(fileno(stream)) != 0;
}

absl::Status WithExitCode(absl::Status status, int code) {
  status.SetPayload(kExitCode, absl::Cord(absl::StrCat(code)));
  return status;
}

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return 0;
  int code = 0;
  if (const auto payload = status.GetPayload(kExitCode);
      payload && absl::SimpleAtoi(std::string(*payload), &code)) {
    return code;
  }
  return absl::IsCancelled(status) ? kInterrupted : kFailed;
}

void AddOutputOption(CLI::App& command, std::string& format) {
  format = "text";
  command.add_option("-o,--output", format, "text, or json for programs")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
}

CLI::Validator NamedFile() {
  return CLI::Validator(
      [](std::string& name) {
        return name == "-" ? std::string("- is not possible here: name a file") : std::string();
      },
      "", "named file");
}

void PrintJson(const Json& json) {
  // What is not UTF-8 (a file's name may be anything) is replaced.
  std::printf("%s\n", json.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  std::fflush(stdout);
}

void SetColorMode(const std::string& mode) { color_mode = mode; }

std::string Paint(Color color, absl::string_view text, FILE* stream) {
  if (!Colored(stream)) return std::string(text);
  const char* code = "1";
  switch (color) {
    case Color::kRed:
      code = "31";
      break;
    case Color::kGreen:
      code = "32";
      break;
    case Color::kYellow:
      code = "33";
      break;
    case Color::kBold:
      break;
  }
  return absl::StrCat("\033[", code, "m", text, "\033[0m");
}

std::string PhaseName(const v1::StudyStatus& status) {
  if (status.phase() == v1::StudyStatus::RUNNING && status.paused()) return "paused";
  return absl::AsciiStrToLower(v1::StudyStatus::Phase_Name(status.phase()));
}

std::string PaintedPhase(const v1::StudyStatus& status, int width) {
  const std::string text = absl::StrFormat("%-*s", width, PhaseName(status));
  switch (status.phase()) {
    case v1::StudyStatus::DONE:
      return Paint(Color::kGreen, text);
    case v1::StudyStatus::FAILED:
      return Paint(Color::kRed, text);
    case v1::StudyStatus::CANCELLED:
      return Paint(Color::kYellow, text);
    default:
      return status.paused() ? Paint(Color::kYellow, text) : text;
  }
}

Json JsonOf(const v1::StudyStatus& status) {
  Json stages = Json::array();
  for (const v1::StageProgress& stage : status.stages()) {
    stages.push_back({{"stage", stage.stage()},
                      {"done", stage.done()},
                      {"total", stage.total()},
                      {"unit", stage.unit()},
                      {"computed", stage.computed()},
                      {"found", stage.reused()}});
  }
  Json last, trials;
  if (status.has_last_epoch()) {
    const v1::EpochMetrics& epoch = status.last_epoch();
    last = {{"epoch", epoch.epoch()},
            {"training_loss", epoch.training_loss()},
            {"validation_loss", epoch.validation_loss()},
            {"validation_accuracy", epoch.validation_accuracy()}};
  }
  if (status.has_trials()) {
    const v1::TrialCounts& counts = status.trials();
    trials = {{"total", counts.total()},
              {"training", counts.training()},
              {"trained", counts.trained()},
              {"dropped", counts.dropped()},
              {"failed", counts.failed()}};
  }
  return {{"study", status.id()},
          {"phase", PhaseName(status)},
          {"user", status.user()},
          {"submitted_unix_ms", status.submitted_unix_ms()},
          {"workers", status.workers()},
          {"priority", status.priority()},
          {"used_hours", status.used_hours()},
          {"max_hours", status.max_hours() > 0 ? Json(status.max_hours()) : Json()},
          {"stages", std::move(stages)},
          {"trials", std::move(trials)},
          {"spot_checks", {{"same", status.spot_checks().same()},
                           {"open", status.spot_checks().open()},
                           {"waived", status.spot_checks().waived()}}},
          {"last_epoch", std::move(last)},
          {"problems", std::vector<std::string>(status.problems().begin(), status.problems().end())}};
}

Json JsonOf(const v1::ClusterStatusResponse& status) {
  Json workers = Json::array();
  for (const v1::WorkerStatus& worker : status.workers()) {
    workers.push_back({{"worker", worker.worker()},
                       {"host", worker.host()},
                       {"state", worker.state()},
                       {"doing", worker.doing()},
                       {"threads", worker.threads()},
                       {"completed", worker.completed()},
                       {"numerics_class", worker.numerics_class()}});
  }
  Json quarantined = Json::array();
  for (const v1::QuarantinedWorker& worker : status.quarantined()) {
    quarantined.push_back({{"worker", worker.worker()},
                           {"why", worker.why()},
                           {"unix_ms", worker.unix_ms()},
                           {"withdrawn", worker.withdrawn()}});
  }
  return {{"version", status.version()},
          {"quarantined", std::move(quarantined)},
          {"disputes", std::vector<std::string>(status.disputes().begin(), status.disputes().end())},
          {"spot_checks", status.spot_checks()},
          {"start", status.incarnation()},
          {"unix_ms", status.unix_ms()},
          {"free_bytes", status.free_bytes()},
          {"disk_low", status.disk_low()},
          {"workers", std::move(workers)},
          {"alarms", std::vector<std::string>(status.alarms().begin(), status.alarms().end())}};
}

std::string ByteText(uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  if (bytes < 1'000'000) return absl::StrFormat("%.0f kB", value / 1e3);
  if (bytes < 1'000'000'000) return absl::StrFormat("%.1f MB", value / 1e6);
  return absl::StrFormat("%.1f GB", value / 1e9);
}

std::string TimeText(uint64_t unix_ms) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMillis(static_cast<int64_t>(unix_ms)),
                          absl::UTCTimeZone());
}

}  // namespace dermis
