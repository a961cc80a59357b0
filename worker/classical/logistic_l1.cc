#include "worker/classical/logistic_l1.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/progress.h"
#include "common/simd.h"
#include "common/status_macros.h"
#include "worker/classical/dense.h"

namespace dermis {
namespace {

using Vector = std::vector<double>;

constexpr double kLeastCurvature = 1e-12;
constexpr double kRidge =
    1e-11;  // Of the largest diagonal element: keeps the factor of equal pixels.
constexpr size_t kLeastWorking = 100;  // Pixels that are added to those whose weight is not 0.
constexpr size_t kMostWorking = 400;
constexpr double kFar = 20;  // Decades are near.
constexpr double kStride = 10;
constexpr double kRough = 1e-2;    // The gap where a stop on the way is left.
constexpr int kMostSteps = 60;     // Newton's, between passes over all pixels.
constexpr int kMostRounds = 60;    // Of coordinate descent and a step in the subspace.
constexpr int kSubspaceSteps = 3;  // A round.
constexpr int kEpochs = 5;         // Of coordinate descent, a round.

// sum_i column_i r_i; lanes apart, then in order.
DERMIS_SIMD double DotBytes(const uint8_t* column, const double* r, size_t n) {
  constexpr size_t kLanes = 32;
  double lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += static_cast<double>(column[i + lane]) * r[i + lane];
    }
  }
  for (; i < n; ++i) lanes[i % kLanes] += static_cast<double>(column[i]) * r[i];
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return sum;
}

DERMIS_SIMD void AddScaled(double scale, const double* x, double* y, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] += scale * x[i];
}

double SoftThreshold(double value, double by) {
  return value > by ? value - by : value < -by ? value + by : 0.0;
}

double Entropy(double a) {
  const auto part = [](double x) { return x > 0 ? -x * std::log(x) : 0.0; };
  return part(a) + part(1 - a);
}

// How far a weight's gradient g is from the subgradient of |w|.
double Violation(double weight, double g) {
  return weight > 0   ? std::abs(g + 1)
         : weight < 0 ? std::abs(g - 1)
                      : std::max(0.0, std::abs(g) - 1);
}

// min over w: g . (w - w0) + (w - w0) H (w - w0) / 2 + ||w||_1 on the working set.
class Quadratic {
 public:
  Quadratic(size_t m, const Vector& hessian, Vector gradient, Vector weights)
      : m_(m), hessian_(hessian), gradient_(std::move(gradient)), weights_(std::move(weights)) {}

  // Until no weight breaks its condition by more than `tolerance`.
  void Solve(double tolerance) {
    for (int round = 0; round < kMostRounds; ++round) {
      for (int epoch = 0; epoch < kEpochs; ++epoch) Descend();
      for (int step = 0; step < kSubspaceSteps; ++step) {
        if (Worst() <= tolerance) return;
        if (!Subspace()) break;
      }
    }
  }
  const Vector& weights() const { return weights_; }

