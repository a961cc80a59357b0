// Thousands of random histories of a simulated cluster: messages are lost, repeated, late and out
// of order; workers hang, die and come back; the coordinator dies at any event, the disk is slow, a
// write fails. Then the chaos ends, and every study must end, with exactly one result for every
// task, and a replay of the journal must give the state that was there.
//
// A failure prints its seed: DERMIS_SIM_SEED=<seed> runs that history alone, DERMIS_SIM_RUNS=<n>
// another number of them.
#include <algorithm>
#include <cstdlib>
#include <deque>
#include <optional>
#include <queue>
#include <random>
#include <tuple>

#include <gtest/gtest.h>

#include "common/checks.h"
#include "common/log.h"
#include "common/split.h"
#include "coordinator/core.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

constexpr char kClass[] = "fake/1";

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed) {
    manifest_ = FakeManifest(60);
    image_set_ = *Digest::FromBytes(PutSet(blobs_, *manifest_));
    chaos_end_ = Now() + absl::Seconds(Uniform(5, 40));
    drop_ = Chance(0.7) ? 0.02 * Draw() : 0.0;
    repeat_ = 0.03 * Draw();
    late_ = 0.02 * Draw();
    kill_worker_ = Chance(0.7) ? 0.1 * Draw() : 0.0;       // Each second, each worker.
    kill_coordinator_ = Chance(0.7) ? 0.1 * Draw() : 0.0;  // Each second.
    deterministic_failures_ = Chance(0.1);
    lose_blob_ = Chance(0.4) ? 0.2 * Draw() : 0.0;  // Each second.
    jump_wall_ = Chance(0.3);
    if (Chance(0.5)) {
      disk_.fail_at = static_cast<uint64_t>(Uniform(1, 200));
      disk_.fails_after_commit = Chance(0.5);
    }
    slow_disk_ = Chance(0.3);
    check_all_ = Chance(0.4);
    if (check_all_) lies_ = Chance(0.7) ? 0.3 * Draw() : 0.0;
    disk_.on_write = [this] {
      if (slow_disk_ && InChaos() && Chance(0.05)) {
        clock_.Advance(absl::Milliseconds(static_cast<int64_t>(Uniform(1, 2000))));
      }
    };
  }

  // Empty: all held. Else what did not.
  std::string Run() {
    // Two honest ones outvote a liar.
    workers_.resize(static_cast<size_t>(lies_ > 0 ? Uniform(3, 6) : Uniform(1, 5)));
    for (size_t w = 0; w < workers_.size(); ++w) {
      After(Draw() * 3, [this, w] { StartWorker(w); });
    }
    StartCoordinator();
    EveryMillis(200, [this] { TickCoordinator(); });
    EveryMillis(1000, [this] { Chaos(); });
    PlanStudies();
    const absl::Duration limit = chaos_end_ + absl::Seconds(900);
    uint64_t events = 0;
    while (!agenda_.empty() && problem_.empty()) {
      Event event = agenda_.top();
      agenda_.pop();
      if (event.at > Now()) clock_.Advance(event.at - Now());
      event.run();
      if (++events % 16 == 0 && !InChaos() && Finished()) break;
      if (Now() > limit) {
        problem_ = "studies do not end:";
        if (core_) absl::StrAppend(&problem_, "\n", core_->List().DebugString());
        if (core_) {
          absl::StrAppend(&problem_, "\n", core_->ClusterStatus().ShortDebugString(), "\n",
                          core_->DescribeWork());
        }
      }
    }
    if (problem_.empty()) CheckEnd();
    return problem_;
  }

  uint64_t completions() const { return disk_.results.size(); }
  uint64_t deaths() const { return deaths_; }
  uint64_t deleted() const { return deleted_; }  // Studies.
  uint64_t paused() const { return paused_; }    // Times.
  uint64_t lies() const { return told_; }
  uint64_t quarantined() const { return quarantined_; }

 private:
  struct Event {
    absl::Duration at;
    uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const {
      return std::tie(other.at, other.order) < std::tie(at, order);
    }
  };

  struct Gang {  // The ranks' mesh.
    v1::GangSeat seat;
    std::map<uint32_t, size_t> joined;  // Rank -> worker.
    uint64_t step = 0;
    bool running = false, dead = false, yield = false;
    absl::Duration stored_at;
  };

  struct Worker {
    bool alive = false, hangs = false, welcome = false;
    uint64_t life = 0;  // Counts processes.
    ConnectionId connection = 0;
    uint64_t assignment = 0;
    std::set<uint64_t> had;
    std::vector<v1::TaskSpec> tasks;  // Of a bundle.
    size_t next = 0;
    bool gang = false, stop = false;
    v1::GangSeat seat;
    uint64_t progress = 0;
    std::deque<v1::Completion> unacknowledged;
    bool calling = false;
    std::optional<v1::AttemptEnded> ends_when_acknowledged;
    uint64_t work = 0;  // Counts assignments: stale timers do nothing.
    std::map<Digest, Digest> results;  // That it fetched as inputs: task -> payload.
  };

  class Network : public Outbox {
   public:
    explicit Network(Simulation& sim) : sim_(sim) {}
    void Send(ConnectionId connection, const v1::Directive& directive) override {
      sim_.Deliver([this, connection, directive] { sim_.OnDirective(connection, directive); });
    }
    void Close(ConnectionId connection, const std::string&) override {
      sim_.After(0.01, [this, connection] { sim_.OnClosed(connection); });
    }

   private:
    Simulation& sim_;
  };

  // ---------------------------------------------------------------- time and chance

  absl::Duration Now() const { return clock_.Now(); }
  bool InChaos() const { return Now() < chaos_end_; }
  double Draw() { return static_cast<double>(random_() >> 11) * 0x1.0p-53; }
  int64_t Uniform(int64_t from, int64_t to) {
    return from + static_cast<int64_t>(Draw() * static_cast<double>(to - from));
  }
  bool Chance(double p) { return Draw() < p; }
  void After(double seconds, std::function<void()> run) {
    agenda_.push({Now() + absl::Seconds(seconds), ++order_, std::move(run)});
  }
  void EveryMillis(int ms, std::function<void()> run) {
    After(ms / 1000.0, [this, ms, run] {
      run();
      EveryMillis(ms, run);
    });
  }
  // A message of a stream: lost, repeated, late and out of order while the chaos lasts; else in
  // order.
  void Deliver(std::function<void()> run) {
    if (!InChaos()) {
      After(0.01, run);
      return;
    }
    if (Chance(drop_)) return;
    After(Chance(late_) ? Draw() * 6 : Draw() * 0.05, run);
    if (Chance(repeat_)) After(Draw() * 2, run);
  }

  // ---------------------------------------------------------------- coordinator

  void StartCoordinator() {
    journal_ = std::make_unique<MemoryJournal>(disk_);
    Core::Options options;
    options.stuck_after = absl::Seconds(8);
    options.first_progress = absl::Seconds(12);
    options.segment = absl::Seconds(4);
    if (check_all_) {
      options.spot_checks = 1;
      options.company = absl::Seconds(60);  // Whoever dies comes back.
      options.check_wait = absl::Seconds(600);
    }
    core_ = std::make_unique<Core>(clock_, *journal_, network_, blobs_, options);
    ++epoch_;
    if (absl::Status status = core_->Open(); !status.ok()) {
      if (status.code() != absl::StatusCode::kResourceExhausted) {
        problem_ = absl::StrCat("open: ", status.ToString());
      }
      KillCoordinator(false);
    }
  }

  void KillCoordinator(bool check) {
    if (check && core_) CheckReplay();
    core_.reset();
    journal_.reset();
    ++deaths_;
    ++epoch_;
    for (size_t w = 0; w < workers_.size(); ++w) {
      if (workers_[w].connection != 0) {
        After(Draw() * 0.5, [this, c = workers_[w].connection] { OnClosed(c); });
      }
    }
    After(0.2 + Draw() * 4, [this] {
      if (!core_) StartCoordinator();
    });
  }

  void Flush() {
    if (!core_) return;
    if (!core_->Flush().ok()) KillCoordinator(false);
  }

  // Runs a command, commits now or with the ones that follow.
  void Command(const std::function<void(Core&)>& command) {
    if (!core_) return;
    command(*core_);
    if (Chance(0.5)) {
      core_->Tick();
      Flush();
    }
  }

  void TickCoordinator() {
    if (!core_) return;
    if (!InChaos()) LetAllGoOn();
    if (!core_) return;
    core_->Tick();
    Flush();
    if (core_ && !InChaos()) CheckService();
  }

  // When the chaos is over no study that can run goes without a worker for longer than 30 s, beyond
  // what it may back off by itself.
  void CheckService() {
    // Priorities lie between 0.5 and 2: one waits at most four times as long.
    constexpr absl::Duration kPatience = absl::Seconds(30), kLongestBackOff = absl::Seconds(30);
    const v1::ListResponse list = core_->List();
    for (const v1::StudyStatus& study : list.studies()) {
      if (study.phase() != v1::StudyStatus::RUNNING || study.workers() > 0 || study.paused()) {
        unserved_since_.erase(study.id());
        continue;
      }
      const auto [it, fresh] = unserved_since_.try_emplace(study.id(), Now());
      if (Now() - it->second > kPatience * (2 / study.priority()) + kLongestBackOff) {
        problem_ =
            absl::StrCat("study ", study.id(), " has waited for ",
                         absl::FormatDuration(Now() - it->second), "\n", study.ShortDebugString(), "\n",
                         core_->ClusterStatus().ShortDebugString(), "\n", core_->DescribeWork());
      }
    }
  }

  // What is durable gives the same state again.
  void CheckReplay() {
    // A coordinator that starts looks for every blob; let the one that runs know as much.
    for (const auto& [blob, bytes] : blobs_.graveyard) core_->BlobLost(blob, "damaged");
    if (!core_->Flush().ok()) return;
    const std::string live = core_->Dump();
    FakeDisk copy = disk_;
    copy.on_write = nullptr;
    copy.fail_at = 0;
    MemoryJournal journal(copy);
    RecordingOutbox outbox;
    Core again(clock_, journal, outbox, blobs_, Core::Options());
    if (absl::Status status = again.Open(); !status.ok()) {
      problem_ = absl::StrCat("replay: ", status.ToString());
    } else if (again.Dump() != live) {
      problem_ =
          absl::StrCat("replay gives another state.\nlive:\n", live, "\nreplayed:\n", again.Dump());
    }
  }

  // ---------------------------------------------------------------- people

  void PlanStudies() {
    const int64_t count = Uniform(1, 4);
    for (int64_t i = 0; i < count; ++i) {
      const int epochs = static_cast<int>(Uniform(1, 7));
      const int patience = Chance(0.5) ? static_cast<int>(Uniform(1, 4)) : 0;
      const std::string name = Chance(0.5) ? "a" : absl::StrCat("s", i);
      absl::StatusOr<v1::StudySpec> spec =
          FakeSpec(name, epochs, patience,
                   absl::StrCat(Chance(0.7) ? kFakeExplanation : "", Chance(0.3) ? Sweep() : ""));
      if (!spec.ok()) {
        problem_ = spec.status().ToString();
        return;
      }
      submissions_.push_back(*spec);
      ++open_submissions_;
      After(Draw() * 10, [this, i] { SubmitStudy(static_cast<size_t>(i)); });
    }
    if (Chance(0.3)) After(5 + Draw() * 10, [this] { CancelAndResume(); });
    if (Chance(0.4)) {
      const int64_t times = Uniform(1, 6);
      for (int64_t i = 0; i < times; ++i) After(Draw() * 30, [this] { AdjustSome(); });
    }
    if (Chance(0.3)) After(10 + Draw() * 30, [this] { DeleteSome(); });
  }

  std::string Sweep() {
    const char* const kStopping[] = {"", ", halving: {rungs: [1, 3], factor: 2}", ", halving: {}"};
    return absl::StrCat("sweep: {axes: [{key: training.clip_norm, values: [1, 2, 3, 4]}], seeds: ",
                        Uniform(1, 3), kStopping[Uniform(0, 3)], "}\n");
  }

  void SubmitStudy(size_t index) {
    auto answered = std::make_shared<bool>(false);
    Submission submission;
    submission.spec = submissions_[index];
    submission.image_set = image_set_;
    submission.manifest = manifest_;
    PutSet(blobs_, *manifest_);  // It may have gone with a study.
    Command([&](Core& core) {
      core.Submit(submission, [this, answered](const absl::StatusOr<v1::SubmitResponse>& response) {
        // A disk that is almost full takes no new study: the client tries again.
        if (absl::IsResourceExhausted(response.status())) return;
        if (!response.ok()) {
          problem_ = response.status().ToString();
          return;
        }
        if (!*answered) --open_submissions_;
        *answered = true;
        ids_.insert(response->id());
      });
    });
    // Nobody answered: the coordinator died. The client tries again.
    After(5, [this, index, answered] {
      if (!*answered) {
        *answered = true;  // A late answer counts no more.
        SubmitStudy(index);
      }
    });
  }

  void CancelAndResume() {
    if (ids_.empty() || !core_) return;
    const std::string id = *ids_.begin();
    ++open_submissions_;
    Command([&](Core& core) { core.Cancel(id, [](const absl::StatusOr<v1::StudyStatus>&) {}); });
    size_t index = 0;
    while (index < submissions_.size() && submissions_[index].name() != id) ++index;
    if (index == submissions_.size()) {
      --open_submissions_;
      cancelled_for_good_.insert(id);
      return;
    }
    After(2 + Draw() * 5, [this, index] { SubmitStudy(index); });
    // Another study of that name may be the one that was cancelled.
    cancelled_for_good_.insert(id);
  }

  std::string AnyStudy() {
    if (ids_.empty()) return "";
    auto it = ids_.begin();
    std::advance(it, Uniform(0, static_cast<int64_t>(ids_.size())));
    return *it;
  }

  // Somebody pauses a study, resumes it, or gives it another priority or budget.
  void AdjustSome() {
    const std::string id = AnyStudy();
    if (id.empty() || !core_ || !InChaos()) return;
    v1::Adjustment adjust;
    if (Chance(0.6)) adjust.set_paused(Chance(0.7));
    if (Chance(0.4)) adjust.set_priority(Chance(0.5) ? 2 : 0.5);
    if (Chance(0.3)) adjust.set_max_hours(Chance(0.5) ? 0 : 5.0 / 3600);
    Command([&](Core& core) {
      core.Adjust(id, adjust, "someone", [this](const absl::StatusOr<v1::StudyStatus>& status) {
        if (status.ok() && status->paused()) ++paused_;
        if (!status.ok() && !absl::IsFailedPrecondition(status.status()) &&
            !absl::IsNotFound(status.status())) {
          problem_ = status.status().ToString();
        }
      });
    });
  }

  // A study that is over, or is ended for it, goes for good.
  void DeleteSome() {
    const std::string id = AnyStudy();
    if (id.empty() || !core_ || open_submissions_ > 0) return;
    if (Chance(0.5)) {
      Command([&](Core& core) { core.Cancel(id, [](const absl::StatusOr<v1::StudyStatus>&) {}); });
      cancelled_for_good_.insert(id);  // Whether or not it can be deleted.
    }
    if (!core_) return;
    v1::DeleteRequest request;
    request.set_id(id);
    Command([&](Core& core) {
      core.Delete(request, "someone", [this, id](const absl::StatusOr<v1::DeleteResponse>& gone) {
        if (gone.ok()) {
          ++deleted_;
        } else if (!absl::IsFailedPrecondition(gone.status()) &&
                   !absl::IsNotFound(gone.status())) {
          problem_ = gone.status().ToString();
        }
      });
    });
  }

  // In the end nobody holds anything back.
  void LetAllGoOn() {
    v1::Adjustment adjust;
    adjust.set_paused(false);
    adjust.set_max_hours(0);
    const v1::ListResponse list = core_->List();
    for (const v1::StudyStatus& study : list.studies()) {
      if (study.phase() != v1::StudyStatus::RUNNING) continue;
      if (!study.paused() && study.max_hours() == 0) continue;
      Command([&](Core& core) {
        core.Adjust(study.id(), adjust, "someone", [](const absl::StatusOr<v1::StudyStatus>&) {});
      });
      if (!core_) return;
    }
  }

  bool Finished() {
    if (!core_ || open_submissions_ > 0) return false;
    if (Now() < chaos_end_ + absl::Seconds(1)) return false;
    const v1::ListResponse list = core_->List();
    for (const v1::StudyStatus& study : list.studies()) {
      if (study.phase() == v1::StudyStatus::DONE) continue;
      if (study.phase() == v1::StudyStatus::CANCELLED && cancelled_for_good_.contains(study.id())) {
        continue;
      }
      if (study.phase() == v1::StudyStatus::FAILED) {
        if (deterministic_failures_ && retried_.contains(study.id())) continue;
        // Killed three times in a row: poison. People try again.
        retried_.insert(study.id());
        Command([&](Core& core) {
          core.Retry(study.id(), [](const absl::StatusOr<v1::StudyStatus>&) {});
        });
        TickCoordinator();
      }
      return false;
    }
    return true;
  }

  // ---------------------------------------------------------------- chaos

  void Chaos() {
    if (!InChaos()) {
      for (size_t w = 0; w < workers_.size(); ++w) workers_[w].hangs = false;
      blobs_.low = false;
      return;
    }
    for (size_t w = 0; w < workers_.size(); ++w) {
      if (!workers_[w].alive) continue;
      if (Chance(kill_worker_)) KillWorker(w);
      if (Chance(kill_worker_ * 0.1)) workers_[w].hangs = true;
      if (Chance(0.01) && workers_[w].connection != 0) {  // A stream breaks.
        const ConnectionId connection = workers_[w].connection;
        Command([&](Core& core) { core.WorkerDisconnected(connection, "the network"); });
        OnClosed(connection);
      }
    }
    if (Chance(lose_blob_)) LoseBlob();
    // The wall clock is for people only.
    if (jump_wall_ && Chance(0.2)) clock_.JumpWall(Uniform(-1000000000, 1000000000));
    blobs_.low = Chance(0.1);
    if (core_ && Chance(kill_coordinator_)) {
      After(Draw(), [this] {
        if (core_) KillCoordinator(Chance(0.5));
      });
    }
  }

  // A blob of a training state is damaged on the disk; somebody notices when he wants to read it.
  void LoseBlob() {
    if (disk_.rows.empty()) return;
    v1::Event event;
    event.ParseFromString(
        disk_.rows[static_cast<size_t>(Uniform(0, static_cast<int64_t>(disk_.rows.size())))]
            .second);
    if (!event.task_completed().spec().has_train()) return;
    const auto& named = event.task_completed().result().blobs();
    const Digest blob = *Digest::FromBytes(named[static_cast<int>(Uniform(0, named.size()))]);
    if (!blobs_.Has(blob)) return;
    blobs_.Remove(blob);
    After(Draw() * 5, [this, blob] { Notice(blob); });
  }

  void Notice(const Digest& blob) {
    if (blobs_.Has(blob)) return;
    if (!core_) {  // It will look for itself when it starts.
      After(1, [this, blob] { Notice(blob); });
      return;
    }
    Command([&](Core& core) { core.BlobLost(blob, "damaged"); });
  }

  // ---------------------------------------------------------------- workers

  std::string NameOf(size_t w) const { return absl::StrCat("w", w); }

  void StartWorker(size_t w) {
    const uint64_t life = workers_[w].life + 1;
    const uint64_t work = workers_[w].work + 1;
    workers_[w] = Worker();
    workers_[w].work = work;
    workers_[w].alive = true;
    workers_[w].life = life;
    Connect(w);
    Beat(w, life);
  }

  void KillWorker(size_t w) {
    const ConnectionId connection = workers_[w].connection;
    LeaveMesh(w);
    workers_[w].alive = false;
    workers_[w].connection = 0;
    ++workers_[w].work;
    if (connection != 0 && Chance(0.8)) {
      After(Draw() * 0.1, [this, connection] {
        Command([&](Core& core) { core.WorkerDisconnected(connection, ""); });
      });
    }
    After(0.3 + Draw() * 5, [this, w] {
      if (!workers_[w].alive) StartWorker(w);
    });
  }

  void Connect(size_t w) {
    Worker& worker = workers_[w];
    if (!worker.alive || worker.connection != 0) return;
    const uint64_t life = worker.life;
    if (!core_) {
      After(0.5, [this, w, life] {
        if (workers_[w].life == life) Connect(w);
      });
      return;
    }
    const ConnectionId connection = ++connections_;
    worker.connection = connection;
    worker.welcome = false;
    v1::Register hello;
    hello.set_worker(NameOf(w));
    hello.set_incarnation(absl::StrCat(life));
    hello.set_numerics_class(kClass);
    hello.set_software_version(kVersion);
    hello.set_threads(1);
    *hello.mutable_running() = RunningOf(worker).running();
    const uint64_t epoch = epoch_;
    Deliver([this, connection, hello, epoch] {
      if (epoch != epoch_) return;
      Command([&](Core& core) { core.WorkerConnected(connection, hello); });
    });
    After(3, [this, w, connection] {
      if (workers_[w].connection == connection && !workers_[w].welcome) OnClosed(connection);
    });
  }

  v1::Beat RunningOf(const Worker& worker) const {
    v1::Beat beat;
    if (worker.assignment == 0) return beat;
    v1::RunningAttempt& running = *beat.add_running();
    running.set_assignment(worker.assignment);
    running.set_progress(worker.progress);
    if (worker.gang) {
      *running.mutable_generation() = worker.seat.generation();
      running.add_tasks(RecipeDigest(worker.seat.recipe(), kClass)->bytes());
    } else {
      for (const v1::TaskSpec& task : worker.tasks) running.add_tasks(TaskDigest(task)->bytes());
    }
    return beat;
  }

  void Beat(size_t w, uint64_t life) {
    Worker& worker = workers_[w];
    if (!worker.alive || worker.life != life) return;
    if (worker.connection != 0 && worker.welcome) {
      ToCoordinator(w, [connection = worker.connection, beat = RunningOf(worker)](Core& core) {
        core.WorkerBeat(connection, beat);
      });
    }
    Complete(w);
    After(1, [this, w, life] { Beat(w, life); });
  }

  void ToCoordinator(size_t, std::function<void(Core&)> command) {
    const uint64_t epoch = epoch_;
    Deliver([this, epoch, command] {
      if (epoch == epoch_) Command(command);
    });
  }

  // The stream is gone (either side): come back with what runs.
  void OnClosed(ConnectionId connection) {
    for (size_t w = 0; w < workers_.size(); ++w) {
      if (!workers_[w].alive || workers_[w].connection != connection) continue;
      workers_[w].connection = 0;
      After(0.1 + Draw() * 0.4, [this, w] { Connect(w); });
    }
  }

  void OnDirective(ConnectionId connection, const v1::Directive& directive) {
    for (size_t w = 0; w < workers_.size(); ++w) {
      Worker& worker = workers_[w];
      if (!worker.alive || worker.connection != connection) continue;
      switch (directive.kind_case()) {
        case v1::Directive::kWelcome: {
          if (!directive.welcome().refusal().empty()) problem_ = directive.welcome().refusal();
          if (worker.welcome) break;
          worker.welcome = true;
          const auto& adopted = directive.welcome().adopted();
          if (worker.assignment != 0 &&
              std::find(adopted.begin(), adopted.end(), worker.assignment) == adopted.end()) {
            LeaveMesh(w);
            worker.assignment = 0;
            worker.ends_when_acknowledged.reset();
            ++worker.work;
          }
          break;
        }
        case v1::Directive::kAssign:
          if (!worker.welcome) break;  // Its session has not begun.
          Begin(w, directive.assign());
          break;
        case v1::Directive::kCancel:
          if (directive.cancel().assignment() != worker.assignment) break;
          LeaveMesh(w);
          End(w, v1::OUTCOME_YIELDED, "cancelled");
          break;
        case v1::Directive::kYield:
          if (directive.yield().assignment() != worker.assignment) break;
          worker.stop = true;
          if (worker.gang) gangs_[worker.assignment].yield = true;
          break;
        default:
          break;
      }
    }
  }

  void Begin(size_t w, const v1::Assign& assign) {
    Worker& worker = workers_[w];
    if (worker.assignment != 0 || !worker.had.insert(assign.assignment()).second) return;
    worker.assignment = assign.assignment();
    worker.progress = 0;
    worker.stop = false;
    worker.gang = assign.has_gang();
    const uint64_t work = ++worker.work;
    if (!worker.gang) {
      worker.tasks.assign(assign.bundle().tasks().begin(), assign.bundle().tasks().end());
      worker.next = 0;
      if (worker.tasks.empty()) problem_ = "an empty bundle";
      After(TaskSeconds(), [this, w, work] { RunUnit(w, work); });
      return;
    }
    worker.seat = assign.gang();
    Gang& gang = gangs_[worker.assignment];
    if (gang.joined.contains(worker.seat.rank())) gang.dead = true;
    gang.seat = worker.seat;
    gang.joined[worker.seat.rank()] = w;
    gang.step = worker.seat.start_step();
    const uint64_t id = worker.assignment;
    if (static_cast<int>(gang.joined.size()) == worker.seat.roster_size()) {
      if (!gang.seat.start_state().empty()) {
        const Digest state = *Digest::FromBytes(gang.seat.start_state());
        if (!blobs_.Has(state)) {
          if (!blobs_.graveyard.contains(state))
            problem_ = "a gang starts from a state that is not there";
          LeaveMesh(w);
          End(w, v1::OUTCOME_UNAVAILABLE, "the start state cannot be read");
          return;
        }
      }
      gang.running = true;
      gang.stored_at = Now();
      After(StepSeconds(), [this, id] { Step(id); });
    }
    After(4, [this, w, work, id] {
      if (workers_[w].work == work && workers_[w].assignment == id && !gangs_[id].running) {
        LeaveMesh(w);
        End(w, v1::OUTCOME_PEER_LOST, "not all ranks came");
      }
    });
  }

  double TaskSeconds() { return 0.02 + Draw() * 0.3; }
  double StepSeconds() { return 0.05 + Draw() * 0.1; }

  // One unit of a bundle is done.
  void RunUnit(size_t w, uint64_t work) {
    Worker& worker = workers_[w];
    if (!worker.alive || worker.work != work || worker.assignment == 0) return;
    if (worker.hangs) return;
    const v1::TaskSpec& task = worker.tasks[worker.next];
    if (deterministic_failures_ && TaskDigest(task)->array()[5] < 4 && !task.has_evaluate()) {
      v1::AttemptEnded ended;
      ended.set_task(TaskDigest(task)->bytes());
      End(w, v1::OUTCOME_FAILED, "a singular system", ended);
      return;
    }
    if (InChaos() && Chance(0.01)) {
      End(w, v1::OUTCOME_UNAVAILABLE, "the disk is full");
      return;
    }
    std::optional<v1::Completion> completion = Compute(w, task);
    if (!completion) {
      End(w, v1::OUTCOME_UNAVAILABLE, "an input is not stored (yet)");
      return;
    }
    worker.unacknowledged.push_back(*std::move(completion));
    Complete(w);
    ++worker.progress;
    if (++worker.next == worker.tasks.size() || worker.stop) {
      End(w, worker.stop ? v1::OUTCOME_YIELDED : v1::OUTCOME_DONE, "");
      return;
    }
    After(TaskSeconds(), [this, w, work] { RunUnit(w, work); });
  }

  // What the unit gives on this worker. Wrong inputs give wrong results; and worker 0 may lie.
  // None: an input is not there.
  std::optional<v1::Completion> Compute(size_t w, const v1::TaskSpec& task) {
    Worker& worker = workers_[w];
    v1::Payload payload = FakePayload(task, split_);
    std::vector<v1::TaskSpec> needs = NeedsOf(task);
    if (task.has_perturb())
      needs.push_back(SuperpixelTaskOf(task.perturb().perturbation(), kClass));
    std::vector<v1::UsedResult> inputs;
    std::string wrong;
    for (const v1::TaskSpec& need : needs) {
      const Digest digest = *TaskDigest(need);
      auto known = worker.results.find(digest);
      if (known == worker.results.end()) {
        // As the service: from the journal, whether or not it stands.
        const absl::StatusOr<v1::TaskResult> result = MemoryJournal(disk_).ReadResult(digest);
        if (!result.ok()) return std::nullopt;
        known = worker.results.emplace(digest, *Digest::FromBytes(result->payload_digest())).first;
      }
      inputs.emplace_back().set_task(digest.bytes());
      inputs.back().set_payload(known->second.bytes());
      if (known->second != Sha256Of(FakePayload(need, split_).SerializeAsString())) {
        absl::StrAppend(&wrong, known->second.hex());
      }
    }
    if (w == 0 && Chance(lies_)) {
      absl::StrAppend(&wrong, "a lie");
      ++told_;
    }
    if (!wrong.empty()) Spoil(payload, static_cast<float>(FakeNumber(wrong)));
    v1::Completion completion = FakeCompletion(task, payload, NameOf(w));
    for (const v1::UsedResult& used : inputs) *completion.add_inputs() = used;
    return completion;
  }

  static void Spoil(v1::Payload& payload, float by) {
    by += 1;
    switch (payload.kind_case()) {
      case v1::Payload::kEvaluate:
        payload.mutable_evaluate()->set_logits(0, payload.evaluate().logits(0) + by);
        break;
      case v1::Payload::kSuperpixels:
        payload.mutable_superpixels()->set_labels(std::string("\1\0\0\0", 4));
        break;
      case v1::Payload::kPerturb:
        payload.mutable_perturb()->set_logits(0, payload.perturb().logits(0) + by);
        break;
      case v1::Payload::kFit:
        payload.mutable_fit()->set_values(0, payload.fit().values(0) + static_cast<double>(by));
        break;
      default:
        break;
    }
  }

  void Step(uint64_t id) {
    Gang& gang = gangs_[id];
    if (gang.dead) return;
    for (const auto& [rank, w] : gang.joined) {
      if (workers_[w].hangs) return;
    }
    const uint64_t per_epoch = StepsPerEpoch(training_, gang.seat.recipe().batch_size());
    ++gang.step;
    for (const auto& [rank, w] : gang.joined) workers_[w].progress = gang.step;
    if (deterministic_failures_ && gang.step % 5 == 0 &&
        RecipeDigest(gang.seat.recipe(), kClass)->array()[7] < 64) {
      // Rank 0's function returns an error. The others, whom it tells, may be heard first.
      const size_t w = gang.joined.at(0);
      LeaveMesh(w);
      After(Draw(), [this, w, work = workers_[w].work, id] {
        if (workers_[w].work == work && workers_[w].assignment == id) {
          v1::AttemptEnded ended;
          End(w, v1::OUTCOME_FAILED, "the loss is no number", ended);
        }
      });
      return;
    }
    const v1::TrainGoal& goal = gang.seat.goal();
    bool end = gang.yield, store = gang.yield;
    if (gang.step % per_epoch == 0) {
      const v1::TrainOutput now =
          FakeState(gang.seat.recipe(), kClass, gang.step, per_epoch, blobs_);
      const std::vector<v1::EpochMetrics> epochs(now.epochs().begin(), now.epochs().end());
      if (StopEpoch(epochs, gang.seat.recipe().best_metric(), goal.patience(),
                    static_cast<uint32_t>(goal.max_epochs()))) {
        end = store = true;
      }
    }
    if (std::find(goal.exact_steps().begin(), goal.exact_steps().end(), gang.step) !=
            goal.exact_steps().end() ||
        Now() - gang.stored_at > absl::Milliseconds(gang.seat.segment_ms())) {
      store = true;
    }
    if (store) {
      gang.stored_at = Now();
      Worker& rank0 = workers_[gang.joined.at(0)];
      v1::Payload payload;
      *payload.mutable_train() =
          FakeState(gang.seat.recipe(), kClass, gang.step, per_epoch, blobs_);
      v1::Completion& completion = rank0.unacknowledged.emplace_back(FakeCompletion(
          TrainTaskOf(gang.seat.recipe(), gang.step, kClass), payload, NameOf(gang.joined.at(0))));
      for (const auto& [rank, w] : gang.joined) completion.mutable_attempt()->add_gang(NameOf(w));
      if (!gang.seat.start_state().empty()) {
        v1::UsedResult& used = *completion.add_inputs();
        used.set_task(
            TaskDigest(TrainTaskOf(gang.seat.recipe(), gang.seat.start_step(), kClass))->bytes());
        used.set_payload(gang.seat.start_state());
      }
      Complete(gang.joined.at(0));
    }
    if (!end) {
      After(StepSeconds(), [this, id] { Step(id); });
      return;
    }
    gang.dead = true;
    const std::map<uint32_t, size_t> ranks = gang.joined;
    for (const auto& [rank, w] : ranks) {
      End(w, gang.yield ? v1::OUTCOME_YIELDED : v1::OUTCOME_DONE, "");
    }
  }

  // The others notice.
  void LeaveMesh(size_t w) {
    Worker& worker = workers_[w];
    if (!worker.gang || worker.assignment == 0) return;
    const uint64_t id = worker.assignment;
    Gang& gang = gangs_[id];
    if (gang.dead) return;
    gang.dead = true;
    for (const auto& [rank, other] : gang.joined) {
      if (other == w) continue;
      After(Draw() * 0.5, [this, other = other, id, work = workers_[other].work] {
        if (workers_[other].work == work && workers_[other].assignment == id) {
          End(other, v1::OUTCOME_PEER_LOST, "a rank went away");
        }
      });
    }
  }

  void End(size_t w, v1::Outcome outcome, const std::string& cause,
           v1::AttemptEnded ended = v1::AttemptEnded()) {
    Worker& worker = workers_[w];
    if (!worker.alive || worker.assignment == 0 || worker.ends_when_acknowledged) return;
    ended.set_assignment(worker.assignment);
    ended.set_outcome(outcome);
    ended.set_cause(cause);
    worker.ends_when_acknowledged = ended;
    ++worker.work;
    EndIfAcknowledged(w);
  }

  void EndIfAcknowledged(size_t w) {
    Worker& worker = workers_[w];
    if (!worker.ends_when_acknowledged || !worker.unacknowledged.empty()) return;
    const v1::AttemptEnded ended = *worker.ends_when_acknowledged;
    worker.ends_when_acknowledged.reset();
    worker.assignment = 0;
    if (worker.connection == 0) return;
    ToCoordinator(w, [connection = worker.connection, ended](Core& core) {
      core.AttemptEnded(connection, ended);
    });
  }

  // The call is repeated until it is answered.
  void Complete(size_t w) {
    Worker& worker = workers_[w];
    if (worker.unacknowledged.empty() || worker.calling || !core_) return;
    worker.calling = true;
    const size_t count = worker.unacknowledged.size();
    const std::vector<v1::Completion> batch(worker.unacknowledged.begin(),
                                            worker.unacknowledged.end());
    const uint64_t life = worker.life;
    auto open = std::make_shared<bool>(true);
    ToCoordinator(w, [this, w, life, batch, count, open](Core& core) {
      std::vector<CheckedCompletion> checked;
      for (const v1::Completion& completion : batch) {
        checked.push_back(CheckCompletion(completion, blobs_));
      }
      core.CompleteTasks(std::move(checked),
                         [this, w, life, count, open](const v1::CompleteTasksResponse& response) {
                           bool again = false;
                           std::set<std::string> stale;
                           for (const v1::CompletionReply& reply : response.replies()) {
                             if (reply.verdict() == v1::CompletionReply::MISSING) {
                               // What was lost meanwhile: the worker has it still.
                               for (const std::string& bytes : reply.missing()) {
                                 const Digest blob = *Digest::FromBytes(bytes);
                                 blobs_.blobs[blob] = blobs_.graveyard.at(blob);
                               }
                               again = true;
                             } else if (reply.verdict() == v1::CompletionReply::STALE &&
                                        lies_ > 0) {
                               stale.insert(reply.stale().begin(), reply.stale().end());
                             } else if (reply.verdict() != v1::CompletionReply::STORED &&
                                        !(reply.verdict() == v1::CompletionReply::CONFLICT &&
                                          lies_ > 0)) {
                               problem_ = reply.ShortDebugString();
                             }
                           }
                           Deliver([this, w, life, stale, count = again ? 0 : count, open] {
                             Worker& worker = workers_[w];
                             if (worker.life != life || !worker.alive || !*open) return;
                             for (const std::string& task : stale)
                               worker.results.erase(*Digest::FromBytes(task));
                             *open = false;
                             worker.calling = false;
                             for (size_t i = 0; i < count; ++i) worker.unacknowledged.pop_front();
                             Complete(w);
                             EndIfAcknowledged(w);
                           });
                         });
    });
    After(2, [this, w, life, open] {
      if (workers_[w].life != life || !*open) return;
      *open = false;
      workers_[w].calling = false;
      Complete(w);
    });
  }

  // ---------------------------------------------------------------- the end

  void CheckEnd() {
    if (!core_->Flush().ok()) return;
    // A task has one result, but where bytes of it were lost or removed: then another time the same.
    std::map<Digest, std::pair<std::string, bool>>
        results;  // Task -> payload, whether it may come again.
    std::map<Digest, v1::TaskSpec> specs;
    for (const auto& [task, bytes] : disk_.rows) {
      v1::Event event;
      event.ParseFromString(bytes);
      if (event.has_blob_dropped()) {
        for (auto& [other, result] : results) result.second = true;
      }
      for (const std::string& retired : event.states_retired().tasks()) {
        const auto it = results.find(*Digest::FromBytes(retired));
        if (it == results.end()) {
          problem_ = "a state that is not stored is retired";
          return;
        }
        it->second.second = true;
      }
      for (const std::string& forgotten : event.study_deleted().tasks()) {
        results.at(*Digest::FromBytes(forgotten)).second = true;
      }
      quarantined_ += event.has_worker_quarantined();
      if (event.has_worker_quarantined() && event.worker_quarantined().worker() != NameOf(0)) {
        problem_ =
            absl::StrCat("an honest worker is quarantined: ", event.worker_quarantined().why());
        return;
      }
      for (const std::string& withdrawn : event.worker_quarantined().withdrawn()) {
        results.erase(*Digest::FromBytes(withdrawn));
        specs.erase(*Digest::FromBytes(withdrawn));
      }
      if (task.none()) continue;
      specs[task] = event.task_completed().spec();
      const std::string& payload = event.task_completed().result().payload_digest();
      const auto [it, fresh] = results.try_emplace(task, payload, false);
      if (!fresh && (!it->second.second || it->second.first != payload)) {
        problem_ = absl::StrCat("task ", task.short_hex(), " has two results");
        return;
      }
      it->second.second = false;
    }
    if (core_->counters().conflicts != 0 && lies_ == 0) problem_ = "a conflict";
    CheckHonest(specs, results);
    // All that a study promises is there.
    const v1::ListResponse list = core_->List();
    for (const v1::StudyStatus& status : list.studies()) {
      if (status.phase() != v1::StudyStatus::DONE) continue;
      absl::StatusOr<v1::StudyResults> results = core_->Results(status.id());
      if (!results.ok()) {
        problem_ = results.status().ToString();
        return;
      }
      if (results->test_images_size() == 0 || results->model().weights().empty() ||
          results->training().step() !=
              results->stop_epoch() * results->training().steps_per_epoch()) {
        problem_ = absl::StrCat("results of ", status.id(), " are not whole");
      }
      const uint32_t seeds = results->spec().sweep().seeds();
      if (static_cast<uint32_t>(results->seeds_size()) != (seeds > 1 ? seeds : 0)) {
        problem_ = absl::StrCat("results of ", status.id(), " lack a seed's");
      }
      for (const v1::SeedResult& seed : results->seeds()) {
        if (seed.test_logits_size() != results->test_logits_size()) {
          problem_ = absl::StrCat("seed ", seed.seed(), " of ", status.id(), " is not evaluated");
        }
      }
      for (const v1::ExplainedImage& image : results->explained()) {
        for (const v1::MethodResult& method : image.results()) {
          if (method.result().task().empty()) problem_ = "a method has no result";
        }
      }
    }
    CheckReplay();
  }

 private:
  // Whatever the liar said, all that a study that is done stands on is what honest workers give.
  void CheckHonest(const std::map<Digest, v1::TaskSpec>& specs,
                   const std::map<Digest, std::pair<std::string, bool>>& results) {
    const Studies& studies = core_->studies();
    for (const auto& [id, study] : studies.all()) {
      if (studies.PhaseOf(*study) != v1::StudyStatus::DONE) continue;
      if (check_all_ && lies_ > 0 && study->checks_waived > 0) problem_ = "a check was waived";
      for (const auto& [task, stored] : studies.state().tasks()) {
        if (!stored.recipe.none() || !study->run->Has(task)) continue;
        if (!specs.contains(task)) {
          problem_ = absl::StrCat("task ", task.short_hex(), " is withdrawn and stored");
          return;
        }
        const std::string honest = FakePayload(specs.at(task), split_).SerializeAsString();
        if (results.at(task).first != Sha256Of(honest).bytes()) {
          problem_ = absl::StrCat("study ", id, " stands on a lie: ", Describe(specs.at(task)));
          return;
        }
      }
    }
  }

 public:
  void SetSplit(const Split& split) {
    split_ = split;
    training_ = split.training.size();
  }
  const v1::ImageSetManifest& manifest() const { return *manifest_; }

 private:
  std::mt19937_64 random_;
  FakeClock clock_;
  FakeDisk disk_;
  FakeBlobs blobs_;
  Network network_{*this};
  std::unique_ptr<MemoryJournal> journal_;
  std::unique_ptr<Core> core_;
  std::shared_ptr<const v1::ImageSetManifest> manifest_;
  Digest image_set_;
  Split split_;
  uint64_t training_ = 0;
  std::priority_queue<Event> agenda_;
  uint64_t order_ = 0, connections_ = 0, epoch_ = 0, deaths_ = 0;
  absl::Duration chaos_end_;
  double drop_, repeat_, late_, kill_worker_, kill_coordinator_;
  double lose_blob_;
  bool deterministic_failures_, jump_wall_, slow_disk_ = false;
  std::map<std::string, absl::Duration> unserved_since_;
  std::vector<Worker> workers_;
  std::map<uint64_t, Gang> gangs_;
  std::vector<v1::StudySpec> submissions_;
  std::set<std::string> ids_, cancelled_for_good_, retried_;
  int open_submissions_ = 0;
  uint64_t deleted_ = 0, paused_ = 0, told_ = 0, quarantined_ = 0;
  bool check_all_ = false;  // Spot checks of every unit.
  double lies_ = 0;         // How often worker 0 lies.
  std::string problem_;
};

