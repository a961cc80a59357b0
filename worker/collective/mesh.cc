#include "worker/collective/mesh.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/reduce_tree.h"
#include "common/status_macros.h"
#include "dermis/v1/peer.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/support/channel_arguments.h"
#include "worker/collective/arena.h"
#include "worker/collective/peer_link.h"
#include "worker/collective/tree_sum.h"

namespace dermis {
namespace {

// Floats of a chunk: the unit of pipelining, the same on all ranks. 256 KiB, for long vectors 1 MiB, keeps the cost
// of a message small beside that of its bytes.
uint64_t ChunkOf(uint64_t n) { return n >= (2u << 20) ? 256 * 1024 : 64 * 1024; }
// From so many floats on ranks of one host pass chunks by reference (arena.h). Every rank's slice then has chunks, and
// so a rank that finishes such a call has heard from every other within it.
constexpr uint64_t kByReference = 1u << 20;
constexpr uint8_t kReferenceFlag = 2;            // The payload is an ArenaRange that holds the data.
constexpr size_t kPiece = 256 * 1024;            // Bytes of an AllGather frame.
constexpr size_t kSendAhead = 8;                 // Contributions that wait in one link's queue.
constexpr uint64_t kMaxGather = 1u << 30;        // Bytes that one rank may give to AllGather.
constexpr size_t kMaxPending = 256;              // Streams that wait for this worker to join.

bool Older(const v1::Generation& a, const v1::Generation& b) {
  return std::pair(a.incarnation(), a.counter()) < std::pair(b.incarnation(), b.counter());
}
bool Same(const v1::Generation& a, const v1::Generation& b) { return !Older(a, b) && !Older(b, a); }
std::string Name(const v1::Generation& g) { return absl::StrCat(g.incarnation(), ".", g.counter()); }

FrameHeader Header(FrameKind kind, uint32_t part = 0) {
  FrameHeader header{};
  header.kind = kind;
  header.part = part;
  return header;
}

// What the links of one gang share: the roster, what has arrived, and the first error.
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
  bool Adopt(const std::shared_ptr<PeerLink>& link, uint32_t from, uint32_t to) {
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

  std::shared_ptr<PeerLink> Dial(uint32_t to, std::shared_ptr<grpc::Channel> channel) {
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

  absl::Status AwaitAll(absl::Duration patience) {
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
                   absl::StrCat("did not join generation ", Name(generation()), " within ",
                                absl::FormatDuration(patience), " at ", Target(missing)));
        return status_;
      }
      changed_.WaitWithTimeout(&mutex_, left);
    }
  }

