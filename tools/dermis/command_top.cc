// `dermis top`: studies and workers, again every second.
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <sys/ioctl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "common/clock.h"
#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/output.h"
#include "tools/dermis/progress.h"
#include "tools/dermis/remaining.h"
#include "tools/dermis/submit.h"

namespace dermis {
namespace {

struct TopOptions {
  std::string cluster, format;
  double interval = 1;
};

class Top {
 public:
  // Lines of at most `width` characters; colours come on top.
  std::string Draw(const v1::ClusterStatusResponse& cluster, const v1::ListResponse& studies,
                   size_t width, size_t height) {
    const absl::Duration now = Clock::Real().Now();
    int busy = 0;
    for (const v1::WorkerStatus& worker : cluster.workers()) busy += !worker.doing().empty();
    std::string out = absl::StrCat(
        Paint(Color::kBold, absl::StrFormat("dermis %s, %d of %d workers busy, %s free", cluster.version(),
                                            busy, cluster.workers_size(), ByteText(cluster.free_bytes()))),
        cluster.disk_low() ? Paint(Color::kRed, ", the disk is almost full") : "", "\n");
    for (const std::string& alarm : cluster.alarms()) {
      absl::StrAppend(&out, Paint(Color::kRed, absl::StrCat("ALARM: ", alarm).substr(0, width)), "\n");
    }
    // Those that run first, then the latest of the others; workers get what is left.
    const size_t most = std::max<size_t>(3, height / 2);
    size_t shown = 0;
    for (const bool running : {true, false}) {
      for (int i = studies.studies_size(); i-- > 0 && shown < most;) {
        const v1::StudyStatus& study = studies.studies(i);
        if ((study.phase() == v1::StudyStatus::RUNNING) != running) continue;
        RemainingTime& remaining = remaining_[study.id()];
        if (const v1::StageProgress* stage = CurrentStage(study)) {
          if (std::exchange(stage_[study.id()], stage->stage()) != stage->stage()) remaining = {};
          remaining.See(now, stage->done(), stage->total());
        }
        absl::StrAppend(&out, PaintedPhase(study, 9), " ",
                        ProgressBar(study, remaining, width > 10 ? width - 10 : 1), "\n");
        ++shown;
      }
    }
    if (shown < static_cast<size_t>(studies.studies_size())) {
      absl::StrAppend(&out, "... and ", static_cast<size_t>(studies.studies_size()) - shown, " more studies\n");
    }
    if (studies.studies().empty()) out += "no studies yet\n";
    out += "\n";
    size_t left = height > shown + 5 ? height - shown - 5 : 3;
    for (const v1::WorkerStatus& worker : cluster.workers()) {
      if (left-- == 0) {
        out += "...\n";
        break;
      }
      RemainingTime& rate = rates_[worker.worker()];
      rate.See(now, worker.completed(), worker.completed() + 1);
      const auto per_second = rate.per_second();
      const std::string state = absl::StrFormat("%-11s", worker.state());
      absl::StrAppend(
          &out, absl::StrFormat("%-16s", worker.worker()).substr(0, 16), " ",
          worker.state() == "quarantined" ? Paint(Color::kRed, state) : state,
          absl::StrFormat("%3d threads %8d tasks %9s  %s", worker.threads(), worker.completed(),
                          per_second ? RateText(*per_second) : "-", worker.doing())
              .substr(0, width > 29 ? width - 29 : 1),
          "\n");
    }
    return out;
  }

 private:
  std::map<std::string, RemainingTime> remaining_, rates_;
  std::map<std::string, std::string> stage_;
};

absl::Status RunTop(const TopOptions& options) {
  CatchInterrupts();
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  const bool terminal = IsTerminal(stdout) && options.format != "json";
  Top top;
  for (bool first = true; first || (terminal && !Interrupted()); first = false) {
    ASSIGN_OR_RETURN(const v1::ClusterStatusResponse cluster, client->ClusterStatus());
    ASSIGN_OR_RETURN(const v1::ListResponse studies, client->List());
    if (options.format == "json") {
      Json list = Json::array();
      for (const v1::StudyStatus& study : studies.studies()) list.push_back(JsonOf(study));
      PrintJson({{"cluster", JsonOf(cluster)}, {"studies", std::move(list)}});
      break;
    }
    winsize size{};
    size_t width = 100, height = 40;
    if (terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) {
      width = size.ws_col;
      height = size.ws_row;
    }
    // Drawn over what was there, without a blank screen between.
    std::string text = top.Draw(cluster, studies, width, height);
    if (terminal) {
      std::string lines;
      for (absl::string_view line : absl::StrSplit(text, '\n')) absl::StrAppend(&lines, line, "\033[K\n");
      lines.pop_back();
      text = absl::StrCat(first ? "\033[2J" : "", "\033[H", lines, "\033[J");
    }
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    for (int i = 0; terminal && i < static_cast<int>(options.interval * 20) && !Interrupted(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  return absl::OkStatus();  // Ctrl-C is how it ends.
}

}  // namespace

void AddTopCommand(CLI::App& app, absl::Status& outcome) {
  auto* top = app.add_subcommand(
      "top", "Studies and workers, drawn again every second until Ctrl-C; once where there is no terminal");
  auto options = std::make_shared<TopOptions>();
  AddClusterOption(*top, options->cluster);
  AddOutputOption(*top, options->format);
  top->add_option("--interval", options->interval, "Seconds")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  top->footer("Examples:\n  dermis top\n  dermis top -o json | jq .cluster.workers");
  top->callback([options, &outcome] { outcome = RunTop(*options); });
}

}  // namespace dermis
