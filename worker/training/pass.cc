#include "worker/training/pass.h"

#include <utility>

#include "worker/models/resnet.h"
#include "worker/models/seed_cnn.h"
#include "worker/training/resnet_step.h"
#include "worker/training/seed_cnn_kernels.h"
#include "worker/training/seed_cnn_step.h"

namespace dermis {
namespace {

struct SeedCnnWeightsOfStep final : StepWeights {
  SeedCnnWeightsOfStep(const ModelLayout& layout, v1::Precision precision)
      : weights(layout, precision) {}
  void Update(const float* parameters, const float*) override { weights.Update(parameters); }

  SeedCnnStepWeights weights;
};

class SeedCnnTrainingPass final : public TrainingPass {
 public:
  SeedCnnTrainingPass(const ModelLayout& layout, uint32_t batch, v1::Precision precision, Loss loss)
      : pass_(layout, batch, precision, std::move(loss)) {}

  float* input() override { return pass_.input(); }
  void DrawDropout(uint64_t seed, uint64_t step, uint32_t image, uint32_t i) override {
    for (uint32_t b = 0; b < 3; ++b) {
      DropoutMask(seed, step, image, b, kSeedCnnDropout[b], pass_.mask_units(b), pass_.mask(b, i));
    }
  }
  PassResult Train(const StepWeights& weights, absl::Span<const uint32_t> labels, bool dropout,
                   float loss_scale, float* gradients, double* statistics) override {
    return pass_.Train(Of(weights), labels, dropout, loss_scale, gradients, statistics);
  }
  PassResult Evaluate(const StepWeights& weights, const float* running_statistics,
                      absl::Span<const uint32_t> labels, float* logits) override {
    return pass_.Evaluate(Of(weights), running_statistics, labels, logits);
  }

 private:
  static const SeedCnnStepWeights& Of(const StepWeights& weights) {
    return static_cast<const SeedCnnWeightsOfStep&>(weights).weights;
  }

  SeedCnnPass pass_;
};

}  // namespace

std::unique_ptr<StepWeights> MakeStepWeights(const ModelLayout& layout, v1::Precision precision) {
  if (IsResNet(layout.kind)) return MakeResNetStepWeights(layout, precision);
  return std::make_unique<SeedCnnWeightsOfStep>(layout, precision);
}

std::unique_ptr<TrainingPass> MakeTrainingPass(const ModelLayout& layout, uint32_t batch,
                                               v1::Precision precision, Loss loss) {
  if (IsResNet(layout.kind)) return MakeResNetPass(layout, batch, precision, std::move(loss));
  return std::make_unique<SeedCnnTrainingPass>(layout, batch, precision, std::move(loss));
}

}  // namespace dermis
