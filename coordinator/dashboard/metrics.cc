#include "coordinator/dashboard/metrics.h"

#include <array>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include <sys/resource.h>

namespace dermis {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Text {
 public:
  // Opens a metric; samples follow.
  void Metric(const std::string& name, const char* type, const std::string& help) {
    name_ = name;
    absl::StrAppend(&text_, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
  }
  void Sample(double value, const Labels& labels = {}) {
    absl::StrAppend(&text_, name_);
    const char* between = "{";
    for (const auto& [label, text] : labels) {
      absl::StrAppend(&text_, between, label, "=\"",
                      absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}),
                      "\"");
      between = ",";
    }
    absl::StrAppend(&text_, labels.empty() ? " " : "} ");
    if (std::isfinite(value) && value == std::floor(value) && std::abs(value) < 1e15) {
      absl::StrAppend(&text_, static_cast<int64_t>(value), "\n");
    } else {
      absl::StrAppend(&text_, std::isnan(value) ? "NaN" : absl::StrCat(value), "\n");
    }
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string name_, text_;
};

void AddWorkers(const Snapshot& snapshot, Text& text) {
  std::map<std::string, uint64_t> states = {
      {"idle", 0}, {"units", 0}, {"gang", 0}, {"quarantined", 0}};
  for (const WorkerSnapshot& worker : snapshot.workers) ++states[worker.status.state()];
  text.Metric("dermis_workers", "gauge", "Workers that are registered, by what they do.");
  for (const auto& [state, count] : states)
    text.Sample(static_cast<double>(count), {{"state", state}});
  text.Metric("dermis_worker_busy_ratio", "gauge",
              "Share of the last minute in which a worker had work.");
  for (const WorkerSnapshot& worker : snapshot.workers) {
    text.Sample(worker.busy_now, {{"worker", worker.status.worker()}});
  }
  text.Metric("dermis_worker_tasks_total", "counter",
              "Tasks that a worker has completed since it registered.");
  for (const WorkerSnapshot& worker : snapshot.workers) {
    text.Sample(static_cast<double>(worker.status.completed()),
                {{"worker", worker.status.worker()}});
  }
}

// Of studies that are over nothing moves: they are counted, and that is all.
void AddStudies(const Snapshot& snapshot, Text& text) {
  std::map<std::string, uint64_t> phases = {
      {"running", 0}, {"paused", 0}, {"done", 0}, {"failed", 0}, {"cancelled", 0}};
  std::vector<const StudySnapshot*> running;
  for (const auto& study : snapshot.studies) {
    ++phases[PhaseName(study->status)];
    if (study->status.phase() == v1::StudyStatus::RUNNING) running.push_back(study.get());
  }
  text.Metric("dermis_studies", "gauge", "Studies by phase.");
  for (const auto& [phase, count] : phases)
    text.Sample(static_cast<double>(count), {{"phase", phase}});
  text.Metric("dermis_study_done", "gauge",
              "Work of a running study's stage that is done, in the stage's unit.");
  for (const StudySnapshot* study : running) {
    for (const v1::StageProgress& stage : study->status.stages()) {
      text.Sample(
          static_cast<double>(stage.done()),
          {{"study", study->status.id()}, {"stage", stage.stage()}, {"unit", stage.unit()}});
    }
  }
  text.Metric("dermis_study_total", "gauge",
              "All work of that stage as far as it is known; 0: not known yet.");
  for (const StudySnapshot* study : running) {
    for (const v1::StageProgress& stage : study->status.stages()) {
      text.Sample(
          static_cast<double>(stage.total()),
          {{"study", study->status.id()}, {"stage", stage.stage()}, {"unit", stage.unit()}});
    }
  }
  text.Metric("dermis_study_trials", "gauge", "Trials of a running sweep by state.");
  for (const StudySnapshot* study : running) {
    if (!study->status.has_trials()) continue;
    const v1::TrialCounts& trials = study->status.trials();
    const std::string& id = study->status.id();
    text.Sample(trials.training(), {{"study", id}, {"state", "training"}});
    text.Sample(trials.dropped(), {{"study", id}, {"state", "dropped"}});
    text.Sample(trials.failed(), {{"study", id}, {"state", "failed"}});
    text.Sample(trials.trained(), {{"study", id}, {"state", "trained"}});
  }
  text.Metric("dermis_study_workers", "gauge", "Workers that work for a running study.");
  for (const StudySnapshot* study : running) {
    text.Sample(study->status.workers(), {{"study", study->status.id()}});
  }
  text.Metric("dermis_study_failed_tasks", "gauge",
              "Failed tasks of a study; dermis retry clears them.");
  for (const auto& study : snapshot.studies) {
    if (study->failures_total == 0) continue;
    text.Sample(static_cast<double>(study->failures_total), {{"study", study->status.id()}});
  }
}

}  // namespace

std::string MetricsOf(const Snapshot& snapshot, absl::Time now) {
  Text text;
  const v1::ClusterStatusResponse& cluster = snapshot.cluster;
  text.Metric("dermis_info", "gauge", "Version of the coordinator.");
  text.Sample(1, {{"version", cluster.version()}});
  text.Metric("dermis_coordinator_starts_total", "counter",
              "Starts of the coordinator on this store.");
  text.Sample(static_cast<double>(cluster.incarnation()));
  text.Metric("dermis_snapshot_age_seconds", "gauge",
              "Age of what is shown: grows while the coordinator's core is busy.");
  text.Sample(absl::ToDoubleSeconds(now - snapshot.taken));
  AddWorkers(snapshot, text);
  AddStudies(snapshot, text);
  const Counters& counters = snapshot.counters;
  const std::array<std::tuple<const char*, const char*, uint64_t>, 5> totals = {{
      {"dermis_tasks_completed_total", "Results stored.", counters.completions},
      {"dermis_tasks_repeated_total", "Results that were there already and came again.",
       counters.duplicates},
      {"dermis_result_conflicts_total",
       "Results that differ from the stored one: a worker computes wrong.", counters.conflicts},
      {"dermis_attempts_lost_total", "Attempts that ended with their worker.", counters.losses},
      {"dermis_journal_events_total", "Events committed.", counters.events},
  }};
  for (const auto& [name, help, value] : totals) {
    text.Metric(name, "counter", absl::StrCat(help, " Since the coordinator's start."));
    text.Sample(static_cast<double>(value));
  }
  text.Metric("dermis_tasks_open", "gauge", "Units that wait or run; training is not among them.");
  text.Sample(static_cast<double>(snapshot.tasks_open));
  text.Metric("dermis_store_free_bytes", "gauge", "Free space on the store's disk.");
  text.Sample(static_cast<double>(cluster.free_bytes()));
  text.Metric("dermis_store_low", "gauge",
              "1: new studies and blobs are refused for want of space.");
  text.Sample(cluster.disk_low() ? 1 : 0);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  text.Metric("process_cpu_seconds_total", "counter", "CPU time of the coordinator.");
  text.Sample(seconds(usage.ru_utime) + seconds(usage.ru_stime));
  text.Metric("dermis_coordinator_memory_peak_bytes", "gauge",
              "Most memory that the coordinator has held.");
  text.Sample(static_cast<double>(usage.ru_maxrss) * 1024);
  return text.Take();
}

}  // namespace dermis
