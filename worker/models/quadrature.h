// Gauss and Legendre's rule on [0, 1].
#ifndef DERMIS_WORKER_MODELS_QUADRATURE_H_
#define DERMIS_WORKER_MODELS_QUADRATURE_H_

#include <cstdint>
#include <vector>

namespace dermis {

struct QuadraturePoint {
  double at, weight;
};

// `points` >= 1 of them, ascending; weights add up to 1. Exact for polynomials of degree
// 2 points - 1.
std::vector<QuadraturePoint> GaussLegendre(uint32_t points);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_QUADRATURE_H_
