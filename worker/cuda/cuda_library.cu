#include <cuda_runtime.h>

#include "worker/cuda/cuda_library.h"
#include "worker/cuda/parallel_for.cuh"

namespace dermis {
namespace {

static_assert(kCudaSuccess == cudaSuccess && kCudaOutOfMemory == cudaErrorMemoryAllocation &&
              kCudaInsufficientDriver == cudaErrorInsufficientDriver &&
              kCudaNoDevice == cudaErrorNoDevice && kCudaNotReady == cudaErrorNotReady);
static_assert(sizeof(TreeSum) + sizeof(uint64_t) <= 32764, "the limit of a kernel's arguments");

cudaStream_t Stream(void* stream) { return static_cast<cudaStream_t>(stream); }

int MakeStream(void** stream) {
  cudaStream_t made = nullptr;
  // Not ordered behind the default stream, which others use.
  const cudaError_t error = cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking);
  *stream = made;
  return error;
}

constexpr CudaLibraryTable kTable = {
    kCudaLibraryRelease,
    [](int* count) -> int { return cudaGetDeviceCount(count); },
    [](int ordinal) -> int { return cudaSetDevice(ordinal); },
    MakeStream,
    [](void* stream) -> int { return cudaStreamDestroy(Stream(stream)); },
    [](void** memory, uint64_t bytes) -> int { return cudaMalloc(memory, bytes); },
    [](void* memory) -> int { return cudaFree(memory); },
    [](void* to, const void* from, uint64_t bytes, void* stream) -> int {
      return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, Stream(stream));
    },
    [](const TreeSum* sum, uint64_t n, void* stream) -> int {
      return LaunchParallelFor(*sum, n, Stream(stream));
    },
    [](const Fill* fill, uint64_t n, void* stream) -> int {
      return LaunchParallelFor(*fill, n, Stream(stream));
    },
    [](void* stream) -> int { return cudaStreamQuery(Stream(stream)); },
    [](int error) { return cudaGetErrorName(static_cast<cudaError_t>(error)); },
    [](int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); },
};

}  // namespace
}  // namespace dermis

extern "C" __attribute__((visibility("default"))) const dermis::CudaLibraryTable*
DermisCudaLibrary() {
  return &dermis::kTable;
}
