// A fuzz target is one file with this function. Without libFuzzer (replay.cc) it is a test: its
// corpus, and simple mutations of it, must neither crash nor break what the target asserts. With it
// (tests/fuzz/run) new inputs are looked for.
#ifndef DERMIS_TESTS_FUZZ_FUZZ_H_
#define DERMIS_TESTS_FUZZ_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "google/protobuf/stubs/logging.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace dermis {

inline std::string_view Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// What must hold for any input.
inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// protobuf would tell of each string that is not UTF-8.
inline void Hush() { google::protobuf::SetLogHandler(nullptr); }

}  // namespace dermis

#endif  // DERMIS_TESTS_FUZZ_FUZZ_H_
