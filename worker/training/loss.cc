#include "worker/training/loss.h"

#include <cmath>

namespace dermis {
namespace {

// p = softmax(logits); returns log sum exp.
double Softmax(const float* logits, uint32_t classes, double* p, uint32_t* best) {
  double top = static_cast<double>(logits[0]);
  *best = 0;
  for (uint32_t k = 1; k < classes; ++k) {
    if (static_cast<double>(logits[k]) > top) {
      top = static_cast<double>(logits[k]);
      *best = k;
    }
  }
  double sum = 0;
  for (uint32_t k = 0; k < classes; ++k) {
    p[k] = std::exp(static_cast<double>(logits[k]) - top);
    sum += p[k];
  }
  for (uint32_t k = 0; k < classes; ++k) p[k] /= sum;
  return std::log(sum) + top;
}

}  // namespace

PassResult SoftmaxLoss(const Loss& loss, const float* logits, absl::Span<const uint32_t> labels,
                       uint32_t classes, float scale, float* dlogits) {
  PassResult result;
  std::vector<double> p(classes), target(classes);
  for (size_t i = 0; i < labels.size(); ++i, logits += classes, dlogits += classes) {
    uint32_t best = 0;
    const double log_sum = Softmax(logits, classes, p.data(), &best);
    result.correct += best == labels[i];
    double mass = 0;
    for (uint32_t k = 0; k < classes; ++k) {
      target[k] = loss.smoothing / classes * loss.weight(k);
      if (k == labels[i]) target[k] += (1 - loss.smoothing) * loss.weight(k);
      mass += target[k];
      // A target of nothing counts nothing, however far its logit is.
      if (target[k] != 0) result.loss += target[k] * (log_sum - static_cast<double>(logits[k]));
    }
    for (uint32_t k = 0; k < classes; ++k) {
      dlogits[k] = static_cast<float>(static_cast<double>(scale) * (p[k] * mass - target[k]));
    }
  }
  return result;
}

}  // namespace dermis
