#include "worker/data/image_source.h"

#include <algorithm>
#include <cmath>
#include <list>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/progress.h"
#include "common/resize.h"
#include "common/status_macros.h"
#include "worker/data/hide.h"

namespace dermis {
namespace {

// Data sets kept: the one in use and the one before it, when two studies share a worker.
constexpr size_t kKept = 2;

// A walk over images says so often what comes next.
constexpr size_t kHintEvery = 64;

uint32_t ChunkOf(const ImageData& data, uint32_t image) {
  const auto& begin = data.chunk_begin;
  return static_cast<uint32_t>(std::upper_bound(begin.begin(), begin.end(), image) -
                               begin.begin()) -
         1;
}

absl::Status In(const Digest& set, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat("image set ", set.short_hex(), ": ", status.message()));
}

// Mean and deviation by integer sums: no order of summation can change them. Counts are bounded by
// the manifest's checks, so sums of squares stay below 2^64 (255^2 * 2.8e14 values).
absl::Status FillStatistics(ImageData* data) {
  const uint64_t pixels = uint64_t{data->size} * data->size;
  std::array<uint64_t, 3> sum{};
  uint64_t squares = 0;
  const absl::Span<const uint32_t> training = data->split.training;
  if (training.empty()) return absl::OkStatus();  // Nothing is trained here: a given model has its own.
  for (size_t k = 0; k < training.size(); ++k) {
    if (k % kHintEvery == 0) {
      data->Expect(training.subspan(k));
      NoteProgress();
    }
    ASSIGN_OR_RETURN(const PinnedImage pinned, data->Pin(training[k]));
    const uint8_t* image = pinned.data();
    for (uint64_t p = 0; p < pixels; ++p) {
      for (int c = 0; c < 3; ++c) {
        const uint32_t value = image[3 * p + c];
        sum[c] += value;
        squares += value * value;
      }
    }
  }
  const uint64_t per_channel = pixels * training.size();
  const uint64_t all = 3 * per_channel, total = sum[0] + sum[1] + sum[2];
  for (int c = 0; c < 3; ++c) {
    data->channel_mean[c] = static_cast<double>(sum[c]) / static_cast<double>(per_channel);
  }
  data->mean = static_cast<double>(total) / static_cast<double>(all);
  // n sum(v^2) - sum(v)^2 exactly: the difference of two nearly equal doubles would lose digits.
  using Wide = unsigned __int128;
  const Wide variance = static_cast<Wide>(all) * squares - static_cast<Wide>(total) * total;
  data->deviation = std::sqrt(static_cast<double>(variance)) / static_cast<double>(all);
  return absl::OkStatus();
}

// What nobody sees of a set's images.
struct HiddenPart {
  v1::Hide hide;
  std::array<double, 3> training_mean{};
};

// A blob of so many bytes.
absl::StatusOr<std::string> FetchChunk(const std::string& name, uint64_t size,
                                       const ImageSources::Fetch& fetch) {
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(name));
  ASSIGN_OR_RETURN(std::string bytes, fetch(digest));
  if (bytes.size() == size) return bytes;
  return absl::InvalidArgumentError(
      absl::StrCat("chunk ", digest.hex(), " has ", bytes.size(), " bytes, not ", size));
}

// Chunk `c`, whose first image is `first`, at model size, into count x size x size x 3 bytes at `out`.
absl::Status LoadChunk(const v1::ImageSetManifest& manifest, uint32_t c, uint32_t first,
                       uint32_t size, const std::optional<HiddenPart>& hidden,
                       const ImageSources::Fetch& fetch, uint8_t* out) {
  const v1::ImageChunk& chunk = manifest.chunks(static_cast<int>(c));
  const int height = static_cast<int>(manifest.height());
  const int width = static_cast<int>(manifest.width());
  const size_t mask_bytes = size_t{manifest.height()} * manifest.width();
  const size_t input_bytes = mask_bytes * 3;
  ASSIGN_OR_RETURN(const std::string bytes,
                   FetchChunk(chunk.pixels(), chunk.count() * input_bytes, fetch));
  std::string masks;
  if (hidden && !chunk.masks().empty()) {
    ASSIGN_OR_RETURN(masks, FetchChunk(chunk.masks(), chunk.count() * mask_bytes, fetch));
  }
  const uint8_t* in = reinterpret_cast<const uint8_t*>(bytes.data());
  for (uint32_t k = 0; k < chunk.count(); ++k, in += input_bytes, out += size_t{size} * size * 3) {
    std::vector<uint8_t> rest;
    const uint8_t* seen = in;
    if (hidden && manifest.images(static_cast<int>(first + k)).has_mask()) {
      const auto* mask = reinterpret_cast<const uint8_t*>(masks.data()) + k * mask_bytes;
      ASSIGN_OR_RETURN(rest, HidePart(hidden->hide, {in, input_bytes}, {mask, mask_bytes}, height,
                                      width, hidden->training_mean));
      seen = rest.data();
    }
    AreaResizeBytes(seen, height, width, 3, out, static_cast<int>(size), static_cast<int>(size));
    if (k % kHintEvery == 0) NoteProgress();
  }
  return absl::OkStatus();
}

