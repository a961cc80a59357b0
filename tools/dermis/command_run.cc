#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/image_set.h"
#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/output.h"
#include "tools/dermis/preview.h"
#include "tools/dermis/study_file.h"
#include "tools/dermis/submit.h"
#include "tools/dermis/summary.h"

namespace dermis {
namespace {

struct RunOptions {
  std::string cluster, spec, images, format;
  std::vector<std::string> settings;
  double priority = 0, max_hours = -1;
  bool detach = false, preview = false;
};

void TellHowToLookAgain(const std::string& id) {
  std::fprintf(stderr, "Study %s goes on; `dermis watch %s` looks again, `dermis cancel %s` ends it\n",
               id.c_str(), id.c_str(), id.c_str());
}

absl::Status WatchToEnd(Client& client, const std::string& id) {
  CatchInterrupts();
  const absl::StatusOr<v1::StudyStatus> status = Watch(client, id);
  if (absl::IsCancelled(status.status())) TellHowToLookAgain(id);
  RETURN_IF_ERROR(status.status());
  RETURN_IF_ERROR(StatusOf(*status));
  ASSIGN_OR_RETURN(const v1::StudyResults results, client.Results(id));
  ASSIGN_OR_RETURN(auto images, client.OpenImages(results.image_set()));
  std::printf("%sReport: dermis report %s -o report.html\n",
              Summarise(results, images->manifest()).c_str(), id.c_str());
  return absl::OkStatus();
}

// One object in the end, the study's progress on standard error.
absl::Status RunForPrograms(Client& client, const v1::SubmitResponse& response, bool detach) {
  Json json = {{"study", response.id()},
               {"attached", response.attached()},
               {"found", response.reused()},
               {"warnings", std::vector<std::string>(response.warnings().begin(), response.warnings().end())},
               {"status", nullptr}};
  absl::Status outcome;
  if (!detach) {
    CatchInterrupts();
    const absl::StatusOr<v1::StudyStatus> status = Watch(client, response.id());
    if (absl::IsCancelled(status.status())) TellHowToLookAgain(response.id());
    RETURN_IF_ERROR(status.status());
    json["status"] = JsonOf(*status);
    outcome = StatusOf(*status);
  }
  PrintJson(json);
  return outcome;
}

absl::Status Run(const RunOptions& options) {
  ASSIGN_OR_RETURN(const StudyFile study, ReadStudy(options.spec, options.settings));
  ASSIGN_OR_RETURN(auto images, ImageSet::OpenFile(options.images));
  RETURN_IF_ERROR(CheckFiles(study, images->manifest()));
  if (options.preview) {
    ASSIGN_OR_RETURN(const std::string preview, Preview(study.spec, images->manifest()));
    if (options.format == "json") {
      PrintJson({{"study", study.spec.name()}, {"preview", preview}});
    } else {
      std::printf("%s", preview.c_str());
    }
    return absl::OkStatus();
  }
  v1::Adjustment adjust;
  if (options.priority > 0) adjust.set_priority(options.priority);
  if (options.max_hours >= 0) adjust.set_max_hours(options.max_hours);
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const v1::SubmitResponse response, Submit(*client, study, *images, adjust));
  if (options.format == "json") return RunForPrograms(*client, response, options.detach);
  std::printf("Study %s%s\n", response.id().c_str(),
              response.attached() ? ": the same study is known, attached to it" : " submitted");
  std::fflush(stdout);
  if (response.id() != study.spec.name()) {
    std::fprintf(stderr,
                 "%s exists with other settings or images, so this one is %s; use that name in "
                 "results and report\n",
                 study.spec.name().c_str(), response.id().c_str());
  }
  for (const std::string& warning : response.warnings()) {
    std::fprintf(stderr, "%s %s\n", Paint(Color::kYellow, "warning:", stderr).c_str(),
                 warning.c_str());
  }
  if (options.detach) return absl::OkStatus();
  return WatchToEnd(*client, response.id());
}

struct WatchOptions {
  std::string cluster, id, format;
};

absl::Status WatchCommand(const WatchOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  if (options.format != "json") return WatchToEnd(*client, options.id);
  CatchInterrupts();
  ASSIGN_OR_RETURN(const v1::StudyStatus status,
                   Watch(*client, options.id,
                         [](const v1::StudyStatus& study) { PrintJson(JsonOf(study)); }));
  return StatusOf(status);
}

}  // namespace

void AddRunCommand(CLI::App& app, absl::Status& outcome) {
  auto* run = app.add_subcommand("run", "Submit a study, watch it, print its results");
  auto options = std::make_shared<RunOptions>();
  AddClusterOption(*run, options->cluster);
  AddOutputOption(*run, options->format);
  run->add_option("study", options->spec, "Study file (YAML)")->required();
  run->add_option("--images", options->images, "An image set, from dermis ingest or dermis synth")->required();
  run->add_option("--set", options->settings,
                  "KEY=VALUE in place of what the file says, e.g. training.epochs=20; again for another")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  run->add_option("--priority", options->priority,
                  "Its share of the workers beside other studies, 0.1 to 10 (usual: 1)")
      ->check(CLI::Range(0.1, 10.0));
  run->add_option("--max-hours", options->max_hours,
                  "Worker-hours, after which it is paused (0: no limit)")
      ->check(CLI::NonNegativeNumber);
  run->add_flag("--detach", options->detach, "Do not watch");
  run->add_flag("--dry-run,--preview", options->preview,
                "Only say what would run, and about what it costs");
  run->footer(R"(Examples:
  dermis run studies/demo.yaml --images demo.images
  dermis run studies/demo.yaml --images demo.images --dry-run
  dermis run studies/demo.yaml --images demo.images --set training.epochs=50 --set name=longer
  dermis run studies/demo.yaml --images demo.images --max-hours 8 --priority 0.5 --detach -o json)");
  run->callback([options, &outcome] { outcome = Run(*options); });

  auto* watch = app.add_subcommand("watch", "Watch a study to its end, then print its results");
  auto watched = std::make_shared<WatchOptions>();
  AddClusterOption(*watch, watched->cluster);
  AddOutputOption(*watch, watched->format);
  watch->add_option("study", watched->id, "The study's name")->required();
  watch->footer(R"(Examples:
  dermis watch demo
  dermis watch demo -o json         # a line at every change)");
  watch->callback([watched, &outcome] { outcome = WatchCommand(*watched); });
}

}  // namespace dermis
