#include "common/image_set.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "common/safetensors.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/util/json_util.h"

namespace dermis {
namespace {

constexpr uint32_t kFormat = 1;
// Bounds of what comes from outside, far above what anyone has.
constexpr uint32_t kMaxSide = 8192;
constexpr int kMaxImages = 20'000'000;
constexpr int kMaxClasses = 10'000;
constexpr size_t kMaxName = 1024;

absl::Status Bad(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("image set: ", why));
}

bool IsText(std::string_view text, size_t most) {
  return text.size() <= most && IsUtf8(text) && text.find('\0') == std::string_view::npos;
}

uint64_t PixelBytes(const v1::ImageSetManifest& m) { return uint64_t{m.height()} * m.width() * 3; }
uint64_t MaskBytes(const v1::ImageSetManifest& m) { return uint64_t{m.height()} * m.width(); }
uint64_t LabelBytes(const v1::ImageSetManifest& m) { return uint64_t{m.height()} * m.width() * 2; }

std::string DeterministicBytes(const v1::ImageSetManifest& manifest) {
  std::string out;
  {
    google::protobuf::io::StringOutputStream stream(&out);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    manifest.SerializeToCodedStream(&coded);
  }
  return out;
}

std::string PixelsName(int chunk) { return absl::StrFormat("pixels.%05d", chunk); }
std::string MasksName(int chunk) { return absl::StrFormat("masks.%05d", chunk); }
std::string LabelsName(int chunk) { return absl::StrFormat("labels.%05d", chunk); }

// The tensors of the file, without data.
std::map<std::string, TensorView> TensorsOf(const v1::ImageSetManifest& manifest) {
  std::map<std::string, TensorView> tensors;
  const int64_t h = manifest.height(), w = manifest.width();
  for (int c = 0; c < manifest.chunks_size(); ++c) {
    const int64_t n = manifest.chunks(c).count();
    tensors[PixelsName(c)] = {"U8", {n, h, w, 3}, {}};
    if (!manifest.chunks(c).masks().empty()) tensors[MasksName(c)] = {"U8", {n, h, w}, {}};
    if (!manifest.chunks(c).labels().empty()) tensors[LabelsName(c)] = {"U16", {n, h, w}, {}};
  }
  return tensors;
}

// Both kinds of sets: where image i lies, and which chunk it is in.
class ChunkedSet : public ImageSet {
 public:
  absl::StatusOr<std::string_view> Pixels(uint32_t i) const override {
    if (i >= first_of_image_.size()) return NoImage(i);
    const uint32_t chunk = chunk_of_image_[i];
    ASSIGN_OR_RETURN(const std::string_view bytes, PixelChunk(chunk));
    return bytes.substr(first_of_image_[i] * PixelBytes(manifest_), PixelBytes(manifest_));
  }

  absl::StatusOr<std::string_view> Mask(uint32_t i) const override {
    if (i >= first_of_image_.size()) return NoImage(i);
    if (!manifest_.images(static_cast<int>(i)).has_mask()) {
      return absl::NotFoundError(
          absl::StrCat("image ", manifest_.images(static_cast<int>(i)).name(), " has no mask"));
    }
    ASSIGN_OR_RETURN(const std::string_view bytes, MaskChunk(chunk_of_image_[i]));
    return bytes.substr(first_of_image_[i] * MaskBytes(manifest_), MaskBytes(manifest_));
  }

  absl::StatusOr<std::string_view> Labels(uint32_t i) const override {
    if (i >= first_of_image_.size()) return NoImage(i);
    if (!manifest_.images(static_cast<int>(i)).has_labels()) {
      return absl::NotFoundError(
          absl::StrCat("image ", manifest_.images(static_cast<int>(i)).name(), " has no label map"));
    }
    ASSIGN_OR_RETURN(const std::string_view bytes, LabelChunk(chunk_of_image_[i]));
    return bytes.substr(first_of_image_[i] * LabelBytes(manifest_), LabelBytes(manifest_));
  }

  absl::StatusOr<std::string_view> ChunkBytes(const Digest& digest) const override {
    const auto at = chunk_of_digest_.find(digest);
    if (at == chunk_of_digest_.end()) {
      return absl::NotFoundError(
          absl::StrCat("image set ", manifest_.name(), " has no chunk ", digest.hex()));
    }
    const auto [chunk, kind] = at->second;
    return kind == Kind::kPixels ? PixelChunk(chunk)
           : kind == Kind::kMasks ? MaskChunk(chunk)
                                  : LabelChunk(chunk);
  }

