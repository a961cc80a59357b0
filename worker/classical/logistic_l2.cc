#include "worker/classical/logistic_l2.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/progress.h"
#include "common/simd.h"
#include "common/status_macros.h"
#include "worker/classical/dense.h"
#include "worker/classical/pixel_columns.h"

namespace dermis {
namespace {

using Vector = std::vector<double>;

constexpr double kLeastCurvature =
    1e-10;                                // Of p (1 - p): below it only the step's quality changes.
constexpr double kFurthestWeights = 60;   // A factor of weights that differ more is made anew.
constexpr uint32_t kMostIterations = 14;  // Of conjugate gradients before that pays, too.
constexpr uint32_t kGiveUpIterations = 200;

double Dot(const Vector& a, const Vector& b) { return dermis::Dot(a.data(), b.data(), a.size()); }

class Newton {
 public:
  Newton(const Kernel& kernel, absl::Span<const uint8_t> labels, const L2Options& options)
      : kernel_(kernel),
        options_(options),
        n_(kernel.rows),
        signs_(n_),
        dual_(n_, 0.0),
        margins_(n_, 0.0),
        residuals_(n_),
        curvatures_(n_) {
    for (size_t i = 0; i < n_; ++i) signs_[i] = labels[i] != 0 ? 1.0 : -1.0;
  }

  L2Fit Fit(double c) {
    L2Fit fit;
    fit.strength = c;
    Vector u(n_), ku(n_), kr(n_);
    for (;; ++fit.steps) {
      // Gradient by w: X^T u with u = dual - C r.
      double sum = 0, sum_of_sizes = 0;
      for (size_t i = 0; i < n_; ++i) {
        const double wrong = LogisticSigmoid(-signs_[i] * margins_[i]);
        residuals_[i] = signs_[i] * wrong;
        curvatures_[i] = std::max(kLeastCurvature, wrong * (1 - wrong));
        u[i] = dual_[i] - c * residuals_[i];
        sum += residuals_[i];
        sum_of_sizes += wrong;
      }
      Multiply(kernel_.values.data(), n_, n_, u.data(), ku.data());
      fit.norm = std::sqrt(std::max(0.0, Quadratic()));
      const double slope = std::sqrt(std::max(0.0, Dot(u, ku)));
      fit.gradient = std::max(slope == 0 ? 0 : slope / fit.norm,
                              sum_of_sizes == 0 ? 0 : std::abs(sum) / sum_of_sizes);
      fit.converged = fit.gradient <= options_.tolerance;
      if (fit.converged || fit.steps == options_.max_steps) break;
      if (!Step(c, u, ku, fit.gradient)) break;
    }
    fit.dual = dual_;
    fit.intercept = intercept_;
    fit.objective = .5 * Quadratic() + c * Loss(margins_);
    return fit;
  }

 private:
  // dual^T K dual.
  double Quadratic() const {
    double sum = 0;
    for (size_t i = 0; i < n_; ++i) sum += dual_[i] * (margins_[i] - intercept_);
    return sum;
  }
  double Loss(const Vector& margins) const {
    double sum = 0;
    for (size_t i = 0; i < n_; ++i) sum += LogisticLoss(signs_[i] * margins[i]);
    return sum;
  }

