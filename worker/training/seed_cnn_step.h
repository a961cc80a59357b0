// Forward and backward pass of the seed's network over one logical shard, by hand: convolutions
// from LibTorch, everything between them from seed_cnn_kernels.h. The same function as
// SeedCnnForwardTraining's autograd graph (a test compares them), at less than half of its memory
// traffic. Single-threaded: one object a shard, objects on different threads side by side.
#ifndef DERMIS_WORKER_TRAINING_SEED_CNN_STEP_H_
#define DERMIS_WORKER_TRAINING_SEED_CNN_STEP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "worker/models/model.h"
#include "worker/training/loss.h"

namespace dermis {

// The weights in the forms that a pass wants, made once a step and then read by all shards' passes.
class SeedCnnStepWeights {
 public:
  SeedCnnStepWeights(const ModelLayout& layout, v1::Precision precision);
  ~SeedCnnStepWeights();
  // parameters: the flat vector; it is copied.
  void Update(const float* parameters);

 private:
  friend class SeedCnnPass;
  struct State;
  std::unique_ptr<State> state_;
};

class SeedCnnPass {
 public:
  // For passes over exactly `batch` images.
  SeedCnnPass(const ModelLayout& layout, uint32_t batch, v1::Precision precision, Loss loss = {});
  ~SeedCnnPass();

  // Where the caller writes the normalised images: [batch, size, size, 3] floats.
  float* input();
  // Where the caller writes the dropout masks of image i, block b = 0..2: mask_units(b) bytes, 0 =
  // dropped.
  uint8_t* mask(uint32_t block, uint32_t i);
  uint32_t mask_units(uint32_t block) const;

  // gradients: parameter_count floats, overwritten with the gradient of loss_scale * sum of the
  // losses. statistics: statistic_count doubles in the layout's order: this shard's batch
  // means and (biased) variances.
  PassResult Train(const SeedCnnStepWeights& weights, absl::Span<const uint32_t> labels,
                   bool dropout, float loss_scale, float* gradients, double* statistics);

  // Evaluation form with running statistics, and the plain cross entropy, over the first `count`
  // images (a convolution over fewer images may choose another algorithm: fix the composition of
  // batches). logits [count, classes] may be null.
  PassResult Evaluate(const SeedCnnStepWeights& weights, const float* running_statistics,
                      absl::Span<const uint32_t> labels, float* logits);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_SEED_CNN_STEP_H_
