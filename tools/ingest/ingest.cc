#include "tools/ingest/ingest.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/files.h"
#include "common/image_set.h"
#include "common/status_macros.h"
#include "tools/ingest/csv.h"
#include "tools/ingest/decode.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

constexpr size_t kListed = 20;   // Files named in an error.
constexpr uint64_t kMostLabels = 256 << 20;  // Bytes: a line for each of a million images.
// Bytes of a picture, mask or label map: more than any that is decoded has.
constexpr uint64_t kMostPicture = 512 << 20;

// A file to take: what the labels say of it.
struct Listed {
  std::string name;                                // Beneath the folder, '/' between parts.
  std::string label, group;
  std::vector<std::pair<std::string, std::string>> attributes;
};

bool HasExtension(const fs::path& path, std::initializer_list<std::string_view> extensions) {
  const std::string end = absl::AsciiStrToLower(path.extension().string());
  return std::find(extensions.begin(), extensions.end(), end) != extensions.end();
}

bool CanBeRead(const fs::path& path) { return HasExtension(path, {".jpg", ".jpeg", ".png"}); }
// A picture, readable here or not.
bool IsPicture(const fs::path& path) {
  return CanBeRead(path) ||
         HasExtension(path, {".bmp", ".dcm", ".gif", ".heic", ".jp2", ".tif", ".tiff", ".webp"});
}

// All regular files beneath the folder but those in `others`, by name relative to it.
std::vector<std::string> FilesBeneath(const fs::path& folder, const std::vector<fs::path>& others) {
  std::vector<std::string> names;
  for (auto it = fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied);
       it != fs::recursive_directory_iterator(); ++it) {
    if (it->is_directory() && std::any_of(others.begin(), others.end(), [&](const fs::path& other) {
          std::error_code none;
          return fs::equivalent(it->path(), other, none);
        })) {
      it.disable_recursion_pending();
    }
    if (it->is_regular_file()) names.push_back(it->path().lexically_relative(folder).generic_string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Names stay beneath the folder: a CSV is input from outside.
bool StaysBeneath(const fs::path& name) {
  return name.is_relative() &&
         std::none_of(name.begin(), name.end(), [](const fs::path& part) { return part == ".."; });
}

absl::StatusOr<size_t> FindColumn(const CsvTable& table, const std::string& chosen,
                                  std::initializer_list<const char*> usual, const char* what,
                                  const char* option) {
  if (!chosen.empty()) {
    if (auto column = table.Column(chosen)) return *column;
  } else {
    for (const char* name : usual) {
      if (auto column = table.Column(name)) return *column;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no column with the ", what,
                   chosen.empty() ? absl::StrCat(" (", absl::StrJoin(usual, ", "), ")")
                                  : absl::StrCat(" '", chosen, "'"),
                   "; the columns are ", absl::StrJoin(table.header, ", "), ". Name it with ", option));
}

absl::StatusOr<std::vector<Listed>> ListFromCsv(const IngestOptions& options) {
  fs::path path = options.labels;
  if (!fs::exists(path)) path = fs::path(options.folder) / options.labels;
  if (!fs::exists(path)) {
    return absl::NotFoundError(
        path.string() == options.labels
            ? absl::StrCat(options.labels, " is not there (--labels)")
            : absl::StrCat("neither ", options.labels, " nor ", path.string(), " is there (--labels)"));
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostLabels));
  auto parsed = ParseCsv(text);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": ", parsed.status().message()));
  }
  const CsvTable& table = *parsed;
  ASSIGN_OR_RETURN(const size_t file, FindColumn(table, options.file_column,
                                                 {"file", "path", "image", "filename"}, "files",
                                                 "--file-column"));
  ASSIGN_OR_RETURN(const size_t label, FindColumn(table, options.label_column,
                                                  {"label", "class", "target"}, "labels",
                                                  "--label-column"));
  auto group = FindColumn(table, options.group_column,
                          {"lesion_id", "group", "group_id", "patient_id"}, "groups",
                          "--group-column");
  if (!group.ok() && !options.group_column.empty()) return group.status();

  std::vector<Listed> listed;
  for (size_t r = 0; r < table.rows.size(); ++r) {
    const auto& row = table.rows[r];
    Listed item{row[file], row[label], group.ok() ? row[*group] : "", {}};
    if (item.name.empty() || item.label.empty() || !StaysBeneath(item.name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path.string(), ": line ", table.lines[r],
                       ": the file and its label must be given, the file beneath the folder"));
    }
    for (size_t c = 0; c < row.size(); ++c) {
      if (c != file && c != label && !row[c].empty()) {
        item.attributes.emplace_back(table.header[c], row[c]);
      }
    }
    std::sort(item.attributes.begin(), item.attributes.end());
    listed.push_back(std::move(item));
  }
  return listed;
}