 private:
  void Descend() {
    for (size_t j = 0; j < m_; ++j) {
      const double curvature = hessian_[j * m_ + j];
      if (!(curvature > 0)) continue;
      const double weight = SoftThreshold(weights_[j] - gradient_[j] / curvature, 1 / curvature);
      if (weight != weights_[j]) Move(j, weight);
    }
  }
  void Move(size_t j, double weight) {
    AddScaled(weight - weights_[j], &hessian_[j * m_], gradient_.data(), m_);
    weights_[j] = weight;
  }
  double Worst() const {
    double worst = 0;
    for (size_t j = 0; j < m_; ++j) worst = std::max(worst, Violation(weights_[j], gradient_[j]));
    return worst;
  }
  // Towards the exact minimum over the weights that are not 0: coordinate descent alone needs
  // thousands of rounds where neighbouring pixels are alike. A weight that would change its sign
  // becomes 0; the step is shortened until the function falls. False: it does not.
  bool Subspace() {
    std::vector<size_t> support;
    for (size_t j = 0; j < m_; ++j) {
      if (weights_[j] != 0) support.push_back(j);
    }
    const size_t s = support.size();
    if (s == 0) return false;
    Vector factor(s * s), step(s);
    for (size_t a = 0; a < s; ++a) {
      const size_t j = support[a];
      for (size_t b = 0; b <= a; ++b) factor[a * s + b] = hessian_[j * m_ + support[b]];
      step[a] = -(gradient_[j] + (weights_[j] > 0 ? 1 : -1));
    }
    if (!Cholesky(factor.data(), s, s, 0)) return false;
    SolveCholesky(factor.data(), s, s, step.data());
    double length = 1;
    for (int halving = 0; halving < 12; ++halving, length /= 2) {
      Vector to = weights_, change(m_, 0.0);
      double size = 0, linear = 0;
      for (size_t a = 0; a < s; ++a) {
        const size_t j = support[a];
        const double weight = weights_[j] + length * step[a];
        to[j] = weight * weights_[j] > 0 ? weight : 0.0;
        const double moved = to[j] - weights_[j];
        size += std::abs(to[j]) - std::abs(weights_[j]);
        linear += moved * gradient_[j];
        if (moved != 0) AddScaled(moved, &hessian_[j * m_], change.data(), m_);
      }
      double square = 0;
      for (size_t j : support) square += (to[j] - weights_[j]) * change[j];
      if (linear + .5 * square + size <= 0) {
        weights_ = std::move(to);
        for (size_t j = 0; j < m_; ++j) gradient_[j] += change[j];
        return true;
      }
    }
    return false;
  }

  const size_t m_;
  const Vector& hessian_;
  Vector gradient_, weights_;
};

class Solver {
 public:
  Solver(const PixelColumns& columns, absl::Span<const uint8_t> labels, const L1Options& options)
      : columns_(columns),
        options_(options),
        n_(columns.rows()),
        p_(columns.features()),
        signs_(n_),
        means_(p_),
        weights_(p_, 0.0),
        linear_(n_, 0.0),
        residuals_(n_),
        curvatures_(n_),
        gradient_(p_) {
    for (size_t i = 0; i < n_; ++i) signs_[i] = labels[i] != 0 ? 1.0 : -1.0;
    for (size_t j = 0; j < p_; ++j) {
      uint64_t sum = 0;
      for (size_t i = 0; i < n_; ++i) sum += columns.column(j)[i];
      means_[j] = static_cast<double>(sum) / (255.0 * static_cast<double>(n_));
    }
  }

  L1Fit Fit(double c) {
    L1Fit fit;
    fit.strength = c;
    Reach(c, options_.tolerance, &fit);
    fit.converged = fit.gap <= options_.tolerance;
    for (size_t j = 0; j < p_; ++j) {
      if (weights_[j] == 0) continue;
      fit.features.push_back(static_cast<uint32_t>(j));
      fit.weights.push_back(weights_[j]);
    }
    fit.intercept = intercept_;
    return fit;
  }

 private:
  // To a gap of at most `tolerance`, or as near as the passes allow.
  void Reach(double c, double tolerance, L1Fit* fit) {
    c_ = c;
    CentreIntercept();
    fit->gap = Pass(fit);
    // The weights are about those of strength c / largest_. From far below, most of the working set
    // is chosen wrongly and Newton's steps are many: a stop on the way costs less.
    if (largest_ > kFar && fit->passes < options_.max_passes) {
      Reach(c / kStride, std::max(tolerance, kRough), fit);
      c_ = c;
      CentreIntercept();
      fit->gap = Pass(fit);
    }
    double sought = .1;  // The worst violation that is left within the working set.
    while (fit->gap > tolerance && fit->passes < options_.max_passes) {
      if (!ChooseWorking(sought)) sought /= 10;  // Nothing new breaks its condition: be stricter.
      Work(sought);
      CentreIntercept();
      fit->gap = Pass(fit);
    }
  }
  double Loss(const Vector& linear, double intercept) const {
    double sum = 0;
    for (size_t i = 0; i < n_; ++i) sum += LogisticLoss(signs_[i] * (linear[i] + intercept));
    return sum;
  }
  void Residuals() {
    for (size_t i = 0; i < n_; ++i) {
      const double wrong = LogisticSigmoid(-signs_[i] * (linear_[i] + intercept_));
      residuals_[i] = signs_[i] * wrong;
      curvatures_[i] = std::max(kLeastCurvature, wrong * (1 - wrong));
    }
  }

