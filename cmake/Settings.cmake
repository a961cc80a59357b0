# Language, warnings, linker and sanitizers, for every target of the project.

get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(NOT multi_config AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

# -O2 for all: the compiler is most of a cold build. A file with a kernel asks for -O3 itself
# (set_source_files_properties).
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

option(DERMIS_WERROR "Warnings are errors" ON)
set(DERMIS_SANITIZE "" CACHE STRING "Comma-separated sanitizers, e.g. address,undefined or thread")

# nvcc takes few options of a C++ compiler itself (-Xcompiler hands them on).
set(cuda "$<COMPILE_LANGUAGE:CUDA>")
set(not_cuda "$<NOT:${cuda}>")
add_compile_options("$<${not_cuda}:-Wall;-Wextra>" "$<${cuda}:-Xcompiler=-Wall,-Wextra>")
# Results carry digests: the compiler may not fuse a * b + c behind our back.
add_compile_options("$<${not_cuda}:-ffp-contract=off>" "$<${cuda}:-fmad=false>")
if(DERMIS_SANITIZE)
  # No -Werror here: instrumented code raises false "maybe uninitialized" warnings.
  # What is undefined ends a test: words alone would be overlooked.
  add_compile_options(
    "$<${not_cuda}:-fsanitize=${DERMIS_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g1>")
  add_link_options(-fsanitize=${DERMIS_SANITIZE})
elseif(DERMIS_WERROR)
  add_compile_options("$<${not_cuda}:-Werror>" "$<${cuda}:-Werror=all-warnings;-Xcompiler=-Werror>")
endif()

# Everywhere, because GoogleTest's targets ask for it: a precompiled header only serves compilations
# with the same options.
add_compile_options("$<${not_cuda}:-pthread>")
add_link_options(-pthread)

include_directories("${CMAKE_SOURCE_DIR}")

find_program(DERMIS_CCACHE ccache)
if(DERMIS_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Base folder: checkouts in different places share results. Sloppiness: what ccache asks for with
  # precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}"
      "CCACHE_SLOPPINESS=pch_defines,time_macros" "${DERMIS_CCACHE}")
endif()

find_program(DERMIS_MOLD mold)
if(DERMIS_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
