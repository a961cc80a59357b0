// What the benchmarks of training have in common: a network, made-up images, and the trainer with a
// clock at its exchanges.
#ifndef DERMIS_TOOLS_BENCH_TRAINING_H_
#define DERMIS_TOOLS_BENCH_TRAINING_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dermis/v1/task.pb.h"
#include "tools/bench/bench.h"
#include "worker/collective/collective.h"
#include "worker/data/image_source.h"

namespace dermis::bench {

// What is run: --model seed_cnn|resnet18|resnet34|resnet50, --size pixels, --batch images.
struct Network {
  explicit Network(const Arguments& arguments);
  v1::ModelKind kind = v1::MODEL_KIND_SEED_CNN;
  v1::Stem stem = v1::STEM_UNSPECIFIED;
  uint32_t size, batch;
};

v1::Precision PrecisionOf(const Arguments& arguments);

// Bytes of noise that depend on the image alone.
std::string NoisePixels(uint32_t image, uint32_t count);

// Images of noise at model size, resident; the set holds one image of noise at display size.
std::shared_ptr<ImageData> MakeData(uint32_t size, uint32_t training, uint32_t validation);

// A packed set, split .2 / .1 by seed 1.
std::shared_ptr<const ImageData> LoadImages(const std::string& path, uint32_t size);

// The seed's recipe, but for what the arguments say; without augmentation.
v1::Recipe RecipeOf(const Arguments& arguments, const Network& network, uint32_t logical_shards);

// A step as one rank saw it, by CLOCK_MONOTONIC, which the processes of a machine share.
struct StepTimes {
  double begun;     // The exchange before it was over.
  double arrived;   // This rank's gradients were there: OrderedReduce was called.
  double finished;  // The sum and the statistics of all ranks were here; the update comes after.
};

// Steps from scratch: `steps` of them (the training split must hold one more), or a whole epoch
// where it is 0.
std::vector<StepTimes> TimedTraining(const v1::Recipe& recipe,
                                     const std::shared_ptr<const ImageData>& data,
                                     Collective& collective, uint32_t threads, uint64_t steps);

// Images a second of the steps from `first` on; what lies between them (validation) does not count.
double RateOf(const std::vector<StepTimes>& steps, size_t first, uint32_t batch);

}  // namespace dermis::bench

#endif  // DERMIS_TOOLS_BENCH_TRAINING_H_
