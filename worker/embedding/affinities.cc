#include "worker/embedding/affinities.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/simd.h"
#include "worker/embedding/parallel.h"

namespace dermis {
namespace {

constexpr size_t kLanes = 8;
constexpr double kSmallest = 1e-30;  // Of a float that is worth multiplying.

struct Sums {
  double weights = 0, first = 0, second = 0;  // Sum of w, of w d and of w d^2; w = exp(-beta d).
};

DERMIS_SIMD void AddUp(const double* d, size_t count, double beta, Sums* sums) {
  double w0[kLanes] = {}, w1[kLanes] = {}, w2[kLanes] = {};
  size_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) {
      const double w = ExpNonPositive(-beta * d[j + l]);
      w0[l] += w;
      w1[l] += w * d[j + l];
      w2[l] += w * d[j + l] * d[j + l];
    }
  }
  for (; j < count; ++j) {
    const double w = ExpNonPositive(-beta * d[j]);
    w0[0] += w;
    w1[0] += w * d[j];
    w2[0] += w * d[j] * d[j];
  }
  const auto fold = [](const double* lanes) {
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
  };
  *sums = {fold(w0), fold(w1), fold(w2)};
}

DERMIS_SIMD void Weigh(double* d, size_t count, double beta, double total) {
  for (size_t j = 0; j < count; ++j) d[j] = ExpNonPositive(-beta * d[j]) / total;
}

// What precedes tile (I, J) when J >= I, I then J ascending.
size_t TileIndex(size_t blocks, size_t i, size_t j) {
  return i * blocks - i * (i - 1) / 2 + (j - i);
}

size_t Padded(size_t width) { return (width + 15) / 16 * 16; }

// False, and the row is not one of squared distances, where a value is negative or not finite.
bool ReadRow(const DistanceRows& rows, size_t i, std::vector<double>& row) {
  row.resize(rows.columns());
  rows.Row(i, row.data());
  for (double value : row) {
    if (!(value >= 0 && std::isfinite(value))) return false;
  }
  return true;
}

// `valid` becomes false where a row could not be read; the result is of no use then.
Affinities Dense(const DistanceRows& rows, const AffinityOptions& options,
                 std::atomic<bool>& valid) {
  const size_t n = rows.rows(), blocks = (n + kAffinityTile - 1) / kAffinityTile;
  std::vector<float> conditional(n * n);
  ForEachPiece(options.threads, n, [&](size_t i) {
    std::vector<double> row;
    if (!ReadRow(rows, i, row)) {
      valid = false;
      return;
    }
    ConditionalRow(absl::MakeSpan(row), i, options.perplexity);
    for (size_t j = 0; j < n; ++j) conditional[i * n + j] = static_cast<float>(row[j]);
  });
  Affinities p;
  p.points = n;
  p.dense = true;
  size_t size = 0;
  const auto extent = [&](size_t block) {
    return std::min(kAffinityTile, n - block * kAffinityTile);
  };
  for (size_t i = 0; i < blocks; ++i) {
    for (size_t j = i; j < blocks; ++j) {
      p.tile_begin.push_back(size);
      size += extent(i) * Padded(extent(j));
    }
  }
  p.tiles.assign(size, 0.0f);
  const double scale = 0.5 / static_cast<double>(n);
  ForEachPiece(options.threads, blocks, [&](size_t block) {
    for (size_t other = block; other < blocks; ++other) {
      float* out = p.tiles.data() + p.tile_begin[TileIndex(blocks, block, other)];
      for (size_t i = 0; i < extent(block); ++i, out += Padded(extent(other))) {
        for (size_t j = 0; j < extent(other); ++j) {
          const size_t a = block * kAffinityTile + i, b = other * kAffinityTile + j;
          const double value = (static_cast<double>(conditional[a * n + b]) +
                                static_cast<double>(conditional[b * n + a])) *
                               scale;
          out[j] = value < kSmallest ? 0.0f : static_cast<float>(value);
        }
      }
    }
  });
  return p;
}

struct Edge {
  uint32_t column;
  double value;
};

Affinities Sparse(const DistanceRows& rows, const AffinityOptions& options,
                  std::atomic<bool>& valid) {
  const size_t n = rows.rows();
  const size_t count =
      std::min(n - 1, static_cast<size_t>(std::floor(3 * options.perplexity)));
  std::vector<std::vector<Edge>> conditional(n);
  ForEachPiece(options.threads, n, [&](size_t i) {
    std::vector<double> row;
    if (!ReadRow(rows, i, row)) {
      valid = false;
      return;
    }
    row[i] = std::numeric_limits<double>::infinity();
    const std::vector<Neighbour> nearest = Nearest(row, count, std::vector<bool>(n, false));
    std::vector<double> weights;
    for (const Neighbour& neighbour : nearest) weights.push_back(neighbour.squared);
    ConditionalRow(absl::MakeSpan(weights), weights.size(), options.perplexity);
    for (size_t k = 0; k < nearest.size(); ++k) {
      conditional[i].push_back({nearest[k].index, weights[k]});
    }
  });
  // Both directions of each element in its two rows; then equals are added, the row's own first.
  std::vector<std::vector<Edge>> both(n);
  for (size_t i = 0; i < n; ++i) {
    for (const Edge& edge : conditional[i]) both[i].push_back(edge);
  }
  for (size_t i = 0; i < n; ++i) {
    for (const Edge& edge : conditional[i]) {
      both[edge.column].push_back({static_cast<uint32_t>(i), edge.value});
    }
  }
  Affinities p;
  p.points = n;
  p.begin.push_back(0);
  const double scale = 0.5 / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) {
    std::stable_sort(both[i].begin(), both[i].end(),
                     [](const Edge& a, const Edge& b) { return a.column < b.column; });
    for (size_t k = 0; k < both[i].size(); ++k) {
      const bool again = k > 0 && both[i][k].column == both[i][k - 1].column;
      if (again) {
        p.value.back() += both[i][k].value * scale;
      } else {
        p.column.push_back(both[i][k].column);
        p.value.push_back(both[i][k].value * scale);
      }
    }
    p.begin.push_back(p.column.size());
  }
  return p;
}

}  // namespace

