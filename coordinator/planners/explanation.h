// Planner of the explanation stage: which images are explained, and by which tasks.
#ifndef DERMIS_COORDINATOR_PLANNERS_EXPLANATION_H_
#define DERMIS_COORDINATOR_PLANNERS_EXPLANATION_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/digest.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

struct ChosenImage {
  uint32_t image = 0;  // Index in the manifest.
  std::string why;     // "true positive, most confident".
};

// Per cell of the confusion matrix (true class x predicted class, in that order): the most
// confident, the least confident of what is left, then random ones of what is left. Confidence =
// probability of the predicted class (ties between classes: the last), compared by its logit, which
// does not round to 1; ties by image digest, then
// index. `test` ascending, logits test x classes.
std::vector<ChosenImage> ChooseImages(const v1::ExplainedImages& spec,
                                      const v1::ImageSetManifest& manifest,
                                      absl::Span<const uint32_t> test,
                                      absl::Span<const float> logits, uint32_t classes,
                                      uint64_t seed);

// superpixels -> perturbation runs -> fit, for LIME and Shapley; one activation task for both
// Grad-CAM and activation maps. Equal tasks are one.
class ExplanationPlanner {
 public:
  // `spec` resolved; `recipe` gives images, precision; model: the trained one.
  ExplanationPlanner(const v1::ExplanationSpec& spec, const v1::Recipe& recipe, v1::ModelRef model,
                     uint64_t seed, std::vector<ChosenImage> chosen, std::string numerics_class);

  using Wants = std::vector<std::pair<Digest, v1::TaskSpec>>;
  absl::StatusOr<Wants> Start();
  // A wanted task's result is stored. Gives what it makes possible. Any order, any repetition.
  absl::StatusOr<Wants> OnDone(const Digest& task);

  bool Has(const Digest& task) const { return nodes_.contains(task); }
  bool done() const { return started_ && tasks_done_ == tasks_total_; }
  uint64_t tasks_done() const { return tasks_done_; }
  uint64_t tasks_total() const { return tasks_total_; }  // Also those that are not wanted yet.
  const std::vector<ChosenImage>& chosen() const { return chosen_; }

  // For reading results: the final task of (chosen image, method) and its superpixels (none: no
  // such).
  struct MethodTask {
    v1::TaskSpec task;
    Digest digest;
    Digest superpixels;
  };
  absl::StatusOr<MethodTask> TaskOf(size_t chosen, const v1::MethodSpec& method) const;

 private:
  enum class Kind { kSuperpixels, kRun, kFit, kActivations };
  struct Node {
    Kind kind = Kind::kFit;
    bool done = false;
    uint32_t waits_for = 0;          // A fit: runs that are not stored yet.
    std::vector<Digest> dependents;  // Superpixels: the fits that need them. A run: its fit.
    v1::TaskSpec spec;               // Of fits only: kept until they are wanted.
  };

  // False: the method has no perturbation.
  bool PerturbationOf(uint32_t image, const v1::MethodSpec& method, v1::Perturbation& out) const;
  // Of a method that looks into the model: one task an image.
  v1::TaskSpec ModelTask(uint32_t image, const v1::MethodSpec& method) const;

  const v1::ExplanationSpec spec_;
  const v1::ImageSource images_;
  const v1::Precision precision_;
  const v1::ModelRef model_;
  const uint64_t seed_;
  const std::vector<ChosenImage> chosen_;
  const std::string numerics_class_;
  std::map<Digest, Node> nodes_;
  bool started_ = false;
  uint64_t tasks_done_ = 0;
  uint64_t tasks_total_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_EXPLANATION_H_
