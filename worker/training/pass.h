// Forward and backward pass of a network over one logical shard, whichever network it is: what the
// trainer drives. Single-threaded: one pass a shard, passes on different threads side by side;
// equal arguments give equal bits on any of them.
#ifndef DERMIS_WORKER_TRAINING_PASS_H_
#define DERMIS_WORKER_TRAINING_PASS_H_

#include <cstdint>
#include <memory>

#include "absl/types/span.h"

#include "worker/models/model.h"
#include "worker/training/loss.h"

namespace dermis {

// The weights in the forms that a pass wants, made once a step and then read by all shards' passes.
class StepWeights {
 public:
  virtual ~StepWeights() = default;
  // The flat vectors; they are copied. Of the statistics only those of frozen layers are used.
  virtual void Update(const float* parameters, const float* statistics) = 0;
};

class TrainingPass {
 public:
  virtual ~TrainingPass() = default;

  // Where the caller writes the normalised images: [batch, size, size, 3] floats.
  virtual float* input() = 0;
  // Draws the dropout of image `image` of the set, the i-th of this pass, where the network has
  // any.
  virtual void DrawDropout(uint64_t seed, uint64_t step, uint32_t image, uint32_t i) = 0;

  // weights: made by MakeStepWeights for the same layout and precision. labels: `batch` of them.
  // gradients: parameter_count floats, overwritten with the gradient of loss_scale * sum of the
  // losses; zero for frozen parameters. statistics: statistic_count doubles in the layout's
  // order: this shard's batch means and (biased) variances; a frozen layer's running statistics.
  virtual PassResult Train(const StepWeights& weights, absl::Span<const uint32_t> labels,
                           bool dropout, float loss_scale, float* gradients,
                           double* statistics) = 0;

  // Evaluation form with running statistics, and the plain cross entropy, over the first
  // labels.size() images (a convolution over fewer images may choose another algorithm: fix the
  // composition of batches). logits [count, classes] may be null.
  virtual PassResult Evaluate(const StepWeights& weights, const float* running_statistics,
                              absl::Span<const uint32_t> labels, float* logits) = 0;
};

// layout: of LayoutOf. They hold memory for what they have been asked to do: a pass that only
// evaluates keeps no activations.
std::unique_ptr<StepWeights> MakeStepWeights(const ModelLayout& layout, v1::Precision precision);
std::unique_ptr<TrainingPass> MakeTrainingPass(const ModelLayout& layout, uint32_t batch,
                                               v1::Precision precision, Loss loss = {});

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_PASS_H_
