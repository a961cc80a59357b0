// `dermis explain`: a model and a folder of images, without a study file.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/digest.h"
#include "common/files.h"
#include "common/image_set.h"
#include "common/model_spec.h"
#include "common/spec_yaml.h"
#include "common/status_macros.h"
#include "tools/dermis/black_box.h"
#include "tools/dermis/command_audit.h"
#include "tools/dermis/client.h"
#include "tools/dermis/cluster.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/explain_output.h"
#include "tools/dermis/explain_photo.h"
#include "tools/dermis/output.h"
#include "tools/dermis/study_file.h"
#include "tools/dermis/submit.h"
#include "tools/ingest/ingest.h"
#include "worker/models/classes.h"
#include "worker/models/model.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

struct ExplainOptions {
  std::string model, images, output_folder;
  std::vector<std::string> methods, classes;
  std::string output, target, labels;
  BlackBoxOptions box;
  uint32_t display = 224;  // Pixels a side.
  uint64_t seed = 1;
  std::string cluster;  // Empty: one of its own.
  LocalClusterOptions local;
  PhotoOptions photo;   // With --study.
  std::string keep;  // With --study: name of the study that keeps the picture; empty: nothing does.
  std::string short_o;  // -o: with --model the folder or json, with --study text or json.
  bool json = false;    // With --model.
};

// A folder that is gone with its owner.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "dermis-explain-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const fs::path& path() const { return path_; }  // Empty: it could not be made.

 private:
  fs::path path_;
};

// A cluster that ends with its owner.
class OwnCluster {
 public:
  explicit OwnCluster(std::string directory) : directory_(std::move(directory)) {}
  ~OwnCluster() { (void)StopLocalCluster(directory_); }
  OwnCluster(const OwnCluster&) = delete;
  OwnCluster& operator=(const OwnCluster&) = delete;

 private:
  const std::string directory_;
};

absl::Status Bad(const std::string& why) { return absl::InvalidArgumentError(why); }

absl::Status CheckPaths(const ExplainOptions& options) {
  if (!fs::is_regular_file(options.model)) {
    return absl::NotFoundError(absl::StrCat("no model file ", options.model, " (--model)"));
  }
  if (!fs::exists(options.images)) {
    return absl::NotFoundError(
        absl::StrCat("no folder or picture ", options.images, " (--images)"));
  }
  if (fs::is_regular_file(options.images) && ImageSet::OpenFile(options.images).ok()) {
    return Bad(absl::StrCat(options.images, " is an image set; explain takes a folder of JPEG and PNG files, or "
                            "one of them (--images)"));
  }
  if (fs::exists(options.output_folder)) {
    return absl::AlreadyExistsError(absl::StrCat(
        options.output_folder, " is there already (-o): name a new folder, or remove it"));
  }
  const fs::path parent = fs::absolute(options.output_folder).parent_path();
  if (!fs::is_directory(parent)) {
    return absl::NotFoundError(
        absl::StrCat(parent.string(), " is no folder, so nothing can be written into it (-o)"));
  }
  return absl::OkStatus();
}

// A method as a study file spells it: "lime", or "shapley: {permutations: 32}".
absl::StatusOr<v1::MethodSpec> ReadMethod(const std::string& text) {
  const absl::StatusOr<v1::StudySpec> spec = ParseStudyYaml(
      absl::StrCat("explanation: {methods: [", text, "]}"), absl::StrCat("--method '", text, "'"));
  RETURN_IF_ERROR(spec.status());
  if (spec->explanation().methods_size() != 1)
    return Bad(absl::StrCat("--method '", text, "': one method is due"));
  return spec->explanation().methods(0);
}

absl::StatusOr<v1::StudySpec> MakeSpec(const ExplainOptions& options) {
  v1::StudySpec spec;
  std::string name = fs::path(options.model).stem().string();
  for (char& c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_') c = '-';
  }
  spec.set_name(absl::StrCat("explain-", name.substr(0, 80)));
  spec.set_seed(options.seed);
  const fs::path shown = fs::absolute(options.images).lexically_normal();
  spec.mutable_images()->set_set(
      (shown.has_filename() ? shown : shown.parent_path()).filename().string());
  spec.mutable_images()->mutable_split()->set_test(1);
  spec.mutable_model()->set_file(fs::path(options.model).filename().string());
  RETURN_IF_ERROR(FillFormat(*spec.mutable_model()));
  v1::ExplanationSpec& explanation = *spec.mutable_explanation();
  explanation.mutable_images()->set_all_test(true);
  for (const std::string& method : options.methods) {
    ASSIGN_OR_RETURN(*explanation.add_methods(), ReadMethod(method));
  }
  if (!options.output.empty())
    RETURN_IF_ERROR(SetByKey(spec, "explanation.output", options.output));
  return spec;
}

