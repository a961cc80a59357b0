// A stand-in for libcuda.so.1 and libnvidia-ml.so.1: three GPUs, of which the second is used by
// another process.
#include <cstdio>
#include <cstring>

extern "C" {
int cuInit(unsigned) { return 0; }
int cuDeviceGetCount(int* count) { return (*count = 3), 0; }
int cuDeviceGet(int* device, int ordinal) { return (*device = 10 + ordinal), 0; }
int cuDeviceGetName(char* name, int size, int device) {
  return std::snprintf(name, static_cast<size_t>(size), "Stand-in %d", device - 10), 0;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) { return (*bytes = size_t{24} << 30), 0; }
int cuDeviceGetPCIBusId(char* bus, int size, int device) {
  return std::snprintf(bus, static_cast<size_t>(size), "0000:%02d:00.0", device), 0;
}
int nvmlInit_v2() { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus, void** device) {
  static char used, idle;
  *device = std::strcmp(bus, "0000:11:00.0") == 0 ? &used : &idle;
  used = 'u';
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void* device, unsigned* count, void*) {
  *count = *static_cast<char*>(device) == 'u' ? 2 : 0;
  return *count > 0 ? 7 : 0;
}
}
