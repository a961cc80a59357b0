#include "common/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace dermis {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxHeader = 100'000'000;  // As the format's reference implementation.

// Bytes an element; 0 where the dtype is not known.
uint64_t SizeOf(std::string_view dtype) {
  if (dtype == "BOOL" || dtype == "U8" || dtype == "I8") return 1;
  if (dtype == "U16" || dtype == "I16" || dtype == "F16" || dtype == "BF16") return 2;
  if (dtype == "U32" || dtype == "I32" || dtype == "F32") return 4;
  if (dtype == "U64" || dtype == "I64" || dtype == "F64") return 8;
  return 0;
}

// False where the dtype is not known, a dimension is negative, or the size does not fit 63 bits.
bool BytesOf(std::string_view dtype, const std::vector<int64_t>& shape, uint64_t* bytes) {
  uint64_t size = SizeOf(dtype);
  if (size == 0) return false;
  for (int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(size, static_cast<uint64_t>(dimension), &size) ||
        size > INT64_MAX) {
      return false;
    }
  }
  *bytes = size;
  return true;
}

absl::Status Bad(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("not a valid safetensors file: ", why));
}

}  // namespace

std::string SafetensorsHeader(const std::map<std::string, TensorView>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) {
    Json& entries = header["__metadata__"] = Json::object();
    for (const auto& [key, value] : metadata) entries[key] = value;
  }
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    uint64_t bytes = 0;
    if (!BytesOf(tensor.dtype, tensor.shape, &bytes)) {
      std::fprintf(stderr, "safetensors: tensor %s has no valid dtype and shape\n", name.c_str());
      std::abort();  // The program's own tensors: a mistake in the code.
    }
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(uint64_t{text.size()} >> (8 * i));
  return out + text;
}

std::string SerializeSafetensors(const std::map<std::string, TensorView>& tensors,
                                 const std::map<std::string, std::string>& metadata) {
  std::string out = SafetensorsHeader(tensors, metadata);
  size_t size = out.size();
  for (const auto& [name, tensor] : tensors) size += tensor.data.size();
  out.reserve(size);
  for (const auto& [name, tensor] : tensors) {
    uint64_t bytes = 0;
    if (!BytesOf(tensor.dtype, tensor.shape, &bytes) || bytes != tensor.data.size()) {
      std::fprintf(stderr, "safetensors: tensor %s has %zu bytes, its shape says %llu\n",
                   name.c_str(), tensor.data.size(), static_cast<unsigned long long>(bytes));
      std::abort();
    }
    out.append(tensor.data);
  }
  return out;
}

absl::StatusOr<SafetensorsView> ParseSafetensors(std::string_view bytes) {
  if (bytes.size() < 8) return Bad(absl::StrCat(bytes.size(), " bytes hold no header"));
  uint64_t header_size = 0;
  for (int i = 0; i < 8; ++i) {
    header_size |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  }
  if (header_size > kMaxHeader || header_size > bytes.size() - 8) {
    return Bad(absl::StrCat("a header of ", header_size, " bytes in a file of ", bytes.size()));
  }
  const std::string_view text = bytes.substr(8, header_size);
  const std::string_view data = bytes.substr(8 + header_size);
  const nlohmann::json header =
      nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return Bad("the header is no JSON object");

  SafetensorsView view;
  struct Extent {
    uint64_t begin, end;
    std::string name;
  };
  std::vector<Extent> extents;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) return Bad("__metadata__ is no JSON object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) return Bad(absl::StrCat("metadata '", key, "' is no string"));
        view.metadata[key] = value.get<std::string>();
      }
      continue;
    }
    const auto bad = [&name = name](const std::string& why) {
      return Bad(absl::StrCat("tensor '", name, "' ", why));
    };
    if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
        !entry.contains("data_offsets")) {
      return bad("lacks dtype, shape or data_offsets");
    }
    const auto& dtype = entry["dtype"];
    const auto& shape = entry["shape"];
    const auto& offsets = entry["data_offsets"];
    if (!dtype.is_string() || !shape.is_array() || !offsets.is_array() || offsets.size() != 2 ||
        !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
      return bad("has a dtype, shape or data_offsets of the wrong type");
    }
    TensorView tensor;
    tensor.dtype = dtype.get<std::string>();
    for (const auto& dimension : shape) {
      if (!dimension.is_number_unsigned() || dimension.get<uint64_t>() > INT64_MAX) {
        return bad("has a dimension that is no natural number");
      }
      tensor.shape.push_back(dimension.get<int64_t>());
    }
    uint64_t size = 0;
    if (!BytesOf(tensor.dtype, tensor.shape, &size)) {
      return bad(absl::StrCat("has the unknown dtype '", tensor.dtype, "' or too large a shape"));
    }
    const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
    if (begin > end || end > data.size()) {
      return bad(absl::StrCat("lies at [", begin, ", ", end, ") of ", data.size(), " bytes"));
    }
    if (end - begin != size) {
      return bad(absl::StrCat("has ", end - begin, " bytes, dtype and shape say ", size));
    }
    tensor.data = data.substr(begin, end - begin);
    if (begin != end) extents.push_back({begin, end, name});
    view.tensors[name] = std::move(tensor);
  }
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < extents.size(); ++i) {
    if (extents[i].begin < extents[i - 1].end) {
      return Bad(
          absl::StrCat("tensors '", extents[i - 1].name, "' and '", extents[i].name, "' overlap"));
    }
  }
  return view;
}

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  std::string_view bytes;
  if (info.st_size > 0) {
    void* const address =
        mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) {
      const absl::Status status = absl::ErrnoToStatus(errno, absl::StrCat("cannot map ", path));
      close(fd);
      return status;
    }
    bytes = {static_cast<const char*>(address), static_cast<size_t>(info.st_size)};
  }
  close(fd);
  return std::unique_ptr<MappedFile>(new MappedFile(bytes));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

}  // namespace dermis
