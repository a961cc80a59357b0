#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/image_set.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/output.h"
#include "tools/dermis/written_file.h"
#include "tools/ingest/ingest.h"
#include "tools/synth/synth.h"

namespace dermis {
namespace {

absl::Status RunIngest(const IngestOptions& options, bool json) {
  auto result = Ingest(options);
  if (!result.ok()) return absl::Status(result.status().code(),
                                        absl::StrCat("ingest: ", result.status().message()));
  if (json) {
    Json classes = Json::object(), left_out = Json::array();
    for (const auto& [name, count] : result->per_class) classes[name] = count;
    for (const LeftOut& item : result->left_out)
      left_out.push_back({{"name", item.name}, {"reason", item.reason}});
    PrintJson({{"file", options.output},
               {"images", result->images},
               {"classes", std::move(classes)},
               {"groups", result->groups},
               {"masks", result->masks},
               {"label_maps", result->label_maps},
               {"not_taken", result->not_taken},
               {"left_out", std::move(left_out)}});
    return absl::OkStatus();
  }
  std::printf("%s: %lu images", options.output.c_str(), result->images);
  const char* separator = " (";
  for (const auto& [name, count] : result->per_class) {
    std::printf("%s%lu %s", separator, count, name.c_str());
    separator = ", ";
  }
  std::printf("), %lu groups, %lu masks", result->groups, result->masks);
  if (!options.label_maps.empty()) std::printf(", %lu label maps", result->label_maps);
  std::printf("\n");
  if (!result->not_taken.empty()) {
    std::printf("%zu pictures in the folder are no part of the set (%s): %s%s\n", result->not_taken.size(),
                options.labels.empty() ? "not right in a class's folder, or neither JPEG nor PNG" : "not in the labels",
                result->not_taken.front().c_str(), result->not_taken.size() > 1 ? ", ..." : "");
  }
  for (const LeftOut& item : result->left_out) {
    std::printf("left out: %s: %s\n", item.name.c_str(), item.reason.c_str());
  }
  return absl::OkStatus();
}

absl::Status RunSynth(const SynthOptions& options, const WrittenFile& file) {
  const std::string& path = file.path;
  if (auto status = WriteSynthSet(options, path); !status.ok()) return status;
  if (file.json) {
    PrintJson({{"file", path},
               {"images", options.count},
               {"size", options.size},
               {"seed", options.seed}});
    return absl::OkStatus();
  }
  std::printf("%s: %u synthetic images of %u x %u pixels; masks mark lesion (1) and cause (2)\n",
              path.c_str(), options.count, options.size, options.size);
  return absl::OkStatus();
}

}  // namespace

void AddImageCommands(CLI::App& app, absl::Status& outcome) {
  auto* ingest = app.add_subcommand("ingest", "Pack a folder of JPEG and PNG files as an image set");
  auto in = std::make_shared<IngestOptions>();
  ingest->add_option("folder", in->folder, "The images")->required();
  auto packed = std::make_shared<WrittenFile>();
  AddFileOption(*ingest, "Image set to write", FileIs::kRequired, *packed);
  ingest->add_option("--labels", in->labels,
                     "CSV with a row per image (path, or name beneath the folder); "
                     "without it each folder beneath is a class");
  ingest->add_option("--size", in->size, "Display size, pixels a side")->capture_default_str();
  ingest->add_option("--positive", in->positive,
                     "The positive class (default: malignant, else the last by name)");
  ingest->add_option("--file-column", in->file_column, "CSV column of the file");
  ingest->add_option("--label-column", in->label_column, "CSV column of the class");
  ingest->add_option("--group-column", in->group_column,
                     "CSV column of the group (lesion, patient) that no split tears apart");
  ingest->add_option("--masks", in->masks, "Folder of lesion masks NAME.png (default: FOLDER/masks)");
  ingest->add_option("--mask-origin", in->mask_origin,
                     "Who drew the masks, e.g. expert: reports call them so");
  ingest->add_option("--mask-origin-column", in->mask_origin_column,
                     "CSV column of who drew an image's mask (default: mask_origin, where it is)");
  ingest->add_option("--label-maps", in->label_maps,
                     "Folder of label maps NAME.png (grey, 8 or 16 bits): superpixels of your own");
  ingest->add_flag("--leave-out", in->leave_out,
                   "Go on without damaged, missing and repeated images, naming each");
  ingest->footer(R"(Examples:
  dermis ingest photos -o photos.images                         # a folder a class
  dermis ingest photos --labels labels.csv --group-column lesion_id -o photos.images)");
  ingest->callback([in, packed, &outcome] {
    in->output = packed->path;
    outcome = RunIngest(*in, packed->json);
  });

  auto* synth = app.add_subcommand("synth", "Make synthetic lesions whose label has a known cause");
  auto options = std::make_shared<SynthOptions>();
  auto file = std::make_shared<WrittenFile>();
  AddFileOption(*synth, "Image set to write", FileIs::kRequired, *file);
  synth->add_option("--count", options->count, "Images")->capture_default_str();
  synth->add_option("--size", options->size, "Pixels a side")->capture_default_str();
  synth->add_option("--seed", options->seed, "Seed of all draws")->capture_default_str();
  synth->footer("Examples:\n  dermis synth -o demo.images\n  dermis synth --count 400 --size 224 -o demo.images");
  synth->callback([options, file, &outcome] { outcome = RunSynth(*options, *file); });
}

}  // namespace dermis
