// Where a benchmark computes: --device cpu (the default), gpu (the first one), or host (what runs
// on GPUs, in this processor's memory: for trying it without one).
#ifndef DERMIS_TOOLS_BENCH_BENCH_DEVICE_H_
#define DERMIS_TOOLS_BENCH_BENCH_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "worker/cuda/device.h"
#include "worker/plan/inference_plan.h"

namespace dermis::bench {

// gpu or host. Before any other use of Torch (worker/cuda/load.h).
std::unique_ptr<Device> OpenDevice(const std::string& device);

// cpu, gpu or host; batch: images that go through a GPU's network together. Thread-safe.
PlanMaker PlansOf(const std::string& device, uint32_t batch);

}  // namespace dermis::bench

#endif  // DERMIS_TOOLS_BENCH_BENCH_DEVICE_H_
