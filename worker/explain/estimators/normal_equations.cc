#include "worker/explain/estimators/normal_equations.h"

#include <algorithm>
#include <utility>

namespace dermis {
namespace {

// Beyond, gamma's part of the matrix would cost more than what it saves.
constexpr size_t kMostForSlopes = 256;
// Of gamma's mean diagonal. Measured on seed_cnn, 14 and 44 superpixels, 32 to 4,096 pairs: between
// .1 and .3 the error is about the least, without it few pairs overfit.
constexpr double kRidge = 0.2;

// P a P for the projection P that takes off the mean.
SymmetricMatrix Projected(const SymmetricMatrix& a) {
  const size_t size = a.size();
  const double n = static_cast<double>(size);
  std::vector<double> sums(size, 0.0);
  double total = 0;
  for (size_t i = 0; i < size; ++i) {
    for (size_t j = 0; j < i; ++j) {
      sums[i] += a.at(i, j);
      sums[j] += a.at(i, j);
    }
    sums[i] += a.at(i, i);
  }
  for (double sum : sums) total += sum;
  SymmetricMatrix result = a;
  for (size_t i = 0; i < size; ++i) {
    for (size_t j = 0; j <= i; ++j) result.at(i, j) += (total / n - sums[i] - sums[j]) / n;
  }
  return result;
}

void Project(std::vector<double>& v) {
  double sum = 0;
  for (double value : v) sum += value;
  for (double& value : v) value -= sum / static_cast<double>(v.size());
}

double MeanDiagonal(const SymmetricMatrix& a) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a.at(i, i);
  return sum / static_cast<double>(a.size());
}

// Gives the direction that P takes off an eigenvalue of its own, so that a matrix is regular
// exactly where the solution on the plane is unique, and no superpixel is treated unlike another.
void FillMean(SymmetricMatrix& a, double eigenvalue, size_t first, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      a.at(first + i, first + j) += eigenvalue / static_cast<double>(n);
    }
  }
}

}  // namespace

NormalEquations::NormalEquations(size_t superpixels, double delta, bool adjusted)
    : n_(superpixels),
      delta_(delta),
      size_terms_(adjusted ? std::min(kSizeTerms, (superpixels - 1) / 2) : 0),
      slopes_(adjusted && superpixels > 3 && superpixels <= kMostForSlopes),
      zz_(superpixels),
      qzz_(slopes_ ? superpixels : 0),
      qqzz_(slopes_ ? superpixels : 0),
      zr_(superpixels, 0.0),
      qzr_(slopes_ ? superpixels : 0, 0.0) {
  for (size_t k = 0; k < size_terms_; ++k) {
    tz_[k].assign(n_, 0.0);
    if (slopes_) tqz_[k].assign(n_, 0.0);
  }
  for (size_t s = 1; s < n_; ++s) {
    const double t = 2.0 * static_cast<double>(s) / static_cast<double>(n_) - 1;
    mean_square_ += t * t / static_cast<double>(n_ - 1);
  }
}

void NormalEquations::Add(const Mask& mask, double target, double weight) {
  if (weight == 0) return;
  ones_.clear();
  for (size_t k = 0; k < n_; ++k) {
    if (mask[k]) ones_.push_back(k);
  }
  const double share = static_cast<double>(ones_.size()) / static_cast<double>(n_);
  const double t = 2 * share - 1, q = t * t - mean_square_;
  const double r = target - share * delta_;
  for (size_t a = 0; a < ones_.size(); ++a) {
    const size_t i = ones_[a];
    double* const row = zz_.row(i);
    for (size_t b = 0; b <= a; ++b) row[ones_[b]] += weight;
    zr_[i] += weight * r;
    if (!slopes_) continue;
    double* const once = qzz_.row(i);
    double* const twice = qqzz_.row(i);
    for (size_t b = 0; b <= a; ++b) once[ones_[b]] += weight * q;
    for (size_t b = 0; b <= a; ++b) twice[ones_[b]] += weight * q * q;
    qzr_[i] += weight * q * r;
  }
  std::array<double, kSizeTerms> powers = {t, t * t * t, t * t * t * t * t};
  for (size_t k = 0; k < size_terms_; ++k) {
    for (size_t i : ones_) {
      tz_[k][i] += weight * powers[k];
      if (slopes_) tqz_[k][i] += weight * powers[k] * q;
    }
    for (size_t l = 0; l <= k; ++l) tt_[k][l] += weight * powers[k] * powers[l];
    tr_[k] += weight * powers[k] * r;
  }
}

Solution NormalEquations::Solve() const {
  // Unknowns in order: beta, c, gamma.
  const size_t c = n_, gamma = n_ + size_terms_;
  SymmetricMatrix a(gamma + (slopes_ ? n_ : 0));
  std::vector<double> b(a.size(), 0.0);
  const auto put = [&](size_t first, const std::vector<double>& values) {
    std::copy(values.begin(), values.end(), b.begin() + static_cast<std::ptrdiff_t>(first));
  };
  const auto block = [&](size_t first, const SymmetricMatrix& values) {
    for (size_t i = 0; i < n_; ++i) {
      for (size_t j = 0; j <= i; ++j) a.at(first + i, first + j) = values.at(i, j);
    }
  };
  std::vector<double> right = zr_;
  Project(right);
  put(0, right);
  block(0, Projected(zz_));
  const double scale = MeanDiagonal(zz_);
  FillMean(a, scale, 0, n_);
  for (size_t k = 0; k < size_terms_; ++k) {
    std::vector<double> with_z = tz_[k];
    Project(with_z);
    for (size_t j = 0; j < n_; ++j) a.at(c + k, j) = with_z[j];
    for (size_t l = 0; l <= k; ++l) a.at(c + k, c + l) = tt_[k][l];
    b[c + k] = tr_[k];
  }
  if (slopes_) {
    right = qzr_;
    Project(right);
    put(gamma, right);
    const SymmetricMatrix once = Projected(qzz_), twice = Projected(qqzz_);
    block(gamma, twice);
    for (size_t i = 0; i < n_; ++i) {
      for (size_t j = 0; j < n_; ++j) {
        a.at(gamma + i, j) = i >= j ? once.at(i, j) : once.at(j, i);
      }
    }
    for (size_t k = 0; k < size_terms_; ++k) {
      std::vector<double> with_qz = tqz_[k];
      Project(with_qz);
      for (size_t i = 0; i < n_; ++i) a.at(gamma + i, c + k) = with_qz[i];
    }
    const double ridge = kRidge * MeanDiagonal(twice);
    for (size_t i = 0; i < n_; ++i) a.at(gamma + i, gamma + i) += ridge;
    FillMean(a, ridge, gamma, n_);
  }
  Solution solution = SolvePositive(a, std::move(b));
  solution.x.resize(n_);
  Project(solution.x);  // Rounding: beta is on the plane.
  for (double& value : solution.x) value += delta_ / static_cast<double>(n_);
  return solution;
}

}  // namespace dermis
