// `dermis evaluate`: a study's model, or a model file, on images of another set, with the threshold
// and the temperature that its own validation images chose, where that is known.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/evaluation/judge.h"
#include "common/image_set.h"
#include "common/model_spec.h"
#include "common/spec_yaml.h"
#include "common/status_macros.h"
#include "tools/dermis/black_box.h"
#include "tools/dermis/client.h"
#include "tools/dermis/cluster.h"
#include "tools/dermis/command_audit.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/output.h"
#include "tools/dermis/overlap.h"
#include "tools/dermis/results_json.h"
#include "tools/dermis/study_file.h"
#include "tools/dermis/submit.h"
#include "tools/dermis/written_file.h"
#include "tools/report/first_screen.h"
#include "tools/report/report.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;

struct EvaluateOptions {
  std::string cluster, study, model, images;
  WrittenFile page;
  std::vector<std::string> classes;  // Of a black box.
  BlackBoxOptions box;
};

// Letters, digits, '-', '_' and '.', as a study's name wants them.
std::string AsName(std::string text) {
  for (char& c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_') c = '-';
  }
  return text;
}

// The study that evaluates `who`'s model, all images of the set being test images: nothing is
// drawn, so it has the same tasks whichever seed the model's study had.
v1::StudySpec SpecOn(const std::string& who, const v1::ImageSetManifest& manifest) {
  v1::StudySpec spec;
  spec.set_name(
      absl::StrCat(AsName(who).substr(0, 48), "-on-", AsName(manifest.name()).substr(0, 40)));
  spec.mutable_images()->set_set(manifest.name());
  spec.mutable_images()->mutable_split()->set_test(1);
  return spec;
}

absl::StatusOr<StudyFile> StudyOn(const v1::StudyResults& of,
                                  const v1::ImageSetManifest& manifest) {
  v1::StudySpec spec = SpecOn(of.status().id(), manifest);
  spec.mutable_images()->set_size(of.spec().images().size());
  v1::ModelSpec& model = *spec.mutable_model();
  if (of.spec().has_model()) {
    model = of.spec().model();
  } else {
    model.set_file(absl::StrCat(of.status().id(), ".safetensors"));
    model.set_digest(absl::BytesToHexString(of.model().weights()));
    model.set_format(v1::MODEL_FORMAT_SAFETENSORS);
    model.set_kind(of.model().kind());
    model.set_precision(of.spec().training().precision());
  }
  StudyFile study;  // The cluster has the model's file.
  ASSIGN_OR_RETURN(study.spec, ResolveSpec(spec));
  return study;
}

absl::StatusOr<StudyFile> StudyOn(const EvaluateOptions& options,
                                  const v1::ImageSetManifest& manifest) {
  if (!fs::is_regular_file(options.model)) {
    return absl::NotFoundError(absl::StrCat("no model file ", options.model, " (--model)"));
  }
  v1::StudySpec spec = SpecOn(fs::path(options.model).stem().string(), manifest);
  spec.mutable_model()->set_file(fs::path(options.model).filename().string());
  RETURN_IF_ERROR(FillFormat(*spec.mutable_model()));
  if (IsBlackBox(spec.model())) {
    RETURN_IF_ERROR(FillBlackBox(options.box, options.classes, spec));
  } else if (!options.classes.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--classes is for ONNX and TorchScript; the outputs of ", options.model,
                     " are the image set's classes, in their order"));
  }
  ASSIGN_OR_RETURN(
      StudyFile study,
      ReadFiles(std::move(spec), fs::absolute(options.model).parent_path(), options.model));
  RETURN_IF_ERROR(CheckFiles(study, manifest));
  return study;
}

// Before anything is sent.
absl::Status CheckCanBeJudged(const v1::ImageSetManifest& manifest) {
  if (manifest.unlabelled()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the images of '", manifest.name(), "' have no labels to compare with"));
  }
  if (manifest.classes_size() == 2) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("'", manifest.name(), "' has ",
                                                 manifest.classes_size(),
                                                 " classes: thresholds and areas are of two"));
}

absl::Status CheckClasses(const v1::ImageSetManifest& own, const v1::ImageSetManifest& other) {
  if (std::equal(own.classes().begin(), own.classes().end(), other.classes().begin(),
                 other.classes().end())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "the study's classes are ", absl::StrJoin(own.classes(), ", "), ", those of '", other.name(),
      "' ", absl::StrJoin(other.classes(), ", "),
      ": they must have the same names in the same order (dermis ingest --classes)"));
}

