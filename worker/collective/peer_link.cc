#include "worker/collective/peer_link.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/client_context.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/client_callback.h"
#include "grpcpp/support/slice.h"

namespace dermis {
namespace {

// Blocks of the frames that are sent, by power of two. gRPC frees slices on its own threads and may do so
// at the very end of the process, so the pool is never destroyed.
class BlockPool {
 public:
  static BlockPool& Get() {
    static auto* pool = new BlockPool;
    return *pool;
  }

  char* Take(size_t size) {
    const int c = Class(size);
    if (c < kClasses) {
      absl::MutexLock lock(&mutex_);
      if (!free_[c].empty()) {
        char* block = free_[c].back();
        free_[c].pop_back();
        held_ -= size_t{1} << c;
        return block;
      }
    }
    return static_cast<char*>(std::malloc(c < kClasses ? size_t{1} << c : size));
  }

  void Put(char* block, size_t size) {
    const int c = Class(size);
    if (c < kClasses) {
      absl::MutexLock lock(&mutex_);
      if (held_ + (size_t{1} << c) <= kHold) {
        free_[c].push_back(block);
        held_ += size_t{1} << c;
        return;
      }
    }
    std::free(block);
  }

 private:
  static constexpr int kClasses = 26;             // Up to 32 MiB.
  static constexpr size_t kHold = 64u << 20;

  static int Class(size_t size) {
    int c = 6;
    while (c < kClasses && (size_t{1} << c) < size) ++c;
    return c;
  }