  void OnFrame(PeerLink& link, Frame frame) override {
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

  void OnWritten(PeerLink&) override {
    absl::MutexLock lock(&mutex_);
    if (waiting_) changed_.SignalAll();
  }

  void OnClosed(PeerLink& link, const std::string& why) override {
    absl::MutexLock lock(&mutex_);
    Peer& peer = peers_[link.peer()];
    peer.closed = true;
    if (peer.bye) {
      changed_.SignalAll();
    } else {
      FailLocked(absl::StatusCode::kUnavailable, link.peer(), absl::StrCat("connection lost: ", why));
    }
  }

  // Ends the attempt on all ranks. `blamed` = this rank and kAborted: someone here called Abort.
  void Fail(absl::StatusCode code, uint32_t blamed, const std::string& cause) {
    absl::MutexLock lock(&mutex_);
    FailLocked(code, blamed, cause);
  }

  // Says goodbye: what is queued still goes out.
  void Leave() {
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

  absl::Status status() {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

  std::vector<uint32_t> WaitsFor() {
    absl::MutexLock lock(&mutex_);
    return waits_for_;
  }

  // The links by rank (nullptr for this one), or the error.
  absl::StatusOr<std::vector<std::shared_ptr<PeerLink>>> Links() {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return status_;
    std::vector<std::shared_ptr<PeerLink>> links;
    for (const Peer& peer : peers_) links.push_back(peer.link);
    return links;
  }

  // Moves what has arrived for call `sequence` to got[rank]. Waits until there is something, or until `may_send`
  // holds, unless an awaited rank is lost. A frame of another call is an error of the program.
  template <typename MaySend>
  absl::Status Receive(uint64_t sequence, const std::vector<bool>& awaited, absl::Duration since,
                       MaySend may_send, std::vector<std::deque<Frame>>* got) {
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

 private:
  struct Peer {
    std::shared_ptr<PeerLink> link;
    std::deque<Frame> inbox;
    absl::Duration heard;
    bool there = false;
    bool bye = false;
    bool closed = false;
  };

  std::string Target(uint32_t r) const {
    const v1::GangMember& m = member(r);
    if (m.peer_socket().empty()) return m.peer_address();
    return absl::StrCat(m.peer_address(), " or ", m.peer_socket());
  }

  void FailLocked(absl::StatusCode code, uint32_t blamed, const std::string& cause)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
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

  const v1::GangSeat seat_;
  const absl::Duration timeout_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = true;   // In a call of the collective; Join always waits.
  std::vector<uint32_t> waits_for_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::vector<Peer> peers_ ABSL_GUARDED_BY(mutex_);
};

class GangCollective : public Collective {
 public:
  explicit GangCollective(std::shared_ptr<Gang> gang) : gang_(std::move(gang)) {
    for (uint32_t r = 0; r < gang_->world(); ++r) v_ += gang_->member(r).shards();
    for (uint32_t r = 0; r < gang_->world(); ++r) {
      covers_.push_back(AlignedCover(gang_->member(r).first_shard(), gang_->member(r).shards(), v_));
    }
    // The operands of a slice of ours: the other ranks' subtrees and our own leaves.
    for (uint32_t r = 0; r < gang_->world(); ++r) {
      if (r == rank()) {
        for (uint32_t k = 0; k < shard_count(); ++k) operands_.push_back({first_shard() + k, 1});
      } else {
        operands_.insert(operands_.end(), covers_[r].begin(), covers_[r].end());
      }
    }
    scratch_.resize(gang_->world());
    reads_me_.resize(gang_->world(), false);
    for (uint32_t r = 0; r < gang_->world(); ++r) peer_arenas_.push_back(std::make_unique<PeerArena>());
  }

  ~GangCollective() override { gang_->Leave(); }

  uint32_t rank() const override { return gang_->rank(); }
  uint32_t world_size() const override { return gang_->world(); }
  uint32_t logical_shards() const override { return v_; }
  uint32_t first_shard() const override { return gang_->member(rank()).first_shard(); }
  uint32_t shard_count() const override { return gang_->member(rank()).shards(); }

  absl::Status OrderedReduce(absl::Span<float* const> shards, uint64_t n, float* out) override;
  absl::StatusOr<std::vector<std::string>> AllGather(std::string mine) override;

  std::vector<uint32_t> WaitsFor() const override { return gang_->WaitsFor(); }

  void Abort(const absl::Status& cause) override {
    gang_->Fail(absl::StatusCode::kAborted, rank(), std::string(cause.message()));
  }

 private:
  struct Slice { uint64_t begin, end; };
  Slice SliceOf(uint32_t r, uint64_t n) const {
    // Whole cache lines; the bounds follow from n and W alone. Bits do not depend on them.
    const uint64_t each = (n / world_size() + 16) / 16 * 16;
    return {std::min(n, r * each), std::min(n, (r + 1) * each)};
  }

  // Finds out which ranks can read this one's memory. Collective; part of joining.
 public:
  absl::Status ShareMemory(bool allowed);

 private:
  // Where a frame's data lie; inline ones are copied to `scratch`. nullptr: not `bytes` of them.
  const float* DataOf(uint32_t r, const Frame& frame, uint64_t bytes, float* scratch) {
    if ((frame.header().flags & kReferenceFlag) == 0) {
      if (frame.payload_bytes() != bytes) return nullptr;
      frame.CopyTo(0, bytes, scratch);
      return scratch;
    }
    ArenaRange range;
    if (frame.payload_bytes() != sizeof(range)) return nullptr;
    frame.CopyTo(0, sizeof(range), &range);
    if (range.bytes != bytes || range.offset % alignof(float) != 0) return nullptr;
    return reinterpret_cast<const float*>(peer_arenas_[r]->At(range));
  }
  static bool SizeFits(const Frame& frame, uint64_t bytes) {
    return (frame.header().flags & kReferenceFlag) != 0 || frame.payload_bytes() == bytes;
  }
  static grpc::ByteBuffer Reference(FrameHeader header, const ArenaRange& range) {
    header.flags = kReferenceFlag;
    return MakeFrame(header, {reinterpret_cast<const char*>(&range), sizeof(range)});
  }

  absl::Status Disagree(uint32_t r, const char* what) {
    gang_->Fail(absl::StatusCode::kInternal, r,
                absl::StrCat(what, " at collective call ", sequence_,
                             ": the ranks do not make the same calls"));
    return gang_->status();
  }

  std::shared_ptr<Gang> gang_;
  uint32_t v_ = 0;
  std::vector<std::vector<TreeNode>> covers_;   // By rank.
  std::vector<TreeNode> operands_;
  std::vector<std::vector<float>> scratch_;     // By rank: its operands of one chunk.
  std::vector<bool> reads_me_;                  // By rank.
  std::vector<std::unique_ptr<PeerArena>> peer_arenas_;
  std::unique_ptr<OwnArena> arena_;
  uint64_t long_calls_ = 0;
  uint64_t sequence_ = 0;
};

absl::Status GangCollective::OrderedReduce(absl::Span<float* const> shards, uint64_t n, float* out) {
  ASSIGN_OR_RETURN(const auto links, gang_->Links());
  ++sequence_;
  if (shards.size() != shard_count()) {
    gang_->Fail(absl::StatusCode::kInvalidArgument, rank(),
                absl::StrCat("OrderedReduce got ", shards.size(), " shards, this rank hosts ",
                             shard_count()));
    return gang_->status();
  }
  const uint32_t w = world_size();
  const uint32_t me = rank();
  const uint64_t chunk_floats = ChunkOf(n);
  const Slice mine = SliceOf(me, n);
  const uint64_t my_chunks = (mine.end - mine.begin + chunk_floats - 1) / chunk_floats;
  for (uint32_t r = 0; r < w; ++r) {
    if (r != me) scratch_[r].resize(covers_[r].size() * std::min(chunk_floats, n));
  }
  // The arena: my contributions, at covers * begin of the chunk, and two copies of my slice's results in
  // turn. When this call ends all contributions have been read (their results are here); the results of this
  // call have been read when the next long call ends, since every rank has then begun that one.
  const uint64_t nodes = covers_[me].size();
  const uint64_t results_at = (nodes * n * sizeof(float) + 63) / 64 * 64;
  const uint64_t result_bytes = ((mine.end - mine.begin) * sizeof(float) + 63) / 64 * 64;
  bool share = n >= kByReference && std::find(reads_me_.begin(), reads_me_.end(), true) != reads_me_.end();
  if (share) {
    const uint64_t need = results_at + 2 * result_bytes;
    // Peers keep what they have mapped: a new arena does not take the old one from them.
    if (arena_ == nullptr || arena_->size() != need) arena_ = OwnArena::Make(need);
    share = arena_ != nullptr;
    ++long_calls_;
  }
  const uint64_t my_results_at = results_at + long_calls_ % 2 * result_bytes;
  FrameHeader header{};
  header.sequence = sequence_;
  header.total = n;

  std::vector<std::deque<Frame>> got(w);      // As they come.
  std::vector<std::deque<Frame>> parts(w);    // Contributions to my slice that wait for the others'.
  std::vector<uint64_t> sent(w, 0);           // Chunks of r's slice that I contributed to.
  std::vector<uint64_t> finished(w, 0);       // Chunks of r's slice that are in `out`.
  std::vector<uint64_t> chunks(w);
  for (uint32_t r = 0; r < w; ++r) {
    const Slice slice = SliceOf(r, n);
    chunks[r] = (slice.end - slice.begin + chunk_floats - 1) / chunk_floats;
  }
  auto has_room = [&](uint32_t r) { return sent[r] < chunks[r] && links[r]->queued() < kSendAhead; };

  // Pre-sums my whole subtrees of one chunk of r's slice straight into the frame.
  auto contribute = [&](uint32_t r) {
    const Slice slice = SliceOf(r, n);
    const uint64_t begin = slice.begin + sent[r] * chunk_floats;
    const uint64_t length = std::min(chunk_floats, slice.end - begin);
    header.kind = FrameKind::kReduce;
    header.part = static_cast<uint32_t>(sent[r]++);
    const uint64_t bytes = nodes * length * sizeof(float);
    const bool by_reference = share && reads_me_[r];
    std::optional<FrameBuilder> frame;
    if (!by_reference) frame.emplace(header, bytes);
    const uint64_t at = nodes * begin * sizeof(float);
    float* to = reinterpret_cast<float*>(by_reference ? arena_->data() + at : frame->payload());
    for (const TreeNode& node : covers_[me]) {
      std::vector<TreeNode> leaves;
      std::vector<const float*> data;
      for (uint32_t k = 0; k < node.count; ++k) {
        leaves.push_back({node.first + k, 1});
        data.push_back(shards[node.first + k - first_shard()] + begin);
      }
      TreeSumInto(leaves, data, node, length, to);
      to += length;
    }
    links[r]->Send(by_reference ? Reference(header, arena_->Range(at, bytes)) : frame->Finish());
  };

  // Finishes the next chunk of my slice if every rank's contribution is here.
  uint32_t unreadable = w;
  auto finish = [&]() {
    for (uint32_t r = 0; r < w; ++r) {
      if (r != me && parts[r].empty()) return false;
    }
    const uint64_t begin = mine.begin + finished[me] * chunk_floats;
    const uint64_t length = std::min(chunk_floats, mine.end - begin);
    std::vector<const float*> data;
    for (uint32_t r = 0; r < w; ++r) {
      if (r == me) {
        for (const float* shard : shards) data.push_back(shard + begin);
        continue;
      }
      const uint64_t bytes = covers_[r].size() * length * sizeof(float);
      const float* from = DataOf(r, parts[r].front(), bytes, scratch_[r].data());
      if (from == nullptr) {
        unreadable = r;
        return false;
      }
      parts[r].pop_front();
      for (size_t k = 0; k < covers_[r].size(); ++k) data.push_back(from + k * length);
    }
    TreeSumInto(operands_, data, {0, v_}, length, out + begin);
    header.kind = FrameKind::kResult;
    header.part = static_cast<uint32_t>(finished[me]++);
    const uint64_t bytes = length * sizeof(float);
    const uint64_t at = my_results_at + (begin - mine.begin) * sizeof(float);
    if (share) std::memcpy(arena_->data() + at, out + begin, bytes);
    std::optional<grpc::ByteBuffer> whole;      // For those who cannot read my memory; shares its bytes.
    for (uint32_t r = 0; r < w; ++r) {
      if (r == me) continue;
      if (share && reads_me_[r]) {
        links[r]->Send(Reference(header, arena_->Range(at, bytes)));
      } else {
        if (!whole) whole = MakeFrame(header, {reinterpret_cast<const char*>(out + begin), bytes});
        links[r]->Send(*whole);
      }
    }
    return true;
  };

  const absl::Duration start = Clock::Real().Now();
  for (;;) {
    bool done = true;
    std::vector<bool> awaited(w, false);
    for (uint32_t d = 0; d < w; ++d) {
      const uint32_t r = (me + d) % w;   // The next rank first: not all send to rank 0 at once.
      if (r != me) {
        if (has_room(r)) contribute(r);
        awaited[r] = finished[r] < chunks[r] || (finished[me] < my_chunks && parts[r].empty());
        done = done && sent[r] == chunks[r];
      }
      done = done && finished[r] == chunks[r];
    }
    if (done) return absl::OkStatus();
    RETURN_IF_ERROR(gang_->Receive(
        sequence_, awaited, start,
        [&] {
          for (uint32_t r = 0; r < w; ++r) {
            if (r != me && has_room(r)) return true;
          }
          return false;
        },
        &got));
    for (uint32_t r = 0; r < w; ++r) {
      while (!got[r].empty()) {
        Frame frame = std::move(got[r].front());
        got[r].pop_front();
        if (frame.header().total != n) return Disagree(r, "another length of OrderedReduce");
        if (frame.header().kind == FrameKind::kReduce) {
          const uint64_t chunk = finished[me] + parts[r].size();
          const uint64_t length =
              chunk < my_chunks ? std::min(chunk_floats, mine.end - mine.begin - chunk * chunk_floats) : 0;
          if (length == 0 || frame.header().part != chunk ||
              !SizeFits(frame, covers_[r].size() * length * sizeof(float))) {
            return Disagree(r, "an unexpected contribution");
          }
          parts[r].push_back(std::move(frame));
        } else if (frame.header().kind == FrameKind::kResult) {
          const Slice slice = SliceOf(r, n);
          const uint64_t begin = slice.begin + finished[r] * chunk_floats;
          if (finished[r] >= chunks[r] || frame.header().part != finished[r]) {
            return Disagree(r, "an unexpected result");
          }
          const uint64_t bytes = std::min(chunk_floats, slice.end - begin) * sizeof(float);
          const float* from = DataOf(r, frame, bytes, out + begin);
          if (from == nullptr) return Disagree(r, "an unreadable result");
          if (from != out + begin) std::memcpy(out + begin, from, bytes);
          ++finished[r];
        } else {
          return Disagree(r, "AllGather instead of OrderedReduce");
        }
      }
    }
    while (finished[me] < my_chunks && finish()) {
    }
    if (unreadable < w) return Disagree(unreadable, "an unreadable contribution");
  }
}

absl::Status GangCollective::ShareMemory(bool allowed) {
  // Each shows a small arena, and says whose it could read: containers of one host may not see each other.
  std::string shown;
  std::unique_ptr<OwnArena> probe = allowed ? OwnArena::Make(4096) : nullptr;
  if (probe != nullptr) {
    const uint64_t mark = 0x6465726d69730000ull + rank();
    std::memcpy(probe->data(), &mark, sizeof(mark));
    const ArenaRange range = probe->Range(0, sizeof(mark));
    shown.assign(reinterpret_cast<const char*>(&range), sizeof(range));
  }
  ASSIGN_OR_RETURN(const auto probes, AllGather(shown));
  std::string readable(world_size(), '0');
  for (uint32_t r = 0; r < world_size(); ++r) {
    ArenaRange range;
    if (r == rank() || !allowed || probes[r].size() != sizeof(range)) continue;
    std::memcpy(&range, probes[r].data(), sizeof(range));
    PeerArena arena;
    uint64_t mark = 0;
    const char* at = range.bytes == sizeof(mark) ? arena.At(range) : nullptr;
    if (at != nullptr) std::memcpy(&mark, at, sizeof(mark));
    if (mark == 0x6465726d69730000ull + r) readable[r] = '1';
  }
  ASSIGN_OR_RETURN(const auto answers, AllGather(readable));
  for (uint32_t r = 0; r < world_size(); ++r) {
    reads_me_[r] = r != rank() && answers[r].size() == world_size() && answers[r][rank()] == '1';
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> GangCollective::AllGather(std::string mine) {
  ASSIGN_OR_RETURN(const auto links, gang_->Links());
  ++sequence_;
  const uint32_t w = world_size();
  if (mine.size() > kMaxGather) {
    gang_->Fail(absl::StatusCode::kInvalidArgument, rank(),
                absl::StrCat("AllGather of ", mine.size(), " bytes; the limit is ", kMaxGather));
    return gang_->status();
  }
  FrameHeader header{};
  header.kind = FrameKind::kGather;
  header.sequence = sequence_;
  header.total = mine.size();
  for (size_t at = 0; at == 0 || at < mine.size(); at += kPiece) {
    const std::string_view piece = std::string_view(mine).substr(at, kPiece);
    header.flags = at + piece.size() == mine.size() ? 1 : 0;
    const grpc::ByteBuffer frame = MakeFrame(header, piece);
    for (const auto& link : links) {
      if (link != nullptr) link->Send(frame);
    }
    ++header.part;
  }

  std::vector<std::string> all(w);
  std::vector<bool> awaited(w, true);
  awaited[rank()] = false;
  all[rank()] = std::move(mine);
  std::vector<std::deque<Frame>> got(w);
  const absl::Duration start = Clock::Real().Now();
  while (std::find(awaited.begin(), awaited.end(), true) != awaited.end()) {
    RETURN_IF_ERROR(gang_->Receive(sequence_, awaited, start, [] { return false; }, &got));
    for (uint32_t r = 0; r < w; ++r) {
      for (; !got[r].empty(); got[r].pop_front()) {
        const Frame& frame = got[r].front();
        if (frame.header().kind != FrameKind::kGather) {
          return Disagree(r, "OrderedReduce instead of AllGather");
        }
        const uint64_t total = frame.header().total;
        if (!awaited[r] || total > kMaxGather || all[r].size() + frame.payload_bytes() > total) {
          return Disagree(r, "an unexpected piece of AllGather");
        }
        const size_t at = all[r].size();
        if (at == 0) all[r].reserve(total);
        all[r].resize(at + frame.payload_bytes());
        frame.CopyTo(0, frame.payload_bytes(), all[r].data() + at);
        if (frame.header().flags == 1) {
          if (all[r].size() != total) return Disagree(r, "a short AllGather");
          awaited[r] = false;
        }
      }
    }
  }
  return all;
}

grpc::ChannelArguments StreamArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt("grpc.use_local_subchannel_pool", 1);   // A connection for each stream.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return arguments;
}

// Flow control of HTTP/2 for frames of 256 KiB; both ends.
const std::pair<const char*, int> kTransport[] = {
    {GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20},
    {GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 8 << 20},
    {GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, 1 << 20},
    {GRPC_ARG_HTTP2_BDP_PROBE, 0},
    {"grpc.experimental.tcp_read_chunk_size", 256 << 10},
    {"grpc.experimental.tcp_min_read_chunk_size", 64 << 10},
    {"grpc.experimental.tcp_max_read_chunk_size", 4 << 20},
};

// Accepts streams and gives them to their gang. Shared with the links, which outlive a mesh briefly.
class Switchboard : public LinkHandler, public std::enable_shared_from_this<Switchboard> {
 public:
  Switchboard(absl::Duration timeout, absl::Duration hold) : timeout_(timeout), hold_(hold) {}

  grpc::ServerGenericBidiReactor* Accept(grpc::GenericCallbackServerContext* context) {
    AcceptedLink accepted = AcceptPeer(context, shared_from_this());
    const grpc::Status allowed = Allowed(*context);
    if (!allowed.ok()) {
      RefusePeer(*accepted.link, allowed);
    } else {
      Watch(accepted.link);
    }
    return accepted.reactor;
  }

  // The first frame of an incoming stream.
  void OnFrame(PeerLink& link, Frame frame) override {
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
        refuse = absl::StrCat("generation ", Name(hello.generation()),
                                         " is over; this worker has joined ", Name(*latest_));
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

  void OnWritten(PeerLink&) override {}

  void OnClosed(PeerLink& link, const std::string&) override {
    absl::MutexLock lock(&mutex_);
    std::erase_if(pending_, [&](const Pending& p) { return p.link.get() == &link; });
  }

  // Makes `gang` the current one; an older one ends.
  absl::Status Enter(const std::shared_ptr<Gang>& gang) {
    std::shared_ptr<Gang> old;
    std::vector<Pending> mine;
    std::vector<Pending> stale;
    {
      absl::MutexLock lock(&mutex_);
      if (latest_.has_value() && !Older(*latest_, gang->generation())) {
        return absl::FailedPreconditionError(
            absl::StrCat("cannot join generation ", Name(gang->generation()), ": this worker has joined ",
                         Name(*latest_), " already"));
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
                absl::StrCat("a newer generation, ", Name(gang->generation()), ", has begun"));
    }
    for (Pending& p : stale) {
      RefusePeer(*p.link, {grpc::StatusCode::FAILED_PRECONDITION,
                           absl::StrCat("generation ", Name(p.hello.generation()), " is over")});
    }
    for (Pending& p : mine) AdoptOrRefuse(gang, p.link, p.hello);
    return absl::OkStatus();
  }

  void Watch(const std::shared_ptr<PeerLink>& link) {
    absl::MutexLock lock(&mutex_);
    std::erase_if(links_, [](const Watched& w) { return w.link.expired(); });
    links_.push_back({link, absl::InfiniteDuration()});
  }

  // Beats, and an end for what waits or closes for too long.
  void Tend() {
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
                                        Name(p.hello.generation()), " within ",
                                        absl::FormatDuration(hold_))});
    }
  }

  // The mesh ends: all links are cut, and gone when this returns (or after `patience`).
  void Close(absl::Duration patience) {
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
        for (Watched& watched : links_) {
          if (auto link = watched.link.lock()) links.push_back(std::move(link));
        }
      }
      if (links.empty()) return;
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

 private:
  struct Pending {
    std::shared_ptr<PeerLink> link;
    v1::PeerHello hello;
    absl::Duration since;
  };
  struct Watched {
    std::weak_ptr<PeerLink> link;
    absl::Duration closing_since;
  };

  static grpc::Status Allowed(const grpc::GenericCallbackServerContext& context) {
    if (context.method() != kExchangeMethod) {
      return {grpc::StatusCode::UNIMPLEMENTED, "a worker serves only its peers"};
    }
    const auto auth = context.auth_context();
    if (auth == nullptr) return {grpc::StatusCode::UNAUTHENTICATED, "no credentials"};
    const auto kind = auth->FindPropertyValues("transport_security_type");
    // The socket lies in a 0700 directory of ours: who can connect is this user.
    if (kind.size() == 1 && kind[0] == "local") return grpc::Status::OK;
    const absl::StatusOr<std::string> role = PeerRole(*auth);
    if (!role.ok()) return {grpc::StatusCode::UNAUTHENTICATED, std::string(role.status().message())};
    if (*role != "worker") {
      return {grpc::StatusCode::PERMISSION_DENIED, absl::StrCat("role ", *role, " is not a worker")};
    }
    return grpc::Status::OK;
  }

  void AdoptOrRefuse(const std::shared_ptr<Gang>& gang, const std::shared_ptr<PeerLink>& link,
                     const v1::PeerHello& hello) {
    if (gang->Adopt(link, hello.from_rank(), hello.to_rank())) return;
    const absl::Status status = gang->status();
    RefusePeer(*link, {grpc::StatusCode::FAILED_PRECONDITION,
                       status.ok() ? absl::StrCat("rank ", hello.from_rank(), " has no place at rank ",
                                                  gang->rank(), " of this gang")
                                   : absl::StrCat("the gang has ended: ", std::string(status.message()))});
  }

  const absl::Duration timeout_;
  const absl::Duration hold_;
  absl::Mutex mutex_;
  std::optional<v1::Generation> latest_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Gang> gang_ ABSL_GUARDED_BY(mutex_);
  std::vector<Pending> pending_ ABSL_GUARDED_BY(mutex_);   // Have said hello before we joined.
  std::vector<Watched> links_ ABSL_GUARDED_BY(mutex_);
};

class Service : public grpc::CallbackGenericService {
 public:
  explicit Service(std::shared_ptr<Switchboard> board) : board_(std::move(board)) {}
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return board_->Accept(context);
  }

 private:
  std::shared_ptr<Switchboard> board_;
};

// Makes the directory, or checks that nobody else can enter it.
absl::Status PrepareDirectory(const std::string& directory) {
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make the socket directory ", directory, ": ", std::strerror(errno)));
  }
  struct stat info;
  if (lstat(directory.c_str(), &info) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot look at the socket directory ", directory, ": ", std::strerror(errno)));
  }
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the socket directory ", directory,
                     " must be a directory of this user with mode 0700; make it so or name another"));
  }
  return absl::OkStatus();
}

