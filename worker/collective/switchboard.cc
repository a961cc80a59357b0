#include "worker/collective/switchboard.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/clock.h"
#include "worker/collective/generation.h"
#include "worker/collective/peer_access.h"

namespace dermis {
namespace {

constexpr size_t kMaxPending = 256;              // Streams that wait for this worker to join.

}  // namespace

grpc::ServerGenericBidiReactor* Switchboard::Accept(grpc::GenericCallbackServerContext* context) {
  AcceptedLink accepted = AcceptPeer(context, shared_from_this());
  const grpc::Status allowed = Allowed(*context);
  if (!allowed.ok()) {
    RefusePeer(*accepted.link, allowed);
  } else {
    Watch(accepted.link);
  }
  return accepted.reactor;
}

void Switchboard::OnFrame(PeerLink& link, Frame frame) {
  v1::PeerHello hello;
  if (frame.header().kind != FrameKind::kHello || frame.payload_bytes() > 1024 ||
      !hello.ParseFromString(frame.Text())) {
    RefusePeer(link, {grpc::StatusCode::INVALID_ARGUMENT, "the first frame is no hello"});
    return;
  }
  std::shared_ptr<Gang> gang;
  std::string refuse;
  {
    absl::MutexLock lock(&mutex_);
    if (gang_ != nullptr && Same(hello.generation(), gang_->generation())) {
      gang = gang_;
    } else if (latest_.has_value() && !Older(*latest_, hello.generation())) {
      refuse = absl::StrCat("generation ", GenerationName(hello.generation()),
                                       " is over; this worker has joined ", GenerationName(*latest_));
    } else if (pending_.size() >= kMaxPending) {
      refuse = "too many streams wait for this worker to join";
    } else {
      pending_.push_back({link.shared_from_this(), hello, Clock::Real().Now()});
      return;
    }
  }
  if (gang == nullptr) {
    RefusePeer(link, {grpc::StatusCode::FAILED_PRECONDITION, refuse});
  } else {
    AdoptOrRefuse(gang, link.shared_from_this(), hello);
  }
}

void Switchboard::OnClosed(PeerLink& link, const std::string&) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(pending_, [&](const Pending& p) { return p.link.get() == &link; });
}

absl::Status Switchboard::Enter(const std::shared_ptr<Gang>& gang) {
  std::shared_ptr<Gang> old;
  std::vector<Pending> mine;
  std::vector<Pending> stale;
  {
    absl::MutexLock lock(&mutex_);
    if (latest_.has_value() && !Older(*latest_, gang->generation())) {
      return absl::UnavailableError(
          absl::StrCat("cannot join generation ", GenerationName(gang->generation()), ": this worker has joined ",
                       GenerationName(*latest_),
                       " already. Where the coordinator's store was restored from a copy, start the workers again"));
    }
    if (left_.has_value() && Same(*left_, gang->generation())) {
      return absl::AbortedError(absl::StrCat("generation ", GenerationName(gang->generation()), " was left before it was joined"));
    }
    latest_ = gang->generation();
    old = std::exchange(gang_, gang);
    std::vector<Pending> later;
    for (Pending& p : pending_) {
      if (Same(p.hello.generation(), *latest_)) {
        mine.push_back(std::move(p));
      } else if (Older(p.hello.generation(), *latest_)) {
        stale.push_back(std::move(p));
      } else {
        later.push_back(std::move(p));
      }
    }
    pending_ = std::move(later);
  }
  if (old != nullptr) {
    old->Fail(absl::StatusCode::kAborted, old->rank(),
              absl::StrCat("a newer generation, ", GenerationName(gang->generation()), ", has begun"));
  }
  for (Pending& p : stale) {
    RefusePeer(*p.link, {grpc::StatusCode::FAILED_PRECONDITION,
                         absl::StrCat("generation ", GenerationName(p.hello.generation()), " is over")});
  }
  for (Pending& p : mine) AdoptOrRefuse(gang, p.link, p.hello);
  return absl::OkStatus();
}