TEST(Simulation, EveryStudyEnds_EveryTaskHasOneResult_ReplayGivesTheSameState) {
  SetLogLevel(getenv("DERMIS_SIM_SEED") != nullptr ? LogLevel::kInfo : static_cast<LogLevel>(4));
  const absl::StatusOr<v1::StudySpec> spec = FakeSpec("a", 1, 0, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto manifest = FakeManifest(60);
  const absl::StatusOr<Split> split = [&] {
    const v1::Recipe recipe = RecipeOf(*spec, Sha256Of("any"));
    return MakeSplit(*manifest, recipe.images().split(), recipe.images().split_seed());
  }();
  ASSERT_TRUE(split.ok()) << split.status();

  uint64_t first = 1, runs = 2000;
  if (const char* seed = getenv("DERMIS_SIM_SEED")) {
    first = strtoull(seed, nullptr, 10);
    runs = 1;
  } else if (const char* count = getenv("DERMIS_SIM_RUNS")) {
    runs = strtoull(count, nullptr, 10);
  }
  uint64_t completions = 0, deaths = 0, deleted = 0, paused = 0, lies = 0, quarantined = 0;
  for (uint64_t seed = first; seed < first + runs; ++seed) {
    Simulation simulation(seed);
    simulation.SetSplit(*split);
    const std::string problem = simulation.Run();
    ASSERT_EQ(problem, "") << "reproduce with DERMIS_SIM_SEED=" << seed;
    completions += simulation.completions();
    deaths += simulation.deaths();
    deleted += simulation.deleted();
    paused += simulation.paused();
    lies += simulation.lies();
    quarantined += simulation.quarantined();
  }
  printf(
      "%llu histories, %llu results, %llu deaths of the coordinator, %llu pauses, %llu studies "
      "deleted, "
      "%llu lies, %llu liars found\n",
      static_cast<unsigned long long>(runs), static_cast<unsigned long long>(completions),
      static_cast<unsigned long long>(deaths), static_cast<unsigned long long>(paused),
      static_cast<unsigned long long>(deleted), static_cast<unsigned long long>(lies),
      static_cast<unsigned long long>(quarantined));
  if (runs == 1) return;  // Of one history nothing is promised.
  EXPECT_GT(completions, runs);
  EXPECT_GT(paused, runs / 20);
  EXPECT_GT(deleted, runs / 100);
  EXPECT_GT(quarantined, runs / 10);
}

}  // namespace
}  // namespace dermis
