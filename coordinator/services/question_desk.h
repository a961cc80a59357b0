// Where questions about single images come in, by gRPC or by the dashboard: bounded in number, and
// turned from what the core hears of them (questions.h) into what people are told. Calibration and
// the copying of maps happen on a thread of its own: the core thread and those of gRPC stay free.
#ifndef DERMIS_COORDINATOR_SERVICES_QUESTION_DESK_H_
#define DERMIS_COORDINATOR_SERVICES_QUESTION_DESK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"

#include "coordinator/core_thread.h"
#include "coordinator/questions.h"
#include "dermis/v1/question.pb.h"

namespace dermis {

// Makes what people are told of what is heard of one question. Pure but for what it has heard.
class QuestionTeller {
 public:
  // In the order in which they are to be told; nothing for kEnded. A confidence is told only once
  // it is known whether there may be any.
  std::vector<v1::ExplainUpdate> Hear(const QuestionNews& news);

 private:
  v1::ExplainConfidence Confidence() const;

  std::optional<double> temperature_, threshold_;
  bool familiarity_follows_ = false;
  std::vector<float> logits_;
  std::optional<v1::Familiarity> familiarity_;
};

class QuestionDesk {
 public:
  static constexpr size_t kAtOnce = 16, kOfOneUser = 4;
  static constexpr size_t kMostBytes =
      3 * 1024 * 1024;  // Of an image: ingest makes no larger ones.

  struct Hearer {
    std::function<void(v1::ExplainUpdate)> update;
    std::function<void(const absl::Status&)> end;  // Once, last.
  };

  explicit QuestionDesk(CoreThread& core);  // `core` outlives this.
  ~QuestionDesk();
  QuestionDesk(const QuestionDesk&) = delete;
  QuestionDesk& operator=(const QuestionDesk&) = delete;

  // Thread-safe; `hearer` is called on the desk's thread. Refusals come to it, too:
  // RESOURCE_EXHAUSTED: too many questions at once. Gives a number for Leave.
  uint64_t Ask(const std::string& study, const std::string& user, std::string pixels,
               Hearer hearer);
  // Whoever asked has gone: nothing more is computed for it. `hearer` may be in a call still, and
  // gets no other.
  void Leave(uint64_t question);
  // All that are open end with UNAVAILABLE, and every later one.
  void CloseAll(const std::string& why);

 private:
  struct Shared;  // Also held by what the core calls.
  void Loop();

  CoreThread& core_;
  const std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_QUESTION_DESK_H_