  // With s = sqrt(C p (1 - p)) and B = 1 + s K s: B y + db s = -u / s, ddual = s y, and the sum of
  // the duals stays 0. False: no step makes the objective smaller.
  bool Step(double c, const Vector& u, const Vector& ku, double gradient) {
    Vector s(n_), first(n_), second(n_);
    for (size_t i = 0; i < n_; ++i) {
      s[i] = std::sqrt(c * curvatures_[i]);
      first[i] = -u[i] / s[i];
      second[i] = s[i];
    }
    Solve(s, std::clamp(gradient, 1e-9, 1e-2), &first, &second);
    double sum = 0;
    for (double dual : dual_) sum += dual;
    const double change = (Dot(s, first) + sum) / Dot(s, second);
    // Most often the whole step is taken: the products of where it leads come with its own.
    Vector step(n_), along(n_), margins(n_), reached_dual(n_), reached_margins(n_);
    for (size_t i = 0; i < n_; ++i) {
      step[i] = s[i] * (first[i] - change * second[i]);
      reached_dual[i] = dual_[i] + step[i];
    }
    const double* const in[2] = {step.data(), reached_dual.data()};
    double* const out[2] = {along.data(), reached_margins.data()};
    MultiplyTwo(kernel_.values.data(), n_, n_, in, out);
    // The objective along the step: a parabola and the losses.
    const double linear = Dot(dual_, along), square = Dot(step, along);
    double residual_sum = 0;
    for (double residual : residuals_) residual_sum += residual;
    const double slope = Dot(step, ku) - c * residual_sum * change;
    const double quadratic = .5 * Quadratic(), start = quadratic + c * Loss(margins_);
    double length = 1;
    for (int halving = 0; halving < 40; ++halving, length /= 2) {
      for (size_t i = 0; i < n_; ++i) margins[i] = margins_[i] + length * (along[i] + change);
      const double reached =
          quadratic + length * linear + .5 * length * length * square + c * Loss(margins);
      // The last steps change less than the objective's own rounding.
      if (reached <= start + 1e-4 * length * slope + 1e-13 * std::abs(start)) {
        intercept_ += length * change;
        // Margins anew: errors of updates would add up over the path.
        if (halving == 0) {
          dual_ = std::move(reached_dual);
          margins_ = std::move(reached_margins);
        } else {
          for (size_t i = 0; i < n_; ++i) dual_[i] += length * step[i];
          Multiply(kernel_.values.data(), n_, n_, dual_.data(), margins_.data());
        }
        for (double& margin : margins_) margin += intercept_;
        return true;
      }
    }
    return false;
  }

  // B x = b for both, to residuals of `tolerance` times b.
  void Solve(const Vector& s, double tolerance, Vector* first, Vector* second) {
    bool stale = factor_.empty() || last_iterations_ > kMostIterations;
    if (!stale) {
      double least = 1, most = 1;
      for (size_t i = 0; i < n_; ++i) {
        const double ratio = (s[i] / factored_[i]) * (s[i] / factored_[i]);
        least = std::min(least, ratio);
        most = std::max(most, ratio);
      }
      stale = most / least > kFurthestWeights;
    }
    if (stale) Factor(s);
    Gradients(s, tolerance, first, second);
  }

  void Factor(const Vector& s) {
    factor_.resize(n_ * n_);
    for (size_t i = 0; i < n_; ++i) {
      const double* const row = kernel_.row(i);
      for (size_t j = 0; j <= i; ++j) factor_[i * n_ + j] = s[i] * row[j] * s[j];
      factor_[i * n_ + i] += 1;
    }
    factored_ = s;
    // B's eigenvalues are 1 at least; rounding takes no more than a part of it.
    usable_ = Cholesky(factor_.data(), n_, n_, 1e-3);
  }

  struct System {
    Vector* x;
    Vector residual, direction, preconditioned, scaled, image;
    double rho = 0, goal = 0;
    bool done = false;
  };

  // Those that are not done.
  void Precondition(const Vector& ratio, System systems[2]) const {
    double* out[2];
    int count = 0;
    for (System* system = systems; system != systems + 2; ++system) {
      if (system->done) continue;
      for (size_t i = 0; i < n_; ++i) system->preconditioned[i] = system->residual[i] * ratio[i];
      out[count++] = system->preconditioned.data();
    }
    if (usable_ && count == 1) SolveCholesky(factor_.data(), n_, n_, out[0]);
    if (usable_ && count == 2) SolveCholeskyTwo(factor_.data(), n_, n_, out);
    for (int k = 0; k < count; ++k) {
      for (size_t i = 0; i < n_; ++i) out[k][i] *= ratio[i];
    }
  }

  // image = K scaled of those that are not done.
  void MultiplySystems(System systems[2]) const {
    const double* in[2];
    double* out[2];
    int count = 0;
    for (System* system = systems; system != systems + 2; ++system) {
      if (system->done) continue;
      in[count] = system->scaled.data();
      out[count++] = system->image.data();
    }
    const double* const k = kernel_.values.data();
    if (count == 1) Multiply(k, n_, n_, in[0], out[0]);
    if (count == 2) MultiplyTwo(k, n_, n_, in, out);
  }

