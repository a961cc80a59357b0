// A GPU's training steps and forward passes, by networks, in one process: a line of JSON each.
//
//   dermis_bench_gpu --what train|forward --device gpu|host --networks NAME:SIZE:BATCH:SHARDS:PRECISION,...
//
// forward: BATCH images at a time are run; the inputs are uploaded each time, as explanations do.
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "tools/bench/bench.h"
#include "tools/bench/bench_device.h"
#include "tools/bench/network_plan.h"
#include "tools/bench/training.h"
#include "worker/gpu/gpu_engine.h"
#include "worker/training/optimizer.h"

namespace dermis::bench {
namespace {

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) Die(value.status().ToString());
  return *std::move(value);
}
void Must(const absl::Status& status) {
  if (!status.ok()) Die(status.ToString());
}

std::vector<std::string> Names(const std::string& list) { return absl::StrSplit(list, ','); }

// Images a second of one rank's steps, the update and everything the host does included.
double Train(const Arguments& arguments, const Network& network, uint32_t shards, long steps) {
  const v1::Recipe recipe = RecipeOf(arguments, network, shards);
  const std::shared_ptr<const ImageData> data = MakeData(network.size, 8 * network.batch, 64);
  const std::unique_ptr<Collective> collective = MakeLocalCollective(shards);
  ShardPool pool(1);
  const Loss loss;
  std::atomic<uint64_t> progress{0};
  const std::unique_ptr<Device> device = OpenDevice(arguments.Text("--device", "gpu"));
  TrainingState state;
  state.model.layout = Must(LayoutOf(network.kind, network.size, 2, network.stem));
  InitializeModel(1, state.model);
  state.slot_names = OptimizerSlots(recipe.optimizer());
  state.slots.assign(state.slot_names.size(),
                     std::vector<float>(state.model.layout.parameter_count, 0.0f));
  const auto engine =
      Must(MakeGpuEngine(*device, {recipe, *data, *collective, pool, 1, loss, progress},
                         {.image_memory = uint64_t{8} << 30}));
  Must(engine->Load(state));
  std::vector<ShardOutcome> outcomes(shards);
  const auto run = [&](long first, long count) {
    for (long k = first; k < first + count; ++k) {
      StepInputs inputs;
      inputs.step = static_cast<uint64_t>(k);
      inputs.images = absl::MakeConstSpan(data->split.training)
                          .subspan(static_cast<size_t>(k % 8) * network.batch, network.batch);
      inputs.loss_scale = 1.0f / static_cast<float>(network.batch);
      inputs.learning_rate = 1e-3;
      Must(engine->Run(inputs, outcomes));
    }
  };
  run(0, 10);
  const double start = Seconds();
  run(10, steps);
  return static_cast<double>(steps) * network.batch / (Seconds() - start);
}

double Forward(const Arguments& arguments, const Network& network, v1::Precision precision,
               long batches) {
  const PlanMaker plans = PlansOf(arguments.Text("--device", "gpu"), network.batch);
  const auto plan = Must(plans(network.kind, MakeWeights(network), network.size, precision));
  std::vector<float> logits(size_t{network.batch} * plan->classes());
  for (int k = 0; k < 5; ++k) Must(plan->Run(network.batch, logits.data()));
  const double start = Seconds();
  for (long k = 0; k < batches; ++k) Must(plan->Run(network.batch, logits.data()));
  return static_cast<double>(batches) * network.batch / (Seconds() - start);
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) {
  using namespace dermis::bench;  // NOLINT: a program of one file.
  const Arguments given(argc, argv);
  const std::string what = given.Text("--what", "train");
  for (const std::string& name : Names(given.Text("--networks"))) {
    const std::vector<std::string> parts = absl::StrSplit(name, ':');
    if (parts.size() != 5) Die(absl::StrCat(name, " is not NAME:SIZE:BATCH:SHARDS:PRECISION"));
    const char* values[] = {"",        "--model",        parts[0].c_str(), "--size",      parts[1].c_str(),
                            "--batch", parts[2].c_str(), "--precision",    parts[4].c_str(), "--device", ""};
    const std::string device = given.Text("--device", "gpu");
    values[10] = device.c_str();
    const Arguments arguments(11, const_cast<char**>(values));
    const Network network(arguments);
    const long count = given.Number("--steps", 100);
    const double rate =
        what == "train"
            ? Train(arguments, network, static_cast<uint32_t>(std::atol(parts[3].c_str())), count)
            : Forward(arguments, network, PrecisionOf(arguments), count);
    std::printf("{\"what\": \"%s\", \"network\": \"%s\", \"images_per_second\": %.1f}\n",
                what.c_str(), name.c_str(), rate);
    std::fflush(stdout);
  }
  return 0;
}
