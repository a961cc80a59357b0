#include "worker/data/image_source.h"

#include <algorithm>
#include <cmath>
#include <list>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/resize.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

// Data sets kept: the one in use and the one before it, when two studies share a worker.
constexpr size_t kKept = 2;

absl::Status In(const Digest& set, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat("image set ", set.short_hex(), ": ", status.message()));
}

// Mean and deviation by integer sums: no order of summation can change them. Counts are bounded by
// the manifest's checks, so sums of squares stay below 2^64 (255^2 * 2.8e14 values).
void FillStatistics(ImageData* data) {
  const uint64_t pixels = uint64_t{data->size} * data->size;
  std::array<uint64_t, 3> sum{};
  uint64_t squares = 0;
  for (uint32_t i : data->split.training) {
    const uint8_t* image = data->image(i);
    for (uint64_t p = 0; p < pixels; ++p) {
      for (int c = 0; c < 3; ++c) {
        const uint32_t value = image[3 * p + c];
        sum[c] += value;
        squares += value * value;
      }
    }
  }
  const uint64_t per_channel = pixels * data->split.training.size();
  const uint64_t all = 3 * per_channel, total = sum[0] + sum[1] + sum[2];
  for (int c = 0; c < 3; ++c) {
    data->channel_mean[c] = static_cast<double>(sum[c]) / static_cast<double>(per_channel);
  }
  data->mean = static_cast<double>(total) / static_cast<double>(all);
  // n sum(v^2) - sum(v)^2 exactly: the difference of two nearly equal doubles would lose digits.
  using Wide = unsigned __int128;
  const Wide variance = static_cast<Wide>(all) * squares - static_cast<Wide>(total) * total;
  data->deviation = std::sqrt(static_cast<double>(variance)) / static_cast<double>(all);
}

absl::StatusOr<std::shared_ptr<const ImageData>> Load(const v1::ImageSource& source,
                                                      const ImageSources::Fetch& fetch) {
  ASSIGN_OR_RETURN(const Digest address, Digest::FromBytes(source.image_set()));
  absl::StatusOr<std::string> blob = fetch(address);
  if (!blob.ok()) return In(address, blob.status());
  v1::ImageSetManifest manifest;
  if (!manifest.ParseFromString(*blob)) {
    return In(address, absl::InvalidArgumentError("its blob is no image set manifest"));
  }
  auto data = std::make_shared<ImageData>();
  // The set kept for display fetches again what is asked of it: a few explained images. All chunks
  // of a large set would not fit the memory, so they pass through here one by one.
  absl::StatusOr<std::unique_ptr<ImageSet>> set = ImageSet::OpenBlobs(manifest, fetch);
  if (!set.ok()) return In(address, set.status());
  data->set = *std::move(set);

  const uint32_t height = manifest.height(), width = manifest.width(), size = source.size();
  if (absl::Status status = CheckModelSize(size, manifest); !status.ok()) return In(address, status);
  absl::StatusOr<Split> split = MakeSplit(manifest, source.split(), source.split_seed());
  if (!split.ok()) return In(address, split.status());
  data->split = *std::move(split);
  data->size = size;
  data->classes = static_cast<uint32_t>(manifest.classes_size());
  for (const v1::ImageEntry& entry : manifest.images()) data->labels.push_back(entry.label());

  const size_t input_bytes = size_t{height} * width * 3, output_bytes = size_t{size} * size * 3;
  data->pixels.resize(static_cast<size_t>(manifest.images_size()) * output_bytes);
  uint8_t* out = data->pixels.data();
  for (const v1::ImageChunk& chunk : manifest.chunks()) {
    ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(chunk.pixels()));
    absl::StatusOr<std::string> bytes = fetch(digest);
    if (!bytes.ok()) return In(address, bytes.status());
    if (bytes->size() != chunk.count() * input_bytes) {
      return In(address, absl::InvalidArgumentError(absl::StrCat("chunk ", digest.hex(), " has ",
                                                                 bytes->size(), " bytes, not ",
                                                                 chunk.count() * input_bytes)));
    }
    const uint8_t* in = reinterpret_cast<const uint8_t*>(bytes->data());
    for (uint32_t k = 0; k < chunk.count(); ++k, in += input_bytes, out += output_bytes) {
      AreaResizeBytes(in, static_cast<int>(height), static_cast<int>(width), 3, out,
                      static_cast<int>(size), static_cast<int>(size));
    }
  }
  FillStatistics(data.get());
  return data;
}

}  // namespace

struct ImageSources::Cache {
  struct Entry {
    Digest key;
    absl::Mutex mutex;  // Held while loading: others that want the same data wait for it here.
    std::shared_ptr<const ImageData> data ABSL_GUARDED_BY(mutex);
  };

  explicit Cache(Fetch f) : fetch(std::move(f)) {}

  const Fetch fetch;
  absl::Mutex mutex;
  std::list<std::shared_ptr<Entry>> entries ABSL_GUARDED_BY(mutex);  // Last used first.
};

ImageSources::ImageSources(Fetch fetch) : cache_(std::make_unique<Cache>(std::move(fetch))) {}
ImageSources::~ImageSources() = default;

absl::StatusOr<std::shared_ptr<const ImageData>> ImageSources::Get(const v1::ImageSource& source) {
  ASSIGN_OR_RETURN(const Digest key, MessageDigest(source));
  std::shared_ptr<Cache::Entry> entry;
  {
    absl::MutexLock lock(&cache_->mutex);
    auto& entries = cache_->entries;
    const auto at = std::find_if(entries.begin(), entries.end(),
                                 [&key](const auto& e) { return e->key == key; });
    if (at != entries.end()) {
      entries.splice(entries.begin(), entries, at);
    } else {
      entries.push_front(std::make_shared<Cache::Entry>());
      entries.front()->key = key;
      // Who still uses the data that goes holds it by its own pointer.
      if (entries.size() > kKept) entries.pop_back();
    }
    entry = entries.front();
  }
  absl::MutexLock lock(&entry->mutex);
  if (entry->data == nullptr) {
    // A failure is not kept: the next caller tries again.
    ASSIGN_OR_RETURN(entry->data, Load(source, cache_->fetch));
  }
  return entry->data;
}

Normalisation NormalisationOf(const ImageData& data) {
  return {static_cast<float>(data.mean), static_cast<float>(1.0 / (data.deviation + 1e-7))};
}

}  // namespace dermis
