// Folders of JPEG and PNG files to an image set. Nothing is dropped silently: every file that cannot be taken is
// named with its reason.
#ifndef DERMIS_TOOLS_INGEST_INGEST_H_
#define DERMIS_TOOLS_INGEST_INGEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace dermis {

struct IngestOptions {
  std::string folder;
  std::string labels;              // CSV: a path, or a name beneath the folder; "" = a folder per class.
  std::string output;              // X.images
  uint32_t size = 224;             // Display size, pixels a side.
  std::string positive;            // The positive class; "" = malignant where there is one, else the last.
  // Columns of the CSV; "" = the first that is there of: file, path, image, filename; label, class, target;
  // lesion_id, group, group_id, patient_id.
  std::string file_column, label_column, group_column;
  // Folder of masks, STEM.png of each image or as the images lie; "" = FOLDER/masks where it is.
  std::string masks;
  // Who drew the masks ("expert" is only what was called so): for all, or by a column of the CSV, which wins where it is
  // filled. "": the column mask_origin where there is one, else nobody said.
  std::string mask_origin, mask_origin_column;
  std::string label_maps;          // Folder of label maps, named like masks; "" = none.
  // The classes in their order; empty: what the labels say, the positive one last. Excludes `positive`.
  std::vector<std::string> classes;
  bool unlabelled = false;         // All pictures beneath the folder, of which nobody says what they show. Needs `classes`.
  bool leave_out = false;          // Go on without files that are damaged, missing or there twice.
};

struct LeftOut {
  std::string name;                // Beneath the folder.
  std::string reason;
};

struct IngestResult {
  uint64_t images = 0, masks = 0, label_maps = 0, groups = 0;
  std::vector<std::pair<std::string, uint64_t>> per_class;
  std::vector<LeftOut> left_out;   // Also written to OUTPUT.left-out.csv where not empty.
  // Pictures in the folder that are no part of the set: the CSV does not name them, they lie right in no class's folder, or
  // they are neither JPEG nor PNG.
  std::vector<std::string> not_taken;
};

// Errors (INVALID_ARGUMENT, NOT_FOUND) list up to 20 files each with its reason; nothing is written then.
absl::StatusOr<IngestResult> Ingest(const IngestOptions& options);

}  // namespace dermis

#endif  // DERMIS_TOOLS_INGEST_INGEST_H_
