#include "worker/embedding/quad_tree.h"

#include <algorithm>
#include <utility>

#include "worker/embedding/parallel.h"

namespace dermis {
namespace {

constexpr int kBits = 21;          // Of a coordinate; deeper cells are not cut.
constexpr uint32_t kLeaf = 8;      // Points of a cell that is not cut.
constexpr double kCells = 1 << kBits;

// The bits of a number of 21 bits, one apart.
uint64_t Spread(uint64_t v) {
  v = (v | (v << 16)) & 0x0000ffff0000ffffu;
  v = (v | (v << 8)) & 0x00ff00ff00ff00ffu;
  v = (v | (v << 4)) & 0x0f0f0f0f0f0f0f0fu;
  v = (v | (v << 2)) & 0x3333333333333333u;
  return (v | (v << 1)) & 0x5555555555555555u;
}

}  // namespace

QuadTree::QuadTree(absl::Span<const double> points) {
  const auto n = static_cast<uint32_t>(points.size() / 2);
  if (n == 0) return;
  double low_x = points[0], high_x = low_x, low_y = points[1], high_y = low_y;
  for (uint32_t i = 0; i < n; ++i) {
    low_x = std::min(low_x, points[2 * i]);
    high_x = std::max(high_x, points[2 * i]);
    low_y = std::min(low_y, points[2 * i + 1]);
    high_y = std::max(high_y, points[2 * i + 1]);
  }
  side_ = std::max(high_x - low_x, high_y - low_y);
  const auto bits = [&](double v) {
    return side_ > 0 ? static_cast<uint64_t>(std::clamp(v / side_ * kCells, 0.0, kCells - 1)) : 0;
  };
  std::vector<std::pair<uint64_t, uint32_t>> keys(n);
  for (uint32_t i = 0; i < n; ++i) {
    keys[i] = {Spread(bits(points[2 * i] - low_x)) | Spread(bits(points[2 * i + 1] - low_y)) << 1,
               i};
  }
  std::sort(keys.begin(), keys.end());
  place_.resize(n);
  for (uint32_t k = 0; k < n; ++k) {
    const auto [code, i] = keys[k];
    order_.push_back(i);
    code_.push_back(code);
    points_.push_back({points[2 * i], points[2 * i + 1]});
    place_[i] = k;
  }
  Build(0, n, 0);
}

QuadTree::Mean QuadTree::Build(uint32_t first, uint32_t last, int depth) {
  const size_t own = cells_.size();
  const bool leaf = last - first <= kLeaf || depth == kBits;
  cells_.push_back({0, 0, side_ / static_cast<double>(1 << depth), first, last, 0, leaf});
  Mean sum = {0, 0};
  if (leaf) {
    for (uint32_t k = first; k < last; ++k) {
      sum.x += points_[k].x;
      sum.y += points_[k].y;
    }
  } else {
    const int shift = 2 * (kBits - 1 - depth);
    for (uint32_t begin = first; begin < last;) {
      const uint64_t part = code_[begin] >> shift;
      const auto end = static_cast<uint32_t>(
          std::partition_point(code_.begin() + begin, code_.begin() + last,
                               [&](uint64_t code) { return code >> shift == part; }) -
          code_.begin());
      const Mean of_part = Build(begin, end, depth + 1);
      sum.x += of_part.x;
      sum.y += of_part.y;
      begin = end;
    }
  }
  const double count = static_cast<double>(last - first);
  cells_[own].x = sum.x / count;
  cells_[own].y = sum.y / count;
  cells_[own].next = static_cast<uint32_t>(cells_.size());
  return sum;
}

QuadTree::Repulsion QuadTree::On(size_t point, double theta) const {
  const uint32_t own = place_[point];
  const double x = points_[own].x, y = points_[own].y, limit = theta * theta;
  Repulsion sum;
  const auto add = [&](double dx, double dy, double square, double count) {
    const double w = 1 / (1 + square), once = count * w;
    sum.weights += once;
    sum.x += once * w * dx;
    sum.y += once * w * dy;
  };
  for (uint32_t c = 0; c < cells_.size();) {
    const Cell& cell = cells_[c];
    const double dx = x - cell.x, dy = y - cell.y, square = dx * dx + dy * dy;
    if (cell.side * cell.side < limit * square) {
      add(dx, dy, square, static_cast<double>(cell.last - cell.first));
      c = cell.next;
    } else if (cell.leaf) {
      for (uint32_t k = cell.first; k < cell.last; ++k) {
        if (k == own) continue;
        const double px = x - points_[k].x, py = y - points_[k].y;
        add(px, py, px * px + py * py, 1);
      }
      c = cell.next;
    } else {
      ++c;
    }
  }
  return sum;
}

TsneForces TreeForces(const Affinities& p, absl::Span<const double> embedding, double theta,
                      int threads) {
  constexpr size_t kPoints = 256;  // Of one piece.
  const size_t n = p.points;
  const QuadTree tree(embedding);
  TsneForces forces;
  forces.attraction.assign(2 * n, 0.0);
  forces.repulsion.assign(2 * n, 0.0);
  std::vector<double> weights(n);
  ForEachPiece(threads, (n + kPoints - 1) / kPoints, [&](size_t piece) {
    for (size_t k = piece * kPoints; k < std::min(n, (piece + 1) * kPoints); ++k) {
      const size_t i = tree.order()[k];
      const QuadTree::Repulsion on = tree.On(i, theta);
      forces.repulsion[2 * i] = on.x;
      forces.repulsion[2 * i + 1] = on.y;
      weights[i] = on.weights;
      const double x = embedding[2 * i], y = embedding[2 * i + 1];
      double ax = 0, ay = 0;
      for (uint64_t e = p.begin[i]; e < p.begin[i + 1]; ++e) {
        const size_t j = p.column[e];
        const double dx = x - embedding[2 * j], dy = y - embedding[2 * j + 1];
        const double a = p.value[e] / (1 + (dx * dx + dy * dy));
        ax += a * dx;
        ay += a * dy;
      }
      forces.attraction[2 * i] = ax;
      forces.attraction[2 * i + 1] = ay;
    }
  });
  for (double weight : weights) forces.normaliser += weight;
  return forces;
}

}  // namespace dermis