class PeerMeshImpl : public PeerMesh {
 public:
  explicit PeerMeshImpl(Options options)
      : options_(std::move(options)),
        // Peers get their seats within seconds of each other; Join's patience bounds the dialling side.
        board_(std::make_shared<Switchboard>(options_.timeout, std::max(absl::Seconds(30),
                                                                        3 * options_.timeout))),
        service_(board_) {}

  absl::Status Start() {
    grpc::ServerBuilder builder;
    builder.RegisterCallbackGenericService(&service_);
    builder.SetMaxReceiveMessageSize(-1);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    for (const auto& [name, value] : kTransport) builder.AddChannelArgument(name, value);
    int port = 0;
    const bool tcp = !options_.identity.certificate.empty();
    if (tcp) builder.AddListeningPort(options_.listen, MutualTlsServerCredentials(options_.identity), &port);
    int bound = 0;
    if (!options_.socket_directory.empty()) {
      RETURN_IF_ERROR(PrepareDirectory(options_.socket_directory));
      static std::atomic<int> count{0};
      socket_ = absl::StrCat(options_.socket_directory, "/peer-", getpid(), "-", count++, ".sock");
      if (socket_.size() > 107) {
        return absl::InvalidArgumentError(absl::StrCat(
            "the socket path ", socket_, " is longer than 107 bytes; choose a shorter socket directory"));
      }
      unlink(socket_.c_str());   // Of an earlier process with this id.
      builder.AddListeningPort("unix:" + socket_, grpc::experimental::LocalServerCredentials(UDS), &bound);
    }
    if (!tcp && socket_.empty()) {
      return absl::InvalidArgumentError("the mesh has neither an identity for TCP nor a socket directory");
    }
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || (tcp && port == 0)) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen for peers on ", tcp ? options_.listen : "(no TCP)",
                       socket_.empty() ? "" : " and ", socket_, "; is the address taken?"));
    }
    if (tcp) {
      const bool colon = options_.advertise_host.find(':') != std::string::npos;
      address_ = absl::StrCat(colon ? "[" : "", options_.advertise_host, colon ? "]" : "", ":", port);
    }
    tender_ = std::thread([this] {
      const absl::Duration period = std::min(options_.timeout / 5, absl::Seconds(1));
      absl::MutexLock lock(&stop_mutex_);
      while (!stop_) {
        if (stop_changed_.WaitWithTimeout(&stop_mutex_, period) && !stop_) board_->Tend();
      }
    });
    return absl::OkStatus();
  }

  ~PeerMeshImpl() override {
    {
      absl::MutexLock lock(&stop_mutex_);
      stop_ = true;
      stop_changed_.Signal();
    }
    if (tender_.joinable()) tender_.join();
    board_->Close(absl::Seconds(4));
    if (server_ != nullptr) {
      server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
      server_->Wait();
    }
    if (!socket_.empty()) unlink(socket_.c_str());
  }

  std::string address() const override { return address_; }
  std::string socket_path() const override { return socket_; }

  absl::StatusOr<std::unique_ptr<Collective>> Join(const v1::GangSeat& seat,
                                                   absl::Duration patience) override {
    const uint32_t w = static_cast<uint32_t>(seat.roster_size());
    if (w == 0 || seat.rank() >= w) {
      return absl::InvalidArgumentError(
          absl::StrCat("rank ", seat.rank(), " is not in a roster of ", w, " workers"));
    }
    uint32_t v = 0;
    for (const v1::GangMember& member : seat.roster()) {
      if (member.shards() == 0 || member.first_shard() != v) {
        return absl::InvalidArgumentError(
            absl::StrCat("the roster gives worker ", member.worker(), " shards [", member.first_shard(), ", ",
                         member.first_shard() + member.shards(), "), expected to begin at ", v));
      }
      v += member.shards();
    }
    if ((v & (v - 1)) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(v, " logical shards are not a power of two"));
    }

    auto gang = std::make_shared<Gang>(seat, options_.timeout);
    RETURN_IF_ERROR(board_->Enter(gang));
    if (w == 1) return MakeLocalCollective(v);
    for (uint32_t to = 0; to < seat.rank(); ++to) {
      const v1::GangMember& member = gang->member(to);
      absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = ChannelTo(member);
      if (!channel.ok()) {
        gang->Fail(absl::StatusCode::kUnavailable, to, std::string(channel.status().message()));
        return gang->status();
      }
      board_->Watch(gang->Dial(to, *std::move(channel)));
    }
    RETURN_IF_ERROR(gang->AwaitAll(patience));
    auto collective = std::make_unique<GangCollective>(std::move(gang));
    RETURN_IF_ERROR(collective->ShareMemory(!socket_.empty()));
    return collective;
  }

 private:
  absl::StatusOr<std::shared_ptr<grpc::Channel>> ChannelTo(const v1::GangMember& member) const {
    grpc::ChannelArguments arguments = StreamArguments();
    for (const auto& [name, value] : kTransport) arguments.SetInt(name, value);
    // The same host name does not prove the same file system (containers): the socket must be there.
    if (!member.peer_socket().empty() && !options_.host.empty() && member.host() == options_.host &&
        access(member.peer_socket().c_str(), W_OK) == 0) {
      return grpc::CreateCustomChannel("unix:" + member.peer_socket(),
                                       grpc::experimental::LocalCredentials(UDS), arguments);
    }
    if (options_.identity.certificate.empty() || member.peer_address().empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "no way to reach it: socket '", member.peer_socket(), "' on host '", member.host(),
          "' cannot be opened from host '", options_.host,
          "', and ", options_.identity.certificate.empty() ? "this worker" : "it", " has no TCP port"));
    }
    arguments.SetSslTargetNameOverride("dermis");
    return grpc::CreateCustomChannel(member.peer_address(), ClientCredentials(options_.identity), arguments);
  }

  const Options options_;
  std::shared_ptr<Switchboard> board_;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::string socket_;
  std::string address_;
  std::thread tender_;
  absl::Mutex stop_mutex_;
  absl::CondVar stop_changed_;
  bool stop_ ABSL_GUARDED_BY(stop_mutex_) = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PeerMesh>> PeerMesh::Start(Options options) {
  auto mesh = std::make_unique<PeerMeshImpl>(std::move(options));
  RETURN_IF_ERROR(mesh->Start());
  return mesh;
}

}  // namespace dermis
