// What a finished explanation took, read from the journal of a coordinator that has stopped.
//   dermis_bench_explain --store DIR --plain RATE [--deep-shap RATE] [--what rate]
// Rates of all workers together, measured beside it with nothing else to do: images a second of the
// plain forward pass, and images a second that DeepSHAP explains. Value: the seconds that model
// inputs and DeepSHAP would take at these rates, over the wall from the first assignment to the
// last result: 1 where the workers did nothing else and never waited. A DeepSHAP image is no model
// input: its passes go backward, too. What superpixels, fits, comparisons and layers' maps take is
// counted as nothing but the latter's one pass. --what rate: model inputs a second. On standard
// error: where the workers' time went.
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
  const double deep_shap = std::atof(arguments.Text("--deep-shap").c_str());
  auto journal = OpenSqliteJournal(arguments.Text("--store"));
  if (!journal.ok()) Die(journal.status().ToString());
  std::map<std::string, Kind> kinds;
  uint64_t first = UINT64_MAX, last = 0, inputs = 0, gradients = 0;
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
    if (done.spec().has_gradient()) {
      ++gradients;
      if (!done.spec().gradient().has_deep_shap()) {
        return absl::UnimplementedError("of methods by gradients only deep_shap has a rate here");
      }
    } else {
      kind.inputs += done.attempt().items();  // Of perturbations and of their checks.
      inputs += done.attempt().items();
    }
    first = std::min(first, done.attempt().started_unix_ms());
    last = std::max(last, entry.event.unix_ms());
    return absl::OkStatus();
  });
  if (!status.ok()) Die(status.ToString());
  if (inputs == 0 || last <= first) Die("the store holds no explanation");
  if (gradients > 0 && deep_shap <= 0) Die("there is DeepSHAP, but no --deep-shap RATE");
  const double wall = static_cast<double>(last - first) / 1e3;
  for (const auto& [name, kind] : kinds) {
    std::fprintf(stderr, "%-24s %8lu tasks %10lu inputs %9.2f s of compute threads\n", name.c_str(),
                 kind.tasks, kind.inputs, kind.seconds);
  }
  const double of_inputs = static_cast<double>(inputs) / plain;
  const double of_gradients = gradients == 0 ? 0 : static_cast<double>(gradients) / deep_shap;
  std::fprintf(stderr,
               "%lu inputs (%.2f s at %.0f/s) and DeepSHAP of %lu images (%.2f s at %.1f/s) in "
               "%.2f s; threads computed for %.2f s\n",
               inputs, of_inputs, plain, gradients, of_gradients, deep_shap, wall, busy);
  if (arguments.Text("--what") == "rate") {
    Report(static_cast<double>(inputs) / wall, "inputs/s");
  } else {
    Report((of_inputs + of_gradients) / wall, "of its own rates");
  }
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