  // The best intercept for these weights, so that the residuals sum to 0 and are feasible in the
  // dual. The sum falls with the intercept: Newton's steps within a bracket.
  void CentreIntercept() {
    double low = -INFINITY, high = INFINITY;
    NoteProgress();
    for (int step = 0; step < 200; ++step) {
      Residuals();
      double sum = 0, size = 0, curvature = 0;
      for (size_t i = 0; i < n_; ++i) {
        sum += residuals_[i];
        size += std::abs(residuals_[i]);
        curvature += curvatures_[i];
      }
      if (std::abs(sum) <= 1e-14 * size) return;
      (sum > 0 ? low : high) = intercept_;
      double next = intercept_ + std::clamp(sum / curvature, -4.0, 4.0);
      if (!(next > low && next < high)) next = (low + high) / 2;
      if (next == intercept_ || !std::isfinite(next)) return;
      intercept_ = next;
    }
    Residuals();
  }

  // The gradient of all pixels and the duality gap.
  double Pass(L1Fit* fit) {
    ++fit->passes;
    double sum = 0, largest = 0, size = 0;
    for (double residual : residuals_) sum += residual;
    for (size_t j = 0; j < p_; ++j) {
      gradient_[j] =
          -c_ * (DotBytes(columns_.column(j), residuals_.data(), n_) / 255 - means_[j] * sum);
      largest = std::max(largest, std::abs(gradient_[j]));
      size += std::abs(weights_[j]);
    }
    largest_ = largest;
    fit->objective = size + c_ * Loss(linear_, intercept_);
    const double scale = largest > 1 ? 1 / largest : 1.0;
    double dual = 0;
    for (double residual : residuals_) dual += Entropy(scale * std::abs(residual));
    return (fit->objective - c_ * dual) / fit->objective;
  }

  // The weights that are not 0 and the pixels that break their condition most. False: none breaks
  // its condition by more than `sought` that was not there before.
  bool ChooseWorking(double sought) {
    std::vector<std::pair<double, uint32_t>> others;
    std::vector<uint32_t> chosen;
    for (size_t j = 0; j < p_; ++j) {
      if (weights_[j] != 0) {
        chosen.push_back(static_cast<uint32_t>(j));
      } else {
        others.emplace_back(-std::abs(gradient_[j]), static_cast<uint32_t>(j));
      }
    }
    const size_t added =
        std::min(others.size(), std::clamp(chosen.size(), kLeastWorking, kMostWorking));
    std::partial_sort(others.begin(), others.begin() + static_cast<ptrdiff_t>(added), others.end());
    bool news = false;
    for (size_t k = 0; k < added; ++k) {
      if (-others[k].first > 1 + sought &&
          !std::binary_search(working_.begin(), working_.end(), others[k].second)) {
        news = true;
      }
      chosen.push_back(others[k].second);
    }
    std::sort(chosen.begin(), chosen.end());
    if (chosen != working_) {
      working_ = std::move(chosen);
      values_.resize(working_.size() * n_);
      for (size_t a = 0; a < working_.size(); ++a) {
        const uint8_t* const column = columns_.column(working_[a]);
        const double mean = means_[working_[a]];
        for (size_t i = 0; i < n_; ++i) values_[a * n_ + i] = column[i] / 255.0 - mean;
      }
    }
    return news;
  }

