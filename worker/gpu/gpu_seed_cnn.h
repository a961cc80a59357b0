#ifndef DERMIS_WORKER_GPU_GPU_SEED_CNN_H_
#define DERMIS_WORKER_GPU_GPU_SEED_CNN_H_

#include <memory>

#include "worker/gpu/gpu_network.h"

namespace dermis {

std::unique_ptr<GpuNetwork> MakeGpuSeedCnn(Device& device, const ModelLayout& layout, bool bf16,
                                        const Loss& loss);

}  // namespace dermis

#endif  // DERMIS_WORKER_GPU_GPU_SEED_CNN_H_
