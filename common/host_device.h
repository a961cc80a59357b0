// DERMIS_HOST_DEVICE marks a function that runs in a loop on the CPU and in a kernel on the GPU.
// Such a function calls nothing but its like: no allocation, no library.
#ifndef DERMIS_COMMON_HOST_DEVICE_H_
#define DERMIS_COMMON_HOST_DEVICE_H_

#ifdef __CUDACC__
#define DERMIS_HOST_DEVICE __host__ __device__
#else
#define DERMIS_HOST_DEVICE
#endif

#endif  // DERMIS_COMMON_HOST_DEVICE_H_
