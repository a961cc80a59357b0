// What happened: to a study (logs STUDY, trace), and in this machine's processes (logs).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/output.h"
#include "tools/dermis/submit.h"
#include "tools/dermis/trace.h"
#include "tools/dermis/written_file.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;

struct LogOptions {
  std::string cluster, format, study;
  std::vector<std::string> processes;
  uint32_t lines = 20;
  bool follow = false;
};

std::string KindName(const v1::HistoryEvent& event) {
  return absl::AsciiStrToLower(v1::HistoryEvent::Kind_Name(event.kind()));
}

absl::Status PrintHistory(const LogOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const std::vector<v1::HistoryEvent> events, client->History(options.study));
  for (const v1::HistoryEvent& event : events) {
    if (event.kind() == v1::HistoryEvent::COMPLETED) continue;  // `trace` has them.
    const std::string workers = absl::StrJoin(event.workers(), ", ");
    if (options.format == "json") {
      PrintJson({{"unix_ms", event.unix_ms()},
                 {"kind", KindName(event)},
                 {"task_kind", event.task_kind()},
                 {"task", event.task()},
                 {"workers", std::vector<std::string>(event.workers().begin(), event.workers().end())},
                 {"text", event.text()}});
      continue;
    }
    const std::string kind = absl::StrFormat("%-9s", KindName(event));
    const bool bad =
        event.kind() == v1::HistoryEvent::FAILED || event.kind() == v1::HistoryEvent::LOST;
    std::printf("%s  %s %s\n", TimeText(event.unix_ms()).c_str(),
                (bad ? Paint(Color::kRed, kind) : kind).c_str(),
                absl::StrCat(event.task(), workers.empty() ? "" : absl::StrCat(" on ", workers),
                             event.task().empty() || event.text().empty() ? "" : ": ", event.text())
                    .c_str());
  }
  return absl::OkStatus();
}

std::vector<std::string> LastLines(std::ifstream& in, size_t most) {
  // A log may be large: its end alone is read.
  in.seekg(0, std::ios::end);
  const std::streamoff size = in.tellg();
  const std::streamoff from = std::max<std::streamoff>(0, size - static_cast<std::streamoff>(most) * 400);
  in.seekg(from);
  std::string line;
  if (from > 0) std::getline(in, line);  // A part of one.
  std::deque<std::string> lines;
  while (std::getline(in, line)) {
    lines.push_back(line);
    if (lines.size() > most) lines.pop_front();
  }
  in.clear();
  in.seekg(size);
  return {lines.begin(), lines.end()};
}

// NAME of DIR/logs/NAME.log, the coordinator first.
absl::StatusOr<std::vector<std::string>> ProcessesOf(const LogOptions& options) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& file : fs::directory_iterator(fs::path(options.cluster) / "logs", ignored)) {
    if (file.path().extension() == ".log") names.push_back(file.path().stem());
  }
  std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return std::pair(a != "coordinator", a) < std::pair(b != "coordinator", b);
  });
  if (names.empty()) {
    return absl::NotFoundError(absl::StrCat("no logs in ", options.cluster,
                                            "/logs: name another cluster with --cluster. Workers of "
                                            "other machines keep their logs there"));
  }
  if (options.processes.empty()) return names;
  for (const std::string& wanted : options.processes) {
    if (std::find(names.begin(), names.end(), wanted) == names.end()) {
      return absl::NotFoundError(absl::StrCat("no log of ", wanted, "; there are: ",
                                              absl::StrJoin(names, ", "),
                                              ". A worker of another machine keeps its log there"));
    }
  }
  return options.processes;
}

void PrintLine(const LogOptions& options, const std::string& process, const std::string& line) {
  if (options.format == "json") {
    PrintJson({{"process", process}, {"line", line}});
  } else {
    std::printf("%s  %s\n", process.c_str(), line.c_str());
  }
}

absl::Status PrintLogs(const LogOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<std::string> processes, ProcessesOf(options));
  std::map<std::string, std::ifstream> files;
  for (const std::string& process : processes) {
    std::ifstream& in = files[process];
    in.open(fs::path(options.cluster) / "logs" / (process + ".log"));
    for (const std::string& line : LastLines(in, options.lines)) PrintLine(options, process, line);
  }
  if (!options.follow) return absl::OkStatus();
  CatchInterrupts();
  std::map<std::string, std::string> parts;  // Lines that are not whole yet.
  while (!Interrupted()) {
    std::fflush(stdout);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    for (auto& [process, in] : files) {
      std::string& part = parts[process];
      for (char c; in.get(c);) {
        if (c != '\n') {
          part += c;
          continue;
        }
        PrintLine(options, process, part);
        part.clear();
      }
      in.clear();
    }
  }
  return absl::OkStatus();  // Ctrl-C is how it ends.
}

struct TraceOptions {
  std::string cluster, study;
  WrittenFile file;
};

absl::Status WriteTrace(const TraceOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const std::vector<v1::HistoryEvent> events, client->History(options.study));
  const std::string trace = TraceJson(options.study, events);
  const std::string& path = options.file.path;
  if (path == "-") {
    std::printf("%s\n", trace.c_str());
    return absl::OkStatus();
  }
  std::ofstream out(path);
  out << trace << '\n';
  out.flush();
  if (!out) return absl::UnavailableError(absl::StrCat(path, " cannot be written"));
  if (options.file.json) {
    PrintJson({{"file", path}, {"events", events.size()}});
  } else {
    std::printf("%s\n", path.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddHistoryCommands(CLI::App& app, absl::Status& outcome) {
  auto* logs = app.add_subcommand(
      "logs",
      "What happened to a study (failures with their causes, lost workers, who paused it), or the end of this machine's logs");
  auto shown = std::make_shared<LogOptions>();
  AddClusterOption(*logs, shown->cluster);
  AddOutputOption(*logs, shown->format);
  logs->add_option("study", shown->study, "The study's name; without it: logs of processes");
  logs->add_option("--process", shown->processes, "coordinator, worker-0, ...; again for another")
      ->expected(1)
      ->take_all();
  logs->add_option("-n,--lines", shown->lines, "Last lines of each log")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
  logs->add_flag("-f,--follow", shown->follow, "Go on as the logs grow, until Ctrl-C");
  logs->footer(R"(Examples:
  dermis logs demo
  dermis logs --process worker-0 --lines 100
  dermis logs --follow)");
  logs->callback([shown, &outcome] {
    outcome = shown->study.empty() ? PrintLogs(*shown) : PrintHistory(*shown);
  });

  auto* trace = app.add_subcommand(
      "trace", "Write who ran what when of a study, for ui.perfetto.dev or chrome://tracing");
  auto traced = std::make_shared<TraceOptions>();
  AddClusterOption(*trace, traced->cluster);
  trace->add_option("study", traced->study, "The study's name")->required();
  AddFileOption(*trace, "JSON file to write; - is standard output", FileIs::kRequiredOrDash,
                traced->file);
  trace->footer("Examples:\n  dermis trace demo -o demo.trace.json\n  dermis trace demo -o - | jq '.traceEvents | length'");
  trace->callback([traced, &outcome] { outcome = WriteTrace(*traced); });
}

}  // namespace dermis
