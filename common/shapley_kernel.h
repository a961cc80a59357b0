// The Shapley kernel: how much coalitions of each size weigh in the regression whose solution are
// Shapley values.
#ifndef DERMIS_COMMON_SHAPLEY_KERNEL_H_
#define DERMIS_COMMON_SHAPLEY_KERNEL_H_

#include <cstdint>
#include <vector>

namespace dermis {

// C(n, k): exact below 10^15; infinity where a double ends.
double Binomial(uint32_t n, uint32_t k);

// Sizes 1 .. S / 2 stand for themselves and S - size. False: the middle size of an even S, its own
// complement.
inline bool HasComplement(uint32_t superpixels, uint32_t size) { return 2 * size != superpixels; }

// Share of the kernel (S - 1) / (C(S, s) s (S - s)) that falls on all coalitions of a size and of
// its complement's; element s - 1 of 1 .. S / 2. Sums to 1. S >= 2.
std::vector<double> SizeWeights(uint32_t superpixels);

// Pairs {coalition, complement} of a size.
double PairsOfSize(uint32_t superpixels, uint32_t size);

// How likely leverage-score sampling draws a pair of a size, but for a factor: all sizes 1 .. S - 1
// alike.
inline double LeverageShare(uint32_t superpixels, uint32_t size) {
  return HasComplement(superpixels, size) ? 1.0 : 0.5;
}

// Which sizes KernelSHAP runs completely with n masked inputs (ends not counted), as shap's
// _kernel.py decides it: sizes 1 .. `sizes` and their complements, `rows` coalitions.
struct KernelEnumeration {
  uint32_t sizes = 0;
  uint64_t rows = 0;
};
KernelEnumeration EnumerateKernel(uint32_t superpixels, uint64_t n);

}  // namespace dermis

#endif  // DERMIS_COMMON_SHAPLEY_KERNEL_H_
