// NCCL's C functions, found at run time: no header and no library of NCCL is needed to build. What
// is declared here is NCCL's binary interface (nccl.h, 2.28), as far as it is used.
#ifndef DERMIS_WORKER_CUDA_NCCL_API_H_
#define DERMIS_WORKER_CUDA_NCCL_API_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dermis {

// Enums of NCCL; they travel as int.
using NcclResult = int;
inline constexpr NcclResult kNcclSuccess = 0;
inline constexpr NcclResult kNcclInvalidArgument = 4;
inline constexpr NcclResult kNcclInvalidUsage = 5;
inline constexpr NcclResult kNcclRemoteError = 6;
inline constexpr NcclResult kNcclInProgress = 7;
inline constexpr int kNcclFloat32 = 7;  // ncclDataType_t
inline constexpr int kNcclSum = 0;      // ncclRedOp_t

struct NcclComm;           // ncclComm
using NcclStream = void*;  // cudaStream_t
struct NcclUniqueId {
  char bytes[128];
};  // By value, as NCCL takes it.

// The head of ncclConfig_t as of NCCL 2.14. A newer NCCL reads so much of it as `size` says and
// takes its defaults for what came later than `version`.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;
};

// As ncclGetVersion codes it. From 2.28 on: older ones were never looked at; LibTorch 2.11
// brings 2.28.9.
inline constexpr int kNcclOldest = 22800;
inline constexpr int kNcclTooNew = 30000;

std::string NcclVersionName(int version);  // 22809 -> "2.28.9"

// Immutable after Load; the functions are as thread-safe as NCCL's.
class NcclApi {
 public:
  // Loads the library and checks its version. `path`: a name for the loader's search, or a file.
  // The library is never unloaded. UNAVAILABLE: not found; FAILED_PRECONDITION: another version, or
  // a symbol is missing.
  static absl::StatusOr<std::shared_ptr<const NcclApi>> Load(
      const std::string& path = "libnccl.so.2");

  // "what: <NCCL's words>", and what to do next. INTERNAL where we misused NCCL, else UNAVAILABLE:
  // the network, a device, a peer; the task is not to blame.
  absl::Status Error(NcclResult result, const std::string& what) const;

  int version = 0;
  NcclResult (*GetVersion)(int*) = nullptr;
  NcclResult (*GetUniqueId)(NcclUniqueId*) = nullptr;
  NcclResult (*CommInitRankConfig)(NcclComm**, int, NcclUniqueId, int, NcclConfig*) = nullptr;
  NcclResult (*CommGetAsyncError)(NcclComm*, NcclResult*) = nullptr;
  NcclResult (*CommAbort)(NcclComm*) = nullptr;
  NcclResult (*CommDestroy)(NcclComm*) = nullptr;
  NcclResult (*GroupStart)() = nullptr;
  NcclResult (*GroupEnd)() = nullptr;
  NcclResult (*Send)(const void*, size_t, int, int, NcclComm*, NcclStream) = nullptr;
  NcclResult (*Recv)(void*, size_t, int, int, NcclComm*, NcclStream) = nullptr;
  NcclResult (*AllGather)(const void*, void*, size_t, int, NcclComm*, NcclStream) = nullptr;
  NcclResult (*AllReduce)(const void*, void*, size_t, int, int, NcclComm*, NcclStream) = nullptr;
  const char* (*GetErrorString)(NcclResult) = nullptr;
  const char* (*GetLastError)(NcclComm*) = nullptr;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_NCCL_API_H_
