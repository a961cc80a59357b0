#include "tools/bench/bench_device.h"

#include <utility>

#include "tools/bench/bench.h"
#include "worker/cuda/load.h"
#include "worker/gpu/gpu_network.h"
#include "worker/gpu/gpu_plan.h"

namespace dermis::bench {

std::unique_ptr<Device> OpenDevice(const std::string& device) {
  if (device == "host") return MakePromptHostDevice();
  if (device != "gpu") Die("--device cpu|gpu|host");
  static const auto gpus = FindGpus();
  if (!gpus.ok()) Die(gpus.status().ToString());
  PrepareGpuNumerics();
  auto opened = (*gpus)->Open(0);
  if (!opened.ok()) Die(opened.status().ToString());
  return *std::move(opened);
}

PlanMaker PlansOf(const std::string& device, uint32_t batch) {
  if (device == "cpu") return MakeInferencePlan;
  const auto plans = std::make_shared<GpuPlans>(
      [device]() -> absl::StatusOr<std::unique_ptr<Device>> { return OpenDevice(device); }, batch);
  return [plans](v1::ModelKind kind, std::string_view weights, uint32_t size,
                 v1::Precision precision) { return plans->Make(kind, weights, size, precision); };
}

}  // namespace dermis::bench
