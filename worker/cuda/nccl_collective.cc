#include "worker/cuda/nccl_collective.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "common/clock.h"
#include "common/status_macros.h"
#include "worker/cuda/cuda_device.h"
#include "worker/cuda/tree_sum_list.h"

namespace dermis {
namespace {

// What each rank tells the others before NCCL begins.
struct Hello {
  uint32_t version;
  uint32_t reduction;
  uint32_t first_shard;
  uint32_t shards;
  NcclUniqueId id;  // Rank 0's counts.
};

absl::Duration Now() { return Clock::Real().Now(); }

}  // namespace

NcclCollective::NcclCollective(std::shared_ptr<const NcclApi> api, Device* device,
                               std::shared_ptr<Collective> control, Options options)
    : api_(std::move(api)),
      device_(device),
      control_(std::move(control)),
      options_(options),
      partial_(device),
      received_(device),
      gathered_(device) {}

absl::StatusOr<std::unique_ptr<NcclCollective>> NcclCollective::Create(
    std::shared_ptr<const NcclApi> api, Device* device, std::shared_ptr<Collective> control,
    Options options) {
  std::unique_ptr<NcclCollective> made(
      new NcclCollective(std::move(api), device, std::move(control), options));
  RETURN_IF_ERROR(made->Join());
  return made;
}

NcclCollective::~NcclCollective() {
  absl::MutexLock lock(&mutex_);
  if (comm_ == nullptr) return;
  // Every call waited for its end, so nothing is under way; unlike an abort, this lets NCCL's own
  // threads hand over what a slower peer has yet to fetch.
  if (status_.ok()) {
    api_->CommDestroy(std::exchange(comm_, nullptr));
  } else {
    AbortComm();
  }
}

absl::Status NcclCollective::Join() {
  const uint32_t w = world_size();
  RETURN_IF_ERROR(device_->MakeCurrent());
  Hello mine{};
  mine.version = static_cast<uint32_t>(api_->version);
  mine.reduction = static_cast<uint32_t>(options_.reduction);
  mine.first_shard = first_shard();
  mine.shards = shard_count();
  if (rank() == 0 && w > 1) {
    const NcclResult result = api_->GetUniqueId(&mine.id);
    if (result != kNcclSuccess) return FailNccl(result, "ncclGetUniqueId");
  }
  ASSIGN_OR_RETURN(const auto hellos, AllGather({reinterpret_cast<char*>(&mine), sizeof(mine)}));
  NcclUniqueId id;
  for (uint32_t r = 0; r < w; ++r) {
    Hello hello;
    if (hellos[r].size() != sizeof(hello)) {
      return Fail(absl::FailedPreconditionError(
          absl::StrCat("rank ", r, " runs another release of the worker: update it")));
    }
    std::memcpy(&hello, hellos[r].data(), sizeof(hello));
    if (hello.version != mine.version) {
      return Fail(absl::FailedPreconditionError(absl::StrCat(
          "rank ", r, " has NCCL ", NcclVersionName(static_cast<int>(hello.version)), ", rank ",
          rank(), " has ", NcclVersionName(api_->version), ": install one version everywhere")));
    }
    if (hello.reduction != mine.reduction) {
      return Fail(absl::FailedPreconditionError(
          absl::StrCat("rank ", r, " and rank ", rank(), " were given different reductions")));
    }
    if (r == 0) id = hello.id;
    covers_.push_back(AlignedCover(hello.first_shard, hello.shards, logical_shards()));
  }
  if (w == 1) return absl::OkStatus();
  NcclConfig config;
  NcclResult result;
  {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return status_;
    result = api_->CommInitRankConfig(&comm_, static_cast<int>(w), id, static_cast<int>(rank()),
                                      &config);
  }
  if (result != kNcclSuccess && result != kNcclInProgress) {
    return FailNccl(result, "ncclCommInitRankConfig");
  }
  return Await("ncclCommInitRankConfig", options_.join_patience, false);
}

uint64_t NcclCollective::SliceFloats(uint64_t n) const {
  // ncclAllGather wants slices of one length. Multiples of 16 bytes keep the wide loads. Bits do
  // not depend on it.
  return ((n + world_size() - 1) / world_size() + 3) / 4 * 4;
}

NcclCollective::Slice NcclCollective::SliceOf(uint32_t r, uint64_t n) const {
  const uint64_t begin = std::min(n, r * SliceFloats(n));
  return {begin, std::min(n, (r + 1) * SliceFloats(n)) - begin};
}

absl::Status NcclCollective::OrderedReduce(absl::Span<float* const> shards, uint64_t n,
                                           float* out) {
  RETURN_IF_ERROR(status());
  ++calls_;
  if (shards.size() != shard_count()) {
    return Fail(absl::InvalidArgumentError(absl::StrCat(
        "OrderedReduce got ", shards.size(), " shards, rank ", rank(), " hosts ", shard_count())));
  }
  if (n == 0) return absl::OkStatus();
  absl::Status done = device_->MakeCurrent();
  if (done.ok()) {
    done = options_.reduction == NcclReduction::kOrdered ? Ordered(shards, n, out)
                                                         : Fast(shards, n, out);
  }
  if (done.ok()) done = Await("the exchange", options_.exchange_patience, true);
  if (done.ok()) return done;
  // What failed in NCCL or on the control path has ended the attempt already; a device's error ends
  // it now.
  const absl::Status first = Fail(done);
  const absl::Status rest = Rest();
  return rest.ok() ? first : rest;
}

absl::StatusOr<std::vector<const float*>> NcclCollective::LocalSums(absl::Span<float* const> shards,
                                                                    uint64_t n) {
  const std::vector<TreeNode>& nodes = covers_[rank()];
  const bool all_leaves = nodes.size() == shards.size();
  float* partial = nullptr;
  if (!all_leaves) {
    ASSIGN_OR_RETURN(partial, partial_.Floats(nodes.size() * n));
  }
  std::vector<const float*> sums;
  for (const TreeNode& node : nodes) {
    float* const* first = shards.data() + (node.first - first_shard());
    if (node.count == 1) {
      sums.push_back(*first);
      continue;
    }
    std::vector<TreeNode> leaves;
    for (uint32_t k = 0; k < node.count; ++k) leaves.push_back({node.first + k, 1});
    float* to = partial + sums.size() * n;
    ASSIGN_OR_RETURN(const TreeSum sum, MakeTreeSum(leaves, {first, first + node.count}, to));
    RETURN_IF_ERROR(device_->Run(sum, n));
    sums.push_back(to);
  }
  return sums;
}

absl::Status NcclCollective::Ordered(absl::Span<float* const> shards, uint64_t n, float* out) {
  const uint32_t w = world_size();
  const uint32_t me = rank();
  ASSIGN_OR_RETURN(const std::vector<const float*> sums, LocalSums(shards, n));
  const Slice mine = SliceOf(me, n);
  const uint64_t each = SliceFloats(n);

  // All memory before the first exchange is queued: to allocate may wait for the device, and an
  // exchange may hang. Slices that come out even are gathered straight into `out`.
  float* whole = out;
  if (each * w != n) {
    ASSIGN_OR_RETURN(whole, gathered_.Floats(each * w));
  }
  // The operands of my slice: every rank's nodes, in order. Mine lie where they are.
  size_t foreign = 0;
  for (uint32_t r = 0; r < w; ++r) foreign += r == me ? 0 : covers_[r].size();
  ASSIGN_OR_RETURN(float* received, received_.Floats(foreign * each));
  std::vector<TreeNode> nodes;
  std::vector<const float*> data;
  std::vector<std::vector<float*>> from(w);
  for (uint32_t r = 0; r < w; ++r) {
    for (size_t k = 0; k < covers_[r].size(); ++k) {
      nodes.push_back(covers_[r][k]);
      if (r == me) {
        data.push_back(sums[k] + mine.begin);
      } else {
        from[r].push_back(received);
        data.push_back(received);
        received += each;
      }
    }
  }
  if (w > 1) {
    RETURN_IF_ERROR(Group("ncclSend/ncclRecv", [&](NcclComm* comm) {
      NcclResult result = kNcclSuccess;
      auto add = [&](NcclResult one) {
        if (result == kNcclSuccess) result = one;
      };
      for (uint32_t d = 1; d < w; ++d) {
        const uint32_t r = (me + d) % w;
        const Slice theirs = SliceOf(r, n);
        for (const float* sum : sums) {
          if (theirs.length == 0) break;
          add(api_->Send(sum + theirs.begin, theirs.length, kNcclFloat32, static_cast<int>(r), comm,
                         device_->stream()));
        }
        for (float* to : from[r]) {
          if (mine.length == 0) break;
          add(api_->Recv(to, mine.length, kNcclFloat32, static_cast<int>(r), comm,
                         device_->stream()));
        }
      }
      return result;
    }));
  }
  float* slice = whole + me * each;
  if (mine.length > 0) {
    ASSIGN_OR_RETURN(const TreeSum sum, MakeTreeSum(nodes, data, slice));
    RETURN_IF_ERROR(device_->Run(sum, mine.length));
  }
  if (w > 1) {
    // The padding travels too; what was in that memory before does not.
    RETURN_IF_ERROR(device_->Run(Fill{slice + mine.length, 0.0f}, each - mine.length));
    RETURN_IF_ERROR(Group("ncclAllGather", [&](NcclComm* comm) {
      return api_->AllGather(slice, whole, each, kNcclFloat32, comm, device_->stream());
    }));
  }
  return whole == out ? absl::OkStatus() : device_->Copy(out, whole, n * sizeof(float));
}

absl::Status NcclCollective::Fast(absl::Span<float* const> shards, uint64_t n, float* out) {
  ASSIGN_OR_RETURN(const std::vector<const float*> sums, LocalSums(shards, n));
  ASSIGN_OR_RETURN(const TreeSum sum, MakeTreeSum(covers_[rank()], sums, out));
  RETURN_IF_ERROR(device_->Run(sum, n));
  if (world_size() == 1) return absl::OkStatus();
  return Group("ncclAllReduce", [&](NcclComm* comm) {
    return api_->AllReduce(out, out, n, kNcclFloat32, kNcclSum, comm, device_->stream());
  });
}

template <typename Operations>
absl::Status NcclCollective::Group(const char* what, const Operations& operations) {
  NcclResult result;
  {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return status_;
    result = api_->GroupStart();
    if (result == kNcclSuccess) {
      result = operations(comm_);
      // Always: an open group would swallow whatever this thread does next.
      const NcclResult end = api_->GroupEnd();
      if (result == kNcclSuccess || result == kNcclInProgress) result = end;
    }
  }
  if (result != kNcclSuccess && result != kNcclInProgress) return FailNccl(result, what);
  return Await(what, options_.exchange_patience, false);
}

absl::Status NcclCollective::Await(const char* what, absl::Duration patience, bool idle) {
  exchanging_ = true;
  const absl::Cleanup over = [this] { exchanging_ = false; };
  const absl::Duration start = Now();
  absl::Duration checked = start;
  bool done = false;  // The stream is at rest.
  for (uint64_t polls = 0;; ++polls) {
    NcclResult result = kNcclSuccess;
    {
      absl::MutexLock lock(&mutex_);
      if (!status_.ok()) return status_;
      if (comm_ != nullptr) {
        NcclResult state = kNcclSuccess;
        result = api_->CommGetAsyncError(comm_, &state);
        if (result == kNcclSuccess) result = state;
      }
    }
    if (result != kNcclSuccess && result != kNcclInProgress) return FailNccl(result, what);
    // The stream says nothing before the communicator is ready: NCCL may not have launched yet.
    if (result == kNcclSuccess) {
      // Asked once more after the stream's end: an error ends it, too, and comes before that.
      if (!idle || done) return absl::OkStatus();
      ASSIGN_OR_RETURN(done, device_->Idle());
      if (done) continue;
    }
    const absl::Duration now = Now();
    if (now - checked > absl::Milliseconds(1)) {
      checked = now;
      const absl::Status alive = control_->Check(start);
      if (!alive.ok()) return Fail(alive);
    }
    if (now - start > patience) {
      return Fail(absl::UnavailableError(
          absl::StrCat("rank ", rank(), " of ", world_size(), ": ", what, " of collective call ",
                       calls_, " did not end within ", absl::FormatDuration(patience),
                       " although all ranks answer: see whether the ranks' GPUs reach each other "
                       "(NCCL_DEBUG=INFO)")));
    }
    PausePolling(polls);
  }
}

absl::StatusOr<std::vector<std::string>> NcclCollective::AllGather(std::string mine) {
  RETURN_IF_ERROR(status());
  ++calls_;
  auto all = control_->AllGather(std::move(mine));
  if (!all.ok()) return Fail(all.status());
  return all;
}

std::vector<uint32_t> NcclCollective::WaitsFor() const {
  if (!exchanging_) return control_->WaitsFor();
  // NCCL does not say for whom. A rank that is late is not in the exchange, hence waits for nobody:
  // it is the one that is found stuck.
  std::vector<uint32_t> others;
  for (uint32_t r = 0; r < world_size(); ++r) {
    if (r != rank()) others.push_back(r);
  }
  return others;
}

absl::Status NcclCollective::Check(absl::Duration since) {
  RETURN_IF_ERROR(status());
  return control_->Check(since);
}

absl::Status NcclCollective::status() {
  absl::MutexLock lock(&mutex_);
  return status_;
}

void NcclCollective::Abort(const absl::Status& cause) {
  {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return;
    status_ = absl::AbortedError(cause.message());
  }
  control_->Abort(cause);  // First: the others need not wait for our communicator.
  absl::MutexLock lock(&mutex_);
  AbortComm();
}

absl::Status NcclCollective::Fail(absl::Status error) {
  {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return status_;
    status_ = error;
  }
  control_->Abort(error);
  absl::MutexLock lock(&mutex_);
  AbortComm();
  return error;
}

absl::Status NcclCollective::FailNccl(NcclResult result, const char* what) {
  // Where a peer is lost NCCL often notices first, but only the control path knows who it was.
  // Misuse is our own.
  const bool misuse = result == kNcclInvalidArgument || result == kNcclInvalidUsage;
  const absl::Duration start = Now();
  for (uint64_t polls = 0; !misuse && Now() - start < options_.blame_patience; ++polls) {
    RETURN_IF_ERROR(status());
    const absl::Status known = control_->Check(start);
    if (!known.ok()) return Fail(known);
    PausePolling(polls);
  }
  return Fail(api_->Error(result, absl::StrCat("rank ", rank(), " of ", world_size(), ", ", what,
                                               " of collective call ", calls_)));
}

void NcclCollective::AbortComm() {
  if (comm_ != nullptr) api_->CommAbort(std::exchange(comm_, nullptr));
}

absl::Status NcclCollective::Rest() {
  // An abort that another thread began ends the communicator in a moment; the stream is idle
  // thereafter.
  const absl::Status rest = AwaitIdle(*device_, options_.rest_patience);
  // A device that reports an error runs nothing any more.
  if (!absl::IsDeadlineExceeded(rest)) return absl::OkStatus();
  const absl::Status restless = absl::InternalError(
      absl::StrCat("rank ", rank(), ": ", device_->name(), " did not come to rest within ",
                   absl::FormatDuration(options_.rest_patience),
                   " of an abort, and may still write to memory: this process must end"));
  TellBrokenCuda(restless);
  return restless;
}

}  // namespace dermis
