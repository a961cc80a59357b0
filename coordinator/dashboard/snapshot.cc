#include "coordinator/dashboard/snapshot.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "common/spec_yaml.h"
#include "common/sweep.h"
#include "common/tasks.h"
#include "coordinator/views.h"

namespace dermis {
namespace {

constexpr size_t kMostFailures = 200;
// Finding out whether an explanation is there costs the hash of its task.
constexpr uint64_t kExplanationsALook = 100;
constexpr int kBucketsOfAMinute = 12;
constexpr size_t kMostEnds = 200;
constexpr size_t kMostOfAnEnd = 8192;
// After a start all workers come back, and say what may be long ago.
constexpr absl::Duration kComeBack = absl::Seconds(15);

std::shared_ptr<const Curve> CurveOf(const TrainingPlanner& planner) {
  auto curve = std::make_shared<Curve>();
  const uint32_t known = planner.epochs_done();
  curve->points.reserve(known);
  for (uint32_t e = 0; e < known; ++e) {
    const v1::EpochMetrics& metrics = planner.epochs()[e];
    curve->points.push_back({metrics.epoch(), static_cast<float>(metrics.training_loss()),
                             static_cast<float>(metrics.training_accuracy()),
                             static_cast<float>(metrics.validation_loss()),
                             static_cast<float>(metrics.validation_accuracy()),
                             static_cast<float>(metrics.learning_rate())});
    // fmin, fmax: what is not a number does not count.
    curve->least_loss = std::fmin(curve->least_loss, curve->points.back().validation_loss);
    curve->most_accuracy =
        std::fmax(curve->most_accuracy, curve->points.back().validation_accuracy);
  }
  return curve;
}

TrialView ViewOf(SweepPlanner::TrialState state) {
  switch (state) {
    case SweepPlanner::TrialState::kTraining:
      return TrialView::kTraining;
    case SweepPlanner::TrialState::kDropped:
      return TrialView::kDropped;
    case SweepPlanner::TrialState::kFailed:
      return TrialView::kFailed;
    case SweepPlanner::TrialState::kTrained:
      return TrialView::kTrained;
  }
  return TrialView::kTraining;
}

// "lime"; where a kind comes twice, "lime 2".
std::vector<std::string> MethodNames(const v1::ExplanationSpec& spec) {
  std::vector<std::string> names;
  std::map<std::string, int> seen;
  for (const v1::MethodSpec& method : spec.methods()) {
    const google::protobuf::FieldDescriptor* kind = method.GetReflection()->GetOneofFieldDescriptor(
        method, method.GetDescriptor()->FindOneofByName("kind"));
    const std::string name = kind == nullptr ? "method" : kind->name();
    const int n = ++seen[name];
    names.push_back(n == 1 ? name : absl::StrCat(name, " ", n));
  }
  return names;
}

void LookAtFailures(const Core& core, const Study& study, StudySnapshot& out) {
  const auto& failures = core.studies().state().failures();
  for (auto it = failures.lower_bound({study.id, Digest()});
       it != failures.end() && it->first.first == study.id; ++it) {
    if (++out.failures_total > kMostFailures) continue;
    const Digest& task = it->first.second;
    out.failures.push_back(
        {task, DescribeFailed(study, task), it->second.cause, it->second.worker});
  }
}

}  // namespace

const TrialSettings::Table& TrialSettings::table() const {
  absl::call_once(once_, [this] {
    const uint32_t trials = TrialsOf(spec_);
    const uint64_t seed = spec_.seed();
    for (uint32_t t = 0; t < trials && spec_.has_sweep(); ++t) {
      const Settings settings = SettingsOf(spec_.sweep(), seed, t);
      if (t == 0) {
        // Where two keys end alike, whole.
        std::map<std::string, int> seen;
        for (const auto& [key, value] : settings) ++seen[ShortKey(key)];
        for (const auto& [key, value] : settings) {
          table_.keys.push_back(seen[ShortKey(key)] == 1 ? ShortKey(key) : key);
        }
        table_.values.resize(settings.size());
      }
      for (size_t k = 0; k < settings.size(); ++k) table_.values[k].push_back(settings[k].second);
    }
    for (const std::vector<std::string>& values : table_.values) {
      std::vector<double>& numbers = table_.numbers.emplace_back();
      for (const std::string& value : values) {
        double number = 0;
        if (!absl::SimpleAtod(value, &number)) break;
        numbers.push_back(number);
      }
      if (numbers.size() != values.size()) numbers.clear();
    }
  });
  return table_;
}

const char* NameOf(TrialView state) {
  switch (state) {
    case TrialView::kTraining:
      return "training";
    case TrialView::kDropped:
      return "dropped";
    case TrialView::kFailed:
      return "failed";
    case TrialView::kTrained:
      return "trained";
    case TrialView::kChosen:
      return "chosen";
  }
  return "";
}

std::shared_ptr<const StudySnapshot> Snapshot::Find(const std::string& id) const {
  for (const auto& study : studies) {
    if (study->status.id() == id) return study;
  }
  return nullptr;
}

void Photographer::LookAtTrials(const Core& core, const Study& study, const StudySnapshot* before,
                                StudySnapshot& out) {
  const SweepPlanner& sweep = study.run->sweep();
  const uint32_t trials = static_cast<uint32_t>(sweep.trials().size());
  out.replicas = sweep.replicas();
  out.curves.resize(sweep.trainings());
  for (uint32_t k = 0; k < sweep.trainings(); ++k) {
    const TrainingPlanner& planner = sweep.training(k).planner;
    const uint32_t known = planner.epochs_done();
    const bool same =
        before != nullptr && k < before->curves.size() &&
        (before->curves[k] == nullptr ? 0 : before->curves[k]->points.size()) == known;
    if (same) {
      out.curves[k] = before->curves[k];
    } else if (known > 0) {
      out.curves[k] = CurveOf(planner);
    }
  }
  out.trials.resize(trials);
  for (uint32_t t = 0; t < trials; ++t) {
    const SweepPlanner::Trial& trial = sweep.trials()[t];
    TrialRow& row = out.trials[t];
    row.state = sweep.chosen() == t ? TrialView::kChosen : ViewOf(trial.state);
    row.scored = trial.score.has_value();
    row.rung = trial.rung;
    row.score_epochs = trial.epochs;
    row.deviation = trial.deviation;
    const auto& curve = out.curves[t * out.replicas];
    if (curve != nullptr) {
      row.epochs = static_cast<uint32_t>(curve->points.size());
      row.score = out.by_accuracy() ? curve->most_accuracy : curve->least_loss;
    }
    if (row.scored) row.score = *trial.score;
  }
  for (const auto& [id, assignment] : core.fleet().assignments()) {
    if (!assignment.gang) continue;
    const std::vector<uint32_t>* found = sweep.Find(assignment.recipe);
    if (found == nullptr) continue;
    const SweepPlanner::Training& training = sweep.training(found->front());
    const TrainingPlanner& planner = training.planner;
    out.running.push_back(
        {found->front(), training.trial, static_cast<uint32_t>(assignment.members.size()),
         static_cast<double>(assignment.step) /
             static_cast<double>(std::max<uint64_t>(1, planner.steps_per_epoch()))});
  }
}

void Photographer::LookAtExplanations(const Core& core, const Study& study, Album& album,
                                      StudySnapshot& out) {
  const ExplanationPlanner* explanation = study.run->explanation();
  if (explanation == nullptr) return;
  const v1::ExplanationSpec& spec = out.spec().explanation();
  const size_t methods = static_cast<size_t>(spec.methods_size());
  out.methods = MethodNames(spec);
  const bool known = album.last != nullptr && album.last->explained.size() == explanation->chosen().size();
  if (known) {
    out.explained = album.last->explained;
    out.explained_done = album.last->explained_done;
  } else {
    for (const ChosenImage& chosen : explanation->chosen()) {
      out.explained.push_back({chosen.image, chosen.why, std::vector<ExplainedBy>(methods)});
    }
    album.next = 0;
  }
  const uint64_t all = out.explained.size() * methods;
  if (album.last == nullptr || album.last->version != study.version || !known) album.stale = all;
  for (uint64_t looked = 0; album.stale > 0 && looked < kExplanationsALook; --album.stale) {
    const size_t i = album.next / methods, m = album.next % methods;
    album.next = (album.next + 1) % all;
    ExplainedBy& by = out.explained[i].methods[m];
    if (by.done) continue;
    ++looked;
    const auto task = explanation->TaskOf(i, spec.methods(static_cast<int>(m)));
    if (!task.ok() || core.studies().state().Find(task->digest) == nullptr) continue;
    by = {task->digest, task->superpixels, true};
    ++out.explained_done;
  }
}

std::shared_ptr<const StudySnapshot> Photographer::LookAt(const Core& core, const std::string& id,
                                                          Album& album) {
  const Study& study = *core.studies().all().at(id);
  // Another beginning is another study as far as is known, also where name and version are the same.
  if (album.beginning != study.beginning) {
    album = Album();
    album.beginning = study.beginning;
  }
  if (album.last != nullptr && album.last->version == study.version && album.stale == 0) {
    return album.last;
  }
  const StudyRecord& record = core.studies().state().studies().at(id);
  if (album.settings == nullptr) album.settings = std::make_shared<TrialSettings>(record.spec);
  auto out = std::make_shared<StudySnapshot>();
  out->version = study.version;
  if (auto status = core.Status(id); status.ok()) out->status = *std::move(status);
  out->user = record.user;
  out->numerics_class = record.numerics_class;
  out->image_set = record.image_set;
  out->order = record.order;
  out->settings = album.settings;
  if (study.run != nullptr) {
    LookAtTrials(core, study, album.last.get(), *out);
    LookAtExplanations(core, study, album, *out);
  }
  LookAtFailures(core, study, *out);
  album.last = out;
  return out;
}

void Photographer::LookAtWorkers(const Core& core, absl::Duration passed, Snapshot& out) {
  std::map<std::string, Busy> still_here;
  for (const v1::WorkerStatus& status : out.cluster.workers()) {
    Busy& busy = still_here[status.worker()] = std::move(busy_[status.worker()]);
    busy.seen += passed;
    if (!status.doing().empty()) busy.busy += passed;
    WorkerSnapshot& worker = out.workers.emplace_back();
    worker.status = status;
    worker.joined = core.studies().state().trust().JoinedAs(status.worker());
    worker.busy.assign(busy.buckets.begin(), busy.buckets.end());
    absl::Duration all = busy.seen, worked = busy.busy;
    for (size_t b = busy.buckets.size(); b-- > 0 && b + kBucketsOfAMinute > busy.buckets.size();) {
      all += kBusyBucket;
      worked += kBusyBucket * busy.buckets[b];
    }
    if (all > absl::ZeroDuration()) worker.busy_now = absl::FDivDuration(worked, all);
    if (busy.seen < kBusyBucket) continue;
    busy.buckets.push_back(static_cast<float>(absl::FDivDuration(busy.busy, busy.seen)));
    if (busy.buckets.size() > kBusyBuckets) busy.buckets.pop_front();
    busy.busy = busy.seen = absl::ZeroDuration();
  }
  busy_ = std::move(still_here);
}

void Photographer::LookAtEnds(const Core& core, absl::Time now) {
  for (const auto& [name, worker] : core.fleet().workers()) {
    std::string& process = processes_[name];
    if (process == worker.hello.incarnation()) continue;
    process = worker.hello.incarnation();
    if (worker.hello.last_end().empty()) continue;
    ends_.push_back(
        {name, now, now - *first_ > kComeBack, worker.hello.last_end().substr(0, kMostOfAnEnd)});
    if (ends_.size() > kMostEnds) ends_.erase(ends_.begin());
  }
}

std::shared_ptr<const Snapshot> Photographer::Look(const Core& core, absl::Time now) {
  auto out = std::make_shared<Snapshot>();
  out->taken = now;
  out->sequence = ++sequence_;
  out->cluster = core.ClusterStatus();
  out->counters = core.counters();
  out->tasks_open = core.studies().units().size();
  LookAtWorkers(core, before_ ? std::max(absl::ZeroDuration(), now - *before_) : absl::ZeroDuration(),
                *out);
  out->cluster.clear_workers();
  if (!first_) first_ = now;
  LookAtEnds(core, now);
  out->ends = ends_;
  before_ = now;
  std::erase_if(albums_, [&](const auto& album) { return !core.studies().all().contains(album.first); });
  for (const auto& [id, study] : core.studies().all()) {
    out->studies.push_back(LookAt(core, id, albums_[id]));
  }
  std::sort(out->studies.begin(), out->studies.end(),
            [](const auto& a, const auto& b) { return a->order < b->order; });
  return out;
}

Publisher::Publisher(CoreThread& core, absl::Duration period)
    : core_(core), period_(period), thread_([this] { Loop(); }) {}

Publisher::~Publisher() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  thread_.join();
}

