// Within the library dermis_cuda: the launches, which nvcc compiles, for the rest, which it need not.
#ifndef DERMIS_WORKER_CUDA_CUDA_LAUNCH_H_
#define DERMIS_WORKER_CUDA_CUDA_LAUNCH_H_

#include <cstdint>

#include <cuda_runtime.h>

namespace dermis {

uint32_t CudaFunctors();
cudaError_t CudaLaunch(uint32_t functor, const void* bytes, uint64_t n, cudaStream_t stream);

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_CUDA_LAUNCH_H_
