// The baselines: each point of their grids on each fold, then the chosen ones as they are fitted to
// the training split, then their evaluation. They wait for nothing else. A fold, as all planners.
#ifndef DERMIS_COORDINATOR_PLANNERS_BASELINES_H_
#define DERMIS_COORDINATOR_PLANNERS_BASELINES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/baselines.h"
#include "common/digest.h"
#include "common/split.h"
#include "coordinator/planners/evaluation.h"
#include "coordinator/planners/explanation.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

class BaselinePlanner {
 public:
  using Wants = std::vector<std::pair<Digest, v1::TaskSpec>>;

  struct Family {
    BaselineFamily family;
    std::vector<std::vector<double>> accuracy;  // By point and fold; NaN: not there yet.
    uint64_t folds_left = 0;
    std::optional<size_t> chosen;
    Digest fit;                                 // Once one is chosen.
    std::unique_ptr<EvaluationPlanner> test, validation;  // Of the chosen one.
    bool fitted() const { return test != nullptr; }       // Its model is there.
  };

  // Whether the images allow it: two classes, training images, folds. INVALID_ARGUMENT says what not.
  static absl::Status Check(const v1::StudySpec& study, const v1::ImageSetManifest& manifest,
                            const Split& split);

  // `study` resolved and checked; `images`: what its network sees.
  BaselinePlanner(const v1::StudySpec& study, const v1::ImageSource& images, const Split& split,
                  std::string numerics_class);

  absl::StatusOr<Wants> Start();
  // A wanted task's result is stored. Gives what it makes possible. Any order, any repetition.
  absl::StatusOr<Wants> OnDone(const Digest& task, const PayloadReader& payload);

  bool Has(const Digest& task) const { return nodes_.contains(task); }
  bool done() const { return evaluated_ == families_.size(); }
  uint64_t tasks_done() const { return tasks_done_; }
  uint64_t tasks_total() const { return tasks_total_; }
  const std::vector<Family>& families() const { return families_; }

 private:
  struct Node {
    enum class Kind { kFold, kFit, kTest, kValidation };
    Kind kind = Kind::kFold;
    size_t family = 0, point = 0;
    uint32_t fold = 0;
    v1::EvaluateTask evaluate;
    bool done = false;
  };

  absl::Status Want(Node node, v1::TaskSpec task, Wants& wants);
  absl::Status Choose(size_t family, Wants& wants);
  absl::Status Evaluate(size_t family, Wants& wants);

  const std::string numerics_class_;
  const uint32_t folds_, batch_size_;
  const std::vector<uint32_t> test_, validation_;
  std::vector<Family> families_;
  absl::node_hash_map<Digest, Node> nodes_;  // Never walked: its order is not the same twice.
  size_t evaluated_ = 0;
  uint64_t tasks_done_ = 0, tasks_total_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_BASELINES_H_
