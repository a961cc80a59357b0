#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/image_set.h"
#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/preview.h"
#include "tools/dermis/study_file.h"
#include "tools/dermis/submit.h"
#include "tools/dermis/summary.h"

namespace dermis {
namespace {

struct RunOptions {
  std::string cluster, spec, images;
  bool detach = false, preview = false;
};

absl::Status WatchToEnd(Client& client, const std::string& id) {
  CatchInterrupts();
  const absl::StatusOr<v1::StudyStatus> status = Watch(client, id);
  if (absl::IsCancelled(status.status())) {
    std::printf("Study %s goes on; `dermis watch %s` looks again, `dermis cancel %s` ends it\n", id.c_str(),
                id.c_str(), id.c_str());
  }
  RETURN_IF_ERROR(status.status());
  RETURN_IF_ERROR(StatusOf(*status));
  ASSIGN_OR_RETURN(const v1::StudyResults results, client.Results(id));
  ASSIGN_OR_RETURN(auto images, client.OpenImages(results.image_set()));
  std::printf("%sReport: dermis report %s -o report.html\n",
              Summarise(results, images->manifest()).c_str(), id.c_str());
  return absl::OkStatus();
}

absl::Status Run(const RunOptions& options) {
  ASSIGN_OR_RETURN(const StudyFile study, ReadStudy(options.spec));
  ASSIGN_OR_RETURN(auto images, ImageSet::OpenFile(options.images));
  RETURN_IF_ERROR(CheckFiles(study, images->manifest()));
  if (options.preview) {
    ASSIGN_OR_RETURN(const std::string preview, Preview(study.spec, images->manifest()));
    std::printf("%s", preview.c_str());
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const v1::SubmitResponse response, Submit(*client, study, *images));
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
