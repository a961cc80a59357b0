// All functors that a device can run, by number: what crosses to the library dermis_cuda is a
// number and a functor's bytes.
#ifndef DERMIS_WORKER_CUDA_FUNCTOR_LIST_H_
#define DERMIS_WORKER_CUDA_FUNCTOR_LIST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "worker/cuda/functors.h"
#include "worker/cuda/map_functors.h"
#include "worker/cuda/step_functors.h"

namespace dermis {

template <typename... F>
struct FunctorList {
  static constexpr uint32_t kCount = sizeof...(F);
  static constexpr std::array<const char*, kCount> kNames = {F::kName...};

  template <typename Wanted>
  static constexpr uint32_t IndexOf() {
    constexpr std::array<bool, kCount> equal = {std::is_same_v<F, Wanted>...};
    for (uint32_t i = 0; i < kCount; ++i) {
      if (equal[i]) return i;
    }
    return kCount;
  }

  // {&Make<F>::value, ...}: a table by number of what a template makes of each functor.
  template <template <typename> class Make>
  static constexpr auto Table() {
    return std::array{Make<F>::value...};
  }
};

using Functors = FunctorList<
    TreeSum, Fill, FoldSums, TotalSums, SetBatchNorm, SetRunningNorm, SetNormGradient, DenseLogits,
    SoftmaxRow, DropoutKeep, RmspropUpdate, SgdUpdate, AdamwUpdate, BlendUpdate, SquareSums,
    ClipScale, Widen, SumRows<PlainTerms<float>>, SumRows<PlainTerms<Bf16>>, SumRows<MomentTerms<float>>,
    SumRows<MomentTerms<Bf16>>, SumRows<EluMomentTerms<float>>, SumRows<EluMomentTerms<Bf16>>,
    SumRows<ReluNormTerms<float>>, SumRows<ReluNormTerms<Bf16>>, SumRows<JoinTerms<float>>,
    SumRows<JoinTerms<Bf16>>, SumRows<NormTerms<float>>, SumRows<NormTerms<Bf16>>,
    SumRows<Pool3Terms<float>>, SumRows<Pool3Terms<Bf16>>, SumRows<Pool2Terms<float>>,
    SumRows<Pool2Terms<Bf16>>, NormMap<float>, NormMap<Bf16>, EluNormMap<float>, EluNormMap<Bf16>,
    NormBackwardMap<float>, NormBackwardMap<Bf16>, NormReluPool3<float>, NormReluPool3<Bf16>,
    NormPool2<float>, NormPool2<Bf16>, Pool2NormEluBackward<float>, Pool2NormEluBackward<Bf16>,
    AveragePoolMap<float>, AveragePoolMap<Bf16>, AveragePoolBackwardMap<float>,
    AveragePoolBackwardMap<Bf16>, AugmentImages<float>, AugmentImages<Bf16>, Convert<float>,
    Convert<Bf16>, PackKernel<float>, PackKernel<Bf16>, UnpackKernel<float>, UnpackKernel<Bf16>,
    DensePartial<float>, DensePartial<Bf16>, DenseWeightGradient<float>, DenseWeightGradient<Bf16>,
    DenseInputGradient<float>, DenseInputGradient<Bf16>>;

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_FUNCTOR_LIST_H_