  absl::Mutex mutex_;
  std::vector<char*> free_[kClasses] ABSL_GUARDED_BY(mutex_);
  size_t held_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What a slice's destroy function needs to know, kept at the end of the block itself.
struct Trailer {
  char* block;
  size_t size;
};

size_t RoundUp(size_t n) { return (n + alignof(Trailer) - 1) / alignof(Trailer) * alignof(Trailer); }

void FreeBlock(void* user) {
  const Trailer trailer = *static_cast<Trailer*>(user);
  BlockPool::Get().Put(trailer.block, trailer.size);
}

}  // namespace

FrameBuilder::FrameBuilder(const FrameHeader& header, size_t payload_bytes)
    : size_(sizeof(FrameHeader) + payload_bytes) {
  data_ = BlockPool::Get().Take(RoundUp(size_) + sizeof(Trailer));
  std::memcpy(data_, &header, sizeof(header));
}

FrameBuilder::~FrameBuilder() {
  if (data_ != nullptr) BlockPool::Get().Put(data_, RoundUp(size_) + sizeof(Trailer));
}

grpc::ByteBuffer FrameBuilder::Finish() {
  auto* trailer = reinterpret_cast<Trailer*>(data_ + RoundUp(size_));
  *trailer = {data_, RoundUp(size_) + sizeof(Trailer)};
  grpc::Slice slice(data_, size_, FreeBlock, trailer);
  data_ = nullptr;
  return grpc::ByteBuffer(&slice, 1);
}

grpc::ByteBuffer MakeFrame(const FrameHeader& header, std::string_view payload) {
  FrameBuilder builder(header, payload.size());
  if (!payload.empty()) std::memcpy(builder.payload(), payload.data(), payload.size());
  return builder.Finish();
}

bool Frame::Parse(const grpc::ByteBuffer& buffer) {
  slices_.clear();
  if (!buffer.Valid() || !buffer.Dump(&slices_).ok()) return false;
  uint64_t size = 0;
  for (const grpc::Slice& slice : slices_) size += slice.size();
  if (size < sizeof(FrameHeader)) return false;
  payload_bytes_ = size - sizeof(FrameHeader);
  char* to = reinterpret_cast<char*>(&header_);
  size_t left = sizeof(FrameHeader);
  for (const grpc::Slice& slice : slices_) {
    const size_t n = std::min(left, slice.size());
    std::memcpy(to, slice.begin(), n);
    to += n;
    left -= n;
    if (left == 0) break;
  }
  return true;
}

void Frame::CopyTo(uint64_t offset, uint64_t n, void* to) const {
  char* out = static_cast<char*>(to);
  uint64_t skip = offset + sizeof(FrameHeader);
  for (const grpc::Slice& slice : slices_) {
    if (n == 0) break;
    if (skip >= slice.size()) {
      skip -= slice.size();
      continue;
    }
    const uint64_t take = std::min<uint64_t>(n, slice.size() - skip);
    std::memcpy(out, slice.begin() + skip, take);
    out += take;
    n -= take;
    skip = 0;
  }
}

std::string Frame::Text() const {
  std::string text(payload_bytes_, '\0');
  CopyTo(0, payload_bytes_, text.data());
  return text;
}

void PeerLink::Attach(std::shared_ptr<LinkHandler> handler, uint32_t peer) {
  peer_.store(peer, std::memory_order_release);
  bool ended;
  {
    absl::MutexLock lock(&mutex_);
    handler_ = std::move(handler);
    told_ = false;
    ended = read_ended_;
  }
  if (ended) {
    Closed("closed the connection");
  } else {
    DoRead(&incoming_);
  }
}

void PeerLink::Send(grpc::ByteBuffer frame) {
  {
    absl::MutexLock lock(&mutex_);
    if (closing_ || broken_ || read_ended_) return;
    queue_.push_back(std::move(frame));
  }
  Pump();
}

void PeerLink::SendBeatIfIdle() {
  {
    absl::MutexLock lock(&mutex_);
    if (closing_ || broken_ || read_ended_ || writing_ || !queue_.empty()) return;
    FrameHeader header{};
    header.kind = FrameKind::kBeat;
    queue_.push_back(MakeFrame(header));
  }
  Pump();
}

size_t PeerLink::queued() const {
  absl::MutexLock lock(&mutex_);
  return queue_.size() + (writing_ ? 1 : 0);
}

void PeerLink::CloseAfterFlush() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  Pump();
}

void PeerLink::CloseWith(grpc::ByteBuffer last) {
  {
    absl::MutexLock lock(&mutex_);
    if (!closing_ && !broken_ && !read_ended_) {
      queue_.clear();
      queue_.push_back(std::move(last));
    }
    closing_ = true;
  }
  Pump();
}

bool PeerLink::closing() const {
  absl::MutexLock lock(&mutex_);
  return closing_;
}

void PeerLink::Pump() {
  enum { kNothing, kWrite, kWritesDone, kRelease } next = kNothing;
  {
    absl::MutexLock lock(&mutex_);
    if (writing_ || writes_done_pending_) return;
    const bool can_write = !broken_ && !read_ended_ && !writes_done_;
    if (can_write && !queue_.empty()) {
      outgoing_ = std::move(queue_.front());
      queue_.pop_front();
      writing_ = true;
      next = kWrite;
    } else if (can_write && closing_) {
      writes_done_ = writes_done_pending_ = true;
      next = kWritesDone;
    } else if (read_ended_ && !released_) {
      queue_.clear();
      released_ = true;
      next = kRelease;
    }
  }
  // Not under the lock, though this gRPC never calls back from within: it need not stay so.
  switch (next) {
    case kNothing: break;
    case kWrite: DoWrite(&outgoing_); break;
    case kWritesDone: DoWritesDone(); break;
    case kRelease: DoRelease(); break;
  }
}

void PeerLink::ReadDone(bool ok) {
  std::shared_ptr<LinkHandler> handler;
  if (ok) {
    Frame frame;
    const bool good = frame.Parse(incoming_);
    incoming_.Clear();
    {
      absl::MutexLock lock(&mutex_);
      handler = handler_;
    }
    if (good && handler != nullptr) {
      const bool hello = frame.header().kind == FrameKind::kHello;
      handler->OnFrame(*this, std::move(frame));
      // After a hello Attach goes on reading: what a peer sends before we join stays in its flow control.
      if (!hello) DoRead(&incoming_);
      return;
    }
    Closed("sent a message that is no frame");
    Cancel();
  }
  {
    absl::MutexLock lock(&mutex_);
    read_ended_ = true;
  }
  if (end_of_reading_closes()) Closed("closed the connection");
  Pump();
}

void PeerLink::WriteDone(bool ok) {
  std::shared_ptr<LinkHandler> handler;
  outgoing_.Clear();   // Ours until writing_ is false.
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) {
      broken_ = true;
      queue_.clear();
    }
    handler = handler_;
  }
  Pump();
  if (handler != nullptr) handler->OnWritten(*this);
}

void PeerLink::WritesDoneDone() {
  {
    absl::MutexLock lock(&mutex_);
    writes_done_pending_ = false;
  }
  Pump();
}

void PeerLink::Closed(const std::string& why) {
  std::shared_ptr<LinkHandler> handler;
  {
    absl::MutexLock lock(&mutex_);
    if (told_ || handler_ == nullptr) return;
    told_ = true;
    handler = std::move(handler_);
  }
  handler->OnClosed(*this, why);
}

namespace {

class ClientLink final : public PeerLink,
                         public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit ClientLink(std::shared_ptr<grpc::Channel> channel)
      : channel_(std::move(channel)), stub_(channel_) {}

  void Start(std::shared_ptr<LinkHandler> handler, uint32_t peer, grpc::ByteBuffer hello) {
    KeepAlive();
    context_.set_wait_for_ready(true);
    stub_.PrepareBidiStreamingCall(&context_, kExchangeMethod, {}, this);
    AddHold();   // Operations start from threads of ours, until DoRelease.
    StartCall();
    Attach(std::move(handler), peer);
    Send(std::move(hello));
  }

