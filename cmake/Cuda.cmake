# CUDA, where there is a compiler for it: DERMIS_CUDA says so. The build is complete without; nothing runs
# differently on a machine that has no GPU (docs/gpu.md).
include(CheckLanguage)

set(DERMIS_CUDA FALSE)
# Real code for the A100 and the H100; the latter's PTX serves what comes after.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
# Not find_program: a wrapper named nvcc may exist without a toolkit.
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  enable_language(CUDA)
  set(DERMIS_CUDA TRUE)
  # CMake 3.25 does not know that nvcc has C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
endif()
message(STATUS "CUDA: ${DERMIS_CUDA} (the library dermis_cuda is built only with it)")
