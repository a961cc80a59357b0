#include "common/shapley_kernel.h"

#include <cmath>

namespace dermis {

double Binomial(uint32_t n, uint32_t k) {
  double value = 1;
  for (uint32_t i = 1; i <= k; ++i) {
    value = value * (n - k + i) / i;
    if (value < 1e15) value = std::round(value);
  }
  return value;
}

std::vector<double> SizeWeights(uint32_t superpixels) {
  std::vector<double> weights(superpixels / 2);
  double sum = 0;
  for (uint32_t size = 1; size <= weights.size(); ++size) {
    double& weight = weights[size - 1];
    weight = (superpixels - 1.0) / (static_cast<double>(size) * (superpixels - size));
    if (HasComplement(superpixels, size)) weight *= 2;
    sum += weight;
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

double PairsOfSize(uint32_t superpixels, uint32_t size) {
  return Binomial(superpixels, size) / (HasComplement(superpixels, size) ? 1 : 2);
}

KernelEnumeration EnumerateKernel(uint32_t superpixels, uint64_t n) {
  KernelEnumeration result;
  if (superpixels < 2) return result;
  std::vector<double> weights = SizeWeights(superpixels);
  double left = static_cast<double>(n);
  for (uint32_t size = 1; size <= weights.size(); ++size) {
    const double share = weights[size - 1];
    const double coalitions =
        Binomial(superpixels, size) * (HasComplement(superpixels, size) ? 2 : 1);
    if (left * share / coalitions < 1 - 1e-8) break;
    ++result.sizes;
    result.rows += static_cast<uint64_t>(coalitions);
    left -= coalitions;
    if (share < 1) {
      for (double& weight : weights) weight /= 1 - share;
    }
  }
  return result;
}

}  // namespace dermis