void Switchboard::Leave(const v1::Generation& generation) {
  std::shared_ptr<Gang> gang;
  {
    absl::MutexLock lock(&mutex_);
    left_ = generation;
    if (gang_ != nullptr && Same(gang_->generation(), generation)) gang = gang_;
  }
  if (gang != nullptr) gang->Fail(absl::StatusCode::kAborted, gang->rank(), "told to leave");
}

void Switchboard::Watch(const std::shared_ptr<PeerLink>& link) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(links_, [](const Watched& w) { return w.life.expired(); });
  links_.push_back({link, link->life(), absl::InfiniteDuration()});
}

void Switchboard::Tend() {
  const absl::Duration now = Clock::Real().Now();
  std::vector<std::shared_ptr<PeerLink>> live;
  std::vector<std::shared_ptr<PeerLink>> stuck;
  std::vector<Pending> expired;
  {
    absl::MutexLock lock(&mutex_);
    for (Watched& watched : links_) {
      auto link = watched.link.lock();
      if (link == nullptr) continue;
      if (link->closing()) {
        if (watched.closing_since == absl::InfiniteDuration()) watched.closing_since = now;
        if (now - watched.closing_since > timeout_) stuck.push_back(std::move(link));
      } else if (link->peer() != 0xffffffff) {
        live.push_back(std::move(link));
      }
    }
    std::vector<Pending> rest;
    for (Pending& p : pending_) (now - p.since > hold_ ? expired : rest).push_back(std::move(p));
    pending_ = std::move(rest);
  }
  for (auto& link : live) link->SendBeatIfIdle();
  for (auto& link : stuck) link->Cancel();
  for (Pending& p : expired) {
    RefusePeer(*p.link, {grpc::StatusCode::DEADLINE_EXCEEDED,
                         absl::StrCat("this worker did not join generation ",
                                      GenerationName(p.hello.generation()), " within ",
                                      absl::FormatDuration(hold_))});
  }
}

void Switchboard::Close(absl::Duration patience) {
  std::shared_ptr<Gang> gang;
  {
    absl::MutexLock lock(&mutex_);
    gang = std::move(gang_);
  }
  if (gang != nullptr) {
    gang->Fail(absl::StatusCode::kAborted, gang->rank(), "this worker's mesh ends");
  }
  gang = nullptr;
  const absl::Duration start = Clock::Real().Now();
  for (;;) {
    std::vector<std::shared_ptr<PeerLink>> links;
    {
      absl::MutexLock lock(&mutex_);
      pending_.clear();
      std::erase_if(links_, [](const Watched& w) { return w.life.expired(); });
      if (links_.empty()) return;
      for (Watched& watched : links_) {
        if (auto link = watched.link.lock()) links.push_back(std::move(link));
      }
    }
    const absl::Duration waited = Clock::Real().Now() - start;
    if (waited > patience) return;
    // What says goodbye has a moment to do so.
    for (auto& link : links) {
      if (!link->closing() || waited > patience / 4) link->Cancel();
    }
    links.clear();
    absl::SleepFor(absl::Milliseconds(2));
  }
}

grpc::Status Switchboard::Allowed(const grpc::GenericCallbackServerContext& context) {
  if (context.method() != kExchangeMethod) {
    return {grpc::StatusCode::UNIMPLEMENTED, "a worker serves only its peers"};
  }
  return CheckPeer(context);
}

void Switchboard::AdoptOrRefuse(const std::shared_ptr<Gang>& gang, const std::shared_ptr<PeerLink>& link,
                   const v1::PeerHello& hello) {
  if (gang->Adopt(link, hello.from_rank(), hello.to_rank())) return;
  const absl::Status status = gang->status();
  RefusePeer(*link, {grpc::StatusCode::FAILED_PRECONDITION,
                     status.ok() ? absl::StrCat("rank ", hello.from_rank(), " has no place at rank ",
                                                gang->rank(), " of this gang")
                                 : absl::StrCat("the gang has ended: ", std::string(status.message()))});
}

}  // namespace dermis
