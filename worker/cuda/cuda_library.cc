#include "worker/cuda/cuda_library.h"

#include <atomic>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <string>

#include <ATen/Context.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>

#include "worker/cuda/cuda_launch.h"

namespace dermis {
namespace {

static_assert(kCudaSuccess == cudaSuccess && kCudaOutOfMemory == cudaErrorMemoryAllocation &&
              kCudaInsufficientDriver == cudaErrorInsufficientDriver &&
              kCudaNoDevice == cudaErrorNoDevice && kCudaNotReady == cudaErrorNotReady);

cudaStream_t Stream(void* stream) { return static_cast<cudaStream_t>(stream); }

thread_local std::string last_words;

// LibTorch's functions throw.
template <typename Function>
int Guarded(const Function& function) {
  try {
    function();
    return kCudaSuccess;
  } catch (const c10::OutOfMemoryError& error) {
    return kCudaOutOfMemory;
  } catch (const std::exception& error) {
    last_words = error.what();
    return kCudaOther;
  }
}

int DeviceFacts(int ordinal, CudaDeviceFacts* facts) {
  cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceProperties(&properties, ordinal);
  if (error == cudaSuccess) error = cudaRuntimeGetVersion(&facts->runtime);
  if (error == cudaSuccess) error = cudaDriverGetVersion(&facts->driver);
  if (error != cudaSuccess) return error;
  facts->major = properties.major;
  facts->minor = properties.minor;
  facts->multiprocessors = properties.multiProcessorCount;
  facts->memory = properties.totalGlobalMem;
  std::snprintf(facts->bus, sizeof(facts->bus), "%04x:%02x:%02x", properties.pciDomainID,
                properties.pciBusID, properties.pciDeviceID);
  std::snprintf(facts->name, sizeof(facts->name), "%s", properties.name);
  return Guarded([&] {
    facts->cudnn = static_cast<int>(at::detail::getCUDAHooks().versionRuntimeCuDNN());
  });
}

int MakeStream(void** stream) {
  cudaStream_t made = nullptr;
  // Not ordered behind the default stream, which others use.
  const cudaError_t error = cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking);
  *stream = made;
  return error;
}

int UseStream(int ordinal, void* stream) {
  return Guarded([&] {
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromExternal(
        Stream(stream), static_cast<c10::DeviceIndex>(ordinal)));
  });
}

std::atomic<uint64_t> memory_failures = 0;

// LibTorch's generator keeps a list of all graphs, which nothing guards.
std::mutex graphs;

// A failed call must not be what the next launch reports.
int Forget(cudaError_t error) {
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

int ReleaseCache() {
  return Guarded([] { c10::cuda::CUDACachingAllocator::emptyCache(); });
}

int LimitMemory(int ordinal, double fraction) {
  return Guarded([&] {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    c10::cuda::CUDACachingAllocator::setMemoryFraction(fraction,
                                                       static_cast<c10::DeviceIndex>(ordinal));
    c10::cuda::CUDACachingAllocator::attachOutOfMemoryObserver(
        [](int64_t, size_t, size_t, size_t) { ++memory_failures; });
  });
}

int Order(void* first, void* then) {
  cudaEvent_t event = nullptr;
  cudaError_t error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  if (error != cudaSuccess) return error;
  error = cudaEventRecord(event, Stream(first));
  if (error == cudaSuccess) error = cudaStreamWaitEvent(Stream(then), event, 0);
  const cudaError_t destroyed = cudaEventDestroy(event);
  return error != cudaSuccess ? error : destroyed;
}

int BeginRecording(void** graph) {
  return Guarded([&] {
    // A recording has memory of its own, and what ran before it left as much behind.
    c10::cuda::CUDACachingAllocator::emptyCache();
    const std::lock_guard lock(graphs);
    auto recording = std::make_unique<at::cuda::CUDAGraph>();
    // Other threads' calls are their own affair.
    recording->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    *graph = recording.release();
  });
}

constexpr CudaLibraryTable Table(uint32_t functors) {
  return {
      kCudaLibraryRelease,
      functors,
      [](int* count) -> int { return cudaGetDeviceCount(count); },
      DeviceFacts,
      [](int ordinal) -> int { return cudaSetDevice(ordinal); },
      MakeStream,
      [](void* stream) -> int { return cudaStreamDestroy(Stream(stream)); },
      UseStream,
      LimitMemory,
      ReleaseCache,
      [] { return memory_failures.load(); },
      [](void** memory, uint64_t bytes) -> int {
        const cudaError_t error = cudaMalloc(memory, bytes);
        if (error != cudaErrorMemoryAllocation) return Forget(error);
        Forget(error);
        ReleaseCache();
        return Forget(cudaMalloc(memory, bytes));
      },
      [](void* memory) -> int { return cudaFree(memory); },
      [](void** memory, uint64_t bytes) -> int {
        return Forget(cudaHostAlloc(memory, bytes, cudaHostAllocDefault));
      },
      [](void* memory) -> int { return cudaFreeHost(memory); },
      [](void* to, const void* from, uint64_t bytes, void* stream) -> int {
        return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, Stream(stream));
      },
      [](uint32_t functor, const void* bytes, uint64_t n, void* stream) -> int {
        return CudaLaunch(functor, bytes, n, Stream(stream));
      },
      Order,
      [](void* stream) -> int { return cudaStreamQuery(Stream(stream)); },
      [](void* stream) -> int { return cudaStreamSynchronize(Stream(stream)); },
      BeginRecording,
      [](void* graph) {
        return Guarded([&] {
          const std::lock_guard lock(graphs);
          static_cast<at::cuda::CUDAGraph*>(graph)->capture_end();
        });
      },
      [](void* graph) {
        return Guarded([&] {
          const std::lock_guard lock(graphs);
          static_cast<at::cuda::CUDAGraph*>(graph)->replay();
        });
      },
      [](void* graph) {
        const std::lock_guard lock(graphs);
        delete static_cast<at::cuda::CUDAGraph*>(graph);
      },
      [](int error) { return cudaGetErrorName(static_cast<cudaError_t>(error)); },
      [](int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); },
      [] { return last_words.c_str(); },
  };
}

}  // namespace
}  // namespace dermis

extern "C" __attribute__((visibility("default"))) const dermis::CudaLibraryTable*
DermisCudaLibrary() {
  static const dermis::CudaLibraryTable table = dermis::Table(dermis::CudaFunctors());
  return &table;
}
