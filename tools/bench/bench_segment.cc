// Superpixels of one image, one thread: milliseconds.
//   dermis_bench_segment --image FILE --what slic|quickshift [--size N] [--repeats N]
// FILE: N x N x 3 bytes.
#include <fstream>
#include <sstream>
#include <vector>

#include "tools/bench/bench.h"
#include "worker/explain/superpixels.h"

namespace dermis::bench {
namespace {

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const int size = static_cast<int>(arguments.Number("--size", 224));
  std::ifstream in(arguments.Text("--image"), std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  const std::string image = bytes.str();
  if (image.size() != size_t(size) * size * 3) Die("--image: not size x size x 3 bytes");
  const auto* const rgb = reinterpret_cast<const uint8_t*>(image.data());
  const bool slic = arguments.Text("--what") == "slic";
  std::vector<double> taken;
  for (long repeat = arguments.Number("--repeats", 10); repeat-- > 0;) {
    const double start = Seconds();
    const Segmentation cut =
        slic ? Slic(rgb, size, size, {}) : Quickshift(rgb, size, size, QuickshiftParameters());
    if (cut.count == 0) Die("no superpixels");
    taken.push_back((Seconds() - start) * 1e3);
  }
  Report(Median(taken), "ms");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
