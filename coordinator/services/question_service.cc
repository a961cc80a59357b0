#include "coordinator/services/question_service.h"

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace dermis {
namespace {

// One question's answer. The desk speaks through a Line, which is cut when the call is over.
class Answering : public grpc::ServerWriteReactor<v1::ExplainUpdate> {
 public:
  struct Line {
    absl::Mutex mutex;
    Answering* answering ABSL_GUARDED_BY(mutex) = nullptr;
  };

  Answering(QuestionDesk& desk, Access::StillGood good)
      : desk_(desk), good_(std::move(good)), line_(std::make_shared<Line>()) {
    absl::MutexLock lock(&line_->mutex);
    line_->answering = this;
  }

  // Before this is handed to gRPC: until then nothing of it ends.
  void Ask(const v1::ExplainRequest& request, const std::string& user) {
    QuestionDesk::Hearer hearer;
    hearer.update = [line = line_](v1::ExplainUpdate update) {
      absl::MutexLock lock(&line->mutex);
      if (line->answering != nullptr) line->answering->Push(std::move(update));
    };
    hearer.end = [line = line_](const absl::Status& status) {
      absl::MutexLock lock(&line->mutex);
      if (line->answering != nullptr) line->answering->End(ToGrpc(status));
    };
    question_ = desk_.Ask(request.study(), user, request.pixels(), std::move(hearer));
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!queue_.empty()) queue_.pop_front();
    if (!ok) {
      queue_.clear();
      end_ = grpc::Status::CANCELLED;
    }
    Pump();
  }

  void OnCancel() override {
    desk_.Leave(question_);
    absl::MutexLock lock(&mutex_);
    queue_.resize(writing_ ? 1 : 0);
    if (!end_) end_ = grpc::Status::CANCELLED;
    Pump();
  }

  void OnDone() override {
    {
      absl::MutexLock lock(&line_->mutex);
      line_->answering = nullptr;
    }
    desk_.Leave(question_);
    delete this;
  }

 private:
  void Push(v1::ExplainUpdate update) {
    const grpc::Status good = good_();
    absl::MutexLock lock(&mutex_);
    if (end_) return;
    if (good.ok()) {
      queue_.push_back(std::move(update));
    } else {
      end_ = good;
    }
    Pump();
  }

  void End(const grpc::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (!end_) end_ = status;
    Pump();
  }

  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_ || writing_) return;
    if (!queue_.empty()) {
      writing_ = true;
      StartWrite(&queue_.front());
    } else if (end_) {
      finished_ = true;
      Finish(*end_);
    }
  }

  QuestionDesk& desk_;
  const Access::StillGood good_;
  const std::shared_ptr<Line> line_;
  uint64_t question_ = 0;  // Set before anything is called back.
  absl::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<v1::ExplainUpdate> queue_ ABSL_GUARDED_BY(mutex_);  // Front: under way while writing_.
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
};

class Refusal : public grpc::ServerWriteReactor<v1::ExplainUpdate> {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerWriteReactor<v1::ExplainUpdate>* QuestionService::Explain(
    grpc::CallbackServerContext* context, const v1::ExplainRequest* request) {
  const grpc::Status access = access_.Check(*context, "Questions/Explain");
  if (!access.ok()) return new Refusal(access);
  auto* answering = new Answering(desk_, access_.WhileOpen(*context));
  answering->Ask(*request, access_.User(*context));
  return answering;
}

}  // namespace dermis