 protected:
  absl::Status Start(v1::ImageSetManifest manifest) {
    RETURN_IF_ERROR(ValidateManifest(manifest));
    manifest_ = std::move(manifest);
    manifest_blob_ = DeterministicBytes(manifest_);
    for (int c = 0; c < manifest_.chunks_size(); ++c) {
      const v1::ImageChunk& chunk = manifest_.chunks(c);
      for (uint32_t k = 0; k < chunk.count(); ++k) {
        first_of_image_.push_back(k);
        chunk_of_image_.push_back(static_cast<uint32_t>(c));
      }
      for (const auto& [bytes, kind] : {std::pair(&chunk.pixels(), Kind::kPixels),
                                        std::pair(&chunk.masks(), Kind::kMasks),
                                        std::pair(&chunk.labels(), Kind::kLabels)}) {
        if (bytes->empty()) continue;
        chunk_of_digest_.emplace(*Digest::FromBytes(*bytes),
                                 std::pair<uint32_t, Kind>(static_cast<uint32_t>(c), kind));
      }
    }
    return absl::OkStatus();
  }

  virtual absl::StatusOr<std::string_view> PixelChunk(uint32_t chunk) const = 0;
  virtual absl::StatusOr<std::string_view> MaskChunk(uint32_t chunk) const = 0;
  virtual absl::StatusOr<std::string_view> LabelChunk(uint32_t chunk) const = 0;

 private:
  enum class Kind { kPixels, kMasks, kLabels };

  absl::Status NoImage(uint32_t i) const {
    return absl::OutOfRangeError(absl::StrCat("image set ", manifest_.name(), " has ",
                                              first_of_image_.size(), " images, there is no image ",
                                              i));
  }

  std::vector<uint32_t> chunk_of_image_;
  std::vector<uint32_t> first_of_image_;                         // Index within its chunk.
  std::map<Digest, std::pair<uint32_t, Kind>> chunk_of_digest_;
};

class FileSet : public ChunkedSet {
 public:
  absl::Status Open(const std::string& path) {
    ASSIGN_OR_RETURN(file_, MappedFile::Open(path));
    const auto bad = [&](absl::string_view why) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is not an image set (made by dermis ingest): ", why));
    };
    auto view = ParseSafetensors(file_->bytes());
    if (!view.ok()) return bad(view.status().message());
    view_ = *std::move(view);
    const auto json = view_.metadata.find("manifest");
    if (json == view_.metadata.end()) {
      return bad("its metadata holds no manifest: it is another kind of safetensors file");
    }
    v1::ImageSetManifest manifest;
    google::protobuf::util::JsonParseOptions options;
    if (const auto status =
            google::protobuf::util::JsonStringToMessage(json->second, &manifest, options);
        !status.ok()) {
      return Bad(absl::StrCat("its manifest is not valid: ", status.ToString()));
    }
    RETURN_IF_ERROR(Start(std::move(manifest)));
    for (const auto& [name, expected] : TensorsOf(manifest_)) {
      const auto tensor = view_.tensors.find(name);
      if (tensor == view_.tensors.end() || tensor->second.dtype != expected.dtype ||
          tensor->second.shape != expected.shape) {
        return Bad(absl::StrCat("tensor ", name, " is absent or not as the manifest says"));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::string_view> PixelChunk(uint32_t chunk) const override {
    return view_.tensors.at(PixelsName(static_cast<int>(chunk))).data;
  }
  absl::StatusOr<std::string_view> MaskChunk(uint32_t chunk) const override {
    return view_.tensors.at(MasksName(static_cast<int>(chunk))).data;
  }
  absl::StatusOr<std::string_view> LabelChunk(uint32_t chunk) const override {
    return view_.tensors.at(LabelsName(static_cast<int>(chunk))).data;
  }

  std::unique_ptr<MappedFile> file_;
  SafetensorsView view_;
};

class BlobSet : public ChunkedSet {
 public:
  absl::Status Open(v1::ImageSetManifest manifest, Fetch fetch) {
    fetch_ = std::move(fetch);
    return Start(std::move(manifest));
  }

 private:
  absl::StatusOr<std::string_view> PixelChunk(uint32_t c) const override {
    const v1::ImageChunk& chunk = manifest_.chunks(static_cast<int>(c));
    return Fetched(chunk.pixels(), chunk.count() * PixelBytes(manifest_));
  }
  absl::StatusOr<std::string_view> MaskChunk(uint32_t c) const override {
    const v1::ImageChunk& chunk = manifest_.chunks(static_cast<int>(c));
    return Fetched(chunk.masks(), chunk.count() * MaskBytes(manifest_));
  }
  absl::StatusOr<std::string_view> LabelChunk(uint32_t c) const override {
    const v1::ImageChunk& chunk = manifest_.chunks(static_cast<int>(c));
    return Fetched(chunk.labels(), chunk.count() * LabelBytes(manifest_));
  }

  absl::StatusOr<std::string_view> Fetched(const std::string& digest_bytes, uint64_t size) const {
    ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(digest_bytes));
    absl::MutexLock lock(&mutex_);
    const auto at = chunks_.find(digest);
    if (at != chunks_.end()) return std::string_view(at->second);
    ASSIGN_OR_RETURN(std::string bytes, fetch_(digest));
    if (bytes.size() != size) {
      return Bad(absl::StrCat("chunk ", digest.hex(), " has ", bytes.size(),
                              " bytes, its manifest says ", size));
    }
    // Nodes of a map stay where they are, so views stay valid.
    return std::string_view(chunks_.emplace(digest, std::move(bytes)).first->second);
  }

  Fetch fetch_;
  mutable absl::Mutex mutex_;
  mutable std::map<Digest, std::string> chunks_ ABSL_GUARDED_BY(mutex_);
};

// A temporary file beside `path` that takes its place at the end.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path)
      : path_(std::move(path)), temporary_(absl::StrCat(path_, ".", getpid(), ".tmp")) {}
  ~AtomicFile() {
    if (fd_ >= 0) {
      close(fd_);
      unlink(temporary_.c_str());
    }
  }

