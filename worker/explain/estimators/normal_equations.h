// Normal equations of the Shapley regression on the plane sum(phi) = delta.
#ifndef DERMIS_WORKER_EXPLAIN_ESTIMATORS_NORMAL_EQUATIONS_H_
#define DERMIS_WORKER_EXPLAIN_ESTIMATORS_NORMAL_EQUATIONS_H_

#include <array>
#include <cstddef>
#include <vector>

#include "worker/explain/estimators/symmetric.h"
#include "worker/explain/masks.h"

namespace dermis {

// Equations z . phi = target with weights, phi = delta / S + beta, sum(beta) = 0.
//
// Adjusted ones also explain the target by what the number s of shown superpixels does; with
// t = 2 s / S - 1:
//
//   target - s delta / S = P z . beta  +  c1 t + c3 t^3 + c5 t^5  +  (t^2 - mean t^2) P z . gamma
//
// P takes off the mean. Over all coalitions, weighted by the Shapley kernel, these terms are
// orthogonal to P z (the masks of a size average to s / S; all sizes have one share of P z's
// square), so what beta estimates does not change: their Shapley values are 0. But most of what the
// masks of a network do to its output is what their size does, and less of it is left as noise.
// gamma, which says how a superpixel's part changes with the size, has a ridge penalty, so few
// masks suffice.
class NormalEquations {
 public:
  NormalEquations(size_t superpixels, double delta, bool adjusted);

  void Add(const Mask& mask, double target, double weight);

  // phi. Of minimal norm about equal shares where the equations do not determine it.
  Solution Solve() const;

 private:
  static constexpr size_t kSizeTerms = 3;

  const size_t n_;
  const double delta_;
  const size_t size_terms_;  // No more than there are sizes to tell apart.
  const bool slopes_;
  double mean_square_ = 0;  // Of t, over sizes 1 .. S - 1.
  // Sums of w z z', of w q z z' and of w q^2 z z'; q = t^2 - mean t^2.
  SymmetricMatrix zz_, qzz_, qqzz_;
  std::vector<double> zr_, qzr_;  // Of w z r and w q z r; r: the right side.
  std::array<std::vector<double>, kSizeTerms> tz_, tqz_;  // Of w t^k z and w t^k q z.
  std::array<std::array<double, kSizeTerms>, kSizeTerms> tt_ = {};
  std::array<double, kSizeTerms> tr_ = {};
  std::vector<size_t> ones_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_ESTIMATORS_NORMAL_EQUATIONS_H_
