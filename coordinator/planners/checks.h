// Planner of the checks stage: which explanations are checked, and by which tasks. It begins when
// all explanations are there, so what is judged is known to the last mask.
#ifndef DERMIS_COORDINATOR_PLANNERS_CHECKS_H_
#define DERMIS_COORDINATOR_PLANNERS_CHECKS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "common/digest.h"
#include "coordinator/planners/task_graph.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// An explained image and its attributions that are judged, with the method of each.
struct CheckedImage {
  uint32_t image = 0;
  std::string digest;  // The image's.
  std::vector<std::pair<v1::MethodSpec, v1::TaskSpec>> attributions;
};

class CheckPlanner {
 public:
  struct Check {
    std::optional<v1::MethodSpec> method;  // Absent: the priors.
    v1::TaskSpec task;                     // Fidelity or stability.
  };
  using Wants = TaskGraph::Wants;

  // `spec` resolved; `recipe` gives images and precision. is_done: whether a result is known
  // already, so that it need not be wanted again; asked by Start alone.
  CheckPlanner(const v1::ExplanationSpec& spec, const v1::Recipe& recipe, v1::ModelRef model,
               uint64_t seed, std::vector<CheckedImage> images, std::string numerics_class);

  absl::StatusOr<Wants> Start(const std::function<bool(const Digest&)>& is_done);
  // A wanted task's result is stored. Gives what it makes possible. Any order, any repetition.
  Wants OnDone(const Digest& task) { return graph_.OnDone(task); }

  bool Has(const Digest& task) const { return graph_.Has(task); }
  bool done() const { return started_ && graph_.done() == graph_.size(); }
  uint64_t tasks_done() const { return graph_.done(); }
  uint64_t tasks_total() const { return graph_.size(); }

  // The checks of image number `i`, those of the priors first.
  std::vector<Check> ChecksOf(size_t i) const;

 private:
  v1::TaskSpec FidelityOf(const CheckedImage& image, const v1::TaskSpec* attribution) const;
  v1::TaskSpec StabilityOf(const CheckedImage& image, const v1::TaskSpec* attribution) const;
  // Makes the node of a task and of all that it needs; gives its digest.
  absl::StatusOr<Digest> Add(v1::TaskSpec task, const std::function<bool(const Digest&)>& is_done,
                             Wants& wants);

  const v1::ExplanationSpec explanation_;
  const v1::ChecksSpec spec_;
  const v1::OutputKind output_;
  const v1::ImageSource images_;
  const v1::Precision precision_;
  const v1::ModelRef model_;
  const uint64_t seed_;
  const std::vector<CheckedImage> checked_;
  const std::string numerics_class_;
  std::vector<bool> sampled_;  // By image: its stability is checked.
  TaskGraph graph_;
  bool started_ = false;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_CHECKS_H_
