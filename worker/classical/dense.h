// Dense products and Cholesky's factor in double on one thread, without LAPACK. Every element is a
// sum in one fixed order without fused multiply-add: the same bits on every vector width.
#ifndef DERMIS_WORKER_CLASSICAL_DENSE_H_
#define DERMIS_WORKER_CLASSICAL_DENSE_H_

#include <cstddef>
#include <vector>

namespace dermis {

// c[i * c_stride + j] += sign * sum_k a[i * stride + k] * b[j * stride + k] for i < rows and j <
// columns; with `lower`, only where j <= i is wanted (what lies above may be written, too). sign: 1
// or -1.
void AddProducts(const double* a, size_t rows, const double* b, size_t columns, size_t depth,
                 size_t stride, double sign, bool lower, double* c, size_t c_stride);

// A symmetric positive definite matrix in place, n x n with rows `stride` apart: its lower triangle
// becomes L with L L^T = a; what lies above is overwritten, too. False: a pivot is not above
// `least` (a is spoilt).
bool Cholesky(double* a, size_t n, size_t stride, double least);
// x becomes the solution of L L^T x = x. `Two`, here and below: of two vectors in one pass over the
// matrix, which is what takes the time; the bits are those of one at a time.
void SolveCholesky(const double* l, size_t n, size_t stride, double* x);
void SolveCholeskyTwo(const double* l, size_t n, size_t stride, double* const x[2]);

// y = k x for a symmetric matrix of which all is stored.
void Multiply(const double* k, size_t rows, size_t columns, const double* x, double* y);
void MultiplyTwo(const double* k, size_t rows, size_t columns, const double* const x[2],
                 double* const y[2]);
double Dot(const double* a, const double* b, size_t n);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_DENSE_H_
