// The devices that a test of what a GPU computes runs on: the host, whose functors are loops, and
// the true GPU where there is one.
#ifndef DERMIS_TESTS_UNIT_WORKER_GPU_DEVICES_H_
#define DERMIS_TESTS_UNIT_WORKER_GPU_DEVICES_H_

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "worker/cuda/load.h"
#include "worker/gpu/gpu_network.h"

namespace dermis {

inline std::shared_ptr<const CudaLibrary> TestGpus() {
  static const auto gpus = []() -> std::shared_ptr<const CudaLibrary> {
    const auto found = FindGpus(DERMIS_CUDA_LIBRARY);
    if (!found.ok()) return nullptr;
    PrepareGpuNumerics();
    return *found;
  }();
  return gpus;
}

inline std::vector<std::string> TestDevices() {
  std::vector<std::string> names = {"Host"};
  if (TestGpus() != nullptr) names.push_back("Gpu");
  return names;
}

inline std::unique_ptr<Device> OpenTestDevice(const std::string& name) {
  if (name == "Host") return MakePromptHostDevice();
  auto device = TestGpus()->Open(0);
  EXPECT_TRUE(device.ok()) << device.status();
  return device.ok() ? *std::move(device) : nullptr;
}

inline std::string NameOf(const testing::TestParamInfo<std::string>& info) { return info.param; }

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_GPU_DEVICES_H_
