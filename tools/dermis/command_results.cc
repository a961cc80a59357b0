#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/digest.h"
#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/command_audit.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/decision_rule.h"
#include "tools/dermis/explain_output.h"
#include "tools/dermis/output.h"
#include "tools/dermis/results_json.h"
#include "tools/dermis/summary.h"
#include "tools/dermis/written_file.h"
#include "tools/report/compare.h"
#include "tools/report/figures.h"
#include "tools/report/partial.h"
#include "tools/report/report.h"

namespace dermis {
namespace {

struct ResultOptions {
  std::string cluster, id, figures, full_resolution, scores, model, explanations, format = "text";
  std::string trials, trial_format = "csv";
};

// Both outlive what comes back.
ReportInputs InputsOf(Client& client, const ImageSet& images) {
  ReportInputs inputs;
  inputs.images = &images;
  inputs.fetch_payload = [&client](const v1::TaskResult& result) { return client.FetchPayload(result); };
  return inputs;
}

absl::Status Report(const ResultOptions& options, const WrittenFile& page) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const v1::StudyResults results, client->Results(options.id));
  ASSIGN_OR_RETURN(auto images, client->OpenImages(results.image_set()));
  ReportInputs inputs = InputsOf(*client, *images);
  inputs.full_resolution = options.full_resolution;
  ASSIGN_OR_RETURN(inputs.audit, AuditText(options.cluster));
  RETURN_IF_ERROR(WriteReport(results, inputs, page.path));
  if (!page.json) std::printf("%s\n", page.path.c_str());
  size_t figures = 0;
  if (!options.figures.empty()) {
    ASSIGN_OR_RETURN(figures, WriteFigures(results, inputs, options.figures));
    if (!page.json)
      std::printf("%zu figures and tables  %s/index.html\n", figures, options.figures.c_str());
  }
  if (page.json) PrintJson({{"file", page.path}, {"figures", figures}});
  return absl::OkStatus();
}

// Gives the digest of the weights.
absl::StatusOr<Digest> SaveModel(Client& client, const v1::StudyResults& results,
                                 const v1::ImageSetManifest& manifest, const std::string& path) {
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(results.model().weights()));
  if (digest.none()) {
    return absl::FailedPreconditionError(
        absl::StrCat("study ", results.status().id(), " has no model yet"));
  }
  ASSIGN_OR_RETURN(std::string bytes, client.blobs().Get(digest));
  const std::optional<DecisionRule> rule =
      results.model().has_foreign() ? std::nullopt : RuleOf(results, manifest);
  if (rule) {
    ASSIGN_OR_RETURN(bytes, WithRule(bytes, *rule));
  }
  std::ofstream out(path, std::ios::binary);
  out << bytes;
  out.flush();
  if (!out) return absl::UnavailableError(absl::StrCat(path, " cannot be written"));
  return digest;
}

absl::Status PrintResults(const ResultOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const v1::StudyResults results, client->Results(options.id));
  ASSIGN_OR_RETURN(auto images, client->OpenImages(results.image_set()));
  FILE* told = stdout;  // What was written where.
  if (options.format == "json") {
    told = stderr;
    if (const std::string partial = PartialNote(results.status()); !partial.empty()) {
      std::fprintf(stderr, "%s %s\n", Paint(Color::kYellow, "warning:", stderr).c_str(), partial.c_str());
    }
    ASSIGN_OR_RETURN(const std::string json, ResultsJson(results, InputsOf(*client, *images)));
    std::printf("%s\n", json.c_str());
  } else {
    std::printf("%s", Summarise(results, images->manifest()).c_str());
  }
  if (!options.scores.empty()) {
    RETURN_IF_ERROR(WriteScoresCsv(results, images->manifest(), options.scores));
    std::fprintf(told, "%s\n", options.scores.c_str());
  }
  if (!options.trials.empty()) {
    ASSIGN_OR_RETURN(const StudyTrials trials, client->Trials(options.id));
    RETURN_IF_ERROR(WriteTrialFiles(trials, options.trial_format, options.trials));
    std::fprintf(told, "%zu trials  %s\n", trials.trials.size(), options.trials.c_str());
  }
  if (!options.model.empty()) {
    ASSIGN_OR_RETURN(const Digest weights,
                     SaveModel(*client, results, images->manifest(), options.model));
    std::fprintf(told, "%s  %s\n", weights.hex().c_str(), options.model.c_str());
  }
  if (options.explanations.empty()) return absl::OkStatus();
  std::string folder = options.explanations;
  while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
  if (std::filesystem::exists(folder)) {
    return absl::AlreadyExistsError(
        absl::StrCat(options.explanations, " is there already (--explanations): name a new folder"));
  }
  ReportInputs inputs;
  inputs.images = images.get();
  inputs.fetch_payload = [&](const v1::TaskResult& result) { return client->FetchPayload(result); };
  ASSIGN_OR_RETURN(const uint32_t overlays,
                   MakeExplanations(results, inputs, folder, /*report=*/false));
  std::fprintf(told, "%u overlays  %s\n", overlays, options.explanations.c_str());
  return absl::OkStatus();
}

struct ExportOptions {
  std::string cluster, id;
  WrittenFile file;
};

