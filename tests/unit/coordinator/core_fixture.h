// A core with workers that do at once what they are told.
#ifndef DERMIS_TESTS_UNIT_COORDINATOR_CORE_FIXTURE_H_
#define DERMIS_TESTS_UNIT_COORDINATOR_CORE_FIXTURE_H_

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/log.h"
#include "common/split.h"
#include "common/tasks.h"
#include "coordinator/core.h"
#include "tests/simulation/fakes.h"

namespace dermis {

inline constexpr char kClass[] = "fake/1";

class CoreTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(static_cast<LogLevel>(4));  // Not a word.
    image_set_ = *Digest::FromBytes(PutSet(blobs_, *manifest_));
    const v1::Recipe recipe = RecipeOf(*FakeSpec("a", 1, 0, ""), image_set_);
    split_ = *MakeSplit(*manifest_, recipe.images().split(), recipe.images().split_seed());
    per_epoch_ = StepsPerEpoch(split_.training.size(), recipe.batch_size());
    Start();
  }

  void Start() {
    core_.reset();
    outbox_ = RecordingOutbox();
    journal_ = std::make_unique<MemoryJournal>(disk_);
    core_ = std::make_unique<Core>(clock_, *journal_, outbox_, blobs_, options_);
    ASSERT_TRUE(core_->Open().ok());
  }

  static v1::Register Hello(const std::string& name, const std::string& process = "1") {
    v1::Register hello;
    hello.set_worker(name);
    hello.set_incarnation(process);
    hello.set_numerics_class(kClass);
    hello.set_software_version(kVersion);
    return hello;
  }
  ConnectionId Join(const std::string& name, const std::string& process = "1") {
    core_->WorkerConnected(++connections_, Hello(name, process));
    names_[connections_] = name;
    EXPECT_TRUE(core_->Flush().ok());
    return connections_;
  }

  absl::StatusOr<v1::SubmitResponse> Submit(const v1::StudySpec& spec, const std::string& user = "",
                                            const Brought& brings = {}) {
    PutSet(blobs_, *manifest_);
    Submission submission;
    submission.spec = spec;
    submission.user = user;
    submission.brings = brings;
    submission.image_set = image_set_;
    submission.manifest = manifest_;
    absl::StatusOr<v1::SubmitResponse> out = absl::UnknownError("no answer");
    core_->Submit(submission, [&](const absl::StatusOr<v1::SubmitResponse>& r) { out = r; });
    EXPECT_TRUE(core_->Flush().ok());
    return out;
  }

  v1::CompletionReply Complete(const v1::TaskSpec& task, const v1::Payload& payload,
                               const std::string& worker = "w1") {
    v1::CompletionReply out;
    core_->CompleteTasks({CheckCompletion(FakeCompletion(task, payload, worker), blobs_)},
                         [&](const v1::CompleteTasksResponse& r) { out = r.replies(0); });
    EXPECT_TRUE(core_->Flush().ok());
    return out;
  }

  v1::Payload TrainPayload(const v1::Recipe& recipe, uint64_t step) {
    v1::Payload payload;
    *payload.mutable_train() = FakeState(recipe, kClass, step, per_epoch_, blobs_);
    return payload;
  }

  void End(ConnectionId connection, uint64_t assignment, v1::Outcome outcome,
           const std::string& cause = "", const std::string& task = "") {
    v1::AttemptEnded ended;
    ended.set_assignment(assignment);
    ended.set_outcome(outcome);
    ended.set_cause(cause);
    ended.set_task(task);
    core_->AttemptEnded(connection, ended);
    EXPECT_TRUE(core_->Flush().ok());
  }

  void Pass(absl::Duration time) {
    clock_.Advance(time);
    core_->Tick();
    ASSERT_TRUE(core_->Flush().ok());
  }

  // The newest assignment that was sent on the connection; 0: none.
  const v1::Assign* LastAssign(ConnectionId connection) {
    const auto& sent = outbox_.sent[connection];
    for (auto it = sent.rbegin(); it != sent.rend(); ++it) {
      if (it->has_assign()) return &it->assign();
    }
    return nullptr;
  }
  bool Was(ConnectionId connection, v1::Directive::KindCase kind) {
    for (const v1::Directive& directive : outbox_.sent[connection]) {
      if (directive.kind_case() == kind) return true;
    }
    return false;
  }

  // Everyone does what is assigned; one round.
  void Work() {
    Pass(absl::Milliseconds(200));
    Do();
  }
  // Of what is assigned already.
  void Do() {
    auto sent = std::exchange(outbox_.sent, {});
    std::vector<std::pair<ConnectionId, uint64_t>> ends;
    for (const auto& [connection, directives] : sent) {
      for (const v1::Directive& directive : directives) {
        if (!directive.has_assign()) continue;
        const v1::Assign& assign = directive.assign();
        if (assign.bundle().has_given()) {
          given_.emplace_back(connection, assign);
          continue;
        }
        for (const v1::TaskSpec& task : assign.bundle().tasks()) {
          EXPECT_EQ(Complete(task, FakePayload(task, split_)).verdict(),
                    v1::CompletionReply::STORED);
          ++computed_;
          ran_.push_back(*TaskDigest(task));
        }
        if (assign.has_gang() && assign.gang().rank() == 0) Train(assign.gang());
        ends.emplace_back(connection, assign.assignment());
      }
    }
    for (const auto& [connection, id] : ends) End(connection, id, v1::OUTCOME_DONE);
    for (const auto& [connection, name] : names_) core_->WorkerBeat(connection, v1::Beat());
  }

  void Train(const v1::GangSeat& seat) {
    starts_.push_back(seat.start_step());
    for (uint64_t step = seat.start_step() + 1;; ++step) {
      const v1::Payload payload = TrainPayload(seat.recipe(), step);
      const std::vector<v1::EpochMetrics> epochs(payload.train().epochs().begin(),
                                                 payload.train().epochs().end());
      const auto& exact = seat.goal().exact_steps();
      const bool stop = step % per_epoch_ == 0 &&
                        StopEpoch(epochs, seat.recipe().best_metric(), seat.goal().patience(),
                                  static_cast<uint32_t>(seat.goal().max_epochs()))
                            .has_value();
      if (stop || std::find(exact.begin(), exact.end(), step) != exact.end()) {
        EXPECT_EQ(Complete(TrainTaskOf(seat.recipe(), step, kClass), payload).verdict(),
                  v1::CompletionReply::STORED);
        ++computed_;
      }
      if (stop) return;
    }
  }

  absl::StatusOr<v1::StudyStatus> Adjust(const std::string& id, const v1::Adjustment& adjust) {
    absl::StatusOr<v1::StudyStatus> out = absl::UnknownError("no answer");
    core_->Adjust(id, adjust, "ann", [&](const absl::StatusOr<v1::StudyStatus>& r) { out = r; });
    EXPECT_TRUE(core_->Flush().ok());
    return out;
  }
  static v1::Adjustment Paused(bool paused) {
    v1::Adjustment adjust;
    adjust.set_paused(paused);
    return adjust;
  }
  absl::StatusOr<v1::DeleteResponse> Delete(const std::string& id, bool dry_run = false) {
    v1::DeleteRequest request;
    request.set_id(id);
    request.set_dry_run(dry_run);
    absl::StatusOr<v1::DeleteResponse> out = absl::UnknownError("no answer");
    core_->Delete(request, "ann", [&](const absl::StatusOr<v1::DeleteResponse>& r) { out = r; });
    EXPECT_TRUE(core_->Flush().ok());
    return out;
  }

  v1::StudyStatus RunToEnd(const std::string& id) {
    for (int i = 0; i < 500 && core_->Status(id)->phase() == v1::StudyStatus::RUNNING; ++i) Work();
    return *core_->Status(id);
  }

  Core::Options options_;
  FakeClock clock_;
  FakeDisk disk_;
  FakeBlobs blobs_;
  RecordingOutbox outbox_;
  std::shared_ptr<const v1::ImageSetManifest> manifest_ = FakeManifest(60);
  Digest image_set_;
  Split split_;
  uint64_t per_epoch_ = 0;
  std::unique_ptr<MemoryJournal> journal_;
  std::unique_ptr<Core> core_;
  ConnectionId connections_ = 0;
  std::map<ConnectionId, std::string> names_;
  std::vector<std::pair<ConnectionId, v1::Assign>> given_;  // Bundles of questions, which nobody has done.
  uint64_t computed_ = 0;
  std::vector<Digest> ran_;  // Units, in their order.
  std::vector<uint64_t> starts_;
};

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_COORDINATOR_CORE_FIXTURE_H_