// The model's outputs by name, in their order.
absl::StatusOr<std::vector<std::string>> NamesOf(const ExplainOptions& options, uint32_t outputs) {
  if (!options.classes.empty()) {
    if (outputs != 0 && options.classes.size() != outputs) {
      return Bad(absl::StrCat("--classes names ", options.classes.size(), " classes, ",
                              options.model, " tells ", outputs, " apart"));
    }
    if (options.classes.size() < 2) return Bad("--classes must name two classes at least");
    return options.classes;
  }
  if (!options.target.empty()) {
    return Bad("--target needs --classes: the names of the model's outputs, in their order");
  }
  if (!options.labels.empty()) return std::vector<std::string>();  // The labels name them.
  if (outputs == 0) {
    return Bad(absl::StrCat("what do the outputs of ", options.model,
                            " stand for? Name them in their order: --classes "
                            "benign,malignant"));
  }
  std::vector<std::string> names;
  for (uint32_t c = 0; c < outputs; ++c) names.push_back(absl::StrCat("class ", c));
  return names;
}

// The study of these options; its model's file and, with `target` last, the classes that the images
// get. A safetensors model whose target is not its last class goes into `scratch` with its classes
// in that order.
struct Prepared {
  StudyFile study;
  std::vector<std::string> classes;  // Empty: the labels say them.
};
absl::StatusOr<Prepared> Prepare(const ExplainOptions& options, const fs::path& scratch) {
  Prepared out;
  ASSIGN_OR_RETURN(v1::StudySpec spec, MakeSpec(options));
  fs::path folder = fs::absolute(options.model).parent_path();
  const bool box = IsBlackBox(spec.model());
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(options.model, kMostModel));
  RETURN_IF_ERROR(CheckIsNoPickle(options.model, bytes));
  if (spec.model().format() == v1::MODEL_FORMAT_TORCHSCRIPT && options.cluster.empty() &&
      !options.local.allow_torchscript) {
    return absl::PermissionDeniedError(absl::StrCat(
        options.model,
        " is TorchScript: it carries code that would run here with your rights. If you "
        "trust where it comes from, say --allow-torchscript; else have it exported to ONNX"));
  }
  Model model;
  if (!box) {
    absl::StatusOr<Model> parsed = ParseModel(bytes);
    if (!parsed.ok()) {
      return Bad(absl::StrCat(options.model,
                              " is not a model that Dermis saved (dermis results --model): ",
                              parsed.status().message()));
    }
    model = *std::move(parsed);
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> names,
                   NamesOf(options, box ? 0 : model.layout.classes));
  out.classes = names;
  if (!options.target.empty()) {
    const auto at = std::find(out.classes.begin(), out.classes.end(), options.target);
    if (at == out.classes.end()) {
      return Bad(absl::StrCat("--target ", options.target, " is no class; there are ",
                              absl::StrJoin(names, ", ")));
    }
    const auto index = static_cast<uint32_t>(at - out.classes.begin());
    std::rotate(at, at + 1, out.classes.end());
    if (!box && index + 1 != names.size()) {
      MoveClassLast(index, model);
      folder = scratch;
      std::ofstream(folder / spec.model().file(), std::ios::binary) << SerializeModel(model);
    }
  }
  if (box) RETURN_IF_ERROR(FillBlackBox(options.box, names, spec));
  ASSIGN_OR_RETURN(out.study, ReadFiles(std::move(spec), folder, options.model));
  return out;
}

absl::StatusOr<std::unique_ptr<ImageSet>> OpenImages(const ExplainOptions& options,
                                                     const Prepared& prepared,
                                                     const fs::path& scratch) {
  IngestOptions ingest;
  ingest.folder = options.images;
  if (fs::is_regular_file(options.images)) {  // One picture: a folder of its own for it.
    ingest.folder = (scratch / "picture").string();
    fs::create_directory(ingest.folder);
    fs::create_symlink(fs::absolute(options.images),
                       fs::path(ingest.folder) / fs::path(options.images).filename());
  }
  ingest.output = (scratch / "explained.images").string();
  ingest.labels = options.labels;
  ingest.unlabelled = options.labels.empty();
  ingest.classes = prepared.classes;
  ingest.size = std::max(options.display, prepared.study.spec.images().size());
  ingest.leave_out = true;
  const absl::StatusOr<IngestResult> result = Ingest(ingest);
  RETURN_IF_ERROR(result.status());
  for (const LeftOut& item : result->left_out) {
    std::fprintf(stderr, "left out: %s: %s\n", item.name.c_str(), item.reason.c_str());
  }
  return ImageSet::OpenFile(ingest.output);
}

