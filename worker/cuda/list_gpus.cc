#include "worker/cuda/list_gpus.h"

#include <dlfcn.h>

namespace dermis {
namespace {

// A function of a library by its name; null where it is missing.
template <typename Function>
Function* Find(void* library, const char* name) {
  return library == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library, name));
}

constexpr int kNvmlInsufficientSize = 7;

// Whether processes compute on the GPU at a PCI address.
class Management {
 public:
  explicit Management(const std::string& path) : library_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    const auto init = Find<int()>(library_, "nvmlInit_v2");
    handle_ = Find<int(const char*, void**)>(library_, "nvmlDeviceGetHandleByPciBusId_v2");
    processes_ = Find<int(void*, unsigned*, void*)>(library_, "nvmlDeviceGetComputeRunningProcesses_v3");
    ready_ = init != nullptr && handle_ != nullptr && processes_ != nullptr && init() == 0;
  }

  bool InUse(const char* bus) const {
    void* device = nullptr;
    if (!ready_ || handle_(bus, &device) != 0) return false;
    unsigned count = 0;
    const int result = processes_(device, &count, nullptr);
    return result == kNvmlInsufficientSize && count > 0;
  }

 private:
  void* const library_;
  int (*handle_)(const char*, void**) = nullptr;
  int (*processes_)(void*, unsigned*, void*) = nullptr;
  bool ready_ = false;
};

}  // namespace

std::vector<ListedGpu> ListGpus(const std::string& driver, const std::string& management) {
  void* const library = dlopen(driver.c_str(), RTLD_NOW | RTLD_LOCAL);
  const auto init = Find<int(unsigned)>(library, "cuInit");
  const auto count = Find<int(int*)>(library, "cuDeviceGetCount");
  const auto get = Find<int(int*, int)>(library, "cuDeviceGet");
  const auto name = Find<int(char*, int, int)>(library, "cuDeviceGetName");
  const auto memory = Find<int(size_t*, int)>(library, "cuDeviceTotalMem_v2");
  const auto bus = Find<int(char*, int, int)>(library, "cuDeviceGetPCIBusId");
  int devices = 0;
  if (init == nullptr || count == nullptr || get == nullptr || name == nullptr ||
      memory == nullptr || bus == nullptr || init(0) != 0 || count(&devices) != 0) {
    return {};
  }
  const Management manager(management);
  std::vector<ListedGpu> gpus;
  for (int ordinal = 0; ordinal < devices; ++ordinal) {
    int device = 0;
    size_t bytes = 0;
    char device_name[256] = {}, device_bus[32] = {};
    if (get(&device, ordinal) != 0 || name(device_name, sizeof(device_name), device) != 0 ||
        memory(&bytes, device) != 0 || bus(device_bus, sizeof(device_bus), device) != 0) {
      continue;
    }
    gpus.push_back({ordinal, device_name, bytes, manager.InUse(device_bus)});
  }
  return gpus;
}

}  // namespace dermis