// `pixels` or `chunks`, whichever `memory` allows.
absl::Status OpenImages(const Digest& address, const std::optional<HiddenPart>& hidden,
                        const ImageSources::Fetch& fetch, uint64_t memory, ImageData* data) {
  const v1::ImageSetManifest& manifest = data->set->manifest();
  std::vector<uint64_t> sizes;
  uint32_t images = 0;
  for (const v1::ImageChunk& chunk : manifest.chunks()) {
    data->chunk_begin.push_back(images);
    images += chunk.count();
    sizes.push_back(chunk.count() * data->image_bytes());
  }
  const uint64_t all = images * data->image_bytes();
  if (all <= memory) {
    data->pixels.resize(all);
    // All chunks of a large set would not fit the memory as they are packed: one by one.
    for (uint32_t c = 0; c < sizes.size(); ++c) {
      const uint32_t first = data->chunk_begin[c];
      RETURN_IF_ERROR(LoadChunk(manifest, c, first, data->size, hidden, fetch,
                                data->pixels.data() + first * data->image_bytes()));
    }
    return absl::OkStatus();
  }
  const uint64_t largest = *std::max_element(sizes.begin(), sizes.end());
  if (largest > memory) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a chunk takes ", largest, " bytes at images.size ", data->size, ", this worker may hold ",
        memory, ": raise dermis-worker --image-memory, to several chunks"));
  }
  data->chunks = std::make_shared<ChunkCache>(
      sizes, memory,
      [set = data->set, address, fetch, sizes, hidden, begin = data->chunk_begin,
       size = data->size](uint32_t c) -> absl::StatusOr<std::vector<uint8_t>> {
        std::vector<uint8_t> bytes(sizes[c]);
        const absl::Status status =
            LoadChunk(set->manifest(), c, begin[c], size, hidden, fetch, bytes.data());
        if (!status.ok()) return In(address, status);
        return bytes;
      });
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const ImageData>> Load(const v1::ImageSource& source,
                                                      const ImageSources::Fetch& fetch,
                                                      uint64_t memory) {
  ASSIGN_OR_RETURN(const Digest address, Digest::FromBytes(source.image_set()));
  absl::StatusOr<std::string> blob = fetch(address);
  if (!blob.ok()) return In(address, blob.status());
  v1::ImageSetManifest manifest;
  if (!manifest.ParseFromString(*blob)) {
    return In(address, absl::InvalidArgumentError("its blob is no image set manifest"));
  }
  auto data = std::make_shared<ImageData>();
  // The set kept for display fetches again what is asked of it: a few explained images.
  absl::StatusOr<std::unique_ptr<ImageSet>> set = ImageSet::OpenBlobs(manifest, fetch);
  if (!set.ok()) return In(address, set.status());
  data->set = *std::move(set);

  if (absl::Status status = CheckModelSize(source.size(), manifest); !status.ok()) {
    return In(address, status);
  }
  absl::StatusOr<Split> split = MakeSplit(manifest, source.split(), source.split_seed());
  if (!split.ok()) return In(address, split.status());
  data->split = *std::move(split);
  data->size = source.size();
  data->classes = static_cast<uint32_t>(manifest.classes_size());
  for (const v1::ImageEntry& entry : manifest.images()) data->labels.push_back(entry.label());

  std::optional<HiddenPart> hidden;
  if (source.has_hide()) {
    hidden.emplace().hide = source.hide();
    if (source.hide().hidden() == v1::HIDDEN_VALUE_TRAINING_MEAN) {
      // Of the images as they are: they are read once more for it.
      v1::ImageSource whole = source;
      whole.clear_hide();
      ASSIGN_OR_RETURN(const auto before, Load(whole, fetch, memory));
      hidden->training_mean = before->channel_mean;
    }
  }
  absl::Status status = OpenImages(address, hidden, fetch, memory, data.get());
  if (!status.ok()) return In(address, status);
  RETURN_IF_ERROR(FillStatistics(data.get()));
  return data;
}

}  // namespace