// Runs the study to its end on the cluster in `directory` and writes what it found.
absl::Status RunAndWrite(const ExplainOptions& options, const std::string& directory,
                         const StudyFile& study, const ImageSet& images) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(directory));
  if (options.cluster.empty()) {
    RETURN_IF_ERROR(AwaitWorkers(*client, directory, options.local.workers));
  }
  ASSIGN_OR_RETURN(const v1::SubmitResponse response, Submit(*client, study, images));
  for (const std::string& warning : response.warnings()) {
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
  }
  const absl::StatusOr<v1::StudyStatus> status = Watch(*client, response.id());
  if (absl::IsCancelled(status.status()) && !options.cluster.empty()) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::StudyRequest request;
    request.set_id(response.id());
    v1::StudyStatus ended;
    client->studies().Cancel(&context, request, &ended);
  }
  RETURN_IF_ERROR(status.status());
  RETURN_IF_ERROR(StatusOf(*status));
  ASSIGN_OR_RETURN(const v1::StudyResults results, client->Results(response.id()));
  ReportInputs inputs;
  inputs.images = &images;
  inputs.fetch_payload = [&](const v1::TaskResult& result) { return client->FetchPayload(result); };
  // A cluster of this command's own is gone when it ends, and its log with it.
  if (!options.cluster.empty()) {
    ASSIGN_OR_RETURN(inputs.audit, AuditText(directory));
  }
  ASSIGN_OR_RETURN(const uint32_t overlays, MakeExplanations(results, inputs, options.output_folder));
  const std::string report = absl::StrCat(options.output_folder, "/report.html");
  if (options.json) {
    PrintJson({{"folder", options.output_folder},
               {"images", results.explained_size()},
               {"overlays", overlays},
               {"report", report}});
    return absl::OkStatus();
  }
  std::printf("%d images explained, %u overlays: %s\n", results.explained_size(), overlays,
              report.c_str());
  return absl::OkStatus();
}

absl::Status Explain(ExplainOptions options) {
  while (absl::EndsWith(options.output_folder, "/")) options.output_folder.pop_back();
  RETURN_IF_ERROR(CheckPaths(options));
  const ScratchFolder scratch;
  if (scratch.path().empty())
    return absl::UnavailableError("no folder for temporary files can be made");
  ASSIGN_OR_RETURN(const Prepared prepared, Prepare(options, scratch.path()));
  CatchInterrupts();
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageSet> images,
                   OpenImages(options, prepared, scratch.path()));
  RETURN_IF_ERROR(CheckFiles(prepared.study, images->manifest()));
  if (Interrupted()) return absl::CancelledError("interrupted");
  if (!options.cluster.empty())
    return RunAndWrite(options, options.cluster, prepared.study, *images);
  options.local.directory = (scratch.path() / "cluster").string();
  options.local.ends_with_starter = true;
  const OwnCluster cluster(options.local.directory);
  ASSIGN_OR_RETURN(options.local.workers, StartLocalCluster(options.local));
  return RunAndWrite(options, options.local.directory, prepared.study, *images);
}

// The study that keeps a picture: of the one that was asked its model, seed and way of explaining.
v1::StudySpec KeepingSpec(const std::string& name, const v1::StudySpec& asked,
                          const PhotoAnswer& answer) {
  v1::StudySpec spec;
  spec.set_name(name);
  spec.set_seed(asked.seed());
  spec.mutable_images()->set_set(name);
  spec.mutable_images()->mutable_split()->set_test(1);
  if (IsBlackBox(asked.model())) {
    *spec.mutable_model() = asked.model();
    spec.mutable_images()->set_size(asked.images().size());
  } else {
    spec.mutable_model()->set_precision(asked.has_model() ? asked.model().precision()
                                                          : asked.training().precision());
    spec.mutable_model()->set_format(v1::MODEL_FORMAT_SAFETENSORS);
  }
  spec.mutable_model()->set_file("model");
  spec.mutable_model()->clear_digest();
  v1::ExplanationSpec& explanation = *spec.mutable_explanation();
  explanation.mutable_images()->set_all_test(true);
  explanation.set_output(asked.explanation().output());
  if (asked.explanation().has_hiding()) {
    *explanation.mutable_hiding() = asked.explanation().hiding();
  }
  *explanation.mutable_methods() = answer.start.methods();
  return spec;
}

