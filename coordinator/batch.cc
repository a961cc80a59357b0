#include "coordinator/batch.h"

#include <utility>

namespace dermis {

const JournalEntry& Batch::Add(JournalEntry entry) {
  if (entry.event.has_task_completed()) results_[entry.task] = entries_.size();
  entries_.push_back(std::move(entry));
  return entries_.back();
}

void Batch::Send(ConnectionId connection, v1::Directive directive) {
  messages_.push_back({connection, false, "", std::move(directive)});
}

void Batch::SendCancel(ConnectionId connection, uint64_t assignment, const std::string& why) {
  v1::Directive directive;
  directive.mutable_cancel()->set_assignment(assignment);
  directive.mutable_cancel()->set_why(why);
  Send(connection, std::move(directive));
}

void Batch::SendYield(ConnectionId connection, uint64_t assignment, const std::string& why) {
  v1::Directive directive;
  directive.mutable_yield()->set_assignment(assignment);
  directive.mutable_yield()->set_why(why);
  Send(connection, std::move(directive));
}

void Batch::Close(ConnectionId connection, const std::string& why) {
  messages_.push_back({connection, true, why, v1::Directive()});
}

void Batch::AfterFlush(std::function<void()> callback) {
  callbacks_.push_back(std::move(callback));
}

absl::Status Batch::Commit() {
  if (!broken_.ok()) return broken_;
  if (!entries_.empty()) {
    if (absl::Status status = journal_.Append(entries_); !status.ok()) {
      broken_ = status;
      return status;
    }
    events_ += entries_.size();
    entries_.clear();
    results_.clear();
  }
  // A callback may ask for more (a service that answers and looks again): that waits for its turn.
  const std::vector<std::function<void()>> callbacks = std::exchange(callbacks_, {});
  const std::vector<Message> messages = std::exchange(messages_, {});
  for (const std::function<void()>& callback : callbacks) callback();
  for (const Message& message : messages) {
    if (message.close) {
      outbox_.Close(message.connection, message.why);
    } else {
      outbox_.Send(message.connection, message.directive);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::TaskResult> Batch::ReadResult(const Digest& task) const {
  if (auto it = results_.find(task); it != results_.end()) {
    return entries_[it->second].event.task_completed().result();
  }
  return journal_.ReadResult(task);
}

}  // namespace dermis
