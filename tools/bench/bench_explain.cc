// What a finished explanation took, read from the journal of a coordinator that has stopped.
//   dermis_bench_explain --store DIR --plain RATE
// RATE: images a second of the plain forward pass of all workers together, measured beside it.
// Value: (model inputs run / RATE) / wall, from the first assignment to the last result. On
// standard error: where the workers' time went.
#include <algorithm>
#include <map>
#include <string>

#include "common/tasks.h"
#include "coordinator/journal.h"
#include "tools/bench/bench.h"

namespace dermis::bench {
namespace {

struct Kind {
  uint64_t tasks = 0, inputs = 0;
  double seconds = 0;
};

// "perturb.shapley" and the like.
std::string NameOf(const v1::TaskSpec& task) {
  const auto* kind = v1::TaskSpec::descriptor()->FindFieldByNumber(task.kind_case());
  std::string name = kind == nullptr ? "?" : kind->name();
  if (!task.has_perturb() && !task.has_fit()) return name;
  const v1::Perturbation& perturbation =
      task.has_perturb() ? task.perturb().perturbation() : task.fit().perturbation();
  const auto* masks = v1::Perturbation::descriptor()->FindFieldByNumber(perturbation.masks_case());
  return name + "." + (masks == nullptr ? "?" : masks->name());
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const double plain = std::atof(arguments.Text("--plain").c_str());
  if (plain <= 0) Die("--plain RATE is missing");
  auto journal = OpenSqliteJournal(arguments.Text("--store"));
  if (!journal.ok()) Die(journal.status().ToString());
  std::map<std::string, Kind> kinds;
  uint64_t first = UINT64_MAX, last = 0, inputs = 0;
  double busy = 0;
  const absl::Status status = (*journal)->Replay([&](uint64_t, const JournalEntry& entry) {
    if (!entry.event.has_task_completed()) return absl::OkStatus();
    const v1::TaskCompleted& done = entry.event.task_completed();
    if (done.spec().has_train() || done.spec().has_evaluate() || done.spec().has_noop()) {
      return absl::OkStatus();
    }
    Kind& kind = kinds[NameOf(done.spec())];
    ++kind.tasks;
    kind.seconds += done.attempt().seconds();
    busy += done.attempt().seconds();
    kind.inputs += done.attempt().items();   // Of perturbations and of their checks.
    inputs += done.attempt().items();
    first = std::min(first, done.attempt().started_unix_ms());
    last = std::max(last, entry.event.unix_ms());
    return absl::OkStatus();
  });
  if (!status.ok()) Die(status.ToString());
  if (inputs == 0 || last <= first) Die("the store holds no explanation");
  const double wall = static_cast<double>(last - first) / 1e3;
  for (const auto& [name, kind] : kinds) {
    std::fprintf(stderr, "%-24s %8lu tasks %10lu inputs %9.2f s of compute threads\n", name.c_str(),
                 kind.tasks, kind.inputs, kind.seconds);
  }
  std::fprintf(stderr, "%lu inputs in %.2f s: %.0f/s, plain %.0f/s; threads computed for %.2f s\n",
               inputs, wall, static_cast<double>(inputs) / wall, plain, busy);
  Report(static_cast<double>(inputs) / (arguments.Text("--what") == "rate" ? wall : plain * wall),
         arguments.Text("--what") == "rate" ? "inputs/s" : "of plain forward");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
