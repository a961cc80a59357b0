// Notes which results of other tasks a unit was computed from: the coordinator takes its result
// only while those stand.
#ifndef DERMIS_WORKER_USED_RESULTS_H_
#define DERMIS_WORKER_USED_RESULTS_H_

#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "common/digest.h"
#include "dermis/v1/cluster.pb.h"

namespace dermis {

// While one lives, all that this thread takes from a ResultCache is noted in it. Not nested.
class UsedResults {
 public:
  UsedResults() { current_ = this; }
  ~UsedResults() { current_ = nullptr; }
  UsedResults(const UsedResults&) = delete;
  UsedResults& operator=(const UsedResults&) = delete;

  static void Note(const Digest& task, const Digest& payload) {
    if (current_ == nullptr) return;
    if (!current_->seen_.insert(task).second) return;
    v1::UsedResult used;
    used.set_task(task.bytes());
    used.set_payload(payload.bytes());
    current_->used_.push_back(std::move(used));
  }
  const std::vector<v1::UsedResult>& used() const { return used_; }

 private:
  static inline thread_local UsedResults* current_ = nullptr;
  absl::flat_hash_set<Digest> seen_;
  std::vector<v1::UsedResult> used_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_USED_RESULTS_H_
