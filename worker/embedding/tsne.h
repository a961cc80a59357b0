// t-SNE in two dimensions (van der Maaten & Hinton 2008).
//
// Minimises KL(P || Q), q_ij = (1 + |y_i - y_j|^2)^-1 / Z, by gradient descent with momentum and
// gains; P is exaggerated in a first phase. Dense P: the exact gradient over all pairs (tsne_exact.h).
// Sparse P: attraction by its elements, repulsion by Barnes & Hut's tree (quad_tree.h). What decides:
// Affinities::dense, so AffinityOptions::most_dense.
//
// Nothing is random unless the start is: the same bits for the same input, and for any number of
// threads.
#ifndef DERMIS_WORKER_EMBEDDING_TSNE_H_
#define DERMIS_WORKER_EMBEDDING_TSNE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "worker/embedding/affinities.h"

namespace dermis {

struct TsneOptions {
  uint32_t exaggerated_iterations = 250;
  double exaggeration = 12;
  uint32_t iterations = 750;  // After these.
  // Momentum of the two phases.
  double early_momentum = 0.5, momentum = 0.8;
  // A step is rate times a quarter of the gradient; rate = max(200, n / exaggeration) (Belkina et
  // al. 2019; a quarter, because scikit-learn's 4 in the gradient and its 1/4 in the rate cancel).
  // The second phase keeps the first one's rate.
  double theta = 0.5;  // Barnes-Hut's, at most 0.7.
  int threads = 1;
};

struct Tsne {
  std::vector<double> embedding;  // n x 2, row-major, of mean 0.
  double kl = 0;                  // Exact: over all pairs, of the P that was given, not exaggerated.
  uint32_t iterations = 0;
  bool exact = false;  // Gradient over all pairs.
};

// initial: n x 2, e.g. by PcaStart. InvalidArgument: sizes that do not match, values that are not
// finite, theta out of [0, 0.7]. Internal: the embedding did not stay finite.
absl::StatusOr<Tsne> RunTsne(const Affinities& p, absl::Span<const double> initial,
                             const TsneOptions& options);

// The first two of k scores of n points (row-major), scaled so that the first one's standard
// deviation is 1e-4, as scikit-learn's and openTSNE's default (Kobak & Linderman 2021). k = 1: the
// second coordinate is 0.
std::vector<double> PcaStart(absl::Span<const double> scores, size_t n);
// Normal numbers of standard deviation 1e-4.
std::vector<double> RandomStart(size_t n, uint64_t seed);

// KL(P || Q) in double over all pairs (of sparse P: Z over all pairs).
double KlDivergence(const Affinities& p, absl::Span<const double> embedding, int threads);

// Its gradient, n x 2, by the method that P calls for; theta is of use to a sparse one alone.
std::vector<double> TsneGradient(const Affinities& p, absl::Span<const double> embedding,
                                 double theta, int threads);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_TSNE_H_
