// Forward and backward pass of a ResNet over one logical shard, by hand: convolutions from
// LibTorch, everything between them from resnet_kernels.h. The same function as
// ResNetForwardTraining's autograd graph (a test compares them).
#ifndef DERMIS_WORKER_TRAINING_RESNET_STEP_H_
#define DERMIS_WORKER_TRAINING_RESNET_STEP_H_

#include <memory>

#include "worker/training/pass.h"

namespace dermis {

// layout: of a ResNet; of its parameters the first may be frozen, whole blocks at a time
// (models/init.h): such layers run in evaluation form, and the backward pass ends before them.
std::unique_ptr<StepWeights> MakeResNetStepWeights(const ModelLayout& layout,
                                                   v1::Precision precision);
std::unique_ptr<TrainingPass> MakeResNetPass(const ModelLayout& layout, uint32_t batch,
                                             v1::Precision precision, Loss loss = {});

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_RESNET_STEP_H_
