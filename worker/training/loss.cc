#include "worker/training/loss.h"

#include <cmath>
#include <vector>

namespace dermis {
namespace {

double CrossEntropy(const float* logits, uint32_t classes, uint32_t label, double* probability,
                    uint32_t* best) {
  double top = logits[0];
  *best = 0;
  for (uint32_t k = 1; k < classes; ++k) {
    if (logits[k] > top) {
      top = logits[k];
      *best = k;
    }
  }
  double sum = 0;
  for (uint32_t k = 0; k < classes; ++k) {
    probability[k] = std::exp(static_cast<double>(logits[k]) - top);
    sum += probability[k];
  }
  for (uint32_t k = 0; k < classes; ++k) probability[k] /= sum;
  return std::log(sum) + top - static_cast<double>(logits[label]);
}

}  // namespace

PassResult SoftmaxLoss(const float* logits, absl::Span<const uint32_t> labels, uint32_t classes,
                       float loss_scale, float* dlogits) {
  PassResult result;
  std::vector<double> probability(classes);
  for (size_t i = 0; i < labels.size(); ++i) {
    uint32_t best = 0;
    result.loss += CrossEntropy(&logits[i * classes], classes, labels[i], probability.data(), &best);
    result.correct += best == labels[i];
    for (uint32_t k = 0; k < classes; ++k) {
      dlogits[i * classes + k] = static_cast<float>(
          static_cast<double>(loss_scale) * (probability[k] - (k == labels[i] ? 1.0 : 0.0)));
    }
  }
  return result;
}

}  // namespace dermis