std::shared_ptr<const Snapshot> Publisher::Latest() const {
  absl::MutexLock lock(&shelf_->mutex);
  return shelf_->latest;
}

void Publisher::Loop() {
  absl::MutexLock lock(&mutex_);
  do {
    {
      absl::MutexLock shelf_lock(&shelf_->mutex);
      if (shelf_->looking) continue;
      shelf_->looking = true;
    }
    core_.Post([shelf = shelf_, photographer = photographer_](Core& core) {
      // What is shown is durable: it is put up after the commit.
      core.AfterFlush([shelf, snapshot = photographer->Look(core, absl::Now())] {
        absl::MutexLock shelf_lock(&shelf->mutex);
        shelf->latest = snapshot;
        shelf->looking = false;
      });
    });
  } while (!mutex_.AwaitWithTimeout(absl::Condition(&stopped_), period_));
}

const char* PhaseName(const v1::StudyStatus& status) {
  switch (status.phase()) {
    case v1::StudyStatus::RUNNING:
      return status.paused() ? "paused" : "running";
    case v1::StudyStatus::DONE:
      return "done";
    case v1::StudyStatus::FAILED:
      return "failed";
    case v1::StudyStatus::CANCELLED:
      return "cancelled";
    default:
      return "unknown";
  }
}

}  // namespace dermis
