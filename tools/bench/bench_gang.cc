// A gang of worker processes of one core each that trains on made-up images, over the real mesh.
// Starts its ranks itself and pins each to a core of its own.
//   dermis_bench_gang --what rate  [--ranks W] [--shards V] [--steps N]    images/s
//   dermis_bench_gang --what share [...]    exposed time of the ordered reduction, of a step
// and the network's arguments (training.h). One rank has no exchange.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/ranks.h"
#include "tools/bench/training.h"

namespace dermis::bench {
namespace {

constexpr size_t kWarm = 3;

// Every rank's steps, on all of them.
std::vector<std::vector<StepTimes>> Exchange(const std::vector<StepTimes>& mine,
                                             Collective& collective) {
  std::string bytes(mine.size() * sizeof(StepTimes), '\0');
  std::memcpy(bytes.data(), mine.data(), bytes.size());
  const auto all = collective.AllGather(bytes);
  if (!all.ok()) Die(all.status().ToString());
  std::vector<std::vector<StepTimes>> steps;
  for (const std::string& theirs : *all) {
    if (theirs.size() != bytes.size()) Die("ranks took different steps");
    std::memcpy(steps.emplace_back(mine.size()).data(), theirs.data(), theirs.size());
  }
  return steps;
}

// A step's exchange begins for the gang when its slowest rank has computed, and is over when the
// last one has everything: what lies between is not hidden behind anybody's computing.
void ReportShare(const std::vector<std::vector<StepTimes>>& ranks) {
  std::vector<double> exposed, whole, uneven;
  double finished_before = 0;
  for (size_t s = 0; s < ranks[0].size(); ++s) {
    double first = ranks[0][s].arrived, slowest = first, finished = 0;
    for (const std::vector<StepTimes>& rank : ranks) {
      first = std::min(first, rank[s].arrived);
      slowest = std::max(slowest, rank[s].arrived);
      finished = std::max(finished, rank[s].finished);
    }
    if (s >= kWarm) {
      exposed.push_back(finished - slowest);
      whole.push_back(finished - finished_before);
      uneven.push_back(slowest - first);
    }
    finished_before = finished;
  }
  double exposed_sum = 0, whole_sum = 0;
  for (double t : exposed) exposed_sum += t;
  for (double t : whole) whole_sum += t;
  std::fprintf(stderr,
               "step %.1f ms, reduction exposed %.2f ms, slowest rank after the fastest %.1f ms "
               "(medians of %zu steps)\n",
               1e3 * Median(whole), 1e3 * Median(exposed), 1e3 * Median(uneven), whole.size());
  // Sums: a step that waits long counts with all of its waiting.
  Report(exposed_sum / whole_sum, "of a step");
}

int RunRank(const Arguments& arguments) {
  const uint32_t v = static_cast<uint32_t>(arguments.Number("--shards", 4));
  const uint64_t steps = kWarm + static_cast<uint64_t>(arguments.Number("--steps", 20));
  const Network network(arguments);
  const auto data =
      MakeData(network.size, static_cast<uint32_t>(steps + 1) * network.batch, network.batch);
  const Rank rank = JoinRanks(arguments, v);
  const std::vector<StepTimes> mine =
      TimedTraining(RecipeOf(arguments, network, v), data, *rank.collective, 1, steps);
  const auto ranks = Exchange(mine, *rank.collective);
  if (rank.collective->rank() != 0) return 0;
  if (arguments.Text("--what") == "share") {
    ReportShare(ranks);
  } else {
    Report(RateOf(mine, kWarm, network.batch), "images/s");
  }
  return 0;
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const std::string what = arguments.Text("--what");
  if (what != "rate" && what != "share") Die("--what rate|share");
  if (IsRank(arguments)) return RunRank(arguments);
  return RunRanks(
      argc, argv,
      {.ranks = static_cast<uint32_t>(arguments.Number("--ranks", 2)), .tls = false, .pin = true});
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
