#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include <signal.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/spec_yaml.h"
#include "common/status_macros.h"
#include "common/sweep.h"
#include "tools/dermis/client.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/preview.h"
#include "tools/dermis/progress.h"
#include "tools/dermis/summary.h"
#include "worker/models/init.h"

namespace dermis {
namespace {

volatile sig_atomic_t interrupted = 0;
void OnInterrupt(int) { interrupted = 1; }

// How long a watcher waits for a coordinator that went away (it may be restarting).
constexpr absl::Duration kPatience = absl::Minutes(2);

struct RunOptions {
  std::string cluster, spec, images;
  bool detach = false, preview = false;
};

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf()))
    return absl::NotFoundError(absl::StrCat(path, " cannot be read"));
  return std::move(text).str();
}

// A study's file, and the weights that it begins with ("" where they are drawn).
struct StudyFile {
  v1::StudySpec spec;  // Resolved.
  std::string init;
};

absl::StatusOr<StudyFile> ReadStudy(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  ASSIGN_OR_RETURN(v1::StudySpec spec, ParseStudyYaml(text, path));
  StudyFile study;
  if (v1::InitSpec& init = *spec.mutable_training()->mutable_init(); !init.file().empty()) {
    const std::filesystem::path file = std::filesystem::path(path).parent_path() / init.file();
    ASSIGN_OR_RETURN(study.init, ReadFile(file.string()));
    const std::string digest = Sha256Of(study.init).hex();
    if (!init.digest().empty() && init.digest() != digest) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": training.init.digest is ",
                                                     init.digest(), ", but ", file.string(),
                                                     " has ", digest));
    }
    init.set_digest(digest);
  } else if (init.ByteSizeLong() == 0) {
    spec.mutable_training()->clear_init();
  }
  auto resolved = ResolveSpec(spec);  // Early, so that a mistake is told before any upload.
  if (!resolved.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", resolved.status().message()));
  }
  study.spec = *std::move(resolved);
  return study;
}

// Whether the weights fit the network, before anything is sent; says what of them is not used.
absl::Status CheckInit(const StudyFile& study, const v1::ImageSetManifest& manifest) {
  if (study.init.empty()) return absl::OkStatus();
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

absl::Status Upload(Client& client, const ImageSet& set) {
  std::vector<Digest> digests;
  for (const v1::ImageChunk& chunk : set.manifest().chunks()) {
    for (const std::string& bytes : BlobsOf(chunk)) {
      ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(bytes));
      digests.push_back(digest);
    }
  }
  ASSIGN_OR_RETURN(const std::vector<bool> present, client.blobs().Has(digests));
  uint64_t sent = 0;
  for (size_t i = 0; i < digests.size(); ++i) {
    if (present[i]) continue;
    if (sent == 0) std::printf("Sending the images to the cluster\n"), std::fflush(stdout);
    ASSIGN_OR_RETURN(const std::string_view bytes, set.ChunkBytes(digests[i]));
    RETURN_IF_ERROR(client.blobs().Put(digests[i], bytes));
    sent += bytes.size();
  }
  if (sent > 0) std::printf("%.1f MB sent\n", static_cast<double>(sent) / 1e6);
  // The manifest last: where it is, its chunks are.
  return client.blobs().Put(set.digest(), set.manifest_blob());
}

