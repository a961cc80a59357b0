// An input of the target `calls`: one call after the other, each a byte that says which, two bytes
// for the length of its message, and the message.
#ifndef DERMIS_TESTS_FUZZ_CALLS_H_
#define DERMIS_TESTS_FUZZ_CALLS_H_

#include <cstdint>
#include <string>

namespace dermis {

enum class Call : uint8_t {
  kRegister,  // v1::Register, on a new connection
  kBeat,      // These four on the newest connection.
  kEnded,
  kDisconnect,
  kComplete,  // v1::CompleteTasksRequest
  kSubmit,    // v1::SubmitRequest
  kCancel,    // v1::StudyRequest
  kRetry,
  kAdjust,      // v1::AdjustRequest
  kDelete,      // v1::DeleteRequest
  kHistory,     // v1::HistoryRequest
  kLook,        // v1::StudyRequest, which is v1::TrialsRequest too: all that can be looked at
  kLost,        // A blob's digest.
  kBlob,        // A blob.
  kPass,        // No message: time passes.
  kRestart,     // No message: the coordinator ends and starts again.
  kQuarantine,  // v1::QuarantineRequest
  kRelease,     // v1::ReleaseRequest
  kAsk,         // v1::ExplainRequest
  kCount,
};

inline void AddCall(Call call, const std::string& message, std::string& input) {
  input += static_cast<char>(call);
  input += static_cast<char>(message.size() & 0xff);
  input += static_cast<char>(message.size() >> 8);
  input += message;
}

}  // namespace dermis

#endif  // DERMIS_TESTS_FUZZ_CALLS_H_
