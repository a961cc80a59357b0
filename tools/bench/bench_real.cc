// An epoch over a packed image set, as a worker trains it: loaded and resized once, then resident,
// shuffled and augmented; against as many of the same steps on made-up resident images that nothing
// is done to. Reports the ratio of their images a second: the median of pairs that follow each
// other.
//   dermis_bench_real --images FILE [--rounds N] [--shards V] [--threads T]
// and the network's arguments (training.h).
#include <algorithm>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/training.h"

namespace dermis::bench {
namespace {

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const uint32_t v = static_cast<uint32_t>(arguments.Number("--shards", 4));
  const uint32_t threads = static_cast<uint32_t>(arguments.Number("--threads", 1));
  const long rounds = arguments.Number("--rounds", 9);
  const Network network(arguments);

  const double start = Seconds();
  const auto real = LoadImages(arguments.Text("--images"), network.size);
  std::fprintf(stderr, "%zu images read and resized to %u pixels in %.2f s, once a worker\n",
               real->labels.size(), network.size, Seconds() - start);
  const auto made_up = MakeData(network.size, static_cast<uint32_t>(real->split.training.size()),
                                static_cast<uint32_t>(real->split.validation.size()));
  v1::Recipe plain = RecipeOf(arguments, network, v);
  v1::Recipe augmented = plain;
  augmented.set_augment(true);

  struct Epoch {
    double rate, processor_seconds;
  };
  const auto epoch = [&](const v1::Recipe& recipe, const std::shared_ptr<const ImageData>& data) {
    const auto collective = MakeLocalCollective(v);
    const std::clock_t begun = std::clock();
    // From the first step on: it draws the epoch's order.
    const double rate =
        RateOf(TimedTraining(recipe, data, *collective, threads, 0), 0, network.batch);
    return Epoch{rate, static_cast<double>(std::clock() - begun) / CLOCKS_PER_SEC};
  };
  std::vector<double> of_real, of_made_up, ratios, work;
  for (long round = -1; round < rounds; ++round) {  // One to warm up.
    // Each goes first in turn, so that neither always has the warmer machine.
    Epoch a, b;
    if (round % 2 == 0) a = epoch(augmented, real);
    b = epoch(plain, made_up);
    if (round % 2 != 0) a = epoch(augmented, real);
    if (round < 0) continue;
    of_real.push_back(a.rate);
    of_made_up.push_back(b.rate);
    ratios.push_back(a.rate / b.rate);
    work.push_back(b.processor_seconds / a.processor_seconds);
  }
  std::fprintf(stderr,
               "%.0f images/s over the set, %.0f on made-up images; ratios %.3f to %.3f; by "
               "processor time, which other load disturbs less, %.3f\n",
               Median(of_real), Median(of_made_up), *std::min_element(ratios.begin(), ratios.end()),
               *std::max_element(ratios.begin(), ratios.end()), Median(work));
  Report(Median(ratios), "of made-up");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
