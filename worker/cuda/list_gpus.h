// The GPUs of this machine, as its driver shows them, without loading CUDA or LibTorch: for who
// starts workers.
#ifndef DERMIS_WORKER_CUDA_LIST_GPUS_H_
#define DERMIS_WORKER_CUDA_LIST_GPUS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace dermis {

struct ListedGpu {
  int ordinal = 0;  // gpu:0, ...: what is left of CUDA_VISIBLE_DEVICES counts.
  std::string name;
  uint64_t memory = 0;  // Bytes.
  bool in_use = false;  // Another process computes on it (by NVML; where there is none: false).
};

// Empty where there is no driver or no device.
std::vector<ListedGpu> ListGpus(const std::string& driver = "libcuda.so.1",
                                const std::string& management = "libnvidia-ml.so.1");

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_LIST_GPUS_H_
