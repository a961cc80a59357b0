// Softmax cross entropy of a shard's logits: its value, and its gradient for the backward pass. As
// torch.nn.functional.cross_entropy has it, label smoothing and class weights included.
#ifndef DERMIS_WORKER_TRAINING_LOSS_H_
#define DERMIS_WORKER_TRAINING_LOSS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

// Image i of class y has the target t(k) = (1 - smoothing) w(y) [k = y] + smoothing / classes w(k),
// and the loss -sum over k of t(k) log p(k).
struct Loss {
  double smoothing = 0;
  std::vector<double> class_weights;  // Empty: all 1.

  double weight(uint32_t label) const { return class_weights.empty() ? 1 : class_weights[label]; }
};

struct PassResult {
  double loss = 0;  // Sum of the images' losses, in order.
  uint32_t correct = 0;
};

// logits, dlogits: [labels, classes]. dlogits: the gradient of scale * the sum of the losses.
// Computed in double.
PassResult SoftmaxLoss(const Loss& loss, const float* logits, absl::Span<const uint32_t> labels,
                       uint32_t classes, float scale, float* dlogits);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_LOSS_H_
