// OrderedReduce between the processes of one host: milliseconds for one vector (median of the
// rounds, of the slowest rank). Starts its ranks itself.
//   dermis_bench_reduce [--floats N] [--rounds N] [--ranks W] [--transport socket|tls]
#include <algorithm>
#include <string>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/ranks.h"

namespace dermis::bench {
namespace {

int RunRank(const Arguments& arguments) {
  const uint32_t w = static_cast<uint32_t>(arguments.Number("--ranks", 2));
  const uint64_t n = static_cast<uint64_t>(arguments.Number("--floats", 11'700'000));
  const long rounds = arguments.Number("--rounds", 10);
  const uint32_t v = std::max(w, 2u);
  const Rank rank = JoinRanks(arguments, v);
  Collective& collective = *rank.collective;

  std::vector<std::vector<float>> data(collective.shard_count(), std::vector<float>(n, 1.0f));
  std::vector<float*> shards;
  for (auto& shard : data) shards.push_back(shard.data());
  std::vector<float> out(n);
  std::vector<double> times;
  for (long round = -3; round < rounds; ++round) {  // Three to warm up.
    if (!collective.AllGather("").ok()) Die("barrier");
    const double start = Seconds();
    const absl::Status status = collective.OrderedReduce(shards, n, out.data());
    if (!status.ok()) Die(status.ToString());
    const double took = Seconds() - start;
    auto all = collective.AllGather(std::to_string(took));
    if (!all.ok()) Die(all.status().ToString());
    double slowest = 0;
    for (const std::string& text : *all) slowest = std::max(slowest, std::atof(text.c_str()));
    if (round >= 0) times.push_back(slowest * 1e3);
  }
  if (n > 0 && out[n - 1] != static_cast<float>(v)) Die("wrong sum");
  if (collective.rank() == 0) Report(Median(times), "ms");
  return 0;
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  if (IsRank(arguments)) return RunRank(arguments);
  return RunRanks(argc, argv,
                  {.ranks = static_cast<uint32_t>(arguments.Number("--ranks", 2)),
                   .tls = arguments.Text("--transport") == "tls"});
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