std::string Shown(const Estimate& estimate) {
  return absl::StrFormat("%.3f (%.3f to %.3f)", estimate.value, estimate.interval.low,
                         estimate.interval.high);
}

void PrintCalibration(const char* which, const Calibration& calibration) {
  std::printf("  %s: Brier score %s, slope %s, probabilities are off by %.1f points on average\n",
              which, Shown(calibration.brier).c_str(), Shown(calibration.slope).c_str(),
              100 * calibration.error);
}

Json JsonOf(const TableOneRow& row) {
  return {{"threshold", row.threshold},
          {"accuracy", EstimateJson(row.accuracy)},
          {"sensitivity", EstimateJson(row.recall)},
          {"specificity", EstimateJson(row.specificity)}};
}

Json JsonOf(const Calibration& calibration) {
  return {{"brier_score", EstimateJson(calibration.brier)},
          {"slope", EstimateJson(calibration.slope)},
          {"calibration_error", calibration.error}};
}

// Whether the model knows the images that it is judged on.
struct Acquaintance {
  std::optional<Overlap> overlap;  // None: of a file nobody knows.
  std::string text;                // A sentence without its end.

  bool warns() const { return overlap && !overlap->none(); }
};
Acquaintance AcquaintanceOf(const v1::StudyResults& of, const v1::ImageSetManifest& own,
                            const v1::ImageSetManifest& other) {
  const Overlap overlap = OverlapOf(own, of.test_images(), other);
  std::string text = Describe(overlap, own.name());
  if (overlap.none()) text += ": no image of this set took part in any choice";
  // Its study chose a threshold only.
  if (of.spec().has_model()) text += "; which images the model was trained on is not known here";
  return {overlap, std::move(text)};
}

Json JsonOf(const Acquaintance& acquaintance) {
  if (!acquaintance.overlap) return nullptr;
  const Overlap& overlap = *acquaintance.overlap;
  return {{"images", overlap.images},
          {"trained_or_chosen_on", overlap.used},
          {"lesions", overlap.lesions}};
}

// What Print says. Null: nothing has chosen it.
Json JsonOf(const std::string& who, const v1::ImageSetManifest& other,
            const Acquaintance& acquaintance, const EvaluationReport& report) {
  const bool known = !report.rule_unknown;
  return {{"model", who},
          {"images", other.name()},
          {"own_images", JsonOf(acquaintance)},
          {"own_images_note", acquaintance.text},
          {"test",
           {{"images", report.test_images},
            {"positives", report.test_positives},
            {"lesions", report.test_lesions}}},
          {"positive", report.positive},
          {"area", EstimateJson(report.at_half.area)},
          {"average_precision", EstimateJson(report.at_half.average_precision)},
          {"at_half", JsonOf(report.at_half)},
          {"at_chosen", known ? JsonOf(report.at_chosen) : Json(nullptr)},
          {"validation_images", known ? Json(report.validation_images) : Json(nullptr)},
          {"uncalibrated", JsonOf(report.before)},
          {"temperature", known ? Json(report.temperature.value) : Json(nullptr)},
          {"calibrated", known ? JsonOf(report.after) : Json(nullptr)}};
}

// unknown: why no threshold and no temperature are known; empty where they are.
void Print(const std::string& who, const v1::ImageSetManifest& other, const std::string& unknown,
           const Acquaintance& acquaintance, const EvaluationReport& report) {
  if (acquaintance.warns())
    std::printf("warning: no external validation: %s\n", acquaintance.text.c_str());
  std::printf(
      "%s on '%s': %llu images (%llu %s) of %llu lesions; in brackets 95 %% bootstrap intervals by "
      "lesion\n"
      "  area under ROC %s, average precision %s\n",
      who.c_str(), other.name().c_str(), static_cast<unsigned long long>(report.test_images),
      static_cast<unsigned long long>(report.test_positives), report.positive.c_str(),
      static_cast<unsigned long long>(report.test_lesions), Shown(report.at_half.area).c_str(),
      Shown(report.at_half.average_precision).c_str());
  if (!acquaintance.warns()) std::printf("  %s\n", acquaintance.text.c_str());
  for (const TableOneRow* row : {&report.at_half, &report.at_chosen}) {
    const bool chosen = row == &report.at_chosen;
    if (chosen && report.rule_unknown) continue;
    std::printf("  at %.3f%s: accuracy %s, sensitivity %s, specificity %s\n", row->threshold,
                chosen ? absl::StrCat(", which the model's own ", report.validation_images,
                                      " validation images chose")
                             .c_str()
                       : "",
                Shown(row->accuracy).c_str(), Shown(row->recall).c_str(),
                Shown(row->specificity).c_str());
  }
  PrintCalibration("uncalibrated", report.before);
  if (report.rule_unknown) {
    std::printf("  no chosen threshold, no temperature: %s\n", unknown.c_str());
    return;
  }
  PrintCalibration(
      absl::StrFormat("after their temperature of %.2f", report.temperature.value).c_str(),
      report.after);
}