// A folder per class. What lies elsewhere, or deeper, is no part of the set (and is told).
absl::StatusOr<std::vector<Listed>> ListFromFolders(const IngestOptions& options,
                                                    const std::vector<std::string>& files) {
  std::vector<Listed> listed;
  for (const std::string& name : files) {
    const size_t slash = name.find('/');
    if (slash == std::string::npos || name.rfind('/') != slash || !CanBeRead(name)) continue;
    listed.push_back({name, name.substr(0, slash), "", {}});
  }
  if (listed.empty()) {
    return absl::NotFoundError(absl::StrCat(
        options.folder, " holds no folder with JPEG or PNG files; expected a folder per class, or --labels CSV"));
  }
  return listed;
}

// All pictures, wherever they lie.
absl::StatusOr<std::vector<Listed>> ListUnlabelled(const IngestOptions& options,
                                                   const std::vector<std::string>& files) {
  std::vector<Listed> listed;
  for (const std::string& name : files) {
    if (CanBeRead(name)) listed.push_back({name, options.classes.front(), "", {}});
  }
  if (listed.empty()) {
    return absl::NotFoundError(absl::StrCat(options.folder, " holds no JPEG or PNG files"));
  }
  return listed;
}

// options.classes, if every label is one of them.
absl::StatusOr<std::vector<std::string>> GivenClasses(const std::vector<Listed>& listed,
                                                      const std::vector<std::string>& classes) {
  for (const Listed& item : listed) {
    if (std::find(classes.begin(), classes.end(), item.label) != classes.end()) continue;
    return absl::InvalidArgumentError(absl::StrCat(item.name, " is labelled '", item.label, "'; the classes are ",
                                                   absl::StrJoin(classes, ", ")));
  }
  return classes;
}

// Classes in the order of their labels: the positive one last.
absl::StatusOr<std::vector<std::string>> ClassesOf(const std::vector<Listed>& listed,
                                                   const std::string& positive) {
  std::set<std::string> names;
  for (const Listed& item : listed) names.insert(item.label);
  if (names.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a classifier needs two classes; found ", names.empty() ? "none" : "only '" + *names.begin() + "'"));
  }
  std::string last = positive;
  if (last.empty()) last = names.contains("malignant") ? "malignant" : *names.rbegin();
  if (!names.erase(last)) {
    return absl::InvalidArgumentError(
        absl::StrCat("no image is labelled '", last, "' (--positive); the labels are ",
                     absl::StrJoin(names, ", ")));
  }
  std::vector<std::string> classes(names.begin(), names.end());
  classes.push_back(last);
  return classes;
}

std::vector<std::string> NotTaken(const std::vector<std::string>& files, const std::vector<Listed>& listed) {
  std::set<std::string> names;
  for (const Listed& item : listed) names.insert(fs::path(item.name).lexically_normal().generic_string());
  std::vector<std::string> others;
  for (const std::string& name : files) {
    if (IsPicture(name) && !names.contains(name)) others.push_back(name);
  }
  return others;
}

// The image's mask (or label map): MASKS/FOLDER/STEM.png, or MASKS/STEM.png where only one image has that stem. Empty: none.
absl::StatusOr<fs::path> MaskOf(const std::string& name, const fs::path& masks,
                                const std::map<std::string, int>& stems) {
  fs::path mask = (masks / name).replace_extension(".png");
  if (fs::exists(mask)) return mask;
  const std::string stem = fs::path(name).stem().string();
  mask = masks / (stem + ".png");
  if (!fs::exists(mask)) return fs::path();
  if (stems.at(stem) == 1) return mask;
  return absl::InvalidArgumentError(absl::StrCat(
      "its mask ", mask.string(), " may be of any of ", stems.at(stem), " images of that name: put such files into ",
      (masks / fs::path(name).parent_path()).string(), " and its like"));
}

