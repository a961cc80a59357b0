// What the library dermis_cuda offers: a table of C functions. Nothing of C++'s crosses, so it does
// not matter with what flags and with which Abseil either side was built; both must be of one
// release, which `release` checks. Functions return a cudaError_t (0 = success; kCudaOther: see
// last_words) and act on the calling thread's current device.
#ifndef DERMIS_WORKER_CUDA_CUDA_LIBRARY_H_
#define DERMIS_WORKER_CUDA_CUDA_LIBRARY_H_

#include <cstdint>

namespace dermis {

inline constexpr uint32_t kCudaLibraryRelease = 4;
inline constexpr int kCudaSuccess = 0;
inline constexpr int kCudaOutOfMemory = 2;
inline constexpr int kCudaInsufficientDriver = 35;
inline constexpr int kCudaNoDevice = 100;
inline constexpr int kCudaNotReady = 600;
inline constexpr int kCudaOther = -1;

struct CudaDeviceFacts {
  int major, minor;  // Compute capability.
  int multiprocessors;
  uint64_t memory;  // Bytes.
  char name[256];
  char bus[32];  // PCI: what names a GPU on its host.
  int runtime, driver;  // 13000 = 13.0
  int cudnn;            // 91900 = 9.19.0
};

struct CudaLibraryTable {
  uint32_t release;
  uint32_t functors;  // Functors::kCount
  int (*device_count)(int* count);
  int (*device_facts)(int ordinal, CudaDeviceFacts* facts);
  int (*set_device)(int ordinal);
  int (*make_stream)(void** stream);
  int (*destroy_stream)(void* stream);
  // LibTorch's operations of the calling thread go to this stream of its device.
  int (*use_stream)(int ordinal, void* stream);
  // LibTorch takes so much of the device's memory at most.
  int (*limit_memory)(int ordinal, double fraction);
  // LibTorch gives back what it keeps for later.
  int (*release_cache)();
  // How often LibTorch asked for memory in vain, since limit_memory.
  uint64_t (*memory_failures)();
  int (*allocate)(void** memory, uint64_t bytes);
  int (*free)(void* memory);
  int (*allocate_host)(void** memory, uint64_t bytes);
  int (*free_host)(void* memory);
  int (*copy)(void* to, const void* from, uint64_t bytes, void* stream);
  // A functor of functor_list.h by its number.
  int (*launch)(uint32_t functor, const void* bytes, uint64_t n, void* stream);
  // What `then` is given from now on comes after what `first` has been given.
  int (*order)(void* first, void* then);
  int (*query)(void* stream);  // kCudaNotReady: not done.
  int (*synchronize)(void* stream);
  // Between the two, what the calling thread queues on its stream is recorded.
  int (*begin_recording)(void** graph);
  int (*end_recording)(void* graph);
  int (*replay)(void* graph);
  void (*destroy_graph)(void* graph);
  const char* (*error_name)(int error);
  const char* (*error_text)(int error);
  // Of the calling thread's last kCudaOther.
  const char* (*last_words)();
};

}  // namespace dermis

// The one symbol of the library.
extern "C" const dermis::CudaLibraryTable* DermisCudaLibrary();

#endif  // DERMIS_WORKER_CUDA_CUDA_LIBRARY_H_
