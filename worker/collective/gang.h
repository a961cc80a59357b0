// What the links of one gang share: the roster, what has arrived, who is there, and the first error. Between gRPC's
// threads, which fill it, and the one thread that makes the gang's collective calls. Thread-safe.
#ifndef DERMIS_WORKER_COLLECTIVE_GANG_H_
#define DERMIS_WORKER_COLLECTIVE_GANG_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "dermis/v1/cluster.pb.h"
#include "worker/collective/peer_link.h"

namespace dermis {

class Gang : public LinkHandler, public std::enable_shared_from_this<Gang> {
 public:
  Gang(const v1::GangSeat& seat, absl::Duration timeout) : seat_(seat), timeout_(timeout) {
    peers_.resize(seat.roster_size());
  }

  uint32_t rank() const { return seat_.rank(); }
  uint32_t world() const { return static_cast<uint32_t>(seat_.roster_size()); }
  const v1::GangMember& member(uint32_t r) const { return seat_.roster(static_cast<int>(r)); }
  const v1::Generation& generation() const { return seat_.generation(); }
  absl::Duration timeout() const { return timeout_; }

  std::string Who(uint32_t r) const { return absl::StrCat("rank ", r, " (worker ", member(r).worker(), ")"); }

  // An incoming stream of a higher rank. False: not a rank that dials us, or it has dialled already.
  bool Adopt(const std::shared_ptr<PeerLink>& link, uint32_t from, uint32_t to);

  std::shared_ptr<PeerLink> Dial(uint32_t to, std::shared_ptr<grpc::Channel> channel);

  absl::Status AwaitAll(absl::Duration patience);

  void OnFrame(PeerLink& link, Frame frame) override;

  void OnWritten(PeerLink&) override;

  void OnClosed(PeerLink& link, const std::string& why) override;

  // Ends the attempt on all ranks. `blamed` = this rank and kAborted: someone here called Abort.
  void Fail(absl::StatusCode code, uint32_t blamed, const std::string& cause);

  // Says goodbye: what is queued still goes out.
  void Leave();

  absl::Status status();

  std::vector<uint32_t> WaitsFor();

  // Collective::Check.
  absl::Status Check(absl::Duration since);

  // The links by rank (nullptr for this one), or the error.
  absl::StatusOr<std::vector<std::shared_ptr<PeerLink>>> Links();

  // Moves what has arrived for call `sequence` to got[rank]. Waits until there is something, or until `may_send`
  // holds, unless an awaited rank is lost. A frame of another call is an error of the program.
  absl::Status Receive(uint64_t sequence, const std::vector<bool>& awaited, absl::Duration since,
                       absl::FunctionRef<bool()> may_send, std::vector<std::deque<Frame>>* got);

 private:
  struct Peer {
    std::shared_ptr<PeerLink> link;
    std::deque<Frame> inbox;
    absl::Duration heard;
    bool there = false;
    bool bye = false;
    bool closed = false;
  };

  std::string Target(uint32_t r) const;

  void FailLocked(absl::StatusCode code, uint32_t blamed, const std::string& cause)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const v1::GangSeat seat_;
  const absl::Duration timeout_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = true;   // In a call of the collective; Join always waits.
  std::vector<uint32_t> waits_for_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::vector<Peer> peers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_GANG_H_
