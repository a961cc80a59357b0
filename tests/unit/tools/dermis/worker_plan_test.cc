#include "tools/dermis/worker_plan.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Of 16 cores and 64 GiB; GPUs that others use are named.
Machine WithGpus(int count, const std::set<int>& in_use = {}) {
  Machine machine;
  machine.cores = 16;
  machine.memory = uint64_t{64} << 30;
  for (int g = 0; g < count; ++g) machine.gpus.push_back({g, "a GPU", uint64_t{80} << 30, in_use.contains(g)});
  return machine;
}

LocalClusterOptions Devices(const std::string& devices, uint32_t workers = 2) {
  LocalClusterOptions options;
  options.devices = devices;
  options.workers = workers;
  return options;
}

// "gpu-0=auto:0 gpu-2=auto:2", or the error.
std::string Planned(const LocalClusterOptions& options, const Machine& machine) {
  const absl::StatusOr<WorkerPlan> plan = PlanWorkers(options, machine);
  if (!plan.ok()) return std::string(plan.status().message());
  return absl::StrJoin(plan->workers, " ", [](std::string* out, const PlannedWorker& worker) {
    absl::StrAppend(out, worker.name, "=", worker.device);
  });
}

TEST(WorkerPlanTest, Auto_TakesEachGpuThatNobodyElseUses_AndTheProcessorWhereThereIsNone) {
  EXPECT_EQ(Planned(Devices("auto"), WithGpus(3)), "gpu-0=auto:0 gpu-1=auto:1 gpu-2=auto:2");
  EXPECT_EQ(Planned(Devices("auto"), WithGpus(3, {1})), "gpu-0=auto:0 gpu-2=auto:2");
  EXPECT_EQ(Planned(Devices("auto"), WithGpus(2, {0, 1})), "worker-0=cpu worker-1=cpu");
  EXPECT_EQ(Planned(Devices("auto", 3), WithGpus(0)), "worker-0=cpu worker-1=cpu worker-2=cpu");
}

TEST(WorkerPlanTest, Auto_DoesNotTakeItsOwnWorkersForOthers) {
  Machine machine = WithGpus(3, {0, 1});
  machine.own_gpus = {0};
  EXPECT_EQ(Planned(Devices("auto"), machine), "gpu-0=auto:0 gpu-2=auto:2");
}

TEST(WorkerPlanTest, NamedDevices_AreTheOnesThatAreTaken_AlsoWhereOthersUseThem) {
  EXPECT_EQ(Planned(Devices("gpu:2,gpu:0"), WithGpus(3, {2})), "gpu-2=gpu:2 gpu-0=gpu:0");
  EXPECT_EQ(Planned(Devices("cpu"), WithGpus(3)), "worker-0=cpu worker-1=cpu");
}

TEST(WorkerPlanTest, DevicesThatThereAreNot_AreRefused_WithWhatThereIs) {
  for (const char* devices : {"", "gpu", "gpu:", "gpu:-1", "gpu:0,", "gpu:x", "GPU:0", "cpu,gpu:0", "0"}) {
    EXPECT_THAT(Planned(Devices(devices), WithGpus(2)), AllOf(HasSubstr("auto, cpu, or GPUs as gpu:0,gpu:1"), HasSubstr(devices)))
        << devices;
  }
  EXPECT_EQ(Planned(Devices("gpu:2"), WithGpus(2)), "there is no gpu:2: the driver shows 2 GPUs");
  EXPECT_EQ(Planned(Devices("gpu:0"), WithGpus(0)), "there is no gpu:0: the driver shows 0 GPUs");
  EXPECT_THAT(Planned(Devices("gpu:1,gpu:1"), WithGpus(2)), HasSubstr("gpu:1 twice"));
}

TEST(WorkerPlanTest, CoresAndMemory_AreShared_UnlessTheyAreNamed) {
  WorkerPlan plan = *PlanWorkers(Devices("cpu", 3), WithGpus(0));
  EXPECT_EQ(plan.threads, 5u);
  EXPECT_EQ(plan.image_memory, (uint64_t{64} << 30) / 4 / 3);
  plan = *PlanWorkers(Devices("cpu", 40), WithGpus(0));
  EXPECT_EQ(plan.threads, 1u) << "more workers than cores";
  LocalClusterOptions options = Devices("auto");
  options.threads = 7;
  options.image_memory = 1000;
  options.device_memory = 0.5;
  plan = *PlanWorkers(options, WithGpus(2));
  EXPECT_EQ(absl::StrJoin(PlannedOptions(plan, plan.workers[1]), " "),
            "--name gpu-1 --device auto:1 --device-memory 0.5 --threads 7 --image-memory 1000");
}

}  // namespace
}  // namespace dermis
