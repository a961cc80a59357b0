#include "worker/models/quadrature.h"

#include <cmath>
#include <numbers>

namespace dermis {

std::vector<QuadraturePoint> GaussLegendre(uint32_t points) {
  std::vector<QuadraturePoint> rule(points);
  const double n = points;
  for (uint32_t i = 0; i < points; ++i) {
    // Newton's method from a guess that is close enough for every n (Abramowitz and
    // Stegun 22.16.6).
    double x = std::cos(std::numbers::pi * (i + 0.75) / (n + 0.5));
    double derivative = 0;
    for (int step = 0; step < 100; ++step) {
      double now = 1, before = 0;  // P_k and P_{k-1} at x, by their recurrence.
      for (uint32_t k = 1; k <= points; ++k) {
        const double next = ((2.0 * k - 1) * x * now - (k - 1.0) * before) / k;
        before = now;
        now = next;
      }
      derivative = n * (x * now - before) / (x * x - 1);
      const double move = now / derivative;
      x -= move;
      if (std::abs(move) < 1e-15) break;
    }
    // x falls with i; the rule is symmetric about 1/2.
    rule[points - 1 - i] = {(1 + x) / 2, 1 / ((1 - x * x) * derivative * derivative)};
  }
  return rule;
}

}  // namespace dermis
