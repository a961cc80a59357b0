#include "worker/cuda/nccl_api.h"

#include "absl/strings/str_cat.h"
#include <dlfcn.h>

namespace dermis {

std::string NcclVersionName(int version) {
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

absl::StatusOr<std::shared_ptr<const NcclApi>> NcclApi::Load(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "NCCL was not loaded: ", dlerror(),
        "; install nvidia-nccl-cu13, or add the folder of libnccl.so.2 to LD_LIBRARY_PATH"));
  }
  auto api = std::make_shared<NcclApi>();
  std::string missing;
  auto find = [&](const char* name, auto* function) {
    *function =
        reinterpret_cast<std::remove_reference_t<decltype(*function)>>(dlsym(library, name));
    if (*function == nullptr) absl::StrAppend(&missing, missing.empty() ? "" : ", ", name);
  };
  find("ncclGetVersion", &api->GetVersion);
  find("ncclGetUniqueId", &api->GetUniqueId);
  find("ncclCommInitRankConfig", &api->CommInitRankConfig);
  find("ncclCommGetAsyncError", &api->CommGetAsyncError);
  find("ncclCommAbort", &api->CommAbort);
  find("ncclCommDestroy", &api->CommDestroy);
  find("ncclGroupStart", &api->GroupStart);
  find("ncclGroupEnd", &api->GroupEnd);
  find("ncclSend", &api->Send);
  find("ncclRecv", &api->Recv);
  find("ncclAllGather", &api->AllGather);
  find("ncclAllReduce", &api->AllReduce);
  find("ncclGetErrorString", &api->GetErrorString);
  find("ncclGetLastError", &api->GetLastError);
  if (!missing.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " lacks ", missing, ": NCCL ", NcclVersionName(kNcclOldest), " or later is needed"));
  }
  const NcclResult result = api->GetVersion(&api->version);
  if (result != kNcclSuccess) return api->Error(result, absl::StrCat("the version of ", path));
  if (api->version < kNcclOldest || api->version >= kNcclTooNew) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is NCCL ", NcclVersionName(api->version), "; this program knows ",
                     NcclVersionName(kNcclOldest), " up to, not with, ",
                     NcclVersionName(kNcclTooNew), ": install nvidia-nccl-cu13==2.28.9"));
  }
  return api;
}

absl::Status NcclApi::Error(NcclResult result, const std::string& what) const {
  const char* name = GetErrorString(result);
  // NCCL keeps one last message a process and ignores the communicator.
  const char* last = GetLastError(nullptr);
  std::string text =
      absl::StrCat(what, ": NCCL says: ", name == nullptr ? "unknown" : name, " (", result, ")");
  if (last != nullptr && *last != '\0') absl::StrAppend(&text, ": ", last);
  if (result == kNcclInvalidArgument || result == kNcclInvalidUsage)
    return absl::InternalError(text);
  absl::StrAppend(&text, "; NCCL_DEBUG=WARN in the worker's environment tells more");
  return absl::UnavailableError(text);
}

}  // namespace dermis
