// What the dashboard shows: an immutable picture of the cluster, taken on the core thread twice a
// second and read by everyone else. A look costs the core thread what has changed since the last
// one, so a sweep of 10,000 trials is a copy of as many small rows; what can be derived from a
// study's spec is derived by whoever reads.
#ifndef DERMIS_COORDINATOR_DASHBOARD_SNAPSHOT_H_
#define DERMIS_COORDINATOR_DASHBOARD_SNAPSHOT_H_

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/digest.h"
#include "coordinator/core.h"
#include "coordinator/core_thread.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

struct EpochPoint {
  uint32_t epoch = 0;
  float training_loss = 0, training_accuracy = 0, validation_loss = 0, validation_accuracy = 0;
  float learning_rate = 0;
};
struct Curve {
  std::vector<EpochPoint> points;
  float least_loss = std::numeric_limits<float>::quiet_NaN();
  float most_accuracy = std::numeric_limits<float>::quiet_NaN();
};

// Which settings a study's trials have: a function of its spec, computed on first use. Thread-safe.
class TrialSettings {
 public:
  explicit TrialSettings(v1::StudySpec spec) : spec_(std::move(spec)) {}
  struct Table {
    std::vector<std::string> keys;                 // Short.
    std::vector<std::vector<std::string>> values;  // By key, then trial.
    std::vector<std::vector<double>> numbers;      // The same; empty: not all are numbers.
  };
  const Table& table() const;
  const v1::StudySpec& spec() const { return spec_; }

 private:
  const v1::StudySpec spec_;
  mutable absl::once_flag once_;
  mutable Table table_;
};

enum class TrialView : uint8_t { kTraining, kDropped, kFailed, kTrained, kChosen };
const char* NameOf(TrialView state);

struct TrialRow {
  TrialView state = TrialView::kTraining;
  bool scored = false;  // By the sweep: the mean over its trainings, at its last rung.
  uint32_t rung = 0;
  uint32_t score_epochs = 0;  // That the score is of.
  uint32_t epochs = 0;        // Known now, of its first training.
  // Not scored yet: of the best epoch so far of its first training. NaN: nothing is known, or it
  // never was a number.
  double score = std::numeric_limits<double>::quiet_NaN();
  double deviation = 0;
};

struct RunningTraining {
  uint32_t training = 0;
  uint32_t trial = 0;
  uint32_t workers = 0;
  double epoch = 0;  // That it has reached.
};

struct FailedTask {
  Digest task;
  std::string what, cause, worker;
};

// One image explained by one method.
struct ExplainedBy {
  Digest task, superpixels;  // Superpixels: none where the method has none.
  bool done = false;
};
struct ExplainedRow {
  uint32_t image = 0;
  std::string why;
  std::vector<ExplainedBy> methods;
};

struct StudySnapshot {
  uint64_t version = 0;  // Another one: something may have changed.
  v1::StudyStatus status;
  std::string user, numerics_class;
  Digest image_set;
  uint64_t order = 0;  // Of first submission.
  std::shared_ptr<const TrialSettings> settings;
  std::vector<TrialRow> trials;
  uint32_t replicas = 1;                             // Trainings of a trial, one after the other.
  std::vector<std::shared_ptr<const Curve>> curves;  // By training; null: nothing is known.
  std::vector<RunningTraining> running;
  std::vector<FailedTask> failures;
  uint64_t failures_total = 0;
  std::vector<std::string> methods;
  std::vector<ExplainedRow> explained;
  uint64_t explained_done = 0;  // Of (image, method).

  const v1::StudySpec& spec() const { return settings->spec(); }
  bool has_sweep() const { return spec().has_sweep(); }
  bool by_accuracy() const {
    return spec().sweep().metric() == v1::SELECTION_METRIC_VALIDATION_ACCURACY;
  }
};

// The share of a stretch of time in which a worker had work.
inline constexpr int kBusyBuckets = 60;
inline constexpr absl::Duration kBusyBucket = absl::Seconds(5);

struct WorkerSnapshot {
  v1::WorkerStatus status;
  std::vector<float> busy;  // By bucket, newest last; as long as it has been here.
  double busy_now = 0;      // Of the last minute.
  std::optional<Trust::Joined> joined;
};

// A worker's process that died, as the one after it says. Nothing durable.
struct WorkerEnd {
  std::string worker;
  absl::Time told;
  bool fresh =
      false;         // Told when the coordinator had been up for a while: it happened just before.
  std::string text;  // Cause and end of the log; not always UTF-8.
};

struct Snapshot {
  absl::Time taken;
  uint64_t sequence = 0;
  v1::ClusterStatusResponse cluster;
  Counters counters;
  uint64_t tasks_open = 0;  // Units that wait or run.
  std::vector<WorkerSnapshot> workers;
  std::vector<std::shared_ptr<const StudySnapshot>> studies;  // By submission.
  std::vector<WorkerEnd> ends;                                // The newest last, a few.

  std::shared_ptr<const StudySnapshot> Find(const std::string& id) const;
};

// Takes snapshots; remembers what did not change. The core thread's own.
class Photographer {
 public:
  std::shared_ptr<const Snapshot> Look(const Core& core, absl::Time now);

 private:
  struct Album {  // Of a study.
    uint64_t beginning = 0;
    std::shared_ptr<const StudySnapshot> last;
    std::shared_ptr<const TrialSettings> settings;
    uint64_t stale = 0;  // Explanations that may have come since they were looked at.
    size_t next = 0;
  };
  struct Busy {
    std::deque<float> buckets;
    absl::Duration busy, seen;  // Of the bucket that is being filled.
  };
  std::shared_ptr<const StudySnapshot> LookAt(const Core& core, const std::string& id,
                                              Album& album);
  void LookAtTrials(const Core& core, const Study& study, const StudySnapshot* before,
                    StudySnapshot& out);
  void LookAtExplanations(const Core& core, const Study& study, Album& album, StudySnapshot& out);
  void LookAtWorkers(const Core& core, absl::Duration passed, Snapshot& out);

  std::map<std::string, Album> albums_;
  void LookAtEnds(const Core& core, absl::Time now);

  std::map<std::string, Busy> busy_;
  std::map<std::string, std::string> processes_;  // Worker -> the incarnation that was heard last.
  std::vector<WorkerEnd> ends_;
  std::optional<absl::Time> first_, before_;
  uint64_t sequence_ = 0;
};

// Asks the core thread for a snapshot every so often, one at a time, and keeps the newest.
// Thread-safe.
class Publisher {
 public:
  explicit Publisher(CoreThread& core, absl::Duration period = absl::Milliseconds(500));
  ~Publisher();
  std::shared_ptr<const Snapshot> Latest() const;  // Null: none yet.

 private:
  void Loop();

  CoreThread& core_;
  const absl::Duration period_;
  const std::shared_ptr<Photographer> photographer_ = std::make_shared<Photographer>();
  // Outlives this where the core thread still has a look to take.
  struct Shelf {
    absl::Mutex mutex;
    std::shared_ptr<const Snapshot> latest ABSL_GUARDED_BY(mutex);
    bool looking ABSL_GUARDED_BY(mutex) = false;
  };
  const std::shared_ptr<Shelf> shelf_ = std::make_shared<Shelf>();
  mutable absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// How pages and metrics spell it, as the command line does: "running", "paused", ...
const char* PhaseName(const v1::StudyStatus& status);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_SNAPSHOT_H_
