// What the library dermis_cuda offers: a table of C functions. Nothing of C++'s crosses, so it does
// not matter with what flags and with which Abseil either side was built; both must be of one
// release, which `release` checks. Functions return a cudaError_t (0 = success) and act on the
// calling thread's current device.
#ifndef DERMIS_WORKER_CUDA_CUDA_LIBRARY_H_
#define DERMIS_WORKER_CUDA_CUDA_LIBRARY_H_

#include <cstdint>

#include "worker/cuda/functors.h"

namespace dermis {

inline constexpr uint32_t kCudaLibraryRelease = 1;
inline constexpr int kCudaSuccess = 0;
inline constexpr int kCudaOutOfMemory = 2;
inline constexpr int kCudaInsufficientDriver = 35;
inline constexpr int kCudaNoDevice = 100;
inline constexpr int kCudaNotReady = 600;

struct CudaLibraryTable {
  uint32_t release;
  int (*device_count)(int* count);
  int (*set_device)(int ordinal);
  int (*make_stream)(void** stream);
  int (*destroy_stream)(void* stream);
  int (*allocate)(void** memory, uint64_t bytes);
  int (*free)(void* memory);
  int (*copy)(void* to, const void* from, uint64_t bytes, void* stream);
  int (*tree_sum)(const TreeSum* sum, uint64_t n, void* stream);
  int (*fill)(const Fill* fill, uint64_t n, void* stream);
  int (*query)(void* stream);  // kCudaNotReady: not done.
  const char* (*error_name)(int error);
  const char* (*error_text)(int error);
};

}  // namespace dermis

// The one symbol of the library.
extern "C" const dermis::CudaLibraryTable* DermisCudaLibrary();

#endif  // DERMIS_WORKER_CUDA_CUDA_LIBRARY_H_
