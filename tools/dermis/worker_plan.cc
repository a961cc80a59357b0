#include "tools/dermis/worker_plan.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/status_macros.h"

namespace dermis {
namespace {

std::string NameOfGpu(int ordinal) { return absl::StrCat("gpu-", ordinal); }

// "gpu:0,gpu:2", of the GPUs that there are.
absl::StatusOr<std::vector<PlannedWorker>> ChosenGpus(const std::string& devices, const Machine& machine) {
  std::vector<PlannedWorker> chosen;
  for (absl::string_view device : absl::StrSplit(devices, ',')) {
    int ordinal = -1;
    if (!absl::ConsumePrefix(&device, "gpu:") || !absl::SimpleAtoi(device, &ordinal) || ordinal < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--devices takes auto, cpu, or GPUs as gpu:0,gpu:1; it is ", devices));
    }
    if (ordinal >= static_cast<int>(machine.gpus.size())) {
      return absl::NotFoundError(
          absl::StrCat("there is no gpu:", ordinal, ": the driver shows ", machine.gpus.size(), " GPUs"));
    }
    const std::string name = NameOfGpu(ordinal);
    if (std::any_of(chosen.begin(), chosen.end(), [&](const PlannedWorker& other) { return other.name == name; })) {
      return absl::InvalidArgumentError(
          absl::StrCat("--devices names gpu:", ordinal, " twice: a GPU has one worker"));
    }
    chosen.push_back({name, absl::StrCat("gpu:", ordinal)});
  }
  return chosen;
}

}  // namespace

absl::StatusOr<WorkerPlan> PlanWorkers(const LocalClusterOptions& options, const Machine& machine) {
  WorkerPlan plan;
  if (options.devices == "auto") {
    for (const ListedGpu& gpu : machine.gpus) {
      if (gpu.in_use && !machine.own_gpus.contains(gpu.ordinal)) continue;
      plan.workers.push_back({NameOfGpu(gpu.ordinal), absl::StrCat("auto:", gpu.ordinal)});
    }
  } else if (options.devices != "cpu") {
    ASSIGN_OR_RETURN(plan.workers, ChosenGpus(options.devices, machine));
  }
  if (plan.workers.empty()) {
    for (uint32_t w = 0; w < options.workers; ++w) plan.workers.push_back({absl::StrCat("worker-", w), "cpu"});
  }
  const uint32_t count = std::max(1u, static_cast<uint32_t>(plan.workers.size()));
  plan.threads = options.threads > 0 ? options.threads : std::max(1u, machine.cores / count);
  plan.image_memory = options.image_memory > 0 ? options.image_memory : machine.memory / 4 / count;
  plan.device_memory = options.device_memory;
  return plan;
}

std::vector<std::string> PlannedOptions(const WorkerPlan& plan, const PlannedWorker& worker) {
  return {"--name",          worker.name,
          "--device",        worker.device,
          "--device-memory", absl::StrCat(plan.device_memory),
          "--threads",       absl::StrCat(plan.threads),
          "--image-memory",  absl::StrCat(plan.image_memory)};
}

}  // namespace dermis
