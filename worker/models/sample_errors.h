// Standard errors of a mean over independent samples of a map, and of that mean's sum.
#ifndef DERMIS_WORKER_MODELS_SAMPLE_ERRORS_H_
#define DERMIS_WORKER_MODELS_SAMPLE_ERRORS_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dermis {

// Welford's update: no difference of large sums.
class SampleErrors {
 public:
  explicit SampleErrors(size_t pixels) : means_(pixels), squares_(pixels) {}

  // The next sample's map: value(p) for each pixel, in order.
  template <typename Value>
  void Add(Value value) {
    ++count_;
    double sum = 0;
    for (size_t p = 0; p < means_.size(); ++p) {
      const double v = value(p);
      sum += v;
      Update(v, means_[p], squares_[p]);
    }
    Update(sum, sum_mean_, sum_squares_);
  }

  // One sample says nothing about another.
  bool available() const { return count_ >= 2; }
  size_t pixels() const { return means_.size(); }
  double of(size_t pixel) const { return Error(squares_[pixel]); }
  double of_sum() const { return Error(sum_squares_); }

 private:
  void Update(double value, double& mean, double& squares) const {
    const double off = value - mean;
    mean += off / static_cast<double>(count_);
    squares += off * (value - mean);
  }
  double Error(double squares) const {
    return std::sqrt(squares / (static_cast<double>(count_) * static_cast<double>(count_ - 1)));
  }

  uint64_t count_ = 0;
  std::vector<double> means_, squares_;
  double sum_mean_ = 0, sum_squares_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_SAMPLE_ERRORS_H_