// Watches until the study ends. A lost coordinator is waited for; Ctrl-C stops the watching only.
absl::StatusOr<v1::StudyStatus> Watch(Client& client, const std::string& id) {
  ProgressPrinter progress;
  absl::Duration last_heard = Clock::Real().Now();
  while (true) {
    grpc::ClientContext context;
    v1::WatchRequest request;
    request.set_id(id);
    // A channel gets on with its handshake only while a call waits for it: so wait in the call.
    context.set_wait_for_ready(true);
    auto reader = client.studies().Watch(&context, request);
    // Ctrl-C must end a Read that waits, and so must a coordinator that stays away: a thread of its
    // own cancels it. (The first state comes at once; later silence only says that nothing
    // changes.)
    std::atomic<bool> done = false, heard = false;
    std::thread canceller([&, until = last_heard + kPatience] {
      while (!done && !interrupted && (heard || Clock::Real().Now() < until)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
      if (!done) context.TryCancel();
    });
    v1::StudyStatus status, last;
    while (reader->Read(&status)) {
      heard = true;
      progress.Update(status);
      last = status;
      last_heard = Clock::Real().Now();
    }
    const grpc::Status end = reader->Finish();
    done = true;
    canceller.join();
    if (heard) last_heard = Clock::Real().Now();  // Until just now it was there, if silent.
    if (interrupted) {
      progress.Note(absl::StrCat("Study ", id, " goes on; `dermis watch ", id,
                                 "` looks again, `dermis cancel ", id, "` ends it"));
      return absl::CancelledError("interrupted");
    }
    if (end.ok() && last.phase() != v1::StudyStatus::RUNNING &&
        last.phase() != v1::StudyStatus::PHASE_UNSPECIFIED) {
      return last;
    }
    if (!heard && Clock::Real().Now() - last_heard >= kPatience) {
      return absl::UnavailableError(absl::StrCat(
          "the coordinator has been away for 2 minutes; study ", id,
          " is stored and goes on when it is back: `dermis cluster start`, then `dermis watch ", id,
          "`"));
    }
    if (!end.ok() && end.error_code() != grpc::StatusCode::UNAVAILABLE) {
      return ToAbsl(end, absl::StrCat("watching study ", id));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
}

absl::Status WatchToEnd(Client& client, const std::string& id) {
  signal(SIGINT, OnInterrupt);
  ASSIGN_OR_RETURN(const v1::StudyStatus status, Watch(client, id));
  if (status.phase() == v1::StudyStatus::DONE) {
    ASSIGN_OR_RETURN(const v1::StudyResults results, client.Results(id));
    ASSIGN_OR_RETURN(auto images, client.OpenImages(results.image_set()));
    std::printf("%sReport: dermis report %s -o report.html\n",
                Summarise(results, images->manifest()).c_str(), id.c_str());
    return absl::OkStatus();
  }
  std::string why = status.phase() == v1::StudyStatus::CANCELLED ? " was cancelled" : " failed";
  for (const std::string& problem : status.problems()) absl::StrAppend(&why, "\n  ", problem);
  return absl::AbortedError(absl::StrCat("study ", id, why));  // Exit code 3.
}

absl::Status Run(const RunOptions& options) {
  ASSIGN_OR_RETURN(const StudyFile study, ReadStudy(options.spec));
  const v1::StudySpec& spec = study.spec;
  ASSIGN_OR_RETURN(auto images, ImageSet::OpenFile(options.images));
  RETURN_IF_ERROR(ForEachTrial(spec, [&](uint32_t, const v1::StudySpec& own) {
    return CheckModelSize(own.images().size(), images->manifest());
  }));
  RETURN_IF_ERROR(CheckInit(study, images->manifest()));
  if (options.preview) {
    ASSIGN_OR_RETURN(const std::string preview, Preview(spec, images->manifest()));
    std::printf("%s", preview.c_str());
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  RETURN_IF_ERROR(Upload(*client, *images));
  if (!study.init.empty()) RETURN_IF_ERROR(client->blobs().Put(Sha256Of(study.init), study.init));
  grpc::ClientContext context;
  SetDeadline(context, 60);
  v1::SubmitRequest request;
  *request.mutable_spec() = spec;
  request.set_image_set(images->digest().bytes());
  v1::SubmitResponse response;
  const grpc::Status status = client->studies().Submit(&context, request, &response);
  if (!status.ok()) return ToAbsl(status, absl::StrCat("study ", spec.name(), " was not taken"));
  std::printf("Study %s%s\n", response.id().c_str(),
              response.attached() ? ": the same study is known, attached to it" : " submitted");
  for (const std::string& warning : response.warnings()) {
    std::printf("warning: %s\n", warning.c_str());
  }
  std::fflush(stdout);
  if (options.detach) return absl::OkStatus();
  return WatchToEnd(*client, response.id());
}

absl::Status WatchCommand(const std::string& cluster, const std::string& id) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(cluster));
  return WatchToEnd(*client, id);
}

}  // namespace

void AddRunCommand(CLI::App& app, absl::Status& outcome) {
  auto* run = app.add_subcommand("run", "Submit a study, watch it, print its results");
  auto options = std::make_shared<RunOptions>();
  AddClusterOption(*run, options->cluster);
  run->add_option("study", options->spec, "Study file (YAML)")->required();
  run->add_option("--images", options->images, "Image set (from ingest or synth)")->required();
  run->add_flag("--detach", options->detach, "Do not watch");
  run->add_flag("--preview", options->preview, "Only say what would run, and about what it costs");
  run->callback([options, &outcome] { outcome = Run(*options); });

  auto* watch = app.add_subcommand("watch", "Watch a study to its end");
  auto cluster = std::make_shared<std::string>();
  auto id = std::make_shared<std::string>();
  AddClusterOption(*watch, *cluster);
  watch->add_option("study", *id, "The study's name")->required();
  watch->callback([cluster, id, &outcome] { outcome = WatchCommand(*cluster, *id); });
}

}  // namespace dermis