// Images without a validation part, and their logits once the study has come to its end.
struct Evaluated {
  JudgedImages images;
  std::vector<float> logits;
  std::string test_use;  // How often these images were looked at. As TestUseNote.
};
absl::StatusOr<Evaluated> RunOn(Client& client, const StudyFile& study, const ImageSet& other) {
  ASSIGN_OR_RETURN(const v1::SubmitResponse response, Submit(client, study, other));
  ASSIGN_OR_RETURN(const v1::StudyStatus status, Watch(client, response.id()));
  RETURN_IF_ERROR(StatusOf(status));
  ASSIGN_OR_RETURN(const v1::StudyResults found, client.Results(response.id()));
  Evaluated evaluated;
  ASSIGN_OR_RETURN(evaluated.images, ImagesToJudge(other.manifest(), {}, found.test_images()));
  evaluated.logits.assign(found.test_logits().begin(), found.test_logits().end());
  evaluated.test_use = TestUseNote(found.test_use());
  return evaluated;
}

absl::Status WritePage(const EvaluateOptions& options, const std::string& who,
                       const ImageSet& other, const Acquaintance& acquaintance,
                       const std::string& test_use, EvaluationReport report) {
  if (options.page.path.empty()) return absl::OkStatus();
  const std::string chosen =
      report.rule_unknown
          ? std::string(
                "no threshold and no temperature of the model are known, so only a "
                "threshold of .5 and its probabilities as they are are shown")
          : absl::StrCat("threshold and temperature are those that the model's own ",
                         report.validation_images, " validation images chose");
  JudgedView view;
  view.models.push_back(std::move(report));
  ASSIGN_OR_RETURN(const std::string audit, AuditText(options.cluster));
  const std::string& text = acquaintance.text;
  const std::string lead =
      acquaintance.warns()
          ? absl::StrCat("Warning, this is no external validation: ", text,
                         ". Of the model: ", chosen, ".")
          : absl::StrCat(acquaintance.overlap ? "External validation: " : "A model file: ", chosen,
                         "; ", text, ".");
  RETURN_IF_ERROR(WriteJudgedPage(absl::StrCat(who, " on ", other.manifest().name()),
                                  lead + test_use, view, other.manifest(), audit,
                                  options.page.path));
  if (!options.page.json) std::printf("%s\n", options.page.path.c_str());
  return absl::OkStatus();
}

absl::Status Tell(const EvaluateOptions& options, const std::string& who, const ImageSet& other,
                  const std::string& unknown, const Acquaintance& acquaintance,
                  const std::string& test_use, EvaluationReport report) {
  if (options.page.json) {
    PrintJson(JsonOf(who, other.manifest(), acquaintance, report));
  } else {
    Print(who, other.manifest(), unknown, acquaintance, report);
    if (!test_use.empty()) std::printf(" %s\n", test_use.c_str());
  }
  return WritePage(options, who, other, acquaintance, test_use, std::move(report));
}

