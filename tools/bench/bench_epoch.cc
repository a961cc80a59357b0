// An epoch on images that do not fit into memory, over the same epoch on images in memory: the
// ratio of their images/s. seed_cnn on synthetic images whose chunks lie on the disk; a tenth of
// them may be held.
//   dermis_bench_epoch [--images N] [--size pixels] [--threads T] [--runs N] [--folder DIR]
#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "common/blob_store.h"
#include "tools/bench/bench.h"
#include "tools/bench/training.h"
#include "worker/collective/collective.h"
#include "worker/data/image_source.h"
#include "worker/training/trainer.h"

namespace dermis::bench {
namespace {

// As many as 64 MiB are of a set of 6 GiB.
constexpr uint32_t kChunks = 100;

Digest Stored(BlobStore& store, const std::string& bytes) {
  const absl::StatusOr<Digest> digest = store.Put(bytes);
  if (!digest.ok()) Die(digest.status().ToString());
  return *digest;
}

// The manifest's address.
Digest MakeSet(BlobStore& store, uint32_t images, uint32_t size) {
  v1::ImageSetManifest manifest;
  manifest.set_format(1);
  manifest.set_height(size);
  manifest.set_width(size);
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  for (uint32_t c = 0; c < kChunks; ++c) {
    std::string chunk;
    const uint32_t first = c * images / kChunks, end = (c + 1) * images / kChunks;
    for (uint32_t i = first; i < end; ++i) {
      const std::string pixels = NoisePixels(i, size * size * 3);
      v1::ImageEntry* entry = manifest.add_images();
      entry->set_name(absl::StrFormat("%08d", i));
      entry->set_digest(Sha256Of(pixels).bytes());
      entry->set_label(i % 2);
      chunk += pixels;
    }
    manifest.add_chunks()->set_count(end - first);
    manifest.mutable_chunks()->rbegin()->set_pixels(Stored(store, chunk).bytes());
  }
  return Stored(store, manifest.SerializeAsString());
}

std::shared_ptr<const ImageData> Open(BlobStore& store, const v1::ImageSource& source,
                                      uint64_t memory) {
  ImageSources sources([&store](const Digest& d) { return store.Get(d); }, memory);
  auto data = sources.Get(source);
  if (!data.ok()) Die(data.status().ToString());
  return *std::move(data);
}

// Seconds of an epoch with its validation; and the state's digest.
std::pair<double, std::string> Epoch(const v1::Recipe& recipe,
                                     const std::shared_ptr<const ImageData>& data,
                                     uint32_t threads) {
  v1::TrainGoal goal;
  goal.set_max_epochs(1);
  const auto collective = MakeLocalCollective(recipe.logical_shards());
  TrainerOptions options;
  options.threads = threads;
  options.segment = absl::InfiniteDuration();
  const std::atomic<bool> yield{false};
  std::atomic<uint64_t> progress{0};
  std::string state;
  const double start = Seconds();
  const auto step = dermis::Train(
      recipe, goal, data, *collective, "", options,
      [&](TrainedState trained) {
        state = trained.output.state();
        return absl::OkStatus();
      },
      yield, progress);
  if (!step.ok()) Die(step.status().ToString());
  return {Seconds() - start, state};
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const uint32_t images = static_cast<uint32_t>(arguments.Number("--images", 2000));
  const uint32_t size = static_cast<uint32_t>(arguments.Number("--size", 64));
  const uint32_t threads = static_cast<uint32_t>(arguments.Number("--threads", 2));
  const std::string parent =
      arguments.Text("--folder", std::filesystem::temp_directory_path().string());
  std::string folder = parent + "/epoch-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) Die("no folder can be made in " + parent);
  std::vector<double> ratios;
  bool same = true;
  ChunkCache::Counts counts;
  uint64_t limit = 0;
  uint32_t window = 0;
  {
    auto store = BlobStore::Open(folder, {.durable = false});
    if (!store.ok()) Die(store.status().ToString());
    v1::Recipe recipe;
    v1::ImageSource& source = *recipe.mutable_images();
    source.set_image_set(MakeSet(**store, images, size).bytes());
    source.set_size(size);
    source.mutable_split()->set_test(.2);
    source.mutable_split()->set_validation(.1);
    source.set_split_seed(1);
    limit = uint64_t{images} * size * size * 3 / 10;
    const auto resident = Open(**store, source, UINT64_MAX);
    const auto windowed = Open(**store, source, limit);
    window = windowed->FittingWindow();
    recipe.set_model(v1::MODEL_KIND_SEED_CNN);
    recipe.set_logical_shards(threads);
    recipe.set_batch_size(64);
    recipe.mutable_optimizer()->mutable_rmsprop()->set_learning_rate(1e-3);
    recipe.mutable_optimizer()->mutable_rmsprop()->set_alpha(0.9);
    recipe.set_augment(true);
    recipe.set_dropout(true);
    recipe.set_precision(v1::PRECISION_FP32);
    recipe.set_seed(1);
    recipe.set_shuffle_window(window);
    // In turn, so that what disturbs the machine disturbs both.
    for (long run = 0; run < arguments.Number("--runs", 3); ++run) {
      const auto [in_memory, expected] = Epoch(recipe, resident, threads);
      const auto [by_chunks, state] = Epoch(recipe, windowed, threads);
      same = same && state == expected;
      ratios.push_back(in_memory / by_chunks);
    }
    counts = windowed->chunks->counts();
  }
  std::filesystem::remove_all(folder);
  if (!same) Die("an epoch by chunks gave other bits than one in memory");
  std::fprintf(stderr, "window %u, limit %lu, peak %lu bytes, %lu loads, %lu waits\n", window,
               limit, counts.peak, counts.loads, counts.waits);
  Report(Median(ratios), "of resident");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
