// What has happened, for people: the events of the journal that are not results, read through a
// connection of its own that cannot write. The core thread knows nothing of it.
#ifndef DERMIS_COORDINATOR_DASHBOARD_CHRONICLE_H_
#define DERMIS_COORDINATOR_DASHBOARD_CHRONICLE_H_

#include <cstdint>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/digest.h"
#include "dermis/v1/journal.pb.h"

struct sqlite3;

namespace dermis {

struct Happening {
  uint64_t row = 0;
  uint64_t unix_ms = 0;
  std::string kind;  // "submitted", "lost", "failed", ...
  std::vector<std::string> studies;
  std::string worker;
  Digest task;  // None: it is about no task.
  std::string text;
};

// False: nothing that people need to know (a result, a retired state).
bool Describe(const v1::Event& event, Happening& out);

// The newest few thousand. Thread-safe.
class Chronicle {
 public:
  explicit Chronicle(std::string journal_file, absl::Duration period = absl::Seconds(1));
  ~Chronicle();

  // Newest first, at most `most`. Empty study or none task: any.
  std::vector<Happening> Of(const std::string& study, const Digest& task, size_t most) const;

 private:
  void Loop();
  void Read(sqlite3* db);

  const std::string file_;
  const absl::Duration period_;
  uint64_t row_ = 0;  // That was read last. The thread's own.
  mutable absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Happening> kept_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_CHRONICLE_H_
