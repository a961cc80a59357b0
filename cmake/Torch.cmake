# LibTorch for the CPU side: target dermis_torch, and
#
#   dermis_torch_library | dermis_torch_binary | dermis_torch_test (arguments as in Dermis.cmake)
#
# for code that includes Torch headers: they share one precompiled header. <torch/torch.h> is not in it: each file
# would compile 4 s longer, for templates that nobody here uses.
#
# LibTorch is DERMIS_TORCH_ROOT (CMake or environment variable) or what tools/setup unpacked into the
# per-user cache. find_package(Torch) is not used: it insists on a CUDA toolkit.

set(DERMIS_TORCH_VERSION 2.11.0)

set(DERMIS_TORCH_ROOT "$ENV{DERMIS_TORCH_ROOT}" CACHE PATH
    "Folder that holds torch/lib and torch/include (or lib and include); empty: the per-user cache")
set(root "${DERMIS_TORCH_ROOT}")
if(NOT root)
  if(DEFINED ENV{XDG_CACHE_HOME} AND NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
    set(root "$ENV{XDG_CACHE_HOME}/dermis/torch-${DERMIS_TORCH_VERSION}")
  else()
    set(root "$ENV{HOME}/.cache/dermis/torch-${DERMIS_TORCH_VERSION}")
  endif()
endif()
if(EXISTS "${root}/torch/lib/libtorch_cpu.so")
  set(root "${root}/torch")
endif()
if(NOT EXISTS "${root}/lib/libtorch_cpu.so" OR NOT EXISTS "${root}/include/torch")
  dermis_missing("LibTorch ${DERMIS_TORCH_VERSION} (looked in ${root})")
endif()
file(STRINGS "${root}/include/torch/headeronly/version.h" version_lines
     REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
string(REGEX MATCHALL "[0-9]+" version "${version_lines}")
list(JOIN version "." version)
if(NOT version STREQUAL DERMIS_TORCH_VERSION)
  message(FATAL_ERROR "LibTorch in ${root} is ${version}, not ${DERMIS_TORCH_VERSION}. Give "
                      "DERMIS_TORCH_ROOT another folder, or unset it and run tools/setup.")
endif()
set(DERMIS_TORCH_DIR "${root}")
message(STATUS "LibTorch ${DERMIS_TORCH_VERSION}: ${DERMIS_TORCH_DIR}")

# The wheel's headers of protobuf and oneDNN would shadow the distribution's: an overlay of symbolic
# links leaves them out. The torch/csrc/api folder is where <torch/types.h> lies.
set(overlay "${CMAKE_BINARY_DIR}/torch-include")
file(REMOVE_RECURSE "${overlay}")
file(MAKE_DIRECTORY "${overlay}")
file(GLOB entries RELATIVE "${DERMIS_TORCH_DIR}/include" "${DERMIS_TORCH_DIR}/include/*")
foreach(entry IN LISTS entries)
  if(NOT entry MATCHES "^(google|oneapi|dnnl.*)$")
    file(CREATE_LINK "${DERMIS_TORCH_DIR}/include/${entry}" "${overlay}/${entry}" SYMBOLIC)
  endif()
endforeach()

foreach(library IN ITEMS torch_cpu c10 torch_cuda c10_cuda)
  add_library(dermis_lib${library} SHARED IMPORTED GLOBAL)
  set_target_properties(dermis_lib${library} PROPERTIES
    IMPORTED_LOCATION "${DERMIS_TORCH_DIR}/lib/lib${library}.so"
    IMPORTED_SONAME "lib${library}.so")
endforeach()

add_library(dermis_torch INTERFACE)
target_include_directories(dermis_torch SYSTEM INTERFACE
  "${overlay}" "${overlay}/torch/csrc/api/include")
target_link_libraries(dermis_torch INTERFACE dermis_libtorch_cpu dermis_libc10 Threads::Threads)
# DT_RPATH, not DT_RUNPATH: only the former also serves what libtorch_cpu itself and libraries that
# are loaded later need.
target_link_options(dermis_torch INTERFACE -Wl,--disable-new-dtags)
# GNU ld follows the needs of libtorch_cpu (libcudart, libcupti) at link time; mold does not.
file(GLOB runtime_dirs LIST_DIRECTORIES TRUE "${DERMIS_TORCH_DIR}/../nvidia/*/lib")
foreach(dir IN LISTS runtime_dirs)
  target_link_options(dermis_torch INTERFACE "-Wl,-rpath-link,${dir}")
endforeach()
# ccache needs this option to see through a precompiled header of GCC.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(dermis_torch INTERFACE -fpch-preprocess)
endif()

# worker/torch builds the precompiled header (target dermis_torch_pch).
function(dermis_use_torch name)
  target_link_libraries(${name} PRIVATE dermis_torch)
  target_precompile_headers(${name} REUSE_FROM dermis_torch_pch)
endfunction()

function(dermis_torch_library name)
  dermis_library(${name} ${ARGN})
  target_link_libraries(${name} PUBLIC dermis_torch)
  target_precompile_headers(${name} REUSE_FROM dermis_torch_pch)
endfunction()

function(dermis_torch_binary name)
  dermis_binary(${name} ${ARGN})
  dermis_use_torch(${name})
endfunction()

function(dermis_torch_test name)
  dermis_optimised_test(${name} ${ARGN})  # The precompiled header wants the options that it was made with.
  dermis_use_torch(${name})
endfunction()
