#include "tools/dermis/trace.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "tools/dermis/output.h"

namespace dermis {
namespace {

constexpr int kStudyProcess = 1;

// A worker's attempts that overlap, on as few threads as there are at a time.
class Lanes {
 public:
  int Take(uint64_t from, uint64_t to) {
    for (size_t lane = 0; lane < until_.size(); ++lane) {
      if (until_[lane] > from) continue;
      until_[lane] = to;
      return static_cast<int>(lane) + 1;
    }
    until_.push_back(to);
    return static_cast<int>(until_.size());
  }

 private:
  std::vector<uint64_t> until_;
};

Json Named(int process, const std::string& name) {
  return {{"ph", "M"}, {"name", "process_name"}, {"pid", process}, {"tid", 0},
          {"args", {{"name", name}}}};
}

}  // namespace

std::string TraceJson(const std::string& study, absl::Span<const v1::HistoryEvent> events) {
  std::vector<const v1::HistoryEvent*> ordered;
  for (const v1::HistoryEvent& event : events) ordered.push_back(&event);
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) {
    return a->unix_ms() < b->unix_ms();
  });
  std::map<std::string, int> processes;
  for (const v1::HistoryEvent* event : ordered) {
    for (const std::string& worker : event->workers()) processes.try_emplace(worker, 0);
  }
  Json list = Json::array({Named(kStudyProcess, absl::StrCat("study ", study))});
  int next = kStudyProcess;
  for (auto& [worker, process] : processes) {
    process = ++next;
    list.push_back(Named(process, worker));
  }
  std::map<std::string, Lanes> lanes;
  for (const v1::HistoryEvent* event : ordered) {
    // Microseconds; of an instant the millisecond is all that is known.
    const uint64_t at = event->unix_ms() * 1000;
    const std::string kind = absl::AsciiStrToLower(v1::HistoryEvent::Kind_Name(event->kind()));
    if (event->kind() == v1::HistoryEvent::COMPLETED) {
      const auto duration = static_cast<uint64_t>(std::max(0.0, event->seconds()) * 1e6);
      for (const std::string& worker : event->workers()) {
        list.push_back({{"ph", "X"},
                        {"name", event->task()},
                        {"cat", event->task_kind()},
                        {"ts", at},
                        {"dur", duration},
                        {"pid", processes.at(worker)},
                        {"tid", lanes[worker].Take(at, at + duration)},
                        {"args", {{"workers", event->workers_size()}}}});
      }
      continue;
    }
    const bool of_worker = !event->workers().empty();
    list.push_back({{"ph", "i"},
                    {"s", of_worker ? "p" : "g"},
                    {"name", event->task().empty() ? kind : absl::StrCat(kind, ": ", event->task())},
                    {"cat", kind},
                    {"ts", at},
                    {"pid", of_worker ? processes.at(event->workers(0)) : kStudyProcess},
                    {"tid", 0},
                    {"args", {{"text", event->text()}}}});
  }
  const Json trace = {{"displayTimeUnit", "ms"}, {"traceEvents", std::move(list)}};
  return trace.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace dermis
