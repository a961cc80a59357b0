// What the core costs in a large cluster: workers that take no time of their own against a core
// with a fake clock and a journal that forgets. Messages come in batches of a fixed number, however
// many workers there are, so nothing is hidden by a batch that grows with the cluster.
//
// The suite asserts by counted work (Counters::looks) that the cost of a completion does not grow.
// For times:
//   DERMIS_SCALE=WORKERS:UNITS,WORKERS:tTRIALS,... simulation_scale_test
//   --gtest_filter=Scale.Measured
#include <cstdlib>
#include <ctime>
#include <queue>
#include <tuple>

#include "absl/container/node_hash_map.h"
#include "absl/strings/str_split.h"
#include <gtest/gtest.h>

#include "common/log.h"
#include "common/split.h"
#include "coordinator/core.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

constexpr char kClass[] = "fake/1";
constexpr size_t kMessages = 32;  // A batch.

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Serialises like a journal, and keeps what is read again: training.
class ForgetfulJournal : public Journal {
 public:
  absl::Status Replay(const std::function<absl::Status(uint64_t, const JournalEntry&)>&) override {
    return absl::OkStatus();
  }
  absl::Status Append(absl::Span<const JournalEntry> entries) override {
    for (const JournalEntry& entry : entries) {
      bytes_ += entry.event.SerializeAsString().size();
      if (entry.event.task_completed().spec().has_train()) {
        kept_[entry.task] = entry.event.task_completed().result();
      }
    }
    return absl::OkStatus();
  }
  absl::StatusOr<v1::TaskResult> ReadResult(const Digest& task) const override {
    const auto it = kept_.find(task);
    if (it == kept_.end()) return absl::NotFoundError("forgotten");
    return it->second;
  }
  absl::StatusOr<std::vector<Row>> Read(uint64_t, size_t) const override {
    return std::vector<Row>();
  }

 private:
  uint64_t bytes_ = 0;
  absl::flat_hash_map<Digest, v1::TaskResult> kept_;
};

struct Cost {
  uint64_t completions = 0, looks = 0, rounds = 0;
  double seconds = 0;  // Of processor time, of the core alone.
  double longest = 0;  // Of a round: a study's tasks of a stage are made at once.

  Cost operator-(const Cost& before) const {
    return {completions - before.completions, looks - before.looks, rounds - before.rounds,
            seconds - before.seconds, longest};
  }
  double looks_each() const {
    return static_cast<double>(looks) / static_cast<double>(completions);
  }
  double micros_each() const { return 1e6 * seconds / static_cast<double>(completions); }
};

// Workers that answer when their time has come: a unit takes 0.1 s, a training 1 s.
class Scale : public Outbox {
 public:
  Scale(uint32_t workers, int images)
      : manifest_(FakeManifest(images)),
        image_set_(*Digest::FromBytes(PutSet(blobs_, *manifest_))),
        core_(clock_, journal_, *this, blobs_, {.spot_checks = 0.01}) {
    EXPECT_TRUE(core_.Open().ok());
    states_.resize(workers + 1);
    for (uint32_t w = 1; w <= workers; ++w) {
      v1::Register hello;
      hello.set_worker(absl::StrFormat("host%05d/cpu/0", w));
      hello.set_host(absl::StrFormat("host%05d", w));
      hello.set_incarnation("1");
      hello.set_numerics_class(kClass);
      hello.set_software_version(kVersion);
      core_.WorkerConnected(w, hello);
      names_.push_back(hello.worker());
      agenda_.push({clock_.Now() + w * absl::Seconds(1) / workers, w, true});
    }
  }

  void Submit(const v1::StudySpec& spec) {
    Submission submission;
    submission.spec = spec;
    submission.image_set = image_set_;
    submission.manifest = manifest_;
    split_ = *MakeSplit(*manifest_, spec.images().split(), spec.seed());
    per_epoch_ = StepsPerEpoch(split_.training.size(), spec.training().batch_size());
    core_.Submit(submission, [](const absl::StatusOr<v1::SubmitResponse>& response) {
      ASSERT_TRUE(response.ok()) << response.status();
    });
    EXPECT_TRUE(core_.Flush().ok());
  }

  // Until so many are stored in all, or everything is.
  const Cost& RunTo(uint64_t completions) {
    for (int idle = 0; cost_.completions < completions && idle < 20'000;) {
      const uint64_t before = cost_.completions;
      Round();
      idle = cost_.completions == before ? idle + 1 : 0;
    }
    return cost_;
  }

 private:
  struct Message {
    absl::Duration at;
    uint32_t worker;
    bool beat;
    bool operator<(const Message& other) const {
      return std::tie(other.at, other.worker) < std::tie(at, worker);
    }
  };
  struct WorkerState {
    uint64_t assignment = 0, progress = 0;
    std::vector<v1::TaskSpec> tasks;
    v1::GangSeat seat;
  };

