// A library that answers to NCCL's names, for machines without a GPU. It moves real data between
// threads or processes of one host, on host memory and a HostStream, and is stricter than NCCL
// where NCCL trusts its caller: what NCCL leaves undefined, or hangs on, is an error here. Like
// NCCL with communicators that do not block, ncclGroupEnd returns before anything is on the stream,
// and an abort ends the own communicator only: peers that wait for it go on waiting.
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

#include "tests/stand_in/nccl/channel.h"
#include "tests/stand_in/nccl/control.h"
#include "worker/cuda/host_stream.h"

// As the comments in nccl.h (2.28) have it; only what is offered.
extern "C" {
typedef enum {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7
} ncclResult_t;
typedef struct {
  char internal[128];
} ncclUniqueId;
typedef struct {
  size_t size;
  unsigned int magic;
  unsigned int version;
  int blocking;
} ncclConfig_t;
typedef struct ncclComm* ncclComm_t;
}

using dermis::HostStream;
using dermis::StandInFault;
using dermis::stand_in::Head;
using dermis::stand_in::kMaxRanks;
using dermis::stand_in::SharedSegment;
using dermis::stand_in::Transfer;

namespace {

constexpr int kFloat32 = 7;
constexpr int kSum = 0;
enum Kind : uint32_t { kPointToPoint = 1, kAllGather = 2, kAllReduce = 3 };

// What the operations that are queued share with the communicator, which may be gone before they
// are.
struct Shared {
  std::shared_ptr<SharedSegment> segment;
  int rank = 0;
  int world = 0;
  std::atomic<bool> aborted = false;
  std::atomic<int> running = 0;
  std::atomic<int> error = ncclSuccess;
};

// The work of one group (or single call).
struct Job {
  std::shared_ptr<Shared> shared;
  HostStream* stream = nullptr;
  std::vector<Transfer> transfers;
  // AllReduce: the other ranks' operands, and where the own one is and the sum goes.
  struct Reduction {
    std::vector<std::vector<float>> operands;
    float* out;
    uint64_t count;
  };
  std::vector<std::unique_ptr<Reduction>> reductions;
};

struct Fault {
  int call = -1;
  int kind = 0;
};
std::mutex faults_mutex;
std::array<Fault, kMaxRanks> faults;
std::atomic<int> version_said = 0;
std::atomic<int> destroyed = 0;
std::atomic<int> aborted = 0;

std::mutex words_mutex;
char last_words[512];

ncclResult_t Say(ncclResult_t result, const std::string& words) {
  std::lock_guard<std::mutex> lock(words_mutex);
  std::strncpy(last_words, words.c_str(), sizeof(last_words) - 1);
  return result;
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Shared> shared = std::make_shared<Shared>();
  Fault fault;
  int calls = 0;
  bool never_ready = false;
  bool ready = false;
  bool in_progress = true;  // Until ncclCommGetAsyncError says otherwise.
  bool errs_later = false;
  std::unique_ptr<Job> taken;  // By ncclGroupEnd, not on the stream yet.
};

namespace {

struct Group {
  int depth = 0;
  ncclComm* comm = nullptr;
  std::unique_ptr<Job> job;
  ncclResult_t error = ncclSuccess;
};
thread_local Group group;

void RunJob(void* argument) {
  std::unique_ptr<Job> job(static_cast<Job*>(argument));
  Shared& shared = *job->shared;
  for (;;) {
    // A kernel of NCCL's that an abort ends leaves its data as they are.
    if (shared.aborted || (*shared.segment)->mismatch.load() == 2) {
      --shared.running;
      return;
    }
    bool moved = false;
    bool finished = true;
    // Messages of one pair follow each other: only the first that is not done may use the ring.
    std::array<bool, 2 * kMaxRanks> busy{};
    for (Transfer& transfer : job->transfers) {
      bool& ring = busy[static_cast<size_t>(2 * transfer.peer + (transfer.sends ? 1 : 0))];
      if (!ring) moved = transfer.Progress(*shared.segment, shared.rank) || moved;
      if (!transfer.Finished()) ring = true;
      finished = finished && transfer.Finished();
    }
    if (finished) break;
    if (!moved) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  for (const auto& reduction : job->reductions) {
    // Only now is the own operand there: what makes it was queued before.
    reduction->operands[static_cast<size_t>(shared.rank)].assign(reduction->out,
                                                                 reduction->out + reduction->count);
    for (uint64_t i = 0; i < reduction->count; ++i) {
      // From the last rank to the first: an order that is not the tree's, as NCCL's is not.
      float sum = reduction->operands.back()[i];
      for (size_t r = reduction->operands.size() - 1; r-- > 0;) sum += reduction->operands[r][i];
      reduction->out[i] = sum;
    }
  }
  --shared.running;
}

// May this call be made, and is it the one that fails? `hangs`: its operation must not end.
ncclResult_t Enter(ncclComm* comm, const void* buffer, int type, void* stream, const char* name,
                   bool* hangs) {
  if (comm == nullptr || buffer == nullptr || stream == nullptr) {
    return Say(ncclInvalidArgument, std::string(name) + ": a null argument");
  }
  if (type != kFloat32) return Say(ncclInvalidArgument, std::string(name) + ": only float here");
  if (comm->in_progress) {
    return Say(ncclInvalidArgument,
               "Attempt to use communicator before the previous operation returned ncclSuccess");
  }
  if (group.comm != nullptr && group.comm != comm) {
    return Say(ncclInvalidUsage, "two communicators in one group");
  }
  *hangs = false;
  if (++comm->calls != comm->fault.call) return ncclSuccess;
  switch (static_cast<StandInFault>(comm->fault.kind)) {
    case StandInFault::kErrorNow:
      return Say(ncclSystemError, std::string(name) + ": the injected error");
    case StandInFault::kErrorLater:
      comm->errs_later = true;
      return ncclSuccess;
    case StandInFault::kHang:
      *hangs = true;
      return ncclSuccess;
  }
  return ncclSuccess;
}

Job& GroupJob(ncclComm* comm, void* stream) {
  group.comm = comm;
  if (group.job == nullptr) {
    group.job = std::make_unique<Job>();
    group.job->shared = comm->shared;
    group.job->stream = static_cast<HostStream*>(stream);
  }
  return *group.job;
}

Transfer Message(bool sends, int peer, Kind kind, uint64_t count, const void* from, void* to,
                 bool hangs) {
  Transfer transfer;
  transfer.sends = sends;
  transfer.peer = peer;
  transfer.head = {kind, kFloat32, count};
  transfer.from = static_cast<const char*>(from);
  transfer.to = static_cast<char*>(to);
  transfer.bytes = count * sizeof(float);
  transfer.hangs = hangs;
  return transfer;
}

ncclResult_t EndGroup() {
  Group ended = std::exchange(group, Group{});
  if (ended.error != ncclSuccess) return ended.error;
  if (ended.job == nullptr) return ncclSuccess;
  ++ended.comm->shared->running;
  ended.comm->taken = std::move(ended.job);
  ended.comm->in_progress = true;
  return ncclInProgress;
}

// Runs `add` as part of the open group, or as a group of its own.
template <typename Add>
ncclResult_t Operation(const Add& add) {
  ++group.depth;
  const ncclResult_t result = add();
  if (result != ncclSuccess) group.error = result;
  if (--group.depth > 0) return result;
  const ncclResult_t end = EndGroup();
  return result != ncclSuccess ? result : end;
}

ncclResult_t PointToPoint(bool sends, const void* from, void* to, size_t count, int type, int peer,
                          ncclComm* comm, void* stream) {
  return Operation([&] {
    bool hangs;
    const ncclResult_t result =
        Enter(comm, sends ? from : to, type, stream, sends ? "ncclSend" : "ncclRecv", &hangs);
    if (result != ncclSuccess) return result;
    if (peer < 0 || peer >= comm->shared->world || peer == comm->shared->rank) {
      return Say(ncclInvalidArgument, "no such peer: " + std::to_string(peer));
    }
    GroupJob(comm, stream)
        .transfers.push_back(Message(sends, peer, kPointToPoint, count, from, to, hangs));
    return ncclSuccess;
  });
}

}  // namespace

extern "C" {

void DermisStandInFault(int rank, int call, int fault) {
  std::lock_guard<std::mutex> lock(faults_mutex);
  faults.at(static_cast<size_t>(rank)) = {call, fault};
}
void DermisStandInVersion(int version) { version_said = version; }
int DermisStandInDestroyed() { return destroyed; }
int DermisStandInAborted() { return aborted; }

ncclResult_t ncclGetVersion(int* version) {
  *version = version_said == 0 ? 22809 : version_said.load();
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}

const char* ncclGetLastError(ncclComm_t) { return last_words; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> made = 0;
  const std::string name =
      "/dermis-nccl-" + std::to_string(getpid()) + "-" + std::to_string(++made);
  std::memset(id, 0, sizeof(*id));
  std::memcpy(id->internal, name.c_str(), name.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int world, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (made == nullptr || config == nullptr || config->size < sizeof(ncclConfig_t) ||
      config->magic != 0xcafebeef || config->version < 21400) {
    return Say(ncclInvalidArgument, "ncclConfig_t argument not initialized");
  }
  if (config->blocking != 0) return Say(ncclInvalidUsage, "the stand-in does not block");
  if (world < 1 || world > kMaxRanks || rank < 0 || rank >= world ||
      std::strncmp(id.internal, "/dermis-nccl-", 13) != 0) {
    return Say(ncclInvalidArgument, "a bad rank, number of ranks or id");
  }
  Fault fault;
  {
    std::lock_guard<std::mutex> lock(faults_mutex);
    fault = std::exchange(faults[static_cast<size_t>(rank)], Fault{});
  }
  const bool now = fault.call == 0;
  if (now && fault.kind == static_cast<int>(StandInFault::kErrorNow)) {
    return Say(ncclSystemError, "ncclCommInitRankConfig: the injected error");
  }
  auto segment = SharedSegment::Map(id.internal, world);
  if (segment == nullptr) return Say(ncclSystemError, "no shared memory");
  int none = 0;
  if (!(*segment)->world.compare_exchange_strong(none, world) && none != world) {
    return Say(ncclInvalidArgument, "the ranks disagree about their number");
  }
  auto comm = std::make_unique<ncclComm>();
  comm->fault = fault;
  comm->never_ready = now && fault.kind == static_cast<int>(StandInFault::kHang);
  comm->errs_later = now && fault.kind == static_cast<int>(StandInFault::kErrorLater);
  comm->shared->segment = segment;
  comm->shared->rank = rank;
  comm->shared->world = world;
  if (!comm->never_ready && (*segment)->joined[rank].exchange(1) != 0) {
    return Say(ncclInvalidUsage, "rank " + std::to_string(rank) + " joined twice");
  }
  *made = comm.release();
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (comm == nullptr || error == nullptr) return Say(ncclInvalidArgument, "a null argument");
  SharedSegment& segment = *comm->shared->segment;
  if (segment->mismatch.load() == 2) {
    *error = Say(ncclInvalidUsage, segment->why);
    return ncclSuccess;
  }
  if (comm->errs_later) {
    *error = Say(ncclRemoteError, "the injected remote error");
    return ncclSuccess;
  }
  *error = ncclInProgress;
  if (!comm->ready) {
    if (comm->never_ready || !segment.AllJoined()) return ncclSuccess;
    comm->ready = true;
  } else if (comm->taken != nullptr) {
    // The first look after ncclGroupEnd still finds it in progress: the caller must not have relied
    // on the stream.
    HostStream* stream = comm->taken->stream;
    stream->Enqueue(RunJob, comm->taken.release());
    return ncclSuccess;
  }
  comm->in_progress = false;
  *error = ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  if (comm->in_progress || comm->shared->running != 0) {
    return Say(ncclInvalidUsage, "destroyed while operations are under way");
  }
  delete comm;
  ++destroyed;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  comm->shared->aborted = true;
  delete comm;
  ++aborted;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return Say(ncclInvalidUsage, "ncclGroupEnd: not in a group call");
  if (--group.depth > 0) return ncclSuccess;
  return EndGroup();
}

ncclResult_t ncclSend(const void* from, size_t count, int type, int peer, ncclComm_t comm,
                      void* stream) {
  return PointToPoint(true, from, nullptr, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* to, size_t count, int type, int peer, ncclComm_t comm, void* stream) {
  return PointToPoint(false, nullptr, to, count, type, peer, comm, stream);
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, int type, ncclComm_t comm,
                           void* stream) {
  return Operation([&] {
    bool hangs;
    const ncclResult_t result = Enter(comm, from, type, stream, "ncclAllGather", &hangs);
    if (result != ncclSuccess) return result;
    const Shared& shared = *comm->shared;
    char* all = static_cast<char*>(to);
    const uint64_t bytes = count * sizeof(float);
    if (from != all + static_cast<uint64_t>(shared.rank) * bytes) {
      return Say(ncclInvalidArgument, "ncclAllGather: only in place here");
    }
    Job& job = GroupJob(comm, stream);
    for (int r = 0; r < shared.world; ++r) {
      if (r == shared.rank) continue;
      job.transfers.push_back(Message(true, r, kAllGather, count, from, nullptr, hangs));
      job.transfers.push_back(Message(false, r, kAllGather, count, nullptr,
                                      all + static_cast<uint64_t>(r) * bytes, hangs));
    }
    return ncclSuccess;
  });
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, int type, int op,
                           ncclComm_t comm, void* stream) {
  return Operation([&] {
    bool hangs;
    const ncclResult_t result = Enter(comm, from, type, stream, "ncclAllReduce", &hangs);
    if (result != ncclSuccess) return result;
    if (op != kSum || from != to) {
      return Say(ncclInvalidArgument, "ncclAllReduce: only sums in place here");
    }
    const Shared& shared = *comm->shared;
    Job& job = GroupJob(comm, stream);
    auto reduction = std::make_unique<Job::Reduction>();
    reduction->out = static_cast<float*>(to);
    reduction->count = count;
    reduction->operands.resize(static_cast<size_t>(shared.world));
    for (int r = 0; r < shared.world; ++r) {
      auto& operand = reduction->operands[static_cast<size_t>(r)];
      if (r == shared.rank) continue;
      operand.resize(count);
      job.transfers.push_back(Message(true, r, kAllReduce, count, from, nullptr, hangs));
      job.transfers.push_back(Message(false, r, kAllReduce, count, nullptr, operand.data(), hangs));
    }
    job.reductions.push_back(std::move(reduction));
    return ncclSuccess;
  });
}

}  // extern "C"
