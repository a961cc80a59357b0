// Barnes & Hut's (1986) tree over points in the plane, for t-SNE's repulsion (van der Maaten 2014).
#ifndef DERMIS_WORKER_EMBEDDING_QUAD_TREE_H_
#define DERMIS_WORKER_EMBEDDING_QUAD_TREE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "worker/embedding/tsne_exact.h"

namespace dermis {

// A function of the points alone: they are sorted along Morton's curve, equals by index. Read-only
// once made, so any number of threads may ask it.
class QuadTree {
 public:
  // points: n x 2, finite.
  explicit QuadTree(absl::Span<const double> points);

  struct Repulsion {
    double x = 0, y = 0, weights = 0;  // Sums of w^2 d and of w; w = 1 / (1 + |d|^2).
  };
  // On a point by all others. A cell stands for its points where side < theta * distance of their
  // mean; theta <= 0.7, so that no cell does for a point of its own. theta = 0: all pairs.
  Repulsion On(size_t point, double theta) const;

  // Points in the order of the curve: neighbours ask for much the same cells.
  const std::vector<uint32_t>& order() const { return order_; }

 private:
  struct Cell {
    double x, y;  // Mean of its points.
    double side;
    uint32_t first, last;  // Its points in order_.
    uint32_t next;         // The cell that follows when this one is not opened.
    bool leaf;
  };
  struct Point {
    double x, y;
  };
  struct Mean {
    double x, y;
  };
  Mean Build(uint32_t first, uint32_t last, int depth);

  std::vector<uint32_t> order_;
  std::vector<uint64_t> code_;  // Of the points in that order.
  std::vector<Point> points_;   // In that order.
  std::vector<uint32_t> place_;  // Of each point in it.
  std::vector<Cell> cells_;     // Each before its parts.
  double side_ = 0;
};

// As ExactForces, of a sparse p; attraction in row order, repulsion by the tree, the normaliser a
// sum of the points' parts in order of index.
TsneForces TreeForces(const Affinities& p, absl::Span<const double> embedding, double theta,
                      int threads);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_QUAD_TREE_H_
