// Principal components, from a Gram matrix or straight from many rows.
//
// X: n rows (images) of p numbers, centred: X' = X less its column means. X' = U S V'; scores = U S
// (n x k), components = V' (k x p). G = X' X'^T = U S^2 U', so where n is small against p all but the
// components comes from the n x n matrix G, without X.
//
// Signs: as scikit-learn's svd_flip with u_based_decision=True: of each column of U the entry that
// is largest by absolute value is positive (the first one, where several are). scikit-learn's PCA
// from 1.5 on decides by V instead: compare after a flip.
//
// A component beyond the rank of the data has eigenvalue 0, scores 0 and (if asked for) a component
// of zeros.
#ifndef DERMIS_WORKER_EMBEDDING_PCA_H_
#define DERMIS_WORKER_EMBEDDING_PCA_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "worker/embedding/row_products.h"

namespace dermis {

struct PcaOptions {
  size_t components = 50;
  uint64_t seed = 1;  // Of the block that the iteration starts from.
  int threads = 1;    // Same bits for any.
};

struct Pca {
  size_t rows = 0, components = 0;
  std::vector<double> scores;                    // rows x components, row-major.
  std::vector<double> eigenvalues;               // S^2, descending.
  std::vector<double> explained_variance;        // S^2 / (n - 1).
  std::vector<double> explained_variance_ratio;  // Of the sum over all min(n, p) components.
  // The largest |G u - s^2 u| / s^2 over the k vectors u (s^2 > 0); NaN where it is not known.
  double largest_residual = 0;
};

// gram (n x n, symmetric): takes off row, column and total means, so that it is the Gram matrix of
// the centred rows. In place.
void CentreGram(absl::Span<double> gram, size_t n);

// By a block Lanczos iteration (Golub & Underwood 1977) with full reorthogonalisation and
// Rayleigh-Ritz, until every residual is below 1e-8 of its eigenvalue (that of the smallest asked
// for, where it is larger than rounding allows: 1e-13 of the largest); small matrices as a whole.
// A residual r bounds the angle by r / gap (Davis & Kahan 1970). gram: n x n, symmetric, centred.
// InvalidArgument: sizes that do not match, no components or more than n, values that are not
// finite.
absl::StatusOr<Pca> PcaOfGram(absl::Span<const double> gram, size_t n, const PcaOptions& options);

// What new rows are projected on.
struct PcaBasis {
  std::vector<double> mean;       // p.
  std::vector<float> components;  // k x p, row-major; unit length.
};

// V' = S^-1 U' X': one pass over the rows that the Gram matrix was made of.
template <typename T>
absl::StatusOr<PcaBasis> BasisOf(const PixelRows<T>& x, const Pca& pca, int threads);

// (x - mean) V: x.rows x k, row-major.
template <typename T>
absl::StatusOr<std::vector<double>> Project(const PixelRows<T>& x, const PcaBasis& basis,
                                            int threads);

struct RandomisedPcaOptions {
  PcaOptions pca;
  size_t oversampling = 10;
  uint32_t power_iterations = 7;
};
struct RandomisedPcaResult {
  Pca pca;  // largest_residual: NaN.
  PcaBasis basis;
};

// Randomised subspace iteration (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1): for sets
// whose Gram matrix would be too large. 2 power_iterations + 2 passes over x, products in float
// (see row_products.h). Errors as PcaOfGram; no more components than min(n, p).
template <typename T>
absl::StatusOr<RandomisedPcaResult> RandomisedPca(const PixelRows<T>& x,
                                                  const RandomisedPcaOptions& options);

// Of this file's own use: from orthonormal rows u (k x n) and eigenvalues (k) to what is promised.
Pca PcaOfVectors(Matrix u, std::vector<double> eigenvalues, double total, size_t n,
                 std::vector<double>* flipped = nullptr);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_PCA_H_
