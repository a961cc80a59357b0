#include "tools/dermis/study_file.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/digest.h"
#include "common/files.h"
#include "common/image_set.h"
#include "common/model_spec.h"
#include "common/spec_yaml.h"
#include "common/status_macros.h"
#include "common/sweep.h"
#include "tools/dermis/decision_rule.h"
#include "worker/models/init.h"
#include "worker/models/model.h"

namespace dermis {
namespace {

// `digest` of the file, or an error where another one is written there.
absl::Status FillDigest(const std::string& key, const std::string& file, const std::string& bytes,
                        std::string* digest) {
  const std::string actual = Sha256Of(bytes).hex();
  if (!digest->empty() && *digest != actual) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ".digest is ", *digest, ", but ", file, " has ", actual));
  }
  *digest = actual;
  return absl::OkStatus();
}

// The file's network: without the decision rule that it may hold. A digest of the whole file, as
// sha256sum gives it, is taken for the network's.
absl::StatusOr<RuledModel> ReadModel(const std::string& file, std::string* digest) {
  ASSIGN_OR_RETURN(std::string bytes, ReadFile(file, kMostModel));
  RETURN_IF_ERROR(CheckIsNoPickle(file, bytes));
  if (*digest == Sha256Of(bytes).hex()) digest->clear();
  absl::StatusOr<RuledModel> model = WithoutRule(std::move(bytes));
  if (model.ok()) return model;
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", model.status().message()));
}

// What a model's own file says is not to be said again, or otherwise.
absl::Status FillFromModel(const std::string& file, const std::string& bytes, v1::StudySpec& spec) {
  const absl::StatusOr<Model> model = ParseModel(bytes);
  if (!model.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        file,
        " is not a model that Dermis saved (dermis results --model): ", model.status().message()));
  }
  const ModelLayout& layout = model->layout;
  if (spec.model().kind() != v1::MODEL_KIND_UNSPECIFIED && spec.model().kind() != layout.kind) {
    return absl::InvalidArgumentError(absl::StrCat("model.kind is ", ModelName(spec.model().kind()),
                                                   ", but ", file, " holds a ",
                                                   ModelName(layout.kind)));
  }
  if (spec.images().has_size() && spec.images().size() != layout.size) {
    return absl::InvalidArgumentError(absl::StrCat("images.size is ", spec.images().size(),
                                                   ", but the model in ", file, " takes ",
                                                   layout.size, ": leave it out"));
  }
  spec.mutable_model()->set_kind(layout.kind);
  spec.mutable_images()->set_size(layout.size);
  return absl::OkStatus();
}

absl::Status CheckInit(const StudyFile& study, const v1::ImageSetManifest& manifest) {
  const std::string& file = study.spec.training().init().file();
  std::set<std::tuple<int, int, uint32_t>> seen;  // The networks of a sweep.
  std::set<std::string> notes;
  return ForEachTrial(study.spec, [&](uint32_t, const v1::StudySpec& own) -> absl::Status {
    const v1::TrainingSpec& training = own.training();
    if (!seen.insert({training.model(), training.stem(), own.images().size()}).second) {
      return absl::OkStatus();
    }
    Model model;
    ASSIGN_OR_RETURN(model.layout,
                     LayoutOf(training.model(), own.images().size(),
                              static_cast<uint32_t>(manifest.classes_size()), training.stem()));
    InitializeModel(own.seed(), model);
    const absl::StatusOr<std::string> note = LoadWeights(study.init, model);
    if (!note.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(file, ": ", note.status().message()));
    }
    if (!note->empty() && notes.insert(*note).second) {
      std::printf("%s: %s\n", file.c_str(), note->c_str());
    }
    return absl::OkStatus();
  });
}

absl::Status CheckModel(const StudyFile& study, const v1::ImageSetManifest& manifest) {
  if (IsBlackBox(study.spec.model())) return ModelRefOf(study.spec.model(), manifest).status();
  ASSIGN_OR_RETURN(const Model model, ParseModel(study.model));
  if (model.layout.classes == static_cast<uint32_t>(manifest.classes_size()))
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(study.spec.model().file(), " tells ", model.layout.classes,
                   " classes apart, the image set has ", manifest.classes_size()));
}

}  // namespace

