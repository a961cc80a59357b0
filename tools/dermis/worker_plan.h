// Which workers a cluster of one machine has, and what each gets of it: a pure function of the options and of what the machine is.
#ifndef DERMIS_TOOLS_DERMIS_WORKER_PLAN_H_
#define DERMIS_TOOLS_DERMIS_WORKER_PLAN_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "tools/dermis/cluster.h"
#include "worker/cuda/list_gpus.h"

namespace dermis {

struct Machine {
  uint32_t cores = 1;
  uint64_t memory = 0;          // Bytes.
  std::vector<ListedGpu> gpus;  // In the order of their ordinals, from 0.
  std::set<int> own_gpus;       // That workers of this cluster drive already: in use, and not by others.
};

struct PlannedWorker {
  std::string name, device;  // As dermis-worker takes them.
};

struct WorkerPlan {
  std::vector<PlannedWorker> workers;
  uint32_t threads = 1;       // Each.
  uint64_t image_memory = 0;  // Bytes, each.
  double device_memory = 0.9;
};

// INVALID_ARGUMENT: --devices names none, or one twice. NOT_FOUND: a GPU that there is not.
absl::StatusOr<WorkerPlan> PlanWorkers(const LocalClusterOptions& options, const Machine& machine);

// The options of dermis-worker that follow from the plan.
std::vector<std::string> PlannedOptions(const WorkerPlan& plan, const PlannedWorker& worker);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_WORKER_PLAN_H_
