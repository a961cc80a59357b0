#include "worker/embedding/tsne_exact.h"

#include <algorithm>
#include <cstdint>

#include "common/simd.h"
#include "worker/embedding/parallel.h"

namespace dermis {
namespace {

constexpr size_t kLanes = 16;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using LanesInMemory =
    float __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));
using Places = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));
constexpr size_t kWide = 8;
using Wide = double __attribute__((vector_size(kWide * sizeof(double))));
using Half = float __attribute__((vector_size(kWide * sizeof(float))));

// Beyond the last point: so far away that its weight rounds to nothing.
constexpr float kFar = 1e15f;

// What one tile adds to its rows and to its columns.
struct TileSums {
  alignas(64) float row[4][kAffinityTile];  // Attraction x, y; repulsion x, y.
  alignas(64) float column[4][kAffinityTile];
  double normaliser;
};

DERMIS_INLINE void FoldInto(Lanes& lanes, float* out) {
  constexpr Places kBy8 = {8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7};
  constexpr Places kBy4 = {4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11};
  constexpr Places kBy2 = {2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13};
  constexpr Places kBy1 = {1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14};
  lanes += __builtin_shuffle(lanes, kBy8);
  lanes += __builtin_shuffle(lanes, kBy4);
  lanes += __builtin_shuffle(lanes, kBy2);
  lanes += __builtin_shuffle(lanes, kBy1);
  *out = lanes[0];
}

// Points xi, yi (`rows`) against xj, yj (`width`, a multiple of kLanes, padded with kFar). p: the
// tile of P. A tile on the diagonal has each pair twice, and each point with itself: its rows alone
// are summed.
template <bool kDiagonal>
DERMIS_INLINE void SumTile(const float* xi, const float* yi, size_t rows, const float* xj,
                           const float* yj, size_t width, const float* p, TileSums* sums) {
  Wide z0 = {}, z1 = {};
  for (size_t i = 0; i < rows; ++i, p += width) {
    Lanes ax = {}, ay = {}, rx = {}, ry = {}, z = {};
    const float x = xi[i], y = yi[i];
    for (size_t j = 0; j < width; j += kLanes) {
      const Lanes dx = x - *reinterpret_cast<const LanesInMemory*>(xj + j);
      const Lanes dy = y - *reinterpret_cast<const LanesInMemory*>(yj + j);
      const Lanes w = 1.0f / ((dx * dx + dy * dy) + 1.0f);
      const Lanes a = *reinterpret_cast<const LanesInMemory*>(p + j) * w, r = w * w;
      const Lanes adx = a * dx, ady = a * dy, rdx = r * dx, rdy = r * dy;
      z += w;
      ax += adx;
      ay += ady;
      rx += rdx;
      ry += rdy;
      if constexpr (!kDiagonal) {
        *reinterpret_cast<LanesInMemory*>(sums->column[0] + j) -= adx;
        *reinterpret_cast<LanesInMemory*>(sums->column[1] + j) -= ady;
        *reinterpret_cast<LanesInMemory*>(sums->column[2] + j) -= rdx;
        *reinterpret_cast<LanesInMemory*>(sums->column[3] + j) -= rdy;
      }
    }
    FoldInto(ax, &sums->row[0][i]);
    FoldInto(ay, &sums->row[1][i]);
    FoldInto(rx, &sums->row[2][i]);
    FoldInto(ry, &sums->row[3][i]);
    Half halves[2];
    *reinterpret_cast<LanesInMemory*>(halves) = z;
    z0 += __builtin_convertvector(halves[0], Wide);
    z1 += __builtin_convertvector(halves[1], Wide);
  }
  z0 += z1;
  double z = 0;
  for (size_t l = 0; l < kWide; ++l) z += z0[l];
  sums->normaliser = z;
}

DERMIS_SIMD void SumDiagonal(const float* x, const float* y, size_t rows, size_t width,
                             const float* p, TileSums* sums) {
  SumTile<true>(x, y, rows, x, y, width, p, sums);
}
DERMIS_SIMD void SumPair(const float* xi, const float* yi, size_t rows, const float* xj,
                         const float* yj, size_t width, const float* p, TileSums* sums) {
  SumTile<false>(xi, yi, rows, xj, yj, width, p, sums);
}

