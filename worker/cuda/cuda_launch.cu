#include "worker/cuda/cuda_launch.h"

#include "worker/cuda/functor_list.h"
#include "worker/cuda/parallel_for.cuh"

namespace dermis {
namespace {

static_assert(sizeof(TreeSum) + sizeof(uint64_t) <= 32764, "the limit of a kernel's arguments");

template <typename Functor>
struct Launch {
  static cudaError_t Run(const void* bytes, uint64_t n, cudaStream_t stream) {
    return LaunchParallelFor(*static_cast<const Functor*>(bytes), n, stream);
  }
  static constexpr auto value = &Run;
};

}  // namespace

uint32_t CudaFunctors() { return Functors::kCount; }

cudaError_t CudaLaunch(uint32_t functor, const void* bytes, uint64_t n, cudaStream_t stream) {
  static constexpr auto kLaunches = Functors::Table<Launch>();
  return functor < Functors::kCount ? kLaunches[functor](bytes, n, stream) : cudaErrorInvalidValue;
}

}  // namespace dermis