  // Proximal Newton steps on the working set.
  void Work(double sought) {
    const size_t m = working_.size();
    Vector scaled(m * n_), hessian(m * m), sums(m), gradient(m), weights(m);
    for (int step = 0; step < kMostSteps; ++step) {
      Residuals();
      double curvature = 0, residual = 0;
      Vector roots(n_);
      for (size_t i = 0; i < n_; ++i) {
        curvature += curvatures_[i];
        residual += residuals_[i];
        roots[i] = std::sqrt(curvatures_[i]);
      }
      double worst = c_ * std::abs(residual);
      for (size_t a = 0; a < m; ++a) {
        const double* const values = &values_[a * n_];
        weights[a] = weights_[working_[a]];
        const double plain = Dot(values, residuals_.data(), n_);
        worst = std::max(worst, Violation(weights[a], -c_ * plain));
        sums[a] = Dot(values, curvatures_.data(), n_);
        // The intercept takes its best value for any weights.
        gradient[a] = -c_ * (plain - sums[a] * residual / curvature);
      }
      if (worst <= sought) return;
      for (size_t a = 0; a < m; ++a) {
        for (size_t i = 0; i < n_; ++i) scaled[a * n_ + i] = values_[a * n_ + i] * roots[i];
      }
      std::fill(hessian.begin(), hessian.end(), 0.0);
      AddProducts(scaled.data(), m, scaled.data(), m, n_, n_, 1, true, hessian.data(), m);
      double largest = 0;
      for (size_t a = 0; a < m; ++a) {
        for (size_t b = 0; b <= a; ++b) {
          hessian[b * m + a] = hessian[a * m + b] =
              c_ * (hessian[a * m + b] - sums[a] * sums[b] / curvature);
        }
        largest = std::max(largest, hessian[a * m + a]);
      }
      for (size_t a = 0; a < m; ++a) hessian[a * m + a] += kRidge * largest;
      Quadratic quadratic(m, hessian, gradient, weights);
      quadratic.Solve(std::min({.1, .3 * sought + .01 * worst, .1 * worst}));
      if (!Advance(quadratic.weights(), weights, sums, residual, curvature)) return;
    }
  }

  // A step along the change of the weights that makes the objective smaller.
  bool Advance(const Vector& to, const Vector& from, const Vector& sums, double residual,
               double curvature) {
    const size_t m = working_.size();
    Vector along(n_, 0.0), linear(n_);
    double intercept = residual, now = 0;
    for (size_t a = 0; a < m; ++a) {
      now += std::abs(from[a]);
      const double change = to[a] - from[a];
      if (change == 0) continue;
      AddScaled(change, &values_[a * n_], along.data(), n_);
      intercept -= sums[a] * change;
    }
    intercept /= curvature;
    const double start = now + c_ * Loss(linear_, intercept_);
    double length = 1;
    for (int halving = 0; halving < 40; ++halving, length /= 2) {
      double size = 0;
      for (size_t a = 0; a < m; ++a) size += std::abs(from[a] + length * (to[a] - from[a]));
      for (size_t i = 0; i < n_; ++i) linear[i] = linear_[i] + length * along[i];
      const double reached = size + c_ * Loss(linear, intercept_ + length * intercept);
      if (reached <= start * (1 + 1e-14)) {
        for (size_t a = 0; a < m; ++a) {
          weights_[working_[a]] = length == 1 ? to[a] : from[a] + length * (to[a] - from[a]);
        }
        linear_.swap(linear);
        intercept_ += length * intercept;
        return reached < start;
      }
    }
    return false;
  }

  const PixelColumns& columns_;
  const L1Options options_;
  const size_t n_, p_;
  double c_ = 1;
  Vector signs_, means_, weights_, linear_, residuals_, curvatures_, gradient_;
  double intercept_ = 0;
  double largest_ = 0;  // Of the gradient, at the last pass.
  std::vector<uint32_t> working_;
  Vector values_;  // The working pixels' centred columns.
};

}  // namespace

absl::StatusOr<std::vector<L1Fit>> FitL1Path(const PixelColumns& columns,
                                             absl::Span<const uint8_t> labels,
                                             absl::Span<const double> strengths,
                                             const L1Options& options) {
  if (columns.rows() != labels.size()) {
    return absl::InvalidArgumentError(absl::StrCat("logistic regression: ", columns.rows(),
                                                   " images for ", labels.size(), " labels"));
  }
  RETURN_IF_ERROR(CheckFit(labels, strengths));
  Solver solver(columns, labels, options);
  std::vector<L1Fit> fits;
  for (double strength : strengths) fits.push_back(solver.Fit(strength));
  return fits;
}

LogisticModel L1Model(const L1Fit& fit, uint32_t size, std::vector<double> mean) {
  LogisticModel model{size, std::vector<double>(mean.size(), 0.0), std::move(mean), fit.intercept};
  for (size_t k = 0; k < fit.features.size(); ++k) model.weights[fit.features[k]] = fit.weights[k];
  return model;
}

}  // namespace dermis
