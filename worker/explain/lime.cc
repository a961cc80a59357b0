#include "worker/explain/lime.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <tuple>
#include <utility>

namespace dermis {
namespace {

constexpr double kAlphaOfWeights = 0.01;   // Of the fit with all features by which highest_weights picks.
constexpr uint32_t kMostForward = 6;       // Features that `auto` picks one by one.
constexpr size_t kGroups = 20;
constexpr size_t kMostForErrors = 1024;

// Weighted sums over rows [begin, end). Matrices keep the lower triangle, row by row.
class Sums {
 public:
  explicit Sums(size_t n) : n_(n), zz_(n * (n + 1) / 2), z_(n), zy_(n) {}

  void Add(const Mask& mask, double y, double weight) {
    ones_.clear();
    for (size_t k = 0; k < n_; ++k) {
      if (mask[k]) ones_.push_back(k);
    }
    for (size_t a = 0; a < ones_.size(); ++a) {
      double* const row = &zz_[ones_[a] * (ones_[a] + 1) / 2];
      for (size_t b = 0; b <= a; ++b) row[ones_[b]] += weight;
      z_[ones_[a]] += weight;
      zy_[ones_[a]] += weight * y;
    }
    weight_ += weight;
    y_ += weight * y;
  }

  void Subtract(const Sums& other) {
    for (size_t i = 0; i < zz_.size(); ++i) zz_[i] -= other.zz_[i];
    for (size_t i = 0; i < n_; ++i) {
      z_[i] -= other.z_[i];
      zy_[i] -= other.zy_[i];
    }
    weight_ -= other.weight_;
    y_ -= other.y_;
  }

  // Zc' W Zc and Zc' W yc.
  double centered(size_t i, size_t j) const {
    return zz_[i * (i + 1) / 2 + j] - z_[i] * z_[j] / weight_;
  }
  double centered(size_t i) const { return zy_[i] - z_[i] * y_ / weight_; }

  // (Zc' W Zc + alpha I) b = Zc' W yc by Cholesky, of the features `kept` (ascending); the others' b is 0. The intercept then
  // follows from the means.
  std::pair<std::vector<double>, double> Solve(double alpha, const std::vector<size_t>& kept) const {
    const size_t n = kept.size();
    std::vector<double> a(n * (n + 1) / 2), b(n);
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j <= i; ++j) a[i * (i + 1) / 2 + j] = centered(kept[i], kept[j]);
      a[i * (i + 1) / 2 + i] += alpha;
      b[i] = centered(kept[i]);
    }
    for (size_t i = 0; i < n; ++i) {
      double* const row = &a[i * (i + 1) / 2];
      for (size_t j = 0; j < i; ++j) {
        const double* const other = &a[j * (j + 1) / 2];
        double sum = row[j];
        for (size_t k = 0; k < j; ++k) sum -= row[k] * other[k];
        row[j] = sum / other[j];
      }
      double sum = row[i];
      for (size_t k = 0; k < i; ++k) sum -= row[k] * row[k];
      row[i] = std::sqrt(sum);
      for (size_t k = 0; k < i; ++k) b[i] -= row[k] * b[k];
      b[i] /= row[i];
    }
    for (size_t i = n; i-- > 0;) {
      const double* const row = &a[i * (i + 1) / 2];
      b[i] /= row[i];
      for (size_t k = 0; k < i; ++k) b[k] -= row[k] * b[i];
    }
    double intercept = y_ / weight_;
    for (size_t i = 0; i < n; ++i) intercept -= z_[kept[i]] / weight_ * b[i];
    std::vector<double> coefficients(n_, 0.0);
    for (size_t i = 0; i < n; ++i) coefficients[kept[i]] = b[i];
    return {std::move(coefficients), intercept};
  }

 private:
  size_t n_;
  std::vector<double> zz_, z_, zy_;
  double weight_ = 0, y_ = 0;
  std::vector<size_t> ones_;
};

std::vector<size_t> AllOf(size_t n) {
  std::vector<size_t> all(n);
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

// One by one, each time the feature that takes most off the weighted sum of squares without a penalty (lime compares R^2, which orders
// them alike); ties go to the first. What is picked is swept out of the rest, so a step costs n^2.
std::vector<size_t> ForwardSelection(const Sums& sums, size_t n, size_t count) {
  std::vector<double> a(n * n), b(n), diagonal(n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) a[i * n + j] = a[j * n + i] = sums.centered(i, j);
    b[i] = sums.centered(i);
    diagonal[i] = a[i * n + i];
  }
  std::vector<size_t> picked;
  std::vector<bool> used(n, false);
  while (picked.size() < count) {
    size_t best = n;
    double most = -1;
    for (size_t i = 0; i < n; ++i) {
      if (used[i]) continue;
      // A feature that the picked ones make up adds nothing.
      const double left = a[i * n + i];
      const double gain = left > 1e-12 * diagonal[i] ? b[i] * b[i] / left : 0;
      if (gain > most) {
        most = gain;
        best = i;
      }
    }
    picked.push_back(best);
    used[best] = true;
    const double pivot = a[best * n + best];
    if (!(pivot > 1e-12 * diagonal[best])) continue;
    const std::vector<double> column(a.begin() + static_cast<std::ptrdiff_t>(best * n),
                                     a.begin() + static_cast<std::ptrdiff_t>((best + 1) * n));
    const double target = b[best];
    for (size_t i = 0; i < n; ++i) {
      const double share = column[i] / pivot;
      for (size_t j = 0; j < n; ++j) a[i * n + j] -= share * column[j];
      b[i] -= share * target;
    }
  }
  return picked;
}

