// Planner of the explanation stage: which images are explained, and by which tasks.
#ifndef DERMIS_COORDINATOR_PLANNERS_EXPLANATION_H_
#define DERMIS_COORDINATOR_PLANNERS_EXPLANATION_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/node_hash_map.h"
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
// confident, the least confident of what is left, those in the middle of the whole cell (one that
// is taken already is said to be that, too), then random ones of what is left. Confidence =
// probability of the predicted class (ties between classes: the last), compared by its logit, which
// does not round to 1; ties by image digest, then
// index. `test` ascending, logits test x classes.
std::vector<ChosenImage> ChooseImages(const v1::ExplainedImages& spec,
                                      const v1::ImageSetManifest& manifest,
                                      absl::Span<const uint32_t> test,
                                      absl::Span<const float> logits, uint32_t classes,
                                      uint64_t seed);

// Reads the payload of the result that is told; called only where the plan depends on it.
using PayloadReader = std::function<absl::StatusOr<v1::Payload>()>;

// superpixels -> perturbation runs -> fit, for the methods with masks; one activation task for both
// Grad-CAM and activation maps. Equal tasks are one. Where masks depend on the number of superpixels, that is read from the
// superpixels' result. With a tolerance, runs are wanted up to the next checkpoint, then a fit of those; the
// next ones only if its error is larger. Which fit is the last follows from results alone, in any order.
class ExplanationPlanner {
 public:
  // `spec` resolved; `recipe` gives images, precision; model: the trained one. cams_only: a network's
  // maps come without the activations they are made of, which are large.
  ExplanationPlanner(const v1::ExplanationSpec& spec, const v1::Recipe& recipe, v1::ModelRef model,
                     uint64_t seed, std::vector<ChosenImage> chosen, std::string numerics_class,
                     bool cams_only = false);
  ExplanationPlanner(const ExplanationPlanner&) = delete;  // Jobs point into its spec.
  ExplanationPlanner& operator=(const ExplanationPlanner&) = delete;

  using Wants = std::vector<std::pair<Digest, v1::TaskSpec>>;
  absl::StatusOr<Wants> Start();
  // A wanted task's result is stored. Gives what it makes possible. Any order, any repetition.
  absl::StatusOr<Wants> OnDone(const Digest& task, const PayloadReader& payload);

  bool Has(const Digest& task) const { return nodes_.contains(task); }
  // Whether its result is known.
  bool IsDone(const Digest& task) const {
    const auto node = nodes_.find(task);
    return node != nodes_.end() && node->second.done;
  }
  bool done() const { return started_ && tasks_done_ == tasks_total(); }
  uint64_t tasks_done() const { return tasks_done_; }
  // Also those that are not wanted yet, as far as they are known: a tolerance may spare some.
  uint64_t tasks_total() const { return nodes_.size() + expected_; }
  const std::vector<ChosenImage>& chosen() const { return chosen_; }

  // For reading results: the final task of (chosen image, method), or the fit of the checkpoint where it is now, and its
  // superpixels (none: no such). As long as the number of superpixels is not known, the task has no masks.
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
    double error = 0;                // Of a fit that was read: what its tolerance is compared with.
    std::vector<size_t> dependents;  // Jobs that wait for it.
  };
  // One image, explained by one method with masks.
  struct Job {
    const v1::MethodSpec* method = nullptr;  // In spec_.
    v1::Perturbation perturbation;           // Without masks until they are known.
    std::vector<uint32_t> checkpoints;
    size_t at = 0;                   // Which checkpoint is next; their number: the whole.
    uint32_t runs_wanted = 0;
    uint32_t runs_open = 0;          // Of these, not stored yet.
    uint64_t expected = 1;           // Tasks that are not wanted yet.
    bool finished = false;
  };

  // False: the method has no masks.
  bool PerturbationOf(uint32_t image, const v1::MethodSpec& method, v1::Perturbation& out) const;
  // Of a method that looks into the model: one task an image.
  v1::TaskSpec ModelTask(uint32_t image, const v1::MethodSpec& method) const;
  v1::TaskSpec FitOf(const Job& job) const;  // Of the checkpoint where it is.
  // Wants the task unless it is known. Gives its node.
  absl::StatusOr<Node*> Want(v1::TaskSpec task, Kind kind, Wants& wants);
  // The masks are known: sets the checkpoints.
  void Begin(Job& job, uint32_t superpixels);
  // Wants what the next checkpoint needs, as far as all that is stored allows.
  absl::Status Advance(size_t job, Wants& wants);
  absl::Status AdvanceToFit(size_t job, Wants& wants);
  absl::Status Judge(size_t job, double error, Wants& wants);
  void Expect(Job& job);

  const v1::ExplanationSpec spec_;
  const v1::ImageSource images_;
  const v1::Precision precision_;
  const v1::ModelRef model_;
  const uint64_t seed_;
  const std::vector<ChosenImage> chosen_;
  const std::string numerics_class_;
  const bool cams_only_;
  absl::node_hash_map<Digest, Node> nodes_;  // Never walked through: its order is nobody's.
  std::vector<Job> jobs_;
  std::map<std::pair<uint32_t, std::string>, size_t> job_of_;  // By image and method, as bytes.
  bool started_ = false;
  uint64_t tasks_done_ = 0;
  uint64_t expected_ = 0;            // Of all jobs.
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_EXPLANATION_H_