  void Send(ConnectionId connection, const v1::Directive& directive) override {
    // Told to yield it ends soon all the same.
    if (directive.has_assign()) assigned_.emplace_back(connection, directive.assign());
  }
  void Close(ConnectionId, const std::string& why) override { ADD_FAILURE() << why; }

  void Round() {
    const absl::Duration now = clock_.Now();
    std::vector<Message> messages;
    while (messages.size() < kMessages && !agenda_.empty() &&
           agenda_.top().at <= now + absl::Milliseconds(100)) {
      messages.push_back(agenda_.top());
      agenda_.pop();
    }
    const absl::Duration then = messages.size() < kMessages ? now + absl::Milliseconds(100)
                                                            : std::max(now, messages.back().at);
    clock_.Advance(then - now);
    std::vector<std::function<void()>> commands;
    for (const Message& message : messages) Prepare(message, commands);
    const double begun = CpuSeconds();
    for (const auto& command : commands) command();
    core_.Tick();
    ASSERT_TRUE(core_.Flush().ok());
    const double took = CpuSeconds() - begun;
    cost_.seconds += took;
    cost_.longest = std::max(cost_.longest, took);
    cost_.looks = core_.counters().looks;
    cost_.completions = core_.counters().completions;
    ++cost_.rounds;
    for (auto& [connection, assign] : std::exchange(assigned_, {})) {
      WorkerState& worker = states_[connection];
      worker.assignment = assign.assignment();
      worker.progress = 0;
      worker.tasks.assign(assign.bundle().tasks().begin(), assign.bundle().tasks().end());
      worker.seat = assign.gang();
      const absl::Duration takes =
          assign.has_gang() ? absl::Seconds(1)
                            : 0.1 * static_cast<double>(worker.tasks.size()) * absl::Seconds(1);
      agenda_.push({clock_.Now() + takes, static_cast<uint32_t>(connection), false});
    }
  }

  // What services do on their own threads is not the core's: it is not measured.
  void Prepare(const Message& message, std::vector<std::function<void()>>& commands) {
    WorkerState& worker = states_[message.worker];
    const ConnectionId connection = message.worker;
    if (message.beat) {
      v1::Beat beat;
      if (worker.assignment != 0) {
        v1::RunningAttempt& running = *beat.add_running();
        running.set_assignment(worker.assignment);
        running.set_progress(++worker.progress);
      }
      commands.push_back([this, connection, beat] { core_.WorkerBeat(connection, beat); });
      agenda_.push({message.at + absl::Seconds(1), message.worker, true});
      return;
    }
    const std::string& name = names_[message.worker - 1];
    std::vector<CheckedCompletion> done;
    for (const v1::TaskSpec& task : worker.tasks) {
      done.push_back(
          CheckCompletion(FakeCompletion(task, FakePayload(task, split_), name), blobs_));
    }
    if (worker.seat.has_recipe() && worker.seat.rank() == 0) {
      const uint64_t step = worker.seat.goal().max_epochs() * per_epoch_;
      v1::Payload payload;
      *payload.mutable_train() = FakeState(worker.seat.recipe(), kClass, step, per_epoch_, blobs_);
      done.push_back(CheckCompletion(
          FakeCompletion(TrainTaskOf(worker.seat.recipe(), step, kClass), payload, name), blobs_));
    }
    v1::AttemptEnded ended;
    ended.set_assignment(worker.assignment);
    ended.set_outcome(v1::OUTCOME_DONE);
    worker.assignment = 0;
    commands.push_back([this, connection, done = std::move(done), ended]() mutable {
      core_.CompleteTasks(std::move(done), [](const v1::CompleteTasksResponse& response) {
        for (const v1::CompletionReply& reply : response.replies()) {
          EXPECT_EQ(reply.verdict(), v1::CompletionReply::STORED) << reply.cause();
        }
      });
      core_.AttemptEnded(connection, ended);
    });
  }

  FakeClock clock_;
  ForgetfulJournal journal_;
  FakeBlobs blobs_;
  std::shared_ptr<const v1::ImageSetManifest> manifest_;
  Digest image_set_;
  Core core_;
  Split split_;
  uint64_t per_epoch_ = 0;
  std::vector<std::string> names_;
  std::vector<WorkerState> states_;  // By connection.
  std::priority_queue<Message> agenda_;
  std::vector<std::pair<ConnectionId, v1::Assign>> assigned_;
  Cost cost_;
};

// Superpixels, three runs and a fit of LIME, Grad-CAM and activation maps: some seven tasks an
// image.
constexpr char kAllTest[] =
    "explanation:\n"
    "  images: {all_test: true}\n"
    "  methods:\n"
    "    - lime: {samples: 700}\n"
    "    - grad_cam: {}\n"
    "    - activation_maps: {}\n";

void SubmitUnits(Scale& scale, int studies) {
  for (int s = 0; s < studies; ++s) {
    v1::StudySpec spec = *FakeSpec(absl::StrCat("s", s), 1, 0, kAllTest);
    spec.mutable_training()->set_clip_norm(1 + s);  // Models of their own.
    scale.Submit(spec);
  }
}

