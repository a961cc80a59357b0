// functor(0) ... functor(n - 1) on the GPU, queued on `stream`. The functor travels as the kernel's
// argument.
#ifndef DERMIS_WORKER_CUDA_PARALLEL_FOR_CUH_
#define DERMIS_WORKER_CUDA_PARALLEL_FOR_CUH_

#include <algorithm>
#include <cstdint>

#include <cuda_runtime.h>

namespace dermis {

template <typename Functor>
__global__ void ForEach(const __grid_constant__ Functor functor, uint64_t n) {
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) functor(i);
}

template <typename Functor>
cudaError_t LaunchParallelFor(const Functor& functor, uint64_t n, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  constexpr uint64_t kThreads = 256;
  constexpr uint64_t kBlocks =
      4096;  // Enough to fill any device; each thread then takes several elements.
  const uint64_t blocks = std::min((n + kThreads - 1) / kThreads, kBlocks);
  ForEach<<<static_cast<unsigned>(blocks), static_cast<unsigned>(kThreads), 0, stream>>>(functor,
                                                                                         n);
  return cudaGetLastError();
}

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_PARALLEL_FOR_CUH_
