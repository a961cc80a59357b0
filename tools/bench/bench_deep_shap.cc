// DeepSHAP of the seed network on this machine, weights and images made up: explained images a second, of
// threads that each explain images of their own, as a worker's do.
//   dermis_bench_deep_shap [--threads T] [--images N a thread] [--background N] and the network's
//   arguments (training.h)
#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/training.h"
#include "worker/device/numerics_class.h"
#include "worker/models/gradients.h"
#include "worker/models/model.h"

namespace dermis::bench {
namespace {

// As many images as the data has: a background names them by their digests.
class NamesOnly final : public ImageSet {
 public:
  explicit NamesOnly(size_t count) {
    for (size_t i = 0; i < count; ++i) manifest_.add_images();
  }
  absl::StatusOr<std::string_view> Pixels(uint32_t) const override { return absl::NotFoundError(""); }
  absl::StatusOr<std::string_view> Mask(uint32_t) const override { return absl::NotFoundError(""); }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::NotFoundError("");
  }
};

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const long threads = arguments.Number("--threads", 1), images = arguments.Number("--images", 20);
  const auto background = static_cast<uint32_t>(arguments.Number("--background", 100));
  const Network network(arguments);
  const auto explained = static_cast<uint32_t>(threads * (images + 1));
  const auto data = MakeData(network.size, background, explained);
  data->set = std::make_shared<NamesOnly>(background + explained);
  Model model;
  auto layout = LayoutOf(network.kind, network.size, 2, network.stem);
  if (!layout.ok()) Die(layout.status().ToString());
  model.layout = *std::move(layout);
  InitializeModel(1, model);
  model.pixel_mean = 127.5;
  model.pixel_deviation = 73.9;
  const std::string weights = SerializeModel(model);

  std::vector<std::thread> workers;
  std::atomic<long> ready{0};
  std::atomic<double> begun{0};
  for (long t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      PrepareComputeThread();
      GradientCache cache;
      v1::GradientTask task;
      task.mutable_model()->set_kind(network.kind);
      task.set_output(v1::OUTPUT_KIND_MARGIN);
      task.mutable_deep_shap();
      task.mutable_background()->set_per_class(background / 2);
      for (long i = 0; i <= images; ++i) {
        // The first one records the background.
        if (i == 1) {
          ++ready;
          while (ready < threads) std::this_thread::yield();
          if (t == 0) begun = Seconds();
        }
        task.set_image(background + static_cast<uint32_t>(t * (images + 1) + i));
        const auto result = RunGradient(task, *data, weights, cache);
        if (!result.ok()) Die(result.status().ToString());
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  Report(static_cast<double>(threads * images) / (Seconds() - begun), "images/s");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
