#include "worker/collective/gang.h"

#include <algorithm>
#include <utility>

#include "common/clock.h"
#include "dermis/v1/peer.pb.h"
#include "worker/collective/generation.h"

namespace dermis {
namespace {

FrameHeader Header(FrameKind kind, uint32_t part = 0) {
  FrameHeader header{};
  header.kind = kind;
  header.part = part;
  return header;
}

}  // namespace

bool Gang::Adopt(const std::shared_ptr<PeerLink>& link, uint32_t from, uint32_t to) {
  {
    absl::MutexLock lock(&mutex_);
    if (to != rank() || from <= rank() || from >= world() || peers_[from].link != nullptr) return false;
    if (!status_.ok()) return false;
    peers_[from].link = link;
    peers_[from].there = true;
    peers_[from].heard = Clock::Real().Now();
    changed_.SignalAll();
  }
  link->Attach(shared_from_this(), from);
  link->Send(MakeFrame(Header(FrameKind::kWelcome)));
  return true;
}

std::shared_ptr<PeerLink> Gang::Dial(uint32_t to, std::shared_ptr<grpc::Channel> channel) {
  v1::PeerHello hello;
  *hello.mutable_generation() = generation();
  hello.set_from_rank(rank());
  hello.set_to_rank(to);
  auto link = DialPeer(std::move(channel), shared_from_this(), to,
                       MakeFrame(Header(FrameKind::kHello), hello.SerializeAsString()));
  absl::MutexLock lock(&mutex_);
  if (status_.ok()) {
    peers_[to].link = link;
    peers_[to].heard = Clock::Real().Now();
  } else {
    link->Cancel();
  }
  return link;
}

absl::Status Gang::AwaitAll(absl::Duration patience) {
  const absl::Duration deadline = Clock::Real().Now() + patience;
  absl::MutexLock lock(&mutex_);
  for (;;) {
    if (!status_.ok()) return status_;
    uint32_t missing = world();
    for (uint32_t r = 0; r < world() && missing == world(); ++r) {
      if (r != rank() && !peers_[r].there) missing = r;
    }
    if (missing == world()) return absl::OkStatus();
    const absl::Duration left = deadline - Clock::Real().Now();
    if (left <= absl::ZeroDuration()) {
      FailLocked(absl::StatusCode::kUnavailable, missing,
                 absl::StrCat("did not join generation ", GenerationName(generation()), " within ",
                              absl::FormatDuration(patience), " at ", Target(missing)));
      return status_;
    }
    changed_.WaitWithTimeout(&mutex_, left);
  }
}

void Gang::OnFrame(PeerLink& link, Frame frame) {
  const uint32_t from = link.peer();
  absl::MutexLock lock(&mutex_);
  if (!status_.ok()) return;
  Peer& peer = peers_[from];
  peer.heard = Clock::Real().Now();
  switch (frame.header().kind) {
    case FrameKind::kBeat:
      return;
    case FrameKind::kWelcome:
      peer.there = true;
      break;
    case FrameKind::kBye:
      peer.bye = true;
      break;
    case FrameKind::kAbort:
      FailLocked(absl::StatusCode::kUnavailable, std::min(frame.header().part, world() - 1), frame.Text());
      return;
    case FrameKind::kReduce:
    case FrameKind::kResult:
    case FrameKind::kGather:
      peer.inbox.push_back(std::move(frame));
      break;
    default:
      FailLocked(absl::StatusCode::kInternal, from, "sent a frame of an unknown kind");
      return;
  }
  if (waiting_) changed_.SignalAll();
}

void Gang::OnWritten(PeerLink&) {
  absl::MutexLock lock(&mutex_);
  if (waiting_) changed_.SignalAll();
}

void Gang::OnClosed(PeerLink& link, const std::string& why) {
  absl::MutexLock lock(&mutex_);
  Peer& peer = peers_[link.peer()];
  peer.closed = true;
  if (peer.bye) {
    changed_.SignalAll();
  } else {
    FailLocked(absl::StatusCode::kUnavailable, link.peer(), absl::StrCat("connection lost: ", why));
  }
}

void Gang::Fail(absl::StatusCode code, uint32_t blamed, const std::string& cause) {
  absl::MutexLock lock(&mutex_);
  FailLocked(code, blamed, cause);
}

void Gang::Leave() {
  std::vector<std::shared_ptr<PeerLink>> links;
  {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return;
    status_ = absl::FailedPreconditionError("this rank has left the gang");
    for (Peer& peer : peers_) {
      peer.inbox.clear();
      if (peer.link != nullptr) links.push_back(std::move(peer.link));
    }
  }
  for (auto& link : links) {
    link->Send(MakeFrame(Header(FrameKind::kBye)));
    link->CloseAfterFlush();
  }
}

absl::Status Gang::status() {
  absl::MutexLock lock(&mutex_);
  return status_;
}

std::vector<uint32_t> Gang::WaitsFor() {
  absl::MutexLock lock(&mutex_);
  return waits_for_;
}

absl::Status Gang::Check(absl::Duration since) {
  absl::MutexLock lock(&mutex_);
  const absl::Duration now = Clock::Real().Now();
  for (uint32_t r = 0; r < world() && status_.ok(); ++r) {
    if (r == rank() || std::max(peers_[r].heard, since) + timeout_ > now) continue;
    // One that has left may have done its part: what it sent elsewhere gets the timeout to arrive.
    FailLocked(absl::StatusCode::kUnavailable, r,
               peers_[r].bye ? "left the gang before the work was done"
                             : absl::StrCat("sent nothing for ", absl::FormatDuration(timeout_)));
  }
  return status_;
}

absl::StatusOr<std::vector<std::shared_ptr<PeerLink>>> Gang::Links() {
  absl::MutexLock lock(&mutex_);
  if (!status_.ok()) return status_;
  std::vector<std::shared_ptr<PeerLink>> links;
  for (const Peer& peer : peers_) links.push_back(peer.link);
  return links;
}

absl::Status Gang::Receive(uint64_t sequence, const std::vector<bool>& awaited, absl::Duration since,
                     absl::FunctionRef<bool()> may_send, std::vector<std::deque<Frame>>* got) {
  absl::MutexLock lock(&mutex_);
  for (;;) {
    if (!status_.ok()) return status_;
    bool any = false;
    for (uint32_t r = 0; r < world(); ++r) {
      std::deque<Frame>& inbox = peers_[r].inbox;
      while (!inbox.empty() && inbox.front().header().sequence <= sequence) {
        if (inbox.front().header().sequence < sequence) {
          FailLocked(absl::StatusCode::kInternal, r,
                     absl::StrCat("sent a frame of collective call ", inbox.front().header().sequence,
                                  " during call ", sequence));
          return status_;
        }
        (*got)[r].push_back(std::move(inbox.front()));
        inbox.pop_front();
        any = true;
      }
    }
    if (any || may_send()) return absl::OkStatus();

    const absl::Duration now = Clock::Real().Now();
    absl::Duration deadline = now + timeout_;
    for (uint32_t r = 0; r < world(); ++r) {
      if (!awaited[r]) continue;
      if (peers_[r].bye || peers_[r].closed) {
        FailLocked(absl::StatusCode::kUnavailable, r, "left the gang before the work was done");
        return status_;
      }
      const absl::Duration limit = std::max(peers_[r].heard, since) + timeout_;
      if (limit <= now) {
        FailLocked(absl::StatusCode::kUnavailable, r,
                   absl::StrCat("sent nothing for ", absl::FormatDuration(timeout_)));
        return status_;
      }
      deadline = std::min(deadline, limit);
    }
    waiting_ = true;
    waits_for_.clear();
    for (uint32_t r = 0; r < world(); ++r) {
      if (awaited[r]) waits_for_.push_back(r);
    }
    changed_.WaitWithTimeout(&mutex_, deadline - now);
    waits_for_.clear();
    waiting_ = false;
  }
}

std::string Gang::Target(uint32_t r) const {
  const v1::GangMember& m = member(r);
  if (m.peer_socket().empty()) return m.peer_address();
  return absl::StrCat(m.peer_address(), " or ", m.peer_socket());
}

void Gang::FailLocked(absl::StatusCode code, uint32_t blamed, const std::string& cause) {
  if (!status_.ok()) return;
  const std::string text = absl::StrCat(Who(blamed), ": ", cause);
  status_ = absl::Status(code, code == absl::StatusCode::kAborted ? cause : text);
  FrameHeader header = Header(FrameKind::kAbort, blamed);
  for (Peer& peer : peers_) {
    peer.inbox.clear();
    // Queues only; a link calls back from gRPC's threads alone.
    if (peer.link != nullptr) peer.link->CloseWith(MakeFrame(header, cause));
    peer.link = nullptr;
  }
  changed_.SignalAll();
}

}  // namespace dermis