  absl::Status Open() {
    fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return fd_ < 0 ? Failed("make") : absl::OkStatus();
  }
  absl::Status Write(std::string_view data) {
    while (!data.empty()) {
      const ssize_t n = write(fd_, data.data(), data.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed("write");
      data.remove_prefix(static_cast<size_t>(n));
    }
    return absl::OkStatus();
  }
  absl::Status Finish() {
    if (fsync(fd_) != 0) return Failed("write");
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return Failed("rename");
    close(fd_);
    fd_ = -1;
    return absl::OkStatus();
  }

 private:
  absl::Status Failed(const char* what) const {
    return absl::ErrnoToStatus(errno, absl::StrCat("image set: cannot ", what, " ", temporary_));
  }
  const std::string path_, temporary_;
  int fd_ = -1;
};

}  // namespace

std::vector<std::string> BlobsOf(const v1::ImageChunk& chunk) {
  std::vector<std::string> blobs = {chunk.pixels()};
  if (!chunk.masks().empty()) blobs.push_back(chunk.masks());
  if (!chunk.labels().empty()) blobs.push_back(chunk.labels());
  return blobs;
}

absl::Status CheckModelSize(uint32_t size, const v1::ImageSetManifest& manifest) {
  if (size > 0 && size <= manifest.height() && size <= manifest.width()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "images.size is ", size, ", the images of the set are ", manifest.height(), " x ", manifest.width(),
      " pixels: choose a size up to the smaller of them, or make the set with larger images (--size)"));
}

