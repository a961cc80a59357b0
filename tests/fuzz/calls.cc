// The bytes of the coordinator's calls, behind the access check: whatever comes, in whatever order,
// the core goes on, and a replay of its journal gives the state that it had.
#include "tests/fuzz/calls.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/log.h"
#include "coordinator/core.h"
#include "coordinator/services/study_service.h"
#include "tests/fuzz/fuzz.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

class Coordinator {
 public:
  Coordinator() { Start(); }

  void Start() {
    core_.reset();
    journal_ = std::make_unique<MemoryJournal>(disk_);
    core_ = std::make_unique<Core>(clock_, *journal_, outbox_, blobs_, Core::Options());
    Require(core_->Open().ok(), "a journal that the core wrote can be replayed");
  }

  void Take(Call call, const std::string& message);

  void Restart() {
    const std::string before = core_->Dump();
    Start();
    Require(core_->Dump() == before, "a replay gives the same state");
  }

 private:
  template <typename Message, typename Action>
  void With(const std::string& bytes, Action action) {
    Message message;
    if (message.ParseFromString(bytes)) action(std::move(message));
  }

  FakeClock clock_;
  FakeDisk disk_;
  FakeBlobs blobs_;
  RecordingOutbox outbox_;
  std::unique_ptr<MemoryJournal> journal_;
  std::unique_ptr<Core> core_;
  ConnectionId connection_ = 0;
};

void Coordinator::Take(Call call, const std::string& message) {
  const auto ignore = [](const auto&) {};
  switch (call) {
    case Call::kRegister:
      With<v1::Register>(message, [&](const v1::Register& hello) {
        core_->WorkerConnected(++connection_, hello);
      });
      break;
    case Call::kBeat:
      With<v1::Beat>(message, [&](const v1::Beat& beat) { core_->WorkerBeat(connection_, beat); });
      break;
    case Call::kEnded:
      With<v1::AttemptEnded>(
          message, [&](const v1::AttemptEnded& ended) { core_->AttemptEnded(connection_, ended); });
      break;
    case Call::kDisconnect:
      core_->WorkerDisconnected(connection_, "it left");
      break;
    case Call::kComplete:
      With<v1::CompleteTasksRequest>(message, [&](v1::CompleteTasksRequest request) {
        std::vector<CheckedCompletion> checked;
        for (v1::Completion& completion : *request.mutable_completions()) {
          checked.push_back(CheckCompletion(std::move(completion), blobs_));
        }
        core_->CompleteTasks(std::move(checked), ignore);
      });
      break;
    case Call::kSubmit:
      With<v1::SubmitRequest>(message, [&](const v1::SubmitRequest& request) {
        auto submission = PrepareSubmission(request, blobs_, false);
        if (!submission.ok()) return;
        submission->adjust = request.adjust();
        core_->Submit(*std::move(submission), ignore);
      });
      break;
    case Call::kCancel:
      With<v1::StudyRequest>(
          message, [&](const v1::StudyRequest& request) { core_->Cancel(request.id(), ignore); });
      break;
    case Call::kRetry:
      With<v1::StudyRequest>(
          message, [&](const v1::StudyRequest& request) { core_->Retry(request.id(), ignore); });
      break;
    case Call::kAdjust:
      With<v1::AdjustRequest>(message, [&](const v1::AdjustRequest& request) {
        core_->Adjust(request.id(), request.adjust(), "fuzz", ignore);
      });
      break;
    case Call::kDelete:
      With<v1::DeleteRequest>(message, [&](const v1::DeleteRequest& request) {
        core_->Delete(request, "fuzz", ignore);
      });
      break;
    case Call::kHistory:
      With<v1::HistoryRequest>(message, [&](const v1::HistoryRequest& request) {
        const auto rows = journal_->Read(request.after_row(), 100);
        if (rows.ok()) (void)core_->History(request.id(), *rows);
      });
      break;
    case Call::kLook:
      With<v1::StudyRequest>(message, [&](const v1::StudyRequest& request) {
        (void)core_->Status(request.id());
        (void)core_->Results(request.id());
        (void)core_->List();
        (void)core_->ClusterStatus();
      });
      With<v1::TrialsRequest>(message, [&](const v1::TrialsRequest& request) { (void)core_->Trials(request); });
      break;
    case Call::kLost:
      if (const auto digest = Digest::FromBytes(message); digest.ok()) {
        blobs_.Remove(*digest);
        core_->BlobLost(*digest, "it is gone");
      }
      break;
    case Call::kBlob:
      blobs_.Put(message);
      break;
    case Call::kPass:
      clock_.Advance(absl::Seconds(1));
      core_->Tick();
      break;
    case Call::kRestart:
      Require(core_->Flush().ok(), "what happened is stored");
      Restart();
      break;
    case Call::kQuarantine:
      With<v1::QuarantineRequest>(message, [&](const v1::QuarantineRequest& request) {
        core_->Quarantine(request.worker(), "fuzz", ignore);
      });
      break;
    case Call::kRelease:
      With<v1::ReleaseRequest>(message, [&](const v1::ReleaseRequest& request) {
        core_->Release(request.worker(), "fuzz", ignore);
      });
      break;
    case Call::kAsk:
      With<v1::ExplainRequest>(message, [&](const v1::ExplainRequest& request) {
        (void)core_->Ask(request.study(), std::make_shared<const std::string>(request.pixels()),
                         [](const QuestionNews&) {});
      });
      break;
    case Call::kCount:
      break;
  }
  Require(core_->Flush().ok(), "what happened is stored");
}

}  // namespace
}  // namespace dermis

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using dermis::Call;
  dermis::Hush();
  dermis::SetLogLevel(static_cast<dermis::LogLevel>(4));  // Not a word.
  dermis::Coordinator coordinator;
  dermis::ForEachCall<Call>(
      data, size, [&](Call call, const std::string& bytes) { coordinator.Take(call, bytes); });
  coordinator.Restart();
  return 0;
}