absl::Status EvaluateStudyOn(const EvaluateOptions& options, Client& client,
                             const ImageSet& other) {
  ASSIGN_OR_RETURN(const v1::StudyResults of, client.Results(options.study));
  if (of.test_images().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("study ", options.study, " has not been evaluated yet"));
  }
  if (of.spec().images().has_hide()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "study ", options.study, "'s network never saw whole images (images.hide), and the other set's would be whole: run a study "
        "with `model` and `images.hide` on them"));
  }
  if (of.validation_images().empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "study ", options.study,
        " has no validation images, which would have chosen threshold and temperature; dermis "
        "results ",
        options.study, " --model FILE and dermis evaluate --model FILE do without"));
  }
  ASSIGN_OR_RETURN(const auto own, client.OpenImages(of.image_set()));
  RETURN_IF_ERROR(CheckClasses(own->manifest(), other.manifest()));
  RETURN_IF_ERROR(CheckModelSize(of.spec().images().size(), other.manifest()));
  ASSIGN_OR_RETURN(const StudyFile study, StudyOn(of, other.manifest()));
  ASSIGN_OR_RETURN(JudgedImages images,
                   ImagesToJudge(own->manifest(), of.validation_images(), of.test_images()));
  ASSIGN_OR_RETURN(Evaluated external, RunOn(client, study, other));
  images.test_label = std::move(external.images.test_label);
  images.test_group = std::move(external.images.test_group);
  images.columns = std::move(external.images.columns);
  const ScoredRun run = {{of.validation_logits().begin(), of.validation_logits().end()},
                         std::move(external.logits)};
  ASSIGN_OR_RETURN(EvaluationReport report, JudgeModel(options.study, images, {&run, 1}));
  return Tell(options, of.status().id(), other, "",
              AcquaintanceOf(of, own->manifest(), other.manifest()), external.test_use,
              std::move(report));
}

absl::Status EvaluateFileOn(const EvaluateOptions& options, Client& client, const ImageSet& other) {
  ASSIGN_OR_RETURN(const StudyFile study, StudyOn(options, other.manifest()));
  ASSIGN_OR_RETURN(Evaluated external, RunOn(client, study, other));
  const std::string who = fs::path(options.model).filename().string();
  ASSIGN_OR_RETURN(
      EvaluationReport report,
      JudgeWithRule(who, external.images, {{}, std::move(external.logits)}, study.rule));
  return Tell(
      options, who, other,
      IsBlackBox(study.spec.model())
          ? "an ONNX or TorchScript file holds none; a study of it with validation images has them "
            "(dermis evaluate STUDY)"
          : absl::StrCat(who,
                         " holds none; dermis results STUDY --model writes them, where the "
                         "study has validation images"),
      {std::nullopt, "which images it was trained on is not known here"}, external.test_use,
      std::move(report));
}

absl::Status EvaluateOn(const EvaluateOptions& options) {
  CatchInterrupts();
  if (options.study.empty() == options.model.empty()) {
    return absl::InvalidArgumentError("name a study, or a model file (--model)");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageSet> other, ImageSet::OpenFile(options.images));
  RETURN_IF_ERROR(CheckCanBeJudged(other->manifest()));
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  return options.model.empty() ? EvaluateStudyOn(options, *client, *other)
                               : EvaluateFileOn(options, *client, *other);
}

}  // namespace

void AddEvaluateCommand(CLI::App& app, absl::Status& outcome) {
  auto* evaluate = app.add_subcommand(
      "evaluate",
      "A model on another image set, with the threshold and temperature that its own validation "
      "images chose");
  auto options = std::make_shared<EvaluateOptions>();
  AddClusterOption(*evaluate, options->cluster);
  evaluate->footer(R"(Examples:
  dermis evaluate isic-32 --images clinic.images -o clinic.html
  dermis evaluate isic-32 --images clinic.images -o json --out clinic.html
  dermis evaluate --model isic-32.safetensors --images clinic.images)");
  auto* const study =
      evaluate->add_option("study", options->study, "Study whose model is evaluated");
  evaluate
      ->add_option(
          "--model", options->model,
          "Or a file: safetensors (dermis results --model), ONNX, or TorchScript where the "
          "cluster allows it")
      ->excludes(study);
  evaluate->add_option("--images", options->images, "The other image set (dermis ingest)")->required();
  AddFileOption(*evaluate, "HTML page to write", FileIs::kOptional, options->page);
  evaluate
      ->add_option("--classes", options->classes,
                   "Names of its outputs, in their order (default: the image set's classes)")
      ->delimiter(',')
      ->group(kBlackBoxGroup);
  AddBlackBoxOptions(*evaluate, options->box);
  evaluate->callback([options, &outcome] { outcome = EvaluateOn(*options); });
}

}  // namespace dermis
