// Tasks that wait for each other: what planners whose tasks are known beforehand have in common. A fold.
#ifndef DERMIS_COORDINATOR_PLANNERS_TASK_GRAPH_H_
#define DERMIS_COORDINATOR_PLANNERS_TASK_GRAPH_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/node_hash_map.h"

#include "common/digest.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

class TaskGraph {
 public:
  using Wants = std::vector<std::pair<Digest, v1::TaskSpec>>;

  // A task that is not there yet, once all of `needs` are done; these are there and not done. Wanted
  // at once where it needs none.
  void Add(const Digest& task, v1::TaskSpec spec, const std::vector<Digest>& needs, Wants& wants);
  // Gives what it makes possible. Any order, any repetition; tasks that are not here change nothing.
  Wants OnDone(const Digest& task);

  bool Has(const Digest& task) const { return nodes_.contains(task); }
  uint64_t done() const { return done_; }
  uint64_t size() const { return nodes_.size(); }

 private:
  struct Node {
    bool done = false;
    uint32_t waits_for = 0;
    std::vector<Digest> dependents;
    v1::TaskSpec spec;  // Kept until it is wanted.
  };

  absl::node_hash_map<Digest, Node> nodes_;  // Never walked through: its order is nobody's.
  uint64_t done_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_TASK_GRAPH_H_
