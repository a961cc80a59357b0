#include "worker/embedding/tsne.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/philox.h"
#include "common/progress.h"
#include "worker/embedding/normals.h"
#include "worker/embedding/parallel.h"
#include "worker/embedding/quad_tree.h"
#include "worker/embedding/tsne_exact.h"

namespace dermis {
namespace {

constexpr double kStart = 1e-4;        // Standard deviation of a start.
constexpr double kLeastRate = 200;
constexpr double kLeastGain = 0.01;

TsneForces ForcesOf(const Affinities& p, absl::Span<const double> embedding, double theta,
                    int threads) {
  return p.dense ? ExactForces(p, embedding, threads) : TreeForces(p, embedding, theta, threads);
}

void Centre(std::vector<double>& embedding) {
  const size_t n = embedding.size() / 2;
  double x = 0, y = 0;
  for (size_t i = 0; i < n; ++i) {
    x += embedding[2 * i];
    y += embedding[2 * i + 1];
  }
  for (size_t i = 0; i < n; ++i) {
    embedding[2 * i] -= x / static_cast<double>(n);
    embedding[2 * i + 1] -= y / static_cast<double>(n);
  }
}

// Of a tile's or row's elements: p log p + p log(1 + |d|^2).
struct Cost {
  double of_p = 0, sum_p = 0;
  void Add(double p, double dx, double dy) {
    if (p == 0) return;
    of_p += p * (std::log(p) + std::log1p(dx * dx + dy * dy));
    sum_p += p;
  }
};

}  // namespace

absl::StatusOr<Tsne> RunTsne(const Affinities& p, absl::Span<const double> initial,
                             const TsneOptions& options) {
  const size_t n = p.points;
  if (initial.size() != 2 * n) {
    return absl::InvalidArgumentError(absl::StrCat("t-SNE: the start has ", initial.size(),
                                                   " numbers; ", n, " points have ", 2 * n));
  }
  if (!(options.theta >= 0 && options.theta <= 0.7)) {
    return absl::InvalidArgumentError(
        absl::StrCat("t-SNE: theta ", options.theta, " is not between 0 and 0.7"));
  }
  for (double value : initial) {
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError("t-SNE: the start has a value that is not finite");
    }
  }
  Tsne result;
  result.exact = p.dense;
  result.embedding.assign(initial.begin(), initial.end());
  std::vector<double>& y = result.embedding;
  const double rate = std::max(kLeastRate, static_cast<double>(n) / options.exaggeration);
  std::vector<double> step(2 * n), gain(2 * n);
  const uint32_t phases[] = {options.exaggerated_iterations, options.iterations};
  for (int phase = 0; phase < 2; ++phase) {
    const double exaggeration = phase == 0 ? options.exaggeration : 1;
    const double momentum = phase == 0 ? options.early_momentum : options.momentum;
    std::fill(step.begin(), step.end(), 0.0);
    std::fill(gain.begin(), gain.end(), 1.0);
    for (uint32_t iteration = 0; iteration < phases[phase]; ++iteration) {
      NoteProgress();
      const TsneForces forces = ForcesOf(p, y, options.theta, options.threads);
      for (size_t k = 0; k < 2 * n; ++k) {
        const double quarter =
            exaggeration * forces.attraction[k] - forces.repulsion[k] / forces.normaliser;
        gain[k] = std::max(step[k] * quarter < 0 ? gain[k] + 0.2 : gain[k] * 0.8, kLeastGain);
        step[k] = momentum * step[k] - rate * gain[k] * quarter;
        y[k] += step[k];
      }
      // Drift means nothing, and floats are finest about 0.
      Centre(y);
      ++result.iterations;
    }
  }
  for (double value : y) {
    if (!std::isfinite(value)) {
      return absl::InternalError("t-SNE: the embedding did not stay finite; try other distances");
    }
  }
  result.kl = KlDivergence(p, y, options.threads);
  return result;
}

std::vector<double> PcaStart(absl::Span<const double> scores, size_t n) {
  std::vector<double> start(2 * n, 0.0);
  if (n == 0) return start;
  const size_t k = scores.size() / n;
  for (size_t i = 0; i < n; ++i) {
    for (size_t c = 0; c < std::min<size_t>(k, 2); ++c) start[2 * i + c] = scores[i * k + c];
  }
  Centre(start);
  double square = 0;
  for (size_t i = 0; i < n; ++i) square += start[2 * i] * start[2 * i];
  const double deviation = std::sqrt(square / static_cast<double>(n));
  for (double& value : start) value = deviation > 0 ? value / deviation * kStart : 0;
  return start;
}

std::vector<double> RandomStart(size_t n, uint64_t seed) {
  std::vector<double> start(2 * n);
  for (size_t i = 0; i < n; ++i) {
    NormalPair(PhiloxBlock(seed, Purpose::kTsne, i, 0, 0), &start[2 * i], &start[2 * i + 1]);
  }
  for (double& value : start) value *= kStart;
  return start;
}

double KlDivergence(const Affinities& p, absl::Span<const double> embedding, int threads) {
  const size_t n = p.points;
  std::vector<Cost> costs(n);
  if (p.dense) {
    const size_t blocks = (n + kAffinityTile - 1) / kAffinityTile;
    ForEachPiece(threads, blocks, [&](size_t a) {
      size_t tile = a * blocks - a * (a - 1) / 2;
      for (size_t b = a; b < blocks; ++b, ++tile) {
        const size_t first = b * kAffinityTile, count = std::min(kAffinityTile, n - first);
        const size_t width = (count + 15) / 16 * 16;
        const float* row = p.tiles.data() + p.tile_begin[tile];
        for (size_t i = a * kAffinityTile; i < std::min(n, (a + 1) * kAffinityTile);
             ++i, row += width) {
          for (size_t j = 0; j < count; ++j) {
            const size_t other = first + j;
            if (other <= i) continue;
            costs[i].Add(static_cast<double>(row[j]), embedding[2 * i] - embedding[2 * other],
                         embedding[2 * i + 1] - embedding[2 * other + 1]);
          }
        }
      }
    });
  } else {
    ForEachPiece(threads, n, [&](size_t i) {
      for (uint64_t e = p.begin[i]; e < p.begin[i + 1]; ++e) {
        const size_t j = p.column[e];
        if (j > i) {
          costs[i].Add(p.value[e], embedding[2 * i] - embedding[2 * j],
                       embedding[2 * i + 1] - embedding[2 * j + 1]);
        }
      }
    });
  }
  Cost all;
  for (const Cost& cost : costs) {
    all.of_p += cost.of_p;
    all.sum_p += cost.sum_p;
  }
  return 2 * all.of_p + 2 * all.sum_p * std::log(ExactNormaliser(embedding, threads));
}

std::vector<double> TsneGradient(const Affinities& p, absl::Span<const double> embedding,
                                 double theta, int threads) {
  const TsneForces forces = ForcesOf(p, embedding, theta, threads);
  std::vector<double> gradient(embedding.size());
  for (size_t k = 0; k < gradient.size(); ++k) {
    gradient[k] = 4 * (forces.attraction[k] - forces.repulsion[k] / forces.normaliser);
  }
  return gradient;
}

}  // namespace dermis