DERMIS_SIMD void AddWeights(double x, double y, const double* xj, const double* yj, size_t count,
                            double* sums) {
  size_t j = 0;
  for (; j + kWide <= count; j += kWide) {
    for (size_t l = 0; l < kWide; ++l) {
      const double dx = x - xj[j + l], dy = y - yj[j + l];
      sums[l] += 1 / (1 + (dx * dx + dy * dy));
    }
  }
  for (; j < count; ++j) {
    const double dx = x - xj[j], dy = y - yj[j];
    sums[0] += 1 / (1 + (dx * dx + dy * dy));
  }
}

}  // namespace

TsneForces ExactForces(const Affinities& p, absl::Span<const double> embedding, int threads) {
  const size_t n = p.points, blocks = (n + kAffinityTile - 1) / kAffinityTile;
  std::vector<float> x(blocks * kAffinityTile, kFar), y(blocks * kAffinityTile, kFar);
  for (size_t i = 0; i < n; ++i) {
    x[i] = static_cast<float>(embedding[2 * i]);
    y[i] = static_cast<float>(embedding[2 * i + 1]);
  }
  struct Place {
    size_t i, j;
  };
  std::vector<Place> places;
  for (size_t i = 0; i < blocks; ++i) {
    for (size_t j = i; j < blocks; ++j) places.push_back({i, j});
  }
  std::vector<TileSums> sums(places.size());
  ForEachPiece(threads, places.size(), [&](size_t tile) {
    const size_t i = places[tile].i * kAffinityTile, j = places[tile].j * kAffinityTile;
    const size_t rows = std::min(kAffinityTile, n - i);
    const size_t width = (std::min(kAffinityTile, n - j) + kLanes - 1) / kLanes * kLanes;
    const float* const of_p = p.tiles.data() + p.tile_begin[tile];
    TileSums& own = sums[tile];
    if (i == j) {
      SumDiagonal(&x[i], &y[i], rows, width, of_p, &own);
      return;
    }
    for (auto& column : own.column) std::fill_n(column, kAffinityTile, 0.0f);
    SumPair(&x[i], &y[i], rows, &x[j], &y[j], width, of_p, &own);
  });
  TsneForces forces;
  forces.attraction.assign(2 * n, 0.0);
  forces.repulsion.assign(2 * n, 0.0);
  const auto add = [&](size_t block, const float(&from)[4][kAffinityTile]) {
    const size_t first = block * kAffinityTile, count = std::min(kAffinityTile, n - first);
    for (size_t k = 0; k < count; ++k) {
      forces.attraction[2 * (first + k)] += static_cast<double>(from[0][k]);
      forces.attraction[2 * (first + k) + 1] += static_cast<double>(from[1][k]);
      forces.repulsion[2 * (first + k)] += static_cast<double>(from[2][k]);
      forces.repulsion[2 * (first + k) + 1] += static_cast<double>(from[3][k]);
    }
  };
  for (size_t tile = 0; tile < places.size(); ++tile) {
    const bool diagonal = places[tile].i == places[tile].j;
    add(places[tile].i, sums[tile].row);
    if (!diagonal) add(places[tile].j, sums[tile].column);
    forces.normaliser += sums[tile].normaliser * (diagonal ? 1 : 2);
  }
  forces.normaliser -= static_cast<double>(n);  // Each point with itself.
  return forces;
}

double ExactNormaliser(absl::Span<const double> embedding, int threads) {
  const size_t n = embedding.size() / 2;
  std::vector<double> x(n), y(n), of_row(n);
  for (size_t i = 0; i < n; ++i) {
    x[i] = embedding[2 * i];
    y[i] = embedding[2 * i + 1];
  }
  constexpr size_t kRows = 64;
  ForEachPiece(threads, (n + kRows - 1) / kRows, [&](size_t piece) {
    for (size_t i = piece * kRows; i < std::min(n, (piece + 1) * kRows); ++i) {
      double sums[kWide] = {};
      AddWeights(x[i], y[i], x.data() + i + 1, y.data() + i + 1, n - i - 1, sums);
      of_row[i] = ((sums[0] + sums[4]) + (sums[2] + sums[6])) +
                  ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    }
  });
  double all = 0;
  for (double sum : of_row) all += sum;
  return 2 * all;
}

}  // namespace dermis