// Of the image's mask, where it has one.
std::string MaskOriginOf(const Listed& item, const IngestOptions& options) {
  const std::string& column =
      options.mask_origin_column.empty() ? "mask_origin" : options.mask_origin_column;
  for (const auto& [key, value] : item.attributes) {
    if (key == column) return value;
  }
  return options.mask_origin;
}

// What `decode` makes of the image's file in `folder`; empty where there is none. Errors name the file.
absl::StatusOr<std::string> Companion(
    const std::string& name, const fs::path& folder, const std::map<std::string, int>& stems,
    uint32_t size, const char* what,
    absl::StatusOr<std::string> (*decode)(std::string_view file, uint32_t size)) {
  ASSIGN_OR_RETURN(const fs::path path, MaskOf(name, folder, stems));
  if (path.empty()) return std::string();
  ASSIGN_OR_RETURN(const std::string file, ReadFile(path, kMostPicture));
  absl::StatusOr<std::string> decoded = decode(file, size);
  if (decoded.ok()) return decoded;
  return absl::InvalidArgumentError(
      absl::StrCat("its ", what, " ", path.string(), ": ", decoded.status().message()));
}

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + "\"";
}

absl::Status WriteLeftOut(const std::string& path, const std::vector<LeftOut>& left_out) {
  std::ofstream out(path);
  out << "file,reason\n";
  for (const LeftOut& item : left_out) out << Quoted(item.name) << ',' << Quoted(item.reason) << '\n';
  out.flush();
  if (!out) return absl::UnavailableError(absl::StrCat(path, " cannot be written"));
  return absl::OkStatus();
}

std::string ListOf(const std::vector<LeftOut>& left_out) {
  std::string text;
  for (size_t i = 0; i < std::min(kListed, left_out.size()); ++i) {
    absl::StrAppend(&text, "\n  ", left_out[i].name, ": ", left_out[i].reason);
  }
  if (left_out.size() > kListed) absl::StrAppend(&text, "\n  and ", left_out.size() - kListed, " more");
  return text;
}

}  // namespace

