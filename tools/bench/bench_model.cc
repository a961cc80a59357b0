// A network on this machine, with weights and images that are made up (speed does not depend on
// them).
//   dermis_bench_model --what train   [--precision fp32|bf16] [--shards V] [--threads T] [--steps
//   N]    images/s dermis_bench_model --what forward [--precision ...] [--threads T] [--batches N]
//   images/s dermis_bench_model --what masked  [--precision ...] [--runs N]    RunPerturb over the
//   plain forward pass: a ratio
//   dermis_bench_model --what save --output FILE    the model file
// and the network's arguments (training.h).
#include <atomic>
#include <fstream>
#include <memory>
#include <thread>

#include "common/tasks.h"
#include "tools/bench/bench.h"
#include "tools/bench/network_plan.h"
#include "tools/bench/training.h"
#include "worker/collective/collective.h"
#include "worker/explain/explain.h"
#include "worker/plan/inference_plan.h"

namespace dermis::bench {
namespace {

int Train(const Arguments& arguments) {
  const uint32_t v = static_cast<uint32_t>(arguments.Number("--shards", 1));
  const uint32_t threads = static_cast<uint32_t>(arguments.Number("--threads", 1));
  constexpr size_t kWarm = 3;
  const uint64_t steps = kWarm + static_cast<uint64_t>(arguments.Number("--steps", 20));
  const Network network(arguments);
  const auto data =
      MakeData(network.size, static_cast<uint32_t>(steps + 1) * network.batch, network.batch);
  const auto collective = MakeLocalCollective(v);
  const auto taken =
      TimedTraining(RecipeOf(arguments, network, v), data, *collective, threads, steps);
  Report(RateOf(taken, kWarm, network.batch), "images/s");
  return 0;
}

// Images a second of one plan over `batches` full batches whose inputs are written anew.
double Forward(InferencePlan& plan, uint32_t batch, long batches) {
  std::vector<float> logits(size_t{batch} * plan.classes());
  const double start = Seconds();
  for (long b = 0; b < batches; ++b) {
    if (!plan.Run(batch, logits.data()).ok()) Die("Run");
  }
  return static_cast<double>(batches * batch) / (Seconds() - start);
}

int ForwardAll(const Arguments& arguments) {
  const long batches = arguments.Number("--batches", 20);
  const long count = arguments.Number("--threads", 1);
  const uint32_t batch = Network(arguments).batch;
  std::vector<double> rates(count);
  std::vector<std::thread> threads;
  std::atomic<long> ready{0};
  for (long t = 0; t < count; ++t) {
    threads.emplace_back([&, t] {
      auto plan = MakePlan(Network(arguments), PrecisionOf(arguments));
      Forward(*plan, batch, 3);
      ++ready;
      while (ready < count) std::this_thread::yield();
      rates[t] = Forward(*plan, batch, batches);
    });
  }
  for (auto& thread : threads) thread.join();
  double sum = 0;
  for (double rate : rates) sum += rate;
  Report(sum, "images/s");
  return 0;
}

int Masked(const Arguments& arguments) {
  const long runs = arguments.Number("--runs", 3);
  const Network network(arguments);
  const auto data = MakeData(network.size, 1, 0);
  v1::SuperpixelTask cut;
  cut.mutable_superpixels()->mutable_slic()->set_count(50);
  cut.mutable_superpixels()->mutable_slic()->set_compactness(10);
  cut.mutable_superpixels()->mutable_slic()->set_sigma(1);
  const auto superpixels = RunSuperpixels(cut, *data->set);
  if (!superpixels.ok()) Die(superpixels.status().ToString());
  auto plan = MakePlan(network, PrecisionOf(arguments));
  v1::PerturbTask task;
  task.mutable_perturbation()->mutable_lime()->set_samples(static_cast<uint32_t>(runs + 1) *
                                                           kLimeRun);
  task.mutable_perturbation()->set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  task.mutable_perturbation()->set_seed(1);
  task.mutable_perturbation()->set_precision(PrecisionOf(arguments));
  std::vector<double> ratios;
  // In turn, so that what disturbs the machine disturbs both.
  for (long run = 0; run <= runs; ++run) {
    const double plain = Forward(*plan, network.batch, 4);
    task.set_run(static_cast<uint32_t>(run));
    const double start = Seconds();
    const auto output = RunPerturb(task, *data, *superpixels, *plan);
    const double masked = kLimeRun / (Seconds() - start);
    if (!output.ok()) Die(output.status().ToString());
    if (run > 0) ratios.push_back(masked / plain);  // The first one warms up.
  }
  Report(Median(ratios), "of plain forward");
  return 0;
}

int Save(const Arguments& arguments) {
  const std::string path = arguments.Text("--output");
  std::ofstream out(path, std::ios::binary);
  out << MakeWeights(Network(arguments));
  out.close();
  if (!out) Die(path + " cannot be written");
  return 0;
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const std::string what = arguments.Text("--what");
  if (what == "train") return Train(arguments);
  if (what == "forward") return ForwardAll(arguments);
  if (what == "masked") return Masked(arguments);
  if (what == "save") return Save(arguments);
  Die("--what train|forward|masked|save");
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
