// One stream of the mesh: frames in order between two workers, over gRPC byte buffers without a protobuf in
// between. A frame is a FrameHeader and its payload; what the frames mean is mesh.cc's business.
#ifndef DERMIS_WORKER_COLLECTIVE_PEER_LINK_H_
#define DERMIS_WORKER_COLLECTIVE_PEER_LINK_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "grpcpp/generic/async_generic_service.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/status.h"

namespace dermis {

inline constexpr char kExchangeMethod[] = "/dermis.v1.Peer/Exchange";

enum class FrameKind : uint8_t {
  kHello = 1,    // Payload: PeerHello. First frame of the dialling side.
  kWelcome = 2,  // The other side has joined too.
  kBeat = 3,     // "I am alive", while nothing else is sent.
  kReduce = 4,   // OrderedReduce: the sender's nodes of one chunk of the receiver's slice.
  kResult = 5,   // OrderedReduce: one finished chunk of the sender's slice.
  kGather = 6,   // AllGather: a piece of the sender's bytes.
  kAbort = 7,    // The sender gave up; `part` = the rank to blame, payload: the cause.
  kBye = 8,      // The sender needs nothing more; it closes next.
};

// Little-endian, as all machines that Dermis supports are.
struct FrameHeader {
  FrameKind kind;
  uint8_t flags;        // 1: last piece (kGather). 2: the payload lies in shared memory (arena.h).
  uint16_t reserved;
  uint32_t part;        // Chunk (kReduce, kResult) or piece (kGather).
  uint64_t sequence;    // Of the collective call; all ranks count alike.
  uint64_t total;       // Floats (kReduce, kResult) or bytes (kGather) of the whole call.
};
static_assert(sizeof(FrameHeader) == 24);

// A frame under construction in pooled memory: fresh pages for every gradient would cost more than the sums.
class FrameBuilder {
 public:
  FrameBuilder(const FrameHeader& header, size_t payload_bytes);
  FrameBuilder(const FrameBuilder&) = delete;
  FrameBuilder& operator=(const FrameBuilder&) = delete;
  ~FrameBuilder();
  char* payload() { return data_ + sizeof(FrameHeader); }
  grpc::ByteBuffer Finish();   // Once.

 private:
  char* data_;
  size_t size_;
};

grpc::ByteBuffer MakeFrame(const FrameHeader& header, std::string_view payload = {});

// A received frame.
class Frame {
 public:
  Frame() = default;
  // False: shorter than a header.
  bool Parse(const grpc::ByteBuffer& buffer);
  const FrameHeader& header() const { return header_; }
  uint64_t payload_bytes() const { return payload_bytes_; }
  // Copies payload bytes [offset, offset + n) to `to`; the range must lie inside.
  void CopyTo(uint64_t offset, uint64_t n, void* to) const;
  std::string Text() const;

 private:
  FrameHeader header_{};
  uint64_t payload_bytes_ = 0;
  std::vector<grpc::Slice> slices_;
};

class PeerLink;

// Called on gRPC's threads, one call at a time for one link, never with a lock held.
class LinkHandler {
 public:
  virtual ~LinkHandler() = default;
  virtual void OnFrame(PeerLink& link, Frame frame) = 0;
  virtual void OnWritten(PeerLink& link) = 0;
  virtual void OnClosed(PeerLink& link, const std::string& why) = 0;   // Once, last.
};

// Thread-safe. Keeps itself alive until gRPC is done with it.
class PeerLink : public std::enable_shared_from_this<PeerLink> {
 public:
  virtual ~PeerLink() = default;

  // From now on frames go to `handler`, as those of rank `peer`; reading starts.
  void Attach(std::shared_ptr<LinkHandler> handler, uint32_t peer);
  uint32_t peer() const { return peer_.load(std::memory_order_acquire); }
  // Expires when the link is destroyed whole, its channel with it; a weak_ptr to the link itself expires when that begins.
  std::weak_ptr<const void> life() const { return life_; }

  void Send(grpc::ByteBuffer frame);          // Queues; after a close or failure it does nothing.
  void SendBeatIfIdle();
  size_t queued() const;
  // Sends what is queued and closes. `last` goes out before what waits, which is dropped.
  void CloseAfterFlush();
  void CloseWith(grpc::ByteBuffer last);
  virtual void Cancel() = 0;                  // Closes now, what is queued is lost.
  bool closing() const;

 protected:
  // What differs between the two ends; called without a lock.
  virtual void DoRead(grpc::ByteBuffer* to) = 0;
  virtual void DoWrite(const grpc::ByteBuffer* frame) = 0;
  virtual void DoWritesDone() = 0;            // After the last write of a close.
  virtual void DoRelease() = 0;               // No operation is or will be started.

  void ReadDone(bool ok);
  void WriteDone(bool ok);
  void WritesDoneDone();
  void Closed(const std::string& why);        // Tells the handler, once.
  void KeepAlive() { self_ = shared_from_this(); }
  std::shared_ptr<PeerLink> LetGo() { return std::move(self_); }
  // True: the end of reading closes the link (server); false: OnDone does, which knows the cause (client).
  virtual bool end_of_reading_closes() const = 0;

 private:
  void Pump();

  const std::shared_ptr<const void> life_ = std::make_shared<char>();   // Of the base class: goes last.
  std::shared_ptr<PeerLink> self_;
  std::atomic<uint32_t> peer_{0xffffffff};
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<LinkHandler> handler_ ABSL_GUARDED_BY(mutex_);
  std::deque<grpc::ByteBuffer> queue_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool read_ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool writes_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool writes_done_pending_ ABSL_GUARDED_BY(mutex_) = false;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  bool told_ ABSL_GUARDED_BY(mutex_) = false;
};

// Dials: the call starts at once (waiting for the server to be there).
std::shared_ptr<PeerLink> DialPeer(std::shared_ptr<grpc::Channel> channel,
                                   std::shared_ptr<LinkHandler> handler, uint32_t peer,
                                   grpc::ByteBuffer hello);

// An incoming call; reads one frame (the hello) and gives it to `handler`, then nothing before Attach.
struct AcceptedLink {
  std::shared_ptr<PeerLink> link;
  grpc::ServerGenericBidiReactor* reactor;
};
AcceptedLink AcceptPeer(grpc::GenericCallbackServerContext* context, std::shared_ptr<LinkHandler> handler);

// Ends an accepted link that was not attached, with this status.
void RefusePeer(PeerLink& link, const grpc::Status& status);

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_PEER_LINK_H_
