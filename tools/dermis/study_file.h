// A study as it lies on disk: its YAML, and the files that it names.
#ifndef DERMIS_TOOLS_DERMIS_STUDY_FILE_H_
#define DERMIS_TOOLS_DERMIS_STUDY_FILE_H_

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/evaluation/judge.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"

namespace dermis {

// Bytes of a model's file; it is held in memory.
inline constexpr uint64_t kMostModel = uint64_t{4} << 30;

struct StudyFile {
  v1::StudySpec spec;  // Resolved.
  std::string init;    // The weights that it begins with; empty: they are drawn.
  std::string model;   // The model that it is given; empty: it is trained.
  std::optional<DecisionRule> rule;  // That the model's file holds.
};

// INVALID_ARGUMENT where a model's file is what torch.save wrote, a pickle: how it is converted.
absl::Status CheckIsNoPickle(const std::string& file, std::string_view bytes);

// Reads what training.init or model of `spec` name, beneath `folder`, fills in what follows from
// the files (digest; a safetensors model's kind and images.size), and resolves it. `where` begins
// the errors.
absl::StatusOr<StudyFile> ReadFiles(v1::StudySpec spec, const std::filesystem::path& folder,
                                    const std::string& where);

// `settings`: KEY=VALUE, in place of what the file says.
absl::StatusOr<StudyFile> ReadStudy(const std::string& path,
                                    const std::vector<std::string>& settings = {});

// Whether the files fit the network and the images, before anything is sent; prints what of them is
// not used.
absl::Status CheckFiles(const StudyFile& study, const v1::ImageSetManifest& manifest);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_STUDY_FILE_H_
