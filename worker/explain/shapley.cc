#include "worker/explain/shapley.h"

#include <cmath>
#include <cstddef>

namespace dermis {

ShapleyFit FitShapley(absl::Span<const std::vector<uint32_t>> orders,
                      absl::Span<const double> outputs) {
  const size_t n = orders[0].size(), pairs = orders.size();
  const double full = outputs[0], hidden = outputs[1];
  std::vector<std::vector<double>> samples(pairs, std::vector<double>(n, 0.0));
  for (size_t p = 0; p < pairs; ++p) {
    for (size_t half = 0; half < 2; ++half) {
      const double* const path = outputs.data() + 2 + (2 * p + half) * (n - 1);
      double before = hidden;
      for (size_t i = 0; i < n; ++i) {
        const double after = i + 1 < n ? path[i] : full;
        samples[p][orders[p][half == 0 ? i : n - 1 - i]] += 0.5 * (after - before);
        before = after;
      }
    }
  }
  ShapleyFit fit;
  fit.values.assign(n, 0.0);
  for (size_t k = 0; k < n; ++k) {
    for (const auto& sample : samples) fit.values[k] += sample[k];
    fit.values[k] /= static_cast<double>(pairs);
  }
  if (pairs > 1) {
    fit.standard_errors.resize(n);
    for (size_t k = 0; k < n; ++k) {
      double sum = 0;
      for (const auto& sample : samples) {
        sum += (sample[k] - fit.values[k]) * (sample[k] - fit.values[k]);
      }
      fit.standard_errors[k] =
          std::sqrt(sum / (static_cast<double>(pairs - 1) * static_cast<double>(pairs)));
    }
  }
  double sum = 0;
  for (double value : fit.values) sum += value;
  fit.additivity_residual = full - hidden - sum;
  return fit;
}

}  // namespace dermis
