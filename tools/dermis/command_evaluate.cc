// `dermis evaluate`: a study's model on images of another set, with the threshold and the temperature
// that the study's own validation images chose.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/evaluation/judge.h"
#include "common/image_set.h"
#include "common/spec_yaml.h"
#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/cluster.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/submit.h"
#include "tools/report/report.h"

namespace dermis {
namespace {

struct EvaluateOptions {
  std::string cluster, study, images, page;
};

// Letters, digits, '-', '_' and '.', as a study's name wants them.
std::string AsName(std::string text) {
  for (char& c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_') c = '-';
  }
  return text;
}

// The study that evaluates: the model as it is, on all images.
absl::StatusOr<StudyFile> StudyOn(const v1::StudyResults& of, const v1::ImageSetManifest& manifest) {
  v1::StudySpec spec;
  spec.set_name(absl::StrCat(of.status().id().substr(0, 48), "-on-",
                             AsName(manifest.name()).substr(0, 40)));
  for (char& c : *spec.mutable_name()) {
    if (c == '@') c = '-';
  }
  spec.set_seed(of.spec().seed());
  spec.mutable_images()->set_set(manifest.name());
  spec.mutable_images()->set_size(of.spec().images().size());
  spec.mutable_images()->mutable_split()->set_test(1);
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

absl::Status CheckClasses(const v1::ImageSetManifest& own, const v1::ImageSetManifest& other) {
  if (other.unlabelled()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the images of '", other.name(), "' have no labels to compare with"));
  }
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

void Print(const v1::StudyResults& of, const v1::ImageSetManifest& other,
           const EvaluationReport& report) {
  std::printf(
      "%s on '%s': %llu images (%llu %s) of %llu lesions; in brackets 95 %% bootstrap intervals by "
      "lesion\n"
      "  area under ROC %s, average precision %s\n",
      of.status().id().c_str(), other.name().c_str(),
      static_cast<unsigned long long>(report.test_images),
      static_cast<unsigned long long>(report.test_positives), report.positive.c_str(),
      static_cast<unsigned long long>(report.test_lesions), Shown(report.at_half.area).c_str(),
      Shown(report.at_half.average_precision).c_str());
  for (const TableOneRow* row : {&report.at_half, &report.at_chosen}) {
    std::printf("  at %.3f%s: accuracy %s, sensitivity %s, specificity %s\n", row->threshold,
                row == &report.at_chosen ? ", which the study's validation images chose" : "",
                Shown(row->accuracy).c_str(), Shown(row->recall).c_str(),
                Shown(row->specificity).c_str());
  }
}

absl::Status EvaluateOn(const EvaluateOptions& options) {
  CatchInterrupts();
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageSet> other, ImageSet::OpenFile(options.images));
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const v1::StudyResults of, client->Results(options.study));
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
        " has no validation images, which would have chosen threshold and temperature"));
  }
  ASSIGN_OR_RETURN(const auto own, client->OpenImages(of.image_set()));
  RETURN_IF_ERROR(CheckClasses(own->manifest(), other->manifest()));
  RETURN_IF_ERROR(CheckModelSize(of.spec().images().size(), other->manifest()));
  ASSIGN_OR_RETURN(const StudyFile study, StudyOn(of, other->manifest()));
  ASSIGN_OR_RETURN(const v1::SubmitResponse response, Submit(*client, study, *other));
  ASSIGN_OR_RETURN(const v1::StudyStatus status, Watch(*client, response.id()));
  RETURN_IF_ERROR(StatusOf(status));
  ASSIGN_OR_RETURN(const v1::StudyResults found, client->Results(response.id()));

  ASSIGN_OR_RETURN(JudgedImages images,
                   ImagesToJudge(own->manifest(), of.validation_images(), of.test_images()));
  ASSIGN_OR_RETURN(const JudgedImages external,
                   ImagesToJudge(other->manifest(), found.test_images(), found.test_images()));
  images.test_label = external.test_label;
  images.test_group = external.test_group;
  images.columns = external.columns;
  const ScoredRun run = {{of.validation_logits().begin(), of.validation_logits().end()},
                         {found.test_logits().begin(), found.test_logits().end()}};
  JudgedView view;
  ASSIGN_OR_RETURN(EvaluationReport report, JudgeModel(options.study, images, {&run, 1}));
  Print(of, other->manifest(), report);
  if (options.page.empty()) return absl::OkStatus();
  view.models.push_back(std::move(report));
  RETURN_IF_ERROR(WriteJudgedPage(
      absl::StrCat(options.study, " on ", other->manifest().name()),
      absl::StrCat("External validation: threshold and temperature are those that the study's own ",
                   of.validation_images_size(), " validation images chose; no image of this set took part in any choice."),
      view, other->manifest(), options.page));
  std::printf("%s\n", options.page.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddEvaluateCommand(CLI::App& app, absl::Status& outcome) {
  auto* evaluate = app.add_subcommand(
      "evaluate",
      "A study's model on another image set, with the threshold and temperature that the study's "
      "own validation images chose");
  auto options = std::make_shared<EvaluateOptions>();
  AddClusterOption(*evaluate, options->cluster);
  evaluate->footer("Examples:\n  dermis evaluate isic-32 --images clinic.images -o clinic.html");
  evaluate->add_option("study", options->study, "Study whose model is evaluated")->required();
  evaluate->add_option("--images", options->images, "The other image set (dermis ingest)")->required();
  evaluate->add_option("-o,--out", options->page, "HTML page to write");
  evaluate->callback([options, &outcome] { outcome = EvaluateOn(*options); });
}

}  // namespace dermis
