#include "worker/cuda/load.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include <dlfcn.h>

#include "common/status_macros.h"
#include "worker/cuda/cuda_device.h"

namespace dermis {

absl::StatusOr<std::shared_ptr<const CudaLibrary>> CudaLibrary::Load(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the GPU library was not loaded: ", dlerror(),
        "; build it where a CUDA toolkit is, and keep the CUDA runtime where the loader finds it"));
  }
  const auto entry =
      reinterpret_cast<decltype(&DermisCudaLibrary)>(dlsym(library, "DermisCudaLibrary"));
  if (entry == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is no library of this program"));
  }
  const CudaLibraryTable* table = entry();
  if (table->release != kCudaLibraryRelease || table->functors != Functors::kCount) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is of release ", table->release, ".", table->functors,
                     ", this program of ", kCudaLibraryRelease, ".", Functors::kCount,
                     ": build or install both together"));
  }
  return std::shared_ptr<const CudaLibrary>(new CudaLibrary(table));
}

absl::StatusOr<int> CudaLibrary::device_count() const {
  int count = 0;
  const int error = table_->device_count(&count);
  if (error == kCudaNoDevice || error == kCudaInsufficientDriver) return 0;
  RETURN_IF_ERROR(CudaStatus(*table_, error, "count the GPUs"));
  return count;
}

absl::StatusOr<std::unique_ptr<Device>> CudaLibrary::Open(int ordinal, void* stream) const {
  return CudaDevice::Make(table_, ordinal, stream);
}

absl::StatusOr<CudaDeviceFacts> CudaLibrary::Facts(int ordinal) const {
  CudaDeviceFacts facts = {};
  RETURN_IF_ERROR(CudaStatus(*table_, table_->device_facts(ordinal, &facts),
                             absl::StrCat("GPU ", ordinal, ": ask for its properties")));
  return facts;
}

absl::Status CudaLibrary::LimitMemory(int ordinal, double fraction) const {
  return CudaStatus(*table_, table_->limit_memory(ordinal, fraction),
                    absl::StrCat("GPU ", ordinal, ": limit its memory"));
}

std::string CudaLibraryPath() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (program.parent_path() / "libdermis_cuda.so").string();
}

absl::StatusOr<int> CountGpusOfDriver(const std::string& driver) {
  void* library = dlopen(driver.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return absl::NotFoundError(absl::StrCat("no GPU: no driver: ", dlerror()));
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(library, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(dlsym(library, "cuDeviceGetCount"));
  if (init == nullptr || count == nullptr) {
    return absl::NotFoundError(absl::StrCat("no GPU: ", driver, " is no driver of CUDA"));
  }
  const auto failed = [](const char* what, int error) {
    const std::string text = absl::StrCat(what, " returns ", error);
    // Anything else may pass: a GPU that is being reset, a driver that is not up yet.
    if (error == kCudaNoDevice) return absl::NotFoundError(absl::StrCat("no GPU: ", text));
    return absl::UnavailableError(absl::StrCat("the driver does not answer: ", text));
  };
  if (const int error = init(0); error != 0) return failed("cuInit", error);
  int devices = 0;
  if (const int error = count(&devices); error != 0) return failed("cuDeviceGetCount", error);
  if (devices == 0) return absl::NotFoundError("no GPU: the driver shows none");
  return devices;
}

absl::StatusOr<std::shared_ptr<const CudaLibrary>> FindGpus(const std::string& path) {
  RETURN_IF_ERROR(CountGpusOfDriver().status());
  return CudaLibrary::Load(path);
}

}  // namespace dermis
