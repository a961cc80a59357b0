// 1 GiB of blobs to eight workers at once: GiB that the coordinator sends; seconds and peak memory
// on standard error.
//   dermis_bench_fanout [--workers N] [--blobs N] [--mib N] [--folder DIR]
#include <filesystem>

#include <sys/resource.h>

#include "tools/bench/bench.h"
#include "tools/bench/fanout.h"

namespace dermis::bench {
namespace {

constexpr double kGib = 1 << 30;

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const long workers = arguments.Number("--workers", 8), blobs = arguments.Number("--blobs", 16);
  const size_t size = static_cast<size_t>(arguments.Number("--mib", 64)) << 20;
  const std::string parent =
      arguments.Text("--folder", std::filesystem::temp_directory_path().string());
  std::string folder = parent + "/fan-XXXXXX";  // Short: sockets lie beneath.
  if (mkdtemp(folder.data()) == nullptr) Die("no folder can be made in " + parent);
  uint64_t sent = 0;
  double took = 0;
  absl::Status status;
  {
    FanoutCoordinator coordinator(folder + "/store");
    std::vector<Digest> digests;
    for (long b = 0; b < blobs; ++b) {
      const absl::StatusOr<Digest> digest = coordinator.store().Put(FanoutBytes(size, b));
      if (!digest.ok()) Die(digest.status().ToString());
      digests.push_back(*digest);
    }
    std::vector<std::unique_ptr<FanoutWorker>> all;
    for (long w = 0; w < workers; ++w) {
      const std::string name = absl::StrCat("w", w);
      const std::string own = folder + "/" + name;
      std::filesystem::create_directories(own);
      all.push_back(
          std::make_unique<FanoutWorker>(coordinator, name, own, FanoutWorker::Options{}));
    }
    const double start = Seconds();
    status = FetchAll(all, digests);
    took = Seconds() - start;
    sent = coordinator.Stop();
  }
  std::filesystem::remove_all(folder);
  if (!status.ok()) Die(status.ToString());
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::fprintf(stderr, "%ld workers, %.3g GiB each: %.3g s, peak memory %ld MiB\n", workers,
               static_cast<double>(blobs * size) / kGib, took, usage.ru_maxrss >> 10);
  Report(static_cast<double>(sent) / kGib, "GiB");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