double Affinities::At(size_t i, size_t j) const {
  if (dense) {
    if (i > j) std::swap(i, j);
    const size_t blocks = (points + kAffinityTile - 1) / kAffinityTile;
    const size_t a = i / kAffinityTile, b = j / kAffinityTile;
    const size_t width = Padded(std::min(kAffinityTile, points - b * kAffinityTile));
    return tiles[tile_begin[TileIndex(blocks, a, b)] + (i % kAffinityTile) * width +
                 j % kAffinityTile];
  }
  const auto first = column.begin() + static_cast<std::ptrdiff_t>(begin[i]);
  const auto last = column.begin() + static_cast<std::ptrdiff_t>(begin[i + 1]);
  const auto found = std::lower_bound(first, last, static_cast<uint32_t>(j));
  return found == last || *found != j ? 0 : value[static_cast<size_t>(found - column.begin())];
}

double ConditionalRow(absl::Span<double> squared, size_t self, double perplexity) {
  constexpr int kMostSteps = 200;
  constexpr double kTolerance = 1e-10;
  const size_t n = squared.size();
  double least = std::numeric_limits<double>::infinity();
  for (size_t j = 0; j < n; ++j) {
    if (j != self) least = std::min(least, squared[j]);
  }
  // Weights relative to the nearest: none underflows that matters.
  double mean = 0;
  for (size_t j = 0; j < n; ++j) {
    squared[j] = j == self ? std::numeric_limits<double>::infinity() : squared[j] - least;
    if (j != self) mean += squared[j];
  }
  const bool has_self = self < n;
  // The infinite one would make w d = 0 times infinity: it goes to the end, beyond the sums.
  if (has_self) std::swap(squared[self], squared[n - 1]);
  const size_t count = has_self ? n - 1 : n;
  mean /= static_cast<double>(count);
  const double wanted = std::log(perplexity);
  double beta = mean > 0 ? 1 / mean : 1, low = 0, high = std::numeric_limits<double>::infinity();
  Sums sums;
  for (int step = 0; step < kMostSteps; ++step) {
    AddUp(squared.data(), count, beta, &sums);
    const double average = sums.first / sums.weights;
    const double entropy = std::log(sums.weights) + beta * average;
    const double off = entropy - wanted;
    if (std::abs(off) <= kTolerance) break;
    (off > 0 ? low : high) = beta;
    // dH / d log beta = -beta^2 Var(d): nearly straight in log beta.
    const double slope = beta * beta * (sums.second / sums.weights - average * average);
    double next = slope > 1e-12 ? beta * std::exp(std::clamp(off / slope, -2.0, 2.0))
                                : std::numeric_limits<double>::infinity();
    if (!(next > low && next < high)) {
      next = std::isinf(high) ? beta * 4 : low == 0 ? beta / 4 : (low + high) / 2;
    }
    if (next == beta || next > 1e300) break;
    beta = next;
  }
  AddUp(squared.data(), count, beta, &sums);
  Weigh(squared.data(), count, beta, sums.weights);
  if (has_self) {
    squared[n - 1] = 0;
    std::swap(squared[self], squared[n - 1]);
  }
  return beta;
}

absl::StatusOr<Affinities> AffinitiesOf(const DistanceRows& rows, const AffinityOptions& options) {
  const size_t n = rows.rows();
  if (n != rows.columns() || n < 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        "t-SNE: distances of ", n, " x ", rows.columns(), " points: at least 3 x 3 are needed"));
  }
  if (!(options.perplexity >= 1 && options.perplexity < static_cast<double>(n - 1))) {
    return absl::InvalidArgumentError(
        absl::StrCat("t-SNE: perplexity ", options.perplexity, " with ", n,
                     " points: it is at least 1 and less than ", n - 1,
                     "; give fewer neighbours or more images"));
  }
  std::atomic<bool> valid = true;
  Affinities p =
      n <= options.most_dense ? Dense(rows, options, valid) : Sparse(rows, options, valid);
  if (!valid) {
    return absl::InvalidArgumentError("t-SNE: a squared distance is negative or not finite");
  }
  return p;
}

}  // namespace dermis
