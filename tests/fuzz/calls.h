// An input of the targets `calls`, `services` and `peer`: one call after the other, each a byte
// that says which, two bytes for the length of its message, and the message.
#ifndef DERMIS_TESTS_FUZZ_CALLS_H_
#define DERMIS_TESTS_FUZZ_CALLS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"

#include "dermis/v1/cluster.pb.h"

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

// Calls that the services answer themselves, or by a decision about trust: of the target `services`, in the same form.
enum class ServiceCall : uint8_t {
  kSign,         // v1::SignRequest; an empty number means the newest token, whose number is random
  kRenew,        // v1::RenewRequest
  kCreateToken,  // v1::CreateTokenRequest
  kListJoins,    // v1::ListJoinsRequest
  kRevokeToken,  // v1::RevokeTokenRequest; empty as above
  kRevoke,       // v1::RevokeRequest
  kHas,          // v1::HasRequest
  kHolding,      // v1::HoldingRequest
  kFetch,        // v1::FetchResultsRequest
  kAuditHead,    // v1::AuditHeadRequest
  kAuditRead,    // v1::AuditReadRequest
  kPut,     // v1::PutRequest: the next piece of the upload that is open, else the first of another
  kPutEnd,  // No message: there are no more pieces
  kGet,     // v1::GetRequest; no digest means the blob that was uploaded last
  kWatch,   // v1::WatchRequest: the first states of a study. There is one that is called "s"
  kAttend,  // v1::WorkerMessage: the next of the worker's stream that is open, else the first of
            // another
  kAttendEnd,  // No message: the worker's stream ends
  kCount,
};

// What other workers say to one, of the target `peer`.
enum class PeerCall : uint8_t {
  kFirst,   // A frame (worker/collective/peer_link.h) of the stream that is dialled first.
  kSecond,  // Of the other one.
  kGet,     // v1::GetRequest
  kCount,
};

// Takes the calls of an input, one after the other; the last message may be cut off. `Which`: one
// of the above. `take`: of which it is, and its message.
template <typename Which, typename Take>
void ForEachCall(const uint8_t* data, size_t size, Take take) {
  for (size_t at = 0; at + 3 <= size;) {
    const auto which = static_cast<Which>(data[at] % static_cast<uint8_t>(Which::kCount));
    const size_t length = std::min<size_t>(data[at + 1] | data[at + 2] << 8, size - at - 3);
    take(which, std::string(reinterpret_cast<const char*>(data) + at + 3, length));
    at += 3 + length;
  }
}

// The gang of that target: three ranks with 1, 1 and 2 of 4 shards; this worker is rank 0.
inline v1::GangSeat PeerSeat() {
  v1::GangSeat seat;
  seat.mutable_generation()->set_incarnation(1);
  seat.mutable_generation()->set_counter(1);
  for (uint32_t rank = 0; rank < 3; ++rank) {
    v1::GangMember& member = *seat.add_roster();
    member.set_worker(absl::StrCat("w", rank));
    member.set_first_shard(rank);
    member.set_shards(rank == 2 ? 2 : 1);
  }
  return seat;
}

template <typename Kind>
void AddCall(Kind call, const std::string& message, std::string& input) {
  input += static_cast<char>(call);
  input += static_cast<char>(message.size() & 0xff);
  input += static_cast<char>(message.size() >> 8);
  input += message;
}

}  // namespace dermis

#endif  // DERMIS_TESTS_FUZZ_CALLS_H_
