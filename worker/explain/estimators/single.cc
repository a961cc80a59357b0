#include "worker/explain/estimators/single.h"

#include <cmath>
#include <cstddef>

namespace dermis {

Mask OcclusionMask(uint32_t row, uint32_t superpixels) {
  Mask mask(superpixels, 1);
  if (row > 0) mask[row - 1] = 0;
  return mask;
}

std::vector<double> FitOcclusion(absl::Span<const double> outputs) {
  std::vector<double> values;
  for (size_t k = 1; k < outputs.size(); ++k) values.push_back(outputs[0] - outputs[k]);
  return values;
}

RiseFit FitRise(absl::Span<const Mask> masks, absl::Span<const double> outputs,
                double probability) {
  const size_t n = masks[0].size(), rows = masks.size();
  RiseFit fit{std::vector<double>(n, 0.0), {}};
  std::vector<double> squares(n, 0.0);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t k = 0; k < n; ++k) {
      if (masks[r][k]) fit.values[k] += outputs[r];
    }
  }
  const double count = static_cast<double>(rows);
  for (double& value : fit.values) value /= count * probability;
  if (rows < 2) return fit;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t k = 0; k < n; ++k) {
      const double off = (masks[r][k] ? outputs[r] / probability : 0.0) - fit.values[k];
      squares[k] += off * off;
    }
  }
  for (double square : squares) {
    fit.standard_errors.push_back(std::sqrt(square / (count * (count - 1))));
  }
  return fit;
}

}  // namespace dermis
