// dermis-decode SIZE: a JPEG or PNG from standard input as SIZE x SIZE x 3 bytes, as ingest makes
// them. The coordinator starts one for each picture that a browser sends: bytes from strangers are
// decoded in a process of their own that can do little and dies soon.
//
// Exit code 0: the pixels are on standard output. 1: a line that says what is wrong with the
// picture.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

#include "opencv2/core/utility.hpp"
#include <sys/prctl.h>
#include <sys/resource.h>

#include "tools/ingest/decode.h"

namespace {

constexpr size_t kMostFile = 64 << 20;

bool Limit(int resource, rlim_t most) {
  const rlimit limit{most, most};
  return setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0;
}

// 100 megapixels, the most that is decoded, take 1.5 GiB.
bool Confine() {
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
         Limit(RLIMIT_AS, rlim_t{2} << 30) && Limit(RLIMIT_CPU, 10) && Limit(RLIMIT_FSIZE, 0) &&
         Limit(RLIMIT_CORE, 0) && Limit(RLIMIT_NPROC, 0) && Limit(RLIMIT_NOFILE, 3);
}

int Say(const std::string& text) {
  std::fputs((text + "\n").c_str(), stdout);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const long size = argc == 2 ? std::strtol(argv[1], nullptr, 10) : 0;
  if (size < 1 || size > 4096) return Say("usage: dermis-decode SIZE, 1 to 4096");
  cv::setNumThreads(0);  // Threads count as processes.
  if (!Confine()) return Say("the decoder cannot be confined on this machine");
  std::string file;
  char piece[65536];
  while (const size_t got = std::fread(piece, 1, sizeof piece, stdin)) {
    file.append(piece, got);
    if (file.size() > kMostFile) return Say("the file is larger than 64 MiB");
  }
  try {
    const absl::StatusOr<std::string> pixels =
        dermis::DecodeImage(file, static_cast<uint32_t>(size));
    if (!pixels.ok()) return Say(std::string(pixels.status().message()));
    return std::fwrite(pixels->data(), 1, pixels->size(), stdout) == pixels->size() &&
                   std::fflush(stdout) == 0
               ? 0
               : 1;
  } catch (const std::bad_alloc&) {
    return Say("the picture takes more memory than a decoder may have");
  }
}
