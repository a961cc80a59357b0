// The numerics class: what decides the bits of floating point on this device (docs/determinism.md). It is part of every
// task's address, so workers of different classes never mix their results.
#ifndef DERMIS_WORKER_DEVICE_NUMERICS_CLASS_H_
#define DERMIS_WORKER_DEVICE_NUMERICS_CLASS_H_

#include <string>

#include "absl/status/statusor.h"

namespace dermis {

// Device kind / versions of the numerical libraries, of the compiler and of the C library / the first 16 hex digits of
// the canary's hash, e.g.
// "cpu/avx512_core_amx/torch-2.11.0/onednn-3.9.1/dnnl-2.6.3/gcc-12.2.0/glibc-2.36/0123456789abcdef".
// The canary is a small computation on fixed data: each layer type forward and backward in fp32 and bf16, our own
// loops, the C library's functions, an inference plan; <= 1 s. It runs twice, in two threads: INTERNAL when the runs differ, for
// then nothing that this machine computes can be trusted. Call before other threads compute.
absl::StatusOr<std::string> NumericsClassOfCpu();

// "avx2", "avx512", "avx512_core_bf16", "avx512_core_amx", "default": what the libraries will choose from.
std::string CpuKind();

// Every thread that computes calls this once, first: one Torch thread, denormals flushed to zero. Both are
// per-thread settings, and both decide bits.
void PrepareComputeThread();

}  // namespace dermis

#endif  // DERMIS_WORKER_DEVICE_NUMERICS_CLASS_H_
