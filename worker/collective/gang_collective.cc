#include "worker/collective/gang_collective.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/status_macros.h"
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

}  // namespace

GangCollective::GangCollective(std::shared_ptr<Gang> gang) : gang_(std::move(gang)) {
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

void GangCollective::Abort(const absl::Status& cause) {
  gang_->Fail(absl::StatusCode::kAborted, rank(), std::string(cause.message()));
}

GangCollective::Slice GangCollective::SliceOf(uint32_t r, uint64_t n) const {
  // Whole cache lines; the bounds follow from n and W alone. Bits do not depend on them.
  const uint64_t each = (n / world_size() + 16) / 16 * 16;
  return {std::min(n, r * each), std::min(n, (r + 1) * each)};
}

const float* GangCollective::DataOf(uint32_t r, const Frame& frame, uint64_t bytes, float* scratch) {
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

bool GangCollective::SizeFits(const Frame& frame, uint64_t bytes) {
  return (frame.header().flags & kReferenceFlag) != 0 || frame.payload_bytes() == bytes;
}

grpc::ByteBuffer GangCollective::Reference(FrameHeader header, const ArenaRange& range) {
  header.flags = kReferenceFlag;
  return MakeFrame(header, {reinterpret_cast<const char*>(&range), sizeof(range)});
}

absl::Status GangCollective::Disagree(uint32_t r, const char* what) {
  gang_->Fail(absl::StatusCode::kInternal, r,
              absl::StrCat(what, " at collective call ", sequence_,
                           ": the ranks do not make the same calls"));
  return gang_->status();
}

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

}  // namespace dermis
