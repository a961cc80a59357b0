// Which numbers make a model's inputs of pixels: the model's own, where it has some.
#ifndef DERMIS_WORKER_PLAN_MODEL_PIXELS_H_
#define DERMIS_WORKER_PLAN_MODEL_PIXELS_H_

#include <array>

#include "worker/data/image_source.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

// A model that was given may have been trained on other images than it looks at now.
inline Normalisation NormalisationOf(const ImageData& data, const InferencePlan& plan) {
  return plan.pixel_facts() ? plan.pixel_facts()->normalisation : NormalisationOf(data);
}

// The training split's mean colour; the model's, where no image trains.
inline std::array<double, 3> MeanColorOf(const ImageData& data, const InferencePlan& plan) {
  return data.split.training.empty() && plan.pixel_facts() ? plan.pixel_facts()->mean
                                                           : data.channel_mean;
}

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_MODEL_PIXELS_H_