absl::Status CheckIsNoPickle(const std::string& file, std::string_view bytes) {
  // A zip's list of files is at its end. TorchScript has code/ beside its pickles.
  constexpr size_t kEnd = 4 << 20;
  const std::string_view end = bytes.substr(bytes.size() - std::min(bytes.size(), kEnd));
  const auto lists = [&](const char* name) { return end.find(name) != std::string_view::npos; };
  const bool zip = bytes.starts_with("PK\3\4") && lists("/data.pkl") && !lists("/code/");
  // Before PyTorch 1.6: protocol 2 and a number of their own.
  const bool old = bytes.starts_with("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
  if (!zip && !old) return absl::OkStatus();
  const std::filesystem::path path = file;
  return absl::InvalidArgumentError(absl::StrCat(
      file, " is a PyTorch checkpoint (pickle), which Dermis does not open; convert it: python3 -c \"import torch, "
      "safetensors.torch as s; s.save_file(torch.load('", path.filename().string(),
      "', map_location='cpu', weights_only=True), '", path.stem().string(),
      ".safetensors')\" for training.init, or export its network as ONNX to explain or evaluate it "
      "(docs/explain.md)"));
}

absl::StatusOr<StudyFile> ReadFiles(v1::StudySpec spec, const std::filesystem::path& folder,
                                    const std::string& where) {
  StudyFile study;
  const auto told = [&](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
  };
  if (!spec.training().init().file().empty()) {
    v1::InitSpec& init = *spec.mutable_training()->mutable_init();
    const std::string file = (folder / init.file()).string();
    ASSIGN_OR_RETURN(RuledModel weights, ReadModel(file, init.mutable_digest()));
    study.init = std::move(weights.bytes);
    const absl::Status status =
        FillDigest("training.init", file, study.init, init.mutable_digest());
    if (!status.ok()) return told(status);
  } else if (spec.training().has_init() && spec.training().init().ByteSizeLong() == 0) {
    spec.mutable_training()->clear_init();
  }
  if (!spec.model().file().empty()) {
    v1::ModelSpec& model = *spec.mutable_model();
    const std::string file = (folder / model.file()).string();
    ASSIGN_OR_RETURN(RuledModel given, ReadModel(file, model.mutable_digest()));
    study.model = std::move(given.bytes);
    study.rule = given.rule;
    absl::Status status = FillDigest("model", file, study.model, model.mutable_digest());
    if (!status.ok()) return told(status);
    RETURN_IF_ERROR(FillFormat(model));
    if (!IsBlackBox(model)) status = FillFromModel(file, study.model, spec);
    if (!status.ok()) return told(status);
  }
  auto resolved = ResolveSpec(spec);  // Early, so that a mistake is told before any upload.
  if (!resolved.ok()) return told(resolved.status());
  study.spec = *std::move(resolved);
  return study;
}

absl::StatusOr<StudyFile> ReadStudy(const std::string& path,
                                    const std::vector<std::string>& settings) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxYamlBytes));
  ASSIGN_OR_RETURN(v1::StudySpec spec, ParseStudyYaml(text, path));
  for (const std::string& setting : settings) RETURN_IF_ERROR(Override(spec, setting));
  absl::StatusOr<StudyFile> study =
      ReadFiles(std::move(spec), std::filesystem::path(path).parent_path(), path);
  // What a value is wrong in begins with its key: "PATH: 'KEY' is ...".
  const absl::string_view why = study.status().message();
  if (study.ok() || !absl::StartsWith(why, path + ": '")) return study;
  const absl::string_view rest = why.substr(path.size());  // ": 'KEY' is ..."
  const std::string key(rest.substr(3, rest.find('\'', 3) - 3));
  // A setting has no line, and may be what is wrong.
  for (const std::string& setting : settings) {
    if (absl::StartsWith(key, setting.substr(0, setting.find('=')))) return study;
  }
  return absl::Status(study.status().code(), absl::StrCat(path, PlaceOf(text, key), rest));
}

absl::Status CheckFiles(const StudyFile& study, const v1::ImageSetManifest& manifest) {
  RETURN_IF_ERROR(ForEachTrial(study.spec, [&](uint32_t, const v1::StudySpec& own) {
    return CheckModelSize(own.images().size(), manifest);
  }));
  if (!study.init.empty()) RETURN_IF_ERROR(CheckInit(study, manifest));
  return study.model.empty() ? absl::OkStatus() : CheckModel(study, manifest);
}

}  // namespace dermis