absl::Status ValidateManifest(const v1::ImageSetManifest& m) {
  if (m.format() != kFormat) {
    return Bad(absl::StrCat("its format is ", m.format(), ", this version of Dermis reads format ",
                            kFormat, ": make it again with dermis-ingest or update Dermis"));
  }
  if (m.height() == 0 || m.width() == 0 || m.height() > kMaxSide || m.width() > kMaxSide) {
    return Bad(absl::StrCat("images of ", m.height(), " x ", m.width(), " pixels; 1 to ", kMaxSide,
                            " a side are allowed"));
  }
  if (!IsText(m.name(), kMaxName) || !IsText(m.preprocessing(), kMaxName)) {
    return Bad("its name or preprocessing is not UTF-8 text of at most 1024 bytes");
  }
  if (m.classes_size() < 2 || m.classes_size() > kMaxClasses) {
    return Bad(
        absl::StrCat("it has ", m.classes_size(), " classes; 2 to ", kMaxClasses, " are allowed"));
  }
  for (int c = 0; c < m.classes_size(); ++c) {
    if (m.classes(c).empty() || !IsText(m.classes(c), kMaxName) ||
        std::count(m.classes().begin(), m.classes().end(), m.classes(c)) != 1) {
      return Bad(absl::StrCat("the name of class ", c, " is empty, not UTF-8 text, or not unique"));
    }
  }
  if (m.images_size() == 0 || m.images_size() > kMaxImages) {
    return Bad(
        absl::StrCat("it has ", m.images_size(), " images; 1 to ", kMaxImages, " are allowed"));
  }
  if (m.left_out_size() > kMaxClasses ||
      std::any_of(m.left_out().begin(), m.left_out().end(),
                  [](const v1::LeftOutFiles& files) { return !IsText(files.reason(), kMaxName); })) {
    return Bad("what was left out of it has too many reasons, or one that is not UTF-8 text of at most 1024 bytes");
  }
  uint64_t count = 0;
  std::vector<bool> masked_image, labelled_image;
  for (int c = 0; c < m.chunks_size(); ++c) {
    const v1::ImageChunk& chunk = m.chunks(c);
    if (chunk.count() == 0 || chunk.count() > static_cast<uint32_t>(kMaxImages)) {
      return Bad(absl::StrCat("chunk ", c, " has ", chunk.count(), " images"));
    }
    if (chunk.count() > 1 && chunk.count() * PixelBytes(m) > kChunkBytes) {
      return Bad(absl::StrCat("chunk ", c, " is larger than ", kChunkBytes >> 20, " MiB"));
    }
    const std::vector<std::string> blobs = BlobsOf(chunk);
    if (std::any_of(blobs.begin(), blobs.end(),
                    [](const std::string& blob) { return blob.size() != Digest::kSize; })) {
      return Bad(absl::StrCat("chunk ", c, " has a digest that is not 32 bytes long"));
    }
    count += chunk.count();
    if (count > static_cast<uint64_t>(m.images_size())) break;
    masked_image.insert(masked_image.end(), chunk.count(), !chunk.masks().empty());
    labelled_image.insert(labelled_image.end(), chunk.count(), !chunk.labels().empty());
  }
  if (count != static_cast<uint64_t>(m.images_size())) {
    return Bad(absl::StrCat("its chunks do not hold its ", m.images_size(), " images"));
  }
  for (int i = 0; i < m.images_size(); ++i) {
    const v1::ImageEntry& entry = m.images(i);
    if (entry.name().empty() || !IsText(entry.name(), kMaxName)) {
      return Bad(absl::StrCat("the name of image ", i,
                              " is empty, longer than 1024 bytes, or not UTF-8 text"));
    }
    const auto bad = [&entry](const std::string& why) {
      return Bad(absl::StrCat("image ", entry.name(), " ", why));
    };
    if (i > 0 && m.images(i - 1).name() >= entry.name()) {
      return bad(m.images(i - 1).name() == entry.name() ? "is there twice"
                                                        : "is not in ascending order of name");
    }
    if (entry.digest().size() != Digest::kSize ||
        (!entry.source().empty() && entry.source().size() != Digest::kSize)) {
      return bad("has a digest that is not 32 bytes long");
    }
    if (m.unlabelled() && entry.label() != 0) return bad("has a label, though the set has none");
    if (entry.label() >= static_cast<uint32_t>(m.classes_size())) {
      return bad(absl::StrCat("has label ", entry.label(), " of ", m.classes_size(), " classes"));
    }
    if (entry.has_mask() && !masked_image[i]) return bad("has a mask, but its chunk has none");
    if (entry.has_labels() && !labelled_image[i]) return bad("has a label map, but its chunk has none");
    if (!IsText(entry.mask_origin(), kMaxName)) return bad("has a mask_origin that is not UTF-8 text");
    if (!IsText(entry.group(), kMaxName)) return bad("has a group that is not UTF-8 text");
    for (int a = 0; a < entry.attributes_size(); ++a) {
      if (!IsText(entry.attributes(a).key(), kMaxName) ||
          !IsText(entry.attributes(a).value(), 64 * kMaxName)) {
        return bad("has an attribute that is not UTF-8 text or too long");
      }
      if (a > 0 && entry.attributes(a - 1).key() >= entry.attributes(a).key()) {
        return bad(absl::StrCat("has attributes that are not sorted by key, at '",
                                entry.attributes(a).key(), "'"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status WriteImageSet(const std::string& path, v1::ImageSetManifest header,
                           std::vector<PackedImage> images) {
  header.set_format(kFormat);
  header.clear_chunks();
  header.clear_images();
  std::sort(images.begin(), images.end(), [](const PackedImage& a, const PackedImage& b) {
    return a.entry.name() < b.entry.name();
  });
  const uint64_t pixel_bytes = PixelBytes(header), mask_bytes = MaskBytes(header);
  const uint64_t label_bytes = LabelBytes(header);
  if (pixel_bytes == 0) return Bad("its height or width is 0");
  for (PackedImage& image : images) {
    if (image.pixels.size() != pixel_bytes ||
        (!image.mask.empty() && image.mask.size() != mask_bytes) ||
        (!image.labels.empty() && image.labels.size() != label_bytes)) {
      return Bad(absl::StrCat("image ", image.entry.name(), " has ", image.pixels.size(),
                              " bytes of pixels, ", image.mask.size(), " of mask and ",
                              image.labels.size(), " of labels; ", header.height(), " x ",
                              header.width(), " images have ", pixel_bytes, ", ", mask_bytes,
                              " and ", label_bytes));
    }
    for (char value : image.mask) {
      if (static_cast<uint8_t>(value) > kMaxRegion) {
        return Bad(absl::StrCat("image ", image.entry.name(), " has a mask with another value than 0, 1 and 2"));
      }
    }
    std::sort(image.entry.mutable_attributes()->begin(), image.entry.mutable_attributes()->end(),
              [](const v1::Attribute& a, const v1::Attribute& b) { return a.key() < b.key(); });
    image.entry.set_digest(Sha256Of(image.pixels).bytes());
    image.entry.set_has_mask(!image.mask.empty());
    image.entry.set_has_labels(!image.labels.empty());
    *header.add_images() = image.entry;
  }
  const size_t per_chunk = std::max<uint64_t>(1, kChunkBytes / pixel_bytes);
  const std::string no_mask(mask_bytes, '\0'), no_labels(label_bytes, '\0');
  for (size_t first = 0; first < images.size(); first += per_chunk) {
    const size_t end = std::min(images.size(), first + per_chunk);
    Sha256 pixels, masks, labels;
    bool any_mask = false, any_labels = false;
    for (size_t i = first; i < end; ++i) {
      const std::string& mask = images[i].mask.empty() ? no_mask : images[i].mask;
      any_mask = any_mask || !images[i].mask.empty();
      pixels.Update(images[i].pixels.data(), images[i].pixels.size());
      masks.Update(mask.data(), mask.size());
      const std::string& map = images[i].labels.empty() ? no_labels : images[i].labels;
      any_labels = any_labels || !images[i].labels.empty();
      labels.Update(map.data(), map.size());
    }
    v1::ImageChunk* chunk = header.add_chunks();
    chunk->set_count(static_cast<uint32_t>(end - first));
    chunk->set_pixels(pixels.Finish().bytes());
    if (any_mask) chunk->set_masks(masks.Finish().bytes());
    if (any_labels) chunk->set_labels(labels.Finish().bytes());
  }
  RETURN_IF_ERROR(ValidateManifest(header));

  std::string json;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields =
      true;  // "label": 0 is there for readers in other languages.
  if (const auto status = google::protobuf::util::MessageToJsonString(header, &json, options);
      !status.ok()) {
    return Bad(absl::StrCat("its manifest cannot be written: ", status.ToString()));
  }

  AtomicFile file(path);
  RETURN_IF_ERROR(file.Open());
  RETURN_IF_ERROR(file.Write(SafetensorsHeader(TensorsOf(header), {{"manifest", json}})));
  // Ascending by name, as the header says: all label maps, all masks, then all pixels.
  size_t first = 0;
  for (const v1::ImageChunk& chunk : header.chunks()) {
    for (size_t i = first; i < first + chunk.count() && !chunk.labels().empty(); ++i) {
      RETURN_IF_ERROR(file.Write(images[i].labels.empty() ? no_labels : images[i].labels));
    }
    first += chunk.count();
  }
  first = 0;
  for (const v1::ImageChunk& chunk : header.chunks()) {
    for (size_t i = first; i < first + chunk.count() && !chunk.masks().empty(); ++i) {
      RETURN_IF_ERROR(file.Write(images[i].mask.empty() ? no_mask : images[i].mask));
    }
    first += chunk.count();
  }
  for (const PackedImage& image : images) RETURN_IF_ERROR(file.Write(image.pixels));
  return file.Finish();
}

absl::StatusOr<std::string_view> ImageSet::Labels(uint32_t i) const {
  return absl::NotFoundError(absl::StrCat("image ", i, " has no label map"));
}

absl::StatusOr<std::unique_ptr<ImageSet>> ImageSet::OpenFile(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    std::string folder = path;
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    return absl::InvalidArgumentError(absl::StrCat(folder, " is a folder; pack it first: `dermis ingest ",
                                                   folder, " -o ", folder, ".images`"));
  }
  auto set = std::make_unique<FileSet>();
  RETURN_IF_ERROR(set->Open(path));
  return std::unique_ptr<ImageSet>(std::move(set));
}

absl::StatusOr<std::unique_ptr<ImageSet>> ImageSet::OpenBlobs(v1::ImageSetManifest manifest,
                                                              Fetch fetch) {
  auto set = std::make_unique<BlobSet>();
  RETURN_IF_ERROR(set->Open(std::move(manifest), std::move(fetch)));
  return std::unique_ptr<ImageSet>(std::move(set));
}

}  // namespace dermis
