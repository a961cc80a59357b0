// Checks of explanations as tasks: what they compare, and what must be there before they run.
// Shared by the planner, which wants these tasks, and the worker, which reads their results. Pure
// functions.
#ifndef DERMIS_COMMON_CHECKS_H_
#define DERMIS_COMMON_CHECKS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// The names of the priors' maps, in the order of their results.
inline constexpr const char* kPriorNames[] = {"random", "centre", "edges"};

// Whether the checks judge a method: activation maps say nothing about the output.
bool IsJudged(const v1::MethodSpec& method);

// Whether a resolved explanation has anything to check.
bool AsksForChecks(const v1::ExplanationSpec& explanation);

// What randomisation (Adebayo et al. 2018) does to a network layer by layer, from the output on:
// "dense", "conv6", ..., "conv1"; of a ResNet "fc", "layer4", ..., "layer1", "conv1". A
// convolution's batch norm belongs to it. Empty: a network whose layers are not known.
std::vector<std::string> RandomisableLayers(v1::ModelKind kind);

// Whether another seed gives another attribution.
bool DrawsAtRandom(const v1::TaskSpec& attribution);

// The method's other hidden value: training_mean, or superpixel_mean for one that has this itself;
// unspecified where nothing is hidden. `wanted`: instead, where it is specified and differs.
v1::HiddenValue SecondHidden(const v1::TaskSpec& attribution, v1::HiddenValue wanted);

// The attributions that a StabilityTask compares with its own. Each names the same superpixels,
// masks and budget; only what the field says differs. Priors have none: what does not see the model
// does not change with it.
struct Variants {
  std::vector<v1::TaskSpec> noise;        // By draw.
  std::vector<v1::TaskSpec> seeds;        // The task's own is not among them.
  std::vector<v1::TaskSpec> cascading;    // The first 1, 2, ... layers.
  std::vector<v1::TaskSpec> independent;  // Each layer.
  std::optional<v1::TaskSpec> second_hidden;
};
Variants VariantsOf(const v1::StabilityTask& task, const std::string& numerics_class);

// The results that a fit or a check reads.
//   fit        superpixels, then every run
//   fidelity   the common superpixels; then the attribution; then the attribution's own
//   superpixels, of a fit stability  the superpixels of the attribution (of a fit) or the common
//   ones; then the attribution; then noise,
//              seeds, cascading, independent, second_hidden of VariantsOf
// None for other kinds.
std::vector<v1::TaskSpec> NeedsOf(const v1::TaskSpec& task);

// What one image costs: tasks, masked inputs that the model runs, and gradients that are taken.
struct Price {
  uint64_t tasks = 0, inputs = 0, gradients = 0;
};
struct CheckPrices {
  Price fidelity;   // Of each explained image.
  Price stability;  // Of each image of the sample.
};
// `explanation` resolved. An upper bound where SLIC makes no more superpixels than it is asked for,
// quickshift and label maps no more than 50.
CheckPrices PricesOfChecks(const v1::ExplanationSpec& explanation, v1::ModelKind model,
                           uint64_t classes);

}  // namespace dermis

#endif  // DERMIS_COMMON_CHECKS_H_