  // Conjugate gradients, both systems side by side. They start at 0.
  void Gradients(const Vector& s, double tolerance, Vector* first, Vector* second) {
    Vector ratio(n_);
    for (size_t i = 0; i < n_; ++i) ratio[i] = usable_ ? factored_[i] / s[i] : 1.0;
    System systems[2];
    for (int k = 0; k < 2; ++k) {
      System& system = systems[k];
      system.x = k == 0 ? first : second;
      system.residual = *system.x;
      system.x->assign(n_, 0.0);
      system.preconditioned.resize(n_);
      system.scaled.assign(n_, 0.0);
      system.image.resize(n_);
      system.goal = tolerance * std::sqrt(Dot(system.residual, system.residual));
      system.done = system.goal == 0;
    }
    Precondition(ratio, systems);
    for (System& system : systems) {
      system.direction = system.preconditioned;
      system.rho = Dot(system.residual, system.preconditioned);
    }
    last_iterations_ = 0;
    while (!(systems[0].done && systems[1].done) && last_iterations_ < kGiveUpIterations) {
      ++last_iterations_;
      NoteProgress();
      for (System& system : systems) {
        if (system.done) continue;
        for (size_t i = 0; i < n_; ++i) system.scaled[i] = s[i] * system.direction[i];
      }
      MultiplySystems(systems);
      for (System& system : systems) {
        if (system.done) continue;
        for (size_t i = 0; i < n_; ++i) {
          system.image[i] = system.direction[i] + s[i] * system.image[i];
        }
        const double length = system.rho / Dot(system.direction, system.image);
        for (size_t i = 0; i < n_; ++i) {
          (*system.x)[i] += length * system.direction[i];
          system.residual[i] -= length * system.image[i];
        }
        system.done = std::sqrt(Dot(system.residual, system.residual)) <= system.goal;
      }
      Precondition(ratio, systems);
      for (System& system : systems) {
        if (system.done) continue;
        const double rho = Dot(system.residual, system.preconditioned);
        const double share = rho / system.rho;
        system.rho = rho;
        for (size_t i = 0; i < n_; ++i) {
          system.direction[i] = system.preconditioned[i] + share * system.direction[i];
        }
      }
    }
  }

  const Kernel& kernel_;
  const L2Options options_;
  const size_t n_;
  Vector signs_, dual_, margins_, residuals_, curvatures_;
  double intercept_ = 0;
  Vector factor_, factored_;  // Of 1 + s K s, and that s.
  bool usable_ = false;
  uint32_t last_iterations_ = 0;
};

DERMIS_SIMD void AddScaled(const uint8_t* row, double scale, double* out, size_t count) {
  for (size_t k = 0; k < count; ++k) out[k] += scale * static_cast<double>(row[k]);
}

}  // namespace

absl::StatusOr<std::vector<L2Fit>> FitL2Path(const Kernel& kernel, absl::Span<const uint8_t> labels,
                                             absl::Span<const double> strengths,
                                             const L2Options& options) {
  if (kernel.rows != kernel.columns || kernel.rows != labels.size() ||
      kernel.values.size() != kernel.rows * kernel.columns) {
    return absl::InvalidArgumentError(absl::StrCat("logistic regression: a kernel of ", kernel.rows,
                                                   " x ", kernel.columns, " for ", labels.size(),
                                                   " labels"));
  }
  RETURN_IF_ERROR(CheckFit(labels, strengths));
  Newton newton(kernel, labels, options);
  std::vector<L2Fit> fits;
  for (double strength : strengths) fits.push_back(newton.Fit(strength));
  return fits;
}

std::vector<double> Margins(const Kernel& cross, const L2Fit& fit) {
  std::vector<double> margins(cross.rows);
  Multiply(cross.values.data(), cross.rows, cross.columns, fit.dual.data(), margins.data());
  for (double& margin : margins) margin += fit.intercept;
  return margins;
}

LogisticModel L2Model(absl::Span<const uint8_t* const> rows, uint32_t size, const L2Fit& fit) {
  const size_t p = size_t{size} * size * 3;
  LogisticModel model{size, std::vector<double>(p, 0.0), MeanPixels(rows, p), fit.intercept};
  double sum = 0;
  // A strip of pixels stays in the cache while the images go by.
  constexpr size_t kStrip = 8192;
  for (size_t start = 0; start < p; start += kStrip) {
    NoteProgress();
    const size_t count = std::min(kStrip, p - start);
    for (size_t i = 0; i < rows.size(); ++i) {
      AddScaled(rows[i] + start, fit.dual[i], &model.weights[start], count);
    }
  }
  for (double dual : fit.dual) sum += dual;  // 0 but for rounding.
  for (size_t k = 0; k < p; ++k) model.weights[k] = model.weights[k] / 255 - sum * model.mean[k];
  return model;
}

}  // namespace dermis
