#include "worker/explain/lime.h"

#include <cmath>
#include <cstddef>
#include <tuple>
#include <utility>

namespace dermis {
namespace {

constexpr double kAlpha = 1.0;
constexpr double kKernelWidth = 0.25;
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

  // (Zc' W Zc + alpha I) b = Zc' W yc by Cholesky; the intercept then follows from the means.
  std::pair<std::vector<double>, double> Solve() const {
    std::vector<double> a = zz_, b(n_);
    for (size_t i = 0; i < n_; ++i) {
      for (size_t j = 0; j <= i; ++j) a[i * (i + 1) / 2 + j] -= z_[i] * z_[j] / weight_;
      a[i * (i + 1) / 2 + i] += kAlpha;
      b[i] = zy_[i] - z_[i] * y_ / weight_;
    }
    for (size_t i = 0; i < n_; ++i) {
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
    for (size_t i = n_; i-- > 0;) {
      const double* const row = &a[i * (i + 1) / 2];
      b[i] /= row[i];
      for (size_t k = 0; k < i; ++k) b[k] -= row[k] * b[i];
    }
    double intercept = y_ / weight_;
    for (size_t i = 0; i < n_; ++i) intercept -= z_[i] / weight_ * b[i];
    return {std::move(b), intercept};
  }

 private:
  size_t n_;
  std::vector<double> zz_, z_, zy_;
  double weight_ = 0, y_ = 0;
  std::vector<size_t> ones_;
};

}  // namespace

double LimeWeight(uint32_t ones, uint32_t superpixels) {
  const double distance =
      ones == 0 ? 1.0 : 1.0 - std::sqrt(static_cast<double>(ones) / superpixels);
  return std::sqrt(std::exp(-(distance * distance) / (kKernelWidth * kKernelWidth)));
}

LimeFit FitLime(absl::Span<const Mask> masks, absl::Span<const double> outputs) {
  const size_t n = masks[0].size(), rows = masks.size();
  std::vector<double> weights(rows);
  for (size_t r = 0; r < rows; ++r) {
    uint32_t ones = 0;
    for (uint8_t bit : masks[r]) ones += bit;
    weights[r] = LimeWeight(ones, static_cast<uint32_t>(n));
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
  std::tie(fit.coefficients, intercept) = all.Solve();
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

  if (rows - 1 < 2 * kGroups || n > kMostForErrors) return fit;
  std::vector<std::vector<double>> without;
  for (size_t g = 0; g < kGroups; ++g) {
    Sums group(n), rest = all;
    add(group, 1 + (rows - 1) * g / kGroups, 1 + (rows - 1) * (g + 1) / kGroups);
    rest.Subtract(group);
    without.push_back(rest.Solve().first);
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