absl::Status ExportModel(const ExportOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const v1::StudyResults results, client->Results(options.id));
  ASSIGN_OR_RETURN(auto images, client->OpenImages(results.image_set()));
  ASSIGN_OR_RETURN(const Digest weights,
                   SaveModel(*client, results, images->manifest(), options.file.path));
  if (options.file.json) {
    PrintJson({{"file", options.file.path}, {"weights", weights.hex()}});
  } else {
    std::printf("%s  %s\n", weights.hex().c_str(), options.file.path.c_str());
  }
  return absl::OkStatus();
}

Json JsonOf(const ComparedModel& model) {
  return {{"area", model.area},
          {"interval", {model.interval.low, model.interval.high}},
          {"areas_of_studies", model.areas}};
}

struct CompareOptions {
  std::string cluster, format;
  std::vector<std::string> first, second;
};

absl::Status CompareStudies(const CompareOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  std::vector<v1::StudyResults> results[2];
  for (int side = 0; side < 2; ++side) {
    for (const std::string& id : side == 0 ? options.first : options.second) {
      ASSIGN_OR_RETURN(v1::StudyResults one, client->Results(id));
      results[side].push_back(std::move(one));
    }
  }
  ASSIGN_OR_RETURN(auto images, client->OpenImages(results[0][0].image_set()));
  ASSIGN_OR_RETURN(const Comparison comparison,
                   CompareModels(results[0], results[1], images->manifest()));
  if (options.format == "json") {
    PrintJson({{"images", comparison.images},
               {"groups", comparison.groups},
               {"first", JsonOf(comparison.first)},
               {"second", JsonOf(comparison.second)},
               {"difference", comparison.difference},
               {"interval", {comparison.interval.low, comparison.interval.high}}});
    return absl::OkStatus();
  }
  std::printf("%s", Describe(comparison).c_str());
  return absl::OkStatus();
}

}  // namespace

void AddResultCommands(CLI::App& app, absl::Status& outcome) {
  auto options = std::make_shared<ResultOptions>();
  auto* report =
      app.add_subcommand("report", "Write a study's report: one self-contained HTML file");
  auto* results = app.add_subcommand("results", "Print a study's results; save scores and model");
  for (auto* command : {report, results}) {
    AddClusterOption(*command, options->cluster);
    command->add_option("study", options->id, "The study's name")->required();
  }
  auto page = std::make_shared<WrittenFile>();
  AddFileOption(*report, "HTML file to write", FileIs::kRequired, *page);
  report->add_option("--figures", options->figures,
                     "Folder for each figure and table as a file of its own (SVG, PNG, CSV) and an index.html");
  report->add_option("--full-resolution", options->full_resolution,
                     "Folder with the photographs, by their names in the image set: for the figure that needs them")
      ->check(CLI::ExistingDirectory);
  results->add_option("-o,--output", options->format, "text, or json: with every attribution and check")
      ->check(CLI::IsMember({"text", "json"}));
  results->add_option("--scores", options->scores, "CSV to write: a row per test image");
  results->add_option("--explanations", options->explanations,
                      "Folder to make: an overlay an image and method, attributions as CSV and safetensors");
  auto* trials = results->add_option(
      "--trials", options->trials, "Folder to make: every trial's settings and scores, and the epochs of its trainings");
  results->add_option("--format", options->trial_format, "Of --trials: csv, jsonl, or tensorboard (event files)")
      ->check(CLI::IsMember({"csv", "jsonl", "tensorboard"}))
      ->capture_default_str()
      ->needs(trials);
  results->add_option(
      "--model", options->model,
      "safetensors file to write: the trained weights, and the threshold and temperature that "
      "validation chose");
  auto compared = std::make_shared<CompareOptions>();
  auto* compare =
      app.add_subcommand("compare",
                         "One model against another on the same test images: areas "
                         "under ROC of the scores, averaged over the\n"
                         "studies of a side and their seeds (sweep.seeds), and their difference "
                         "with its 95 % bootstrap interval by group");
  AddClusterOption(*compare, compared->cluster);
  AddOutputOption(*compare, compared->format);
  compare->footer("Examples:\n  dermis compare resnet-1 resnet-2 --against seed-1 seed-2");
  compare->add_option("studies", compared->first, "Studies of the first model")->required();
  compare->add_option("--against", compared->second, "Studies of the second model")->required();
  compare->callback([compared, &outcome] { outcome = CompareStudies(*compared); });
  report->footer("Examples:\n  dermis report demo -o report.html");
  results->footer(R"(Examples:
  dermis results demo
  dermis results demo --scores scores.csv --explanations overlays
  dermis results demo --trials runs --format tensorboard    # then: tensorboard --logdir runs
  dermis results demo -o json | jq '.test | length')");

  auto* models = app.add_subcommand("models", "Trained models");
  models->require_subcommand(1);
  models->footer("Examples:\n  dermis models export demo -o demo.safetensors");
  auto exported = std::make_shared<ExportOptions>();
  auto* save = models->add_subcommand(
      "export", "Write a study's model: safetensors, with all that is needed to use it (dermis explain --model)");
  AddClusterOption(*save, exported->cluster);
  save->add_option("study", exported->id, "The study's name")->required();
  AddFileOption(*save, "File to write", FileIs::kRequired, exported->file);
  save->footer("Examples:\n  dermis models export demo -o demo.safetensors");
  save->callback([exported, &outcome] { outcome = ExportModel(*exported); });
  report->callback([options, page, &outcome] { outcome = Report(*options, *page); });
  results->callback([options, &outcome] { outcome = PrintResults(*options); });
}

}  // namespace dermis
