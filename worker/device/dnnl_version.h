// The distribution's oneDNN, which the inference plans use (LibTorch has another one inside, hidden).
// Its headers and Torch's do not meet in one file.
#ifndef DERMIS_WORKER_DEVICE_DNNL_VERSION_H_
#define DERMIS_WORKER_DEVICE_DNNL_VERSION_H_

#include <string>

#include "common/digest.h"

namespace dermis {

std::string DnnlVersion();  // "2.6.3"

// The plans' building block, a convolution with fused ELU in fp32 and bf16 on fixed data, into the hash.
// bf16 is left out where the processor has no instructions for it. Throws dnnl::error.
void HashFusedConvolution(Sha256& hash);

// One OpenMP thread for what this thread computes with the distribution's oneDNN. (LibTorch brings an OpenMP
// of its own.)
void UseOneOpenMpThread();

}  // namespace dermis

#endif  // DERMIS_WORKER_DEVICE_DNNL_VERSION_H_