void SubmitTrials(Scale& scale, uint64_t trials) {
  scale.Submit(*FakeSpec(
      "sweep", 1, 0,
      absl::StrCat(
          "sweep: {axes: [{key: training.clip_norm, range: {low: 1, high: 100}}, "
          "{key: training.optimizer.sgd.learning_rate, range: {low: 1e-6, high: 1, log: true}}], "
          "random: {trials: ",
          trials, "}}\n")));
}

// `steady`: from a tenth of the tasks to nine tenths. `usual`: us a completion in the median
// fortieth of all, so without the few rounds that make all tasks of a stage.
struct Costs {
  Cost steady, all;
  double usual = 0;
};

Costs Measure(uint32_t workers, uint64_t tasks, bool trials) {
  // A study may have 500,000 explanation tasks.
  const int studies = static_cast<int>((tasks + 299'999) / 300'000);
  Scale scale(workers, trials ? 100 : static_cast<int>(tasks / static_cast<uint64_t>(studies) / 2));
  if (trials) {
    SubmitTrials(scale, tasks);
  } else {
    SubmitUnits(scale, studies);
  }
  constexpr uint64_t kParts = 40;
  std::vector<Cost> costs = {Cost()};
  std::vector<double> micros;
  for (uint64_t part = 1; part <= kParts; ++part) {
    const Cost before = costs.back();
    costs.push_back(scale.RunTo(tasks * part / kParts));
    if (costs.back().completions > before.completions) {
      micros.push_back((costs.back() - before).micros_each());
    }
  }
  EXPECT_GE(costs.back().completions, tasks - tasks / 1000);  // Random trials may be alike.
  std::sort(micros.begin(), micros.end());
  return {costs[kParts * 9 / 10] - costs[kParts / 10], costs.back(), micros[micros.size() / 2]};
}

// What memory alone costs: ns of a look-up among so many records as State keeps of results, all of
// them in turn in the order of their digests.
double LookUpNanos(uint64_t records) {
  absl::node_hash_map<Digest, StoredTask> map;
  std::vector<Digest> keys;
  for (uint64_t i = 0; i < records; ++i) {
    keys.push_back(Sha256Of(absl::StrCat("task ", i)));
    map[keys.back()].row = i;
  }
  std::sort(keys.begin(), keys.end());
  uint64_t sum = 0;
  const double begun = CpuSeconds();
  for (const Digest& key : keys) sum += map.find(key)->second.row;
  const double took = CpuSeconds() - begun;
  EXPECT_EQ(sum, records * (records - 1) / 2);
  return 1e9 * took / static_cast<double>(records);
}

void ExpectAsCheap(const Costs& large, const Costs& small) {
  EXPECT_LT(large.steady.looks_each(), 1.5 * small.steady.looks_each());
  EXPECT_LT(large.all.looks_each(), 2 * small.all.looks_each());
}

TEST(Scale, AUnit_CostsTheSame_InALargerClusterAndInALargerStudy) {
  SetLogLevel(static_cast<LogLevel>(4));
  const Costs small = Measure(50, 2'000, false);
  ExpectAsCheap(Measure(500, 10'000, false), small);
  ExpectAsCheap(Measure(50, 5'000, false), small);
}

TEST(Scale, ATraining_CostsTheSame_InALargerClusterAndInALargerSweep) {
  SetLogLevel(static_cast<LogLevel>(4));
  const Costs small = Measure(20, 300, true);
  ExpectAsCheap(Measure(400, 3'000, true), small);
  ExpectAsCheap(Measure(20, 1'500, true), small);
}

TEST(Scale, Measured) {
  const char* wanted = getenv("DERMIS_SCALE");
  if (wanted == nullptr)
    GTEST_SKIP() << "DERMIS_SCALE=WORKERS:TASKS,... measures units, WORKERS:tTRIALS trials";
  SetLogLevel(static_cast<LogLevel>(4));
  std::printf("%6s %8s %8s %8s %8s %7s %7s %10s %12s\n", "", "workers", "stored", "us each",
              "usual", "looks", "steady", "longest ms", "look-up, ns");
  const std::vector<std::string> pairs = absl::StrSplit(wanted, ',');
  for (const std::string& pair : pairs) {
    const std::vector<std::string> parts = absl::StrSplit(pair, ':');
    const bool trials = parts.at(1)[0] == 't';
    const Costs run = Measure(static_cast<uint32_t>(std::atol(parts[0].c_str())),
                              static_cast<uint64_t>(std::atol(parts[1].c_str() + trials)), trials);
    std::printf("%6s %8s %8lu %8.1f %8.1f %7.1f %7.1f %10.0f %12.0f\n", trials ? "trials" : "units",
                parts[0].c_str(), static_cast<unsigned long>(run.all.completions),
                run.all.micros_each(), run.usual, run.all.looks_each(), run.steady.looks_each(),
                1e3 * run.all.longest, LookUpNanos(run.all.completions));
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace dermis
