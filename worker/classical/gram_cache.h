// The products of all images of a set, computed once a worker and size: a few seconds of work that many
// tasks share, for less than they would cost to send.
#ifndef DERMIS_WORKER_CLASSICAL_GRAM_CACHE_H_
#define DERMIS_WORKER_CLASSICAL_GRAM_CACHE_H_

#include <list>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "dermis/v1/task.pb.h"
#include "worker/classical/gram.h"
#include "worker/data/image_source.h"

namespace dermis {

// Thread-safe: who comes while another computes waits for it, with signs of life. Keeps two (4 n^2
// bytes each).
class GramCache {
 public:
  // `data`: of `images`, whatever the split; all in memory, else UNAVAILABLE. INVALID_ARGUMENT:
  // more images than kMostProducts (common/baselines.h).
  absl::StatusOr<std::shared_ptr<const Gram>> Get(const v1::ImageSource& images,
                                                  const ImageData& data);

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Gram> gram;
  };
  absl::Mutex mutex_;
  absl::CondVar computed_;
  bool computing_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_GRAM_CACHE_H_