bool HidesByTrainingMean(const PhotoAnswer& answer) {
  return std::any_of(answer.start.methods().begin(), answer.start.methods().end(),
                     [](const v1::MethodSpec& method) {
                       return method.lime().hidden() == v1::HIDDEN_VALUE_TRAINING_MEAN ||
                              method.shapley().hidden() == v1::HIDDEN_VALUE_TRAINING_MEAN;
                     });
}

// Before anything is asked: whether a study may be called so.
absl::Status CheckName(Client& client, const std::string& name) {
  v1::StudySpec bare;
  bare.set_name(name);
  bare.mutable_images()->set_set(name);
  const absl::Status valid = ResolveSpec(bare).status();
  if (!valid.ok()) return absl::Status(valid.code(), absl::StrCat("--keep: ", valid.message()));
  ASSIGN_OR_RETURN(const v1::ListResponse list, client.List());
  for (const v1::StudyStatus& study : list.studies()) {
    if (study.id() != name) continue;
    return absl::AlreadyExistsError(
        absl::StrCat("there is a study ", name,
                     " already (--keep): name another one, or dermis delete it first"));
  }
  return absl::OkStatus();
}

// What `explain --model --cluster` does, with the model of a study that the cluster has.
absl::Status Keep(Client& client, const ExplainOptions& options, const PhotoAnswer& answer) {
  const ScratchFolder scratch;
  if (scratch.path().empty())
    return absl::UnavailableError("no folder for temporary files can be made");
  ASSIGN_OR_RETURN(const v1::StudyResults results, client.Results(options.photo.study));
  ASSIGN_OR_RETURN(const auto asked_images, client.OpenImages(results.image_set()));
  ASSIGN_OR_RETURN(const Digest weights, Digest::FromBytes(results.model().weights()));
  ASSIGN_OR_RETURN(const std::string model, client.blobs().Get(weights));
  std::ofstream(scratch.path() / "model", std::ios::binary) << model;
  Prepared prepared;
  ASSIGN_OR_RETURN(prepared.study, ReadFiles(KeepingSpec(options.keep, results.spec(), answer),
                                             scratch.path(), "--keep"));
  const v1::ImageSetManifest& manifest = asked_images->manifest();
  prepared.classes.assign(manifest.classes().begin(), manifest.classes().end());
  ExplainOptions pictures;
  pictures.images = options.photo.photo;
  pictures.display = manifest.height();  // As it was asked.
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageSet> images,
                   OpenImages(pictures, prepared, scratch.path()));
  RETURN_IF_ERROR(CheckFiles(prepared.study, images->manifest()));
  if (Interrupted()) return absl::CancelledError("interrupted; nothing is kept");
  ASSIGN_OR_RETURN(const v1::SubmitResponse response, Submit(client, prepared.study, *images));
  // Standard output may be for programs.
  std::fprintf(stderr,
               "kept as study %s: dermis results %s shows it, dermis delete %s removes the picture "
               "and all derived from it\n",
               response.id().c_str(), response.id().c_str(), response.id().c_str());
  if (!results.spec().has_model() && HidesByTrainingMean(answer)) {
    std::fprintf(stderr,
                 "note: %s has no training images, so what hides by training_mean hides by the "
                 "model's own grey mean there: its numbers differ from those above\n",
                 response.id().c_str());
  }
  ASSIGN_OR_RETURN(const v1::StudyStatus status, Watch(client, response.id()));
  return StatusOf(status);
}

absl::Status ExplainOfStudy(const ExplainOptions& options) {
  if (options.keep.empty()) return ExplainPhoto(options.photo).status();
  ASSIGN_OR_RETURN(const auto client, Client::Connect(options.photo.cluster));
  RETURN_IF_ERROR(CheckName(*client, options.keep));
  ASSIGN_OR_RETURN(const PhotoAnswer answer, ExplainPhoto(options.photo));
  const absl::Status kept = Keep(*client, options, answer);
  if (kept.ok() || absl::IsCancelled(kept)) return kept;
  return absl::Status(kept.code(), absl::StrCat("--keep ", options.keep, ": ", kept.message()));
}

// Options of `explain` that --study does not know.
void OnlyWithModel(CLI::App& explain, CLI::Option* study) {
  for (const char* name :
       {"--model", "--images", "--method", "--output", "--classes", "--target", "--labels",
        "--display", "--seed", "--size", "--range", "--mean", "--deviation", "--channels",
        "--probabilities", "--allow-torchscript", "--workers", "--threads"}) {
    explain.get_option(name)->excludes(study);
  }
}