  void Cancel() override { context_.TryCancel(); }

  void OnReadDone(bool ok) override { ReadDone(ok); }
  void OnWriteDone(bool ok) override { WriteDone(ok); }
  void OnWritesDoneDone(bool) override { WritesDoneDone(); }
  void OnDone(const grpc::Status& status) override {
    std::shared_ptr<PeerLink> self = LetGo();
    Closed(status.ok() ? "closed the connection"
                       : absl::StrCat(status.error_message(), " (gRPC code ",
                                      static_cast<int>(status.error_code()), ")"));
  }

 private:
  void DoRead(grpc::ByteBuffer* to) override { StartRead(to); }
  void DoWrite(const grpc::ByteBuffer* frame) override { StartWrite(frame); }
  void DoWritesDone() override { StartWritesDone(); }
  void DoRelease() override { RemoveHold(); }
  bool end_of_reading_closes() const override { return false; }

  std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
};

class ServerLink final : public PeerLink, public grpc::ServerGenericBidiReactor {
 public:
  explicit ServerLink(grpc::GenericCallbackServerContext* context) : context_(context) {}

  void Start(std::shared_ptr<LinkHandler> handler) {
    KeepAlive();
    Attach(std::move(handler), 0xffffffff);
  }

  void Refuse(const grpc::Status& status) {
    {
      absl::MutexLock lock(&state_mutex_);
      status_ = status;
    }
    CloseAfterFlush();
  }

  void Cancel() override {
    absl::MutexLock lock(&state_mutex_);
    if (context_ != nullptr) context_->TryCancel();
  }

  void OnReadDone(bool ok) override {
    ReadDone(ok);
    bool end;
    {
      absl::MutexLock lock(&state_mutex_);
      end = --reads_ == 0 && cancelled_;
    }
    if (end) ReadDone(false);
  }
  void OnWriteDone(bool ok) override { WriteDone(ok); }
  void OnCancel() override {
    bool end;
    {
      absl::MutexLock lock(&state_mutex_);
      cancelled_ = true;
      end = reads_ == 0;   // Waits to be attached: nothing is read that could fail.
    }
    if (end) ReadDone(false);
  }
  void OnDone() override {
    std::shared_ptr<PeerLink> self = LetGo();
    {
      absl::MutexLock lock(&state_mutex_);
      context_ = nullptr;
    }
    Closed("closed the connection");
  }

 private:
  void DoRead(grpc::ByteBuffer* to) override {
    absl::MutexLock lock(&state_mutex_);
    if (cancelled_ && reads_ == 0) return;   // OnCancel ends, or has ended, the reading.
    ++reads_;
    StartRead(to);
  }
  void DoWrite(const grpc::ByteBuffer* frame) override { StartWrite(frame); }
  void DoWritesDone() override { FinishOnce(); }
  void DoRelease() override { FinishOnce(); }
  bool end_of_reading_closes() const override { return true; }

  void FinishOnce() {
    grpc::Status status;
    {
      absl::MutexLock lock(&state_mutex_);
      if (finished_) return;
      finished_ = true;
      status = status_;
    }
    grpc::ServerGenericBidiReactor::Finish(status);
  }

  absl::Mutex state_mutex_;
  int reads_ ABSL_GUARDED_BY(state_mutex_) = 0;   // Started, or in their reaction.
  bool cancelled_ ABSL_GUARDED_BY(state_mutex_) = false;
  grpc::GenericCallbackServerContext* context_ ABSL_GUARDED_BY(state_mutex_);
  grpc::Status status_ ABSL_GUARDED_BY(state_mutex_);
  bool finished_ ABSL_GUARDED_BY(state_mutex_) = false;
};

}  // namespace

std::shared_ptr<PeerLink> DialPeer(std::shared_ptr<grpc::Channel> channel,
                                   std::shared_ptr<LinkHandler> handler, uint32_t peer,
                                   grpc::ByteBuffer hello) {
  auto link = std::make_shared<ClientLink>(std::move(channel));
  link->Start(std::move(handler), peer, std::move(hello));
  return link;
}

AcceptedLink AcceptPeer(grpc::GenericCallbackServerContext* context,
                        std::shared_ptr<LinkHandler> handler) {
  auto link = std::make_shared<ServerLink>(context);
  link->Start(std::move(handler));
  return {link, link.get()};
}

void RefusePeer(PeerLink& link, const grpc::Status& status) {
  static_cast<ServerLink&>(link).Refuse(status);
}

}  // namespace dermis