absl::StatusOr<IngestResult> Ingest(const IngestOptions& options) {
  if (!fs::is_directory(options.folder)) {
    return absl::NotFoundError(absl::StrCat(options.folder, " is not a folder"));
  }
  if (options.size < 32 || options.size > 1024) {
    return absl::InvalidArgumentError(absl::StrCat("--size ", options.size, " is not in 32 .. 1024"));
  }
  const fs::path folder = options.folder;
  const fs::path masks = options.masks.empty() ? folder / "masks" : fs::path(options.masks);
  if (!options.masks.empty() && !fs::is_directory(masks)) {
    return absl::NotFoundError(absl::StrCat(options.masks, " (--masks) is not a folder"));
  }
  const fs::path label_maps = options.label_maps;
  if (!options.label_maps.empty() && !fs::is_directory(label_maps)) {
    return absl::NotFoundError(absl::StrCat(options.label_maps, " (--label-maps) is not a folder"));
  }
  const std::vector<std::string> files = FilesBeneath(folder, {masks, label_maps});
  if (options.unlabelled && options.classes.size() < 2) {
    return absl::InvalidArgumentError("images without labels need the names of two classes at least");
  }
  ASSIGN_OR_RETURN(std::vector<Listed> listed, options.unlabelled       ? ListUnlabelled(options, files)
                                               : options.labels.empty() ? ListFromFolders(options, files)
                                                                        : ListFromCsv(options));
  std::sort(listed.begin(), listed.end(),
            [](const Listed& a, const Listed& b) { return a.name < b.name; });
  ASSIGN_OR_RETURN(const std::vector<std::string> classes,
                   options.classes.empty() ? ClassesOf(listed, options.positive)
                                           : GivenClasses(listed, options.classes));

  IngestResult result;
  std::vector<PackedImage> images;
  std::map<std::string, uint32_t> left_out_by_kind;  // For the manifest: reports say what is missing, and why.
  std::map<Digest, std::string> first_of;          // Pixels -> the first file that has them.
  std::vector<uint64_t> per_class(classes.size());
  std::set<std::string> groups;
  std::map<std::string, int> stems;
  for (const Listed& item : listed) ++stems[fs::path(item.name).stem().string()];
  for (const Listed& item : listed) {
    const auto leave_out = [&](const char* kind, std::string reason) {
      ++left_out_by_kind[kind];
      result.left_out.push_back({item.name, std::move(reason)});
    };
    auto file = ReadFile(folder / item.name, kMostPicture);
    if (absl::IsInvalidArgument(file.status())) {
      leave_out("too large for a picture",
                absl::StrCat("larger than ", kMostPicture >> 20, " MiB"));
      continue;
    }
    if (!file.ok()) {
      leave_out("missing, or cannot be read", "missing, or cannot be read");
      continue;
    }
    auto pixels = DecodeImage(*file, options.size);
    if (!pixels.ok()) {
      leave_out("no picture that can be decoded", std::string(pixels.status().message()));
      continue;
    }
    const Digest digest = Sha256Of(*pixels);
    const auto [first, is_new] = first_of.emplace(digest, item.name);
    if (!is_new) {
      leave_out("the same image as another", absl::StrCat("the same image as ", first->second));
      continue;
    }
    PackedImage image;
    image.pixels = *std::move(pixels);
    absl::StatusOr<std::string> mask =
        Companion(item.name, masks, stems, options.size, "mask", &DecodeMask);
    absl::StatusOr<std::string> labels =
        options.label_maps.empty()
            ? absl::StatusOr<std::string>(std::string())
            : Companion(item.name, label_maps, stems, options.size, "label map", &DecodeLabels);
    if (!mask.ok() || !labels.ok()) {
      leave_out("a mask or label map that does not fit", std::string((mask.ok() ? labels : mask).status().message()));
      continue;
    }
    image.mask = *std::move(mask);
    image.labels = *std::move(labels);
    if (!image.mask.empty()) {
      image.entry.set_mask_origin(MaskOriginOf(item, options));
      ++result.masks;
    }
    if (!image.labels.empty()) ++result.label_maps;
    const uint32_t label = static_cast<uint32_t>(
        std::find(classes.begin(), classes.end(), item.label) - classes.begin());
    image.entry.set_name(item.name);
    image.entry.set_label(label);
    image.entry.set_group(item.group);
    image.entry.set_source(Sha256Of(*file).bytes());
    for (const auto& [key, value] : item.attributes) {
      auto* attribute = image.entry.add_attributes();
      attribute->set_key(key);
      attribute->set_value(value);
    }
    ++per_class[label];
    groups.insert(item.group.empty() ? item.name : item.group);
    images.push_back(std::move(image));
  }
  if (!result.left_out.empty() && !options.leave_out) {
    return absl::InvalidArgumentError(absl::StrCat(
        result.left_out.size(), " of ", listed.size(), " files cannot be taken:", ListOf(result.left_out),
        "\nMend them, or go on without them with --leave-out (they are then listed in ", options.output,
        ".left-out.csv)"));
  }
  v1::ImageSetManifest header;
  header.set_format(1);
  header.set_height(options.size);
  header.set_width(options.size);
  header.set_preprocessing("exif-upright/srgb/centre-square/area");
  for (const std::string& name : classes) header.add_classes(name);
  header.set_unlabelled(options.unlabelled);
  for (const auto& [kind, files] : left_out_by_kind) {
    v1::LeftOutFiles* left_out = header.add_left_out();
    left_out->set_reason(kind);
    left_out->set_files(files);
  }

  result.images = images.size();
  result.groups = groups.size();
  for (size_t c = 0; c < classes.size(); ++c) result.per_class.emplace_back(classes[c], per_class[c]);
  result.not_taken = NotTaken(files, listed);
  RETURN_IF_ERROR(WriteImageSet(options.output, std::move(header), std::move(images)));
  if (!result.left_out.empty()) {
    RETURN_IF_ERROR(WriteLeftOut(options.output + ".left-out.csv", result.left_out));
  }
  return result;
}

}  // namespace dermis
