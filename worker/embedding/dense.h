// Small dense linear algebra in double without LAPACK: fixed order of every sum, so the same bits
// for any number of threads and any vector width.
#ifndef DERMIS_WORKER_EMBEDDING_DENSE_H_
#define DERMIS_WORKER_EMBEDDING_DENSE_H_

#include <cstddef>
#include <vector>

namespace dermis {

// Row-major.
struct Matrix {
  Matrix() = default;
  Matrix(size_t r, size_t c) : rows(r), columns(c), values(r * c, 0.0) {}
  double* row(size_t i) { return values.data() + i * columns; }
  const double* row(size_t i) const { return values.data() + i * columns; }

  size_t rows = 0, columns = 0;
  std::vector<double> values;
};

// out[i * stride + j] = a_i . b_j for rows a_0 .. of length `length` and b_0 ..: a b'. Each inner
// product is summed in eight lanes.
void DotRows(const double* a, size_t a_rows, const double* b, size_t b_rows, size_t length,
             double* out, size_t stride, int threads);

// a_i -= sum_j c[i * stride + j] b_j, j ascending.
void SubtractRows(const double* c, size_t stride, const double* b, size_t b_rows, size_t length,
                  double* a, size_t a_rows, int threads);

// The rows of `a` (length `length`) made orthonormal in order by modified Gram-Schmidt, twice. A
// row that loses all but `tolerance` of `scale` is left out. Returns how many rows are left: they
// come first.
size_t Orthonormalise(double* a, size_t rows, size_t length, double scale, double tolerance);

struct EigenPairs {
  std::vector<double> values;  // Descending.
  Matrix vectors;              // Row e belongs to value e; orthonormal.
};
// All eigenpairs of a symmetric matrix: Householder's tridiagonal form, then implicit QL (Golub &
// Van Loan, Matrix Computations, 8.3). O(n^3), for some hundreds of rows. A matrix with a value
// that is not finite gives values that are not.
EigenPairs SymmetricEigen(Matrix a);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_DENSE_H_
