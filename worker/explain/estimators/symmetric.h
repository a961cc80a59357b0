// Small symmetric systems in double, one thread, without LAPACK: the same bits on every host of a
// numerics class.
#ifndef DERMIS_WORKER_EXPLAIN_ESTIMATORS_SYMMETRIC_H_
#define DERMIS_WORKER_EXPLAIN_ESTIMATORS_SYMMETRIC_H_

#include <cstddef>
#include <vector>

namespace dermis {

// The lower triangle, row by row: element (i, j <= i) at i (i + 1) / 2 + j.
class SymmetricMatrix {
 public:
  explicit SymmetricMatrix(size_t n) : n_(n), values_(n * (n + 1) / 2, 0.0) {}
  size_t size() const { return n_; }
  // j <= i.
  double& at(size_t i, size_t j) { return values_[i * (i + 1) / 2 + j]; }
  double at(size_t i, size_t j) const { return values_[i * (i + 1) / 2 + j]; }
  double* row(size_t i) { return &values_[i * (i + 1) / 2]; }

 private:
  size_t n_;
  std::vector<double> values_;
};

struct Solution {
  std::vector<double> x;
  bool full_rank = true;
};

// x with a x = b for a positive semidefinite `a`. Rank rule: where a pivot of its Cholesky
// factorisation falls below 1e-11 of the largest diagonal element, the system counts as singular; x
// is then the least-squares solution of minimal norm, eigenvalues below 1e-10 of the largest being
// taken for 0.
Solution SolvePositive(const SymmetricMatrix& a, std::vector<double> b);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_ESTIMATORS_SYMMETRIC_H_
