# The libraries of the distribution that every part may use. Parts that need more (OpenCV, oneDNN,
# SQLite, ...) look for it in their own CMakeLists.txt.

function(dermis_missing what)
  message(FATAL_ERROR "${what} was not found. Run tools/setup: it installs what the build needs, "
                      "or says what to install by hand.")
endfunction()

set(THREADS_PREFER_PTHREAD_FLAG OFF)
find_package(Threads REQUIRED)
foreach(package IN ITEMS Protobuf absl OpenSSL GTest SQLite3 yaml-cpp nlohmann_json CLI11)
  find_package(${package} QUIET)
  if(NOT ${package}_FOUND)
    dermis_missing(${package})
  endif()
endforeach()
find_package(gRPC CONFIG QUIET)  # After Protobuf: its configuration uses that target.
if(NOT gRPC_FOUND)
  dermis_missing(gRPC)
endif()
include(GoogleTest)