absl::StatusOr<PinnedImage> ImageData::Pin(uint32_t i) const {
  if (base != nullptr) {
    if (i < base->labels.size()) return base->Pin(i);
    return PinnedImage(pixels.data(), ChunkCache::Pin());
  }
  if (chunks == nullptr) return PinnedImage(image(i), ChunkCache::Pin());
  const uint32_t chunk = ChunkOf(*this, i);
  ASSIGN_OR_RETURN(ChunkCache::Pin pin, chunks->Get(chunk));
  const uint8_t* data = pin.data() + (i - chunk_begin[chunk]) * image_bytes();
  return PinnedImage(data, std::move(pin));
}

void ImageData::Expect(absl::Span<const uint32_t> images) const {
  if (chunks == nullptr) return;
  std::vector<uint32_t> coming;
  std::vector<bool> seen(chunk_begin.size());
  uint64_t bytes = 0;
  for (uint32_t i : images) {
    const uint32_t chunk = ChunkOf(*this, i);
    if (seen[chunk]) continue;
    bytes += chunks->size(chunk);
    if (bytes > chunks->limit()) break;  // What comes after finds no room now.
    seen[chunk] = true;
    coming.push_back(chunk);
  }
  chunks->Expect(coming);
}

uint32_t ImageData::FittingWindow() const {
  if (chunks == nullptr) return static_cast<uint32_t>(split.training.size());
  uint64_t largest = 0;
  for (uint32_t c = 0; c < chunk_begin.size(); ++c) largest = std::max(largest, chunks->size(c));
  // Beside the window: a chunk at either end of it that is needed in part, and one that comes.
  const uint64_t room = std::max(largest, chunks->limit() - std::min(chunks->limit(), 3 * largest));
  const double images = static_cast<double>(room) / static_cast<double>(image_bytes());
  return static_cast<uint32_t>(images * static_cast<double>(split.training.size()) /
                               static_cast<double>(labels.size()));
}

struct ImageSources::Cache {
  struct Entry {
    Digest key;
    std::string image_set;
    absl::Mutex mutex;  // Held while loading: others that want the same data wait for it here.
    std::shared_ptr<const ImageData> data ABSL_GUARDED_BY(mutex);
  };

  Cache(Fetch f, uint64_t m) : fetch(std::move(f)), memory(m) {}

  const Fetch fetch;
  const uint64_t memory;
  absl::Mutex mutex;
  std::list<std::shared_ptr<Entry>> entries ABSL_GUARDED_BY(mutex);  // Last used first.
};

ImageSources::ImageSources(Fetch fetch, uint64_t memory)
    : cache_(std::make_unique<Cache>(std::move(fetch), memory)) {}
ImageSources::~ImageSources() = default;

absl::StatusOr<std::shared_ptr<const ImageData>> ImageSources::Get(const v1::ImageSource& source) {
  v1::ImageSource clean = source;  // Noise comes later (noise.h): the images are the same.
  clean.clear_noise();
  ASSIGN_OR_RETURN(const Digest key, MessageDigest(clean));
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
      entries.front()->image_set = source.image_set();
      // Who still uses the data that goes holds it by its own pointer.
      if (entries.size() > kKept) entries.pop_back();
    }
    entry = entries.front();
  }
  absl::MutexLock lock(&entry->mutex);
  if (entry->data == nullptr) {
    // A failure is not kept: the next caller tries again.
    ASSIGN_OR_RETURN(entry->data, Load(source, cache_->fetch, cache_->memory));
  }
  return entry->data;
}

void ImageSources::Forget(const Digest& image_set) {
  absl::MutexLock lock(&cache_->mutex);
  cache_->entries.remove_if(
      [&](const auto& entry) { return entry->image_set == image_set.bytes(); });
}

Normalisation NormalisationOf(const ImageData& data) {
  return NormalisationOf(data.mean, data.deviation);
}

}  // namespace dermis