// The features that the fit keeps, ascending.
std::vector<size_t> Selected(const Sums& sums, size_t n, const LimeOptions& options) {
  std::vector<size_t> all = AllOf(n);
  const size_t count = options.num_features;
  if (count == 0 || count >= n) return all;
  std::vector<size_t> kept;
  if (options.selection == v1::FEATURE_SELECTION_FORWARD_SELECTION ||
      (options.selection != v1::FEATURE_SELECTION_HIGHEST_WEIGHTS && count <= kMostForward)) {
    kept = ForwardSelection(sums, n, count);
  } else {
    const std::vector<double> weights = sums.Solve(kAlphaOfWeights, all).first;
    std::stable_sort(all.begin(), all.end(), [&](size_t a, size_t b) {
      return std::abs(weights[a]) > std::abs(weights[b]);
    });
    kept.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

}  // namespace

double LimeWeight(uint32_t ones, uint32_t superpixels, double width) {
  const double distance =
      ones == 0 ? 1.0 : 1.0 - std::sqrt(static_cast<double>(ones) / superpixels);
  return std::sqrt(std::exp(-(distance * distance) / (width * width)));
}

LimeFit FitLime(absl::Span<const Mask> masks, absl::Span<const double> outputs,
                const LimeOptions& options) {
  const size_t n = masks[0].size(), rows = masks.size();
  std::vector<double> weights(rows);
  for (size_t r = 0; r < rows; ++r) {
    uint32_t ones = 0;
    for (uint8_t bit : masks[r]) ones += bit;
    weights[r] = LimeWeight(ones, static_cast<uint32_t>(n), options.kernel_width);
  }
  // Measured from f(x): what is left is small, so the centring below loses nothing.
  const double origin = outputs[0];
  const auto add = [&](Sums& sums, size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) sums.Add(masks[r], outputs[r] - origin, weights[r]);
  };
  Sums all(n);
  add(all, 0, rows);
  LimeFit fit;
  double intercept = 0;
  const std::vector<size_t> kept = Selected(all, n, options);
  std::tie(fit.coefficients, intercept) = all.Solve(options.alpha, kept);
  fit.intercept = intercept + origin;

  double weight = 0, mean = 0;
  for (size_t r = 0; r < rows; ++r) {
    weight += weights[r];
    mean += weights[r] * (outputs[r] - origin);
  }
  mean /= weight;
  double residual = 0, total = 0;
  for (size_t r = 0; r < rows; ++r) {
    const double y = outputs[r] - origin;
    double predicted = intercept;
    for (size_t k = 0; k < n; ++k) {
      if (masks[r][k]) predicted += fit.coefficients[k];
    }
    residual += weights[r] * (y - predicted) * (y - predicted);
    total += weights[r] * (y - mean) * (y - mean);
  }
  fit.r_squared = total > 0 ? 1 - residual / total : (residual == 0 ? 1 : 0);

  const bool picks = kept.size() < n;
  if (rows - 1 < 2 * kGroups || n > kMostForErrors || (picks && !options.selection_errors)) {
    return fit;
  }
  std::vector<std::vector<double>> without;
  for (size_t g = 0; g < kGroups; ++g) {
    Sums group(n), rest = all;
    add(group, 1 + (rows - 1) * g / kGroups, 1 + (rows - 1) * (g + 1) / kGroups);
    rest.Subtract(group);
    // A jackknife of what jumps says nothing.
    if (picks && Selected(rest, n, options) != kept) return fit;
    without.push_back(rest.Solve(options.alpha, kept).first);
  }
  fit.standard_errors.resize(n);
  for (size_t k = 0; k < n; ++k) {
    double center = 0, sum = 0;
    for (const auto& b : without) center += b[k];
    center /= kGroups;
    for (const auto& b : without) sum += (b[k] - center) * (b[k] - center);
    fit.standard_errors[k] = std::sqrt(sum * (kGroups - 1) / kGroups);
  }
  return fit;
}

}  // namespace dermis