// As CLI11's own `required`, of what only one of two uses of the command needs.
void RequireAll(std::initializer_list<std::pair<const char*, const std::string*>> options) {
  for (const auto& [name, value] : options) {
    if (value->empty()) throw CLI::RequiredError(name);
  }
}

constexpr char kFooter[] = R"(Examples:
  dermis explain --study isic-32 lesion.jpg
  dermis explain --study isic-32 lesion.jpg -o json --out explained
  dermis explain --study isic-32 lesion.jpg --keep lesion-of-may
  dermis explain --model model.safetensors --images photos -o explained
  dermis explain --model net.onnx --size 224 --mean .485 .456 .406 --deviation .229 .224 .225 \
      --classes benign,malignant --images lesion.jpg --method lime --method 'shapley: {permutations: 32}' -o explained)";

}  // namespace

void AddExplainCommand(CLI::App& app, absl::Status& outcome) {
  auto* explain = app.add_subcommand("explain", "Explain what a study's model says of a picture, or a model of a folder of them");
  auto o = std::make_shared<ExplainOptions>();
  o->local.workers = 1;
  o->local.dashboard.clear();  // It ends before anyone could look.
  explain->footer(kFooter);
  CLI::Option* study = explain->add_option(
      "--study", o->photo.study,
      "Ask this study's model about one picture, at once, on its cluster; nothing of it is kept");
  explain
      ->add_option("--keep", o->keep,
                   "With --study: keep the picture, too, as a study of this name")
      ->needs(study);
  explain->add_option("picture", o->photo.photo, "With --study: a JPEG or PNG file")->needs(study);
  explain->add_option("--model", o->model,
                      "safetensors (dermis results --model), ONNX or TorchScript");
  explain->add_option("--images", o->images, "Folder of JPEG and PNG files, or one of them");
  explain
      ->add_option("--out", o->output_folder,
                   "Folder to make: overlays, numbers and, with --model, a report")
      ->check(NamedFile());
  explain
      ->add_option("-o", o->short_o,
                   "With --model: as --out, or json with --out beside it. With --study: text "
                   "(default), or json")
      ->check(NamedFile());
  explain
      ->add_option("--method", o->methods,
                   "With --model: a method as a study file spells it; again for another (default: lime, "
                   "shapley and, for safetensors, grad_cam and activation_maps)")
      ->type_name("NAME")
      ->expected(1)
      ->take_all();
  explain->add_option("--output", o->output,
                      "What is explained: margin (default), logit, probability");
  explain->add_option("--classes", o->classes, "Names of the model's outputs, in their order")
      ->delimiter(',');
  explain->add_option("--target", o->target, "The class that is explained (default: the last one)");
  explain->add_option("--labels", o->labels,
                      "CSV with a row per image, as for ingest (default: none are known)");
  explain
      ->add_option("--display", o->display, "Pixels a side that are shown and cut into superpixels")
      ->capture_default_str();
  explain->add_option("--seed", o->seed, "Seed of all draws")->capture_default_str();
  AddBlackBoxOptions(*explain, o->box);
  explain
      ->add_flag("--allow-torchscript", o->local.allow_torchscript,
                 "Run a TorchScript file, which is code")
      ->group(kBlackBoxGroup);
  explain->add_option("--cluster", o->cluster,
                      "Directory of a cluster that runs (default: with --model one for this command, "
                      "with --study the usual one)");
  explain->add_option("--workers", o->local.workers, "Workers of its own cluster")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  explain
      ->add_option("--threads", o->local.threads,
                   "Compute threads a worker (default: cores / workers)")
      ->check(CLI::Range(1, 1024));
  OnlyWithModel(*explain, study);
  explain->callback([o, &outcome] {
    if (o->photo.study.empty()) {
      o->json = o->short_o == "json";
      if (!o->json && !o->short_o.empty()) {
        if (!o->output_folder.empty()) {
          throw CLI::ValidationError("-o", "beside --out it can only be json");
        }
        o->output_folder = o->short_o;
      }
      RequireAll({{"--model", &o->model}, {"--images", &o->images}, {"--out", &o->output_folder}});
      outcome = Explain(*o);
      return;
    }
    RequireAll({{"picture", &o->photo.photo}});
    if (!o->short_o.empty()) o->photo.format = o->short_o;
    if (o->photo.format != "text" && o->photo.format != "json") {
      throw CLI::ValidationError("-o", "with --study it is text or json; a folder is --out DIR");
    }
    o->photo.folder = o->output_folder;
    o->photo.cluster = o->cluster.empty() ? DefaultClusterDirectory() : o->cluster;
    outcome = ExplainOfStudy(*o);
  });
}

}  // namespace dermis
