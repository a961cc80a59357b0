// Looking at studies, and everything that changes how they are worked on.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/clock.h"
#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/output.h"
#include "tools/dermis/progress.h"
#include "tools/dermis/remaining.h"
#include "tools/dermis/submit.h"

namespace dermis {
namespace {

void Print(const v1::StudyStatus& status) {
  std::printf("%s %s\n", PaintedPhase(status, 9).c_str(), ProgressLine(status).c_str());
  for (const std::string& problem : status.problems()) std::printf("          %s\n", problem.c_str());
}

// What one line leaves out.
void PrintMore(const v1::StudyStatus& status) {
  const absl::Duration used = absl::Hours(status.used_hours());
  std::printf("          submitted by %s at %s UTC, priority %g, %s of a worker's time used%s\n",
              status.user().c_str(), TimeText(status.submitted_unix_ms()).c_str(), status.priority(),
              RoughTime(used).c_str(),
              status.max_hours() > 0 ? absl::StrFormat(" of %g h", status.max_hours()).c_str() : "");
  for (const v1::StageProgress& stage : status.stages()) {
    std::printf("          %-12s %8lu of %lu %s, %lu tasks computed, %lu found\n",
                stage.stage().c_str(), stage.done(), stage.total(), stage.unit().c_str(),
                stage.computed(), stage.reused());
  }
}

absl::StatusOr<v1::StudyStatus> Find(const v1::ListResponse& list, const std::string& id) {
  std::vector<std::string> names;
  for (const v1::StudyStatus& study : list.studies()) {
    if (study.id() == id) return study;
    names.push_back(study.id());
  }
  return NoStudy(id, names);
}

struct StatusOptions {
  std::string cluster, format;
  std::vector<std::string> ids;
};

absl::Status ShowStatus(const StatusOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const v1::ListResponse list, client->List());
  std::vector<v1::StudyStatus> studies(list.studies().begin(), list.studies().end());
  if (!options.ids.empty()) {
    studies.clear();
    for (const std::string& id : options.ids) {
      ASSIGN_OR_RETURN(studies.emplace_back(), Find(list, id));
    }
  }
  if (options.format == "json") {
    Json shown = Json::array();
    for (const v1::StudyStatus& study : studies) shown.push_back(JsonOf(study));
    PrintJson({{"studies", std::move(shown)}});
    return absl::OkStatus();
  }
  for (const v1::StudyStatus& study : studies) {
    if (options.format == "names") {
      std::printf("%s\n", study.id().c_str());
      continue;
    }
    Print(study);
    if (!options.ids.empty()) PrintMore(study);
  }
  if (studies.empty() && options.format == "text") std::printf("no studies yet\n");
  return absl::OkStatus();
}

// What is done to each of several studies.
struct ChangeOptions {
  std::string cluster, format;
  std::vector<std::string> ids;
  bool dry_run = false;
  double priority = 1, max_hours = -1;
};
using Change = std::function<absl::StatusOr<v1::StudyStatus>(Client&, const std::string& id)>;

// `would`: in words, what a dry run leaves undone.
absl::Status ChangeStudies(const ChangeOptions& options, const std::string& would,
                           const Change& change) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  Json changed = Json::array();
  absl::Status outcome;
  for (const std::string& id : options.ids) {
    absl::StatusOr<v1::StudyStatus> status = v1::StudyStatus();
    if (options.dry_run) {
      ASSIGN_OR_RETURN(const v1::ListResponse list, client->List());
      status = Find(list, id);
    } else {
      status = change(*client, id);
    }
    if (!status.ok()) {  // The others are not to wait for it.
      if (!outcome.ok()) std::fprintf(stderr, "dermis: %s\n", std::string(outcome.message()).c_str());
      outcome = status.status();
      continue;
    }
    if (options.format == "json") {
      changed.push_back(JsonOf(*status));
      continue;
    }
    if (options.dry_run) std::printf("would %s:\n", would.c_str());
    Print(*status);
  }
  if (options.format == "json") {
    PrintJson({{"dry_run", options.dry_run}, {"studies", std::move(changed)}});
  }
  return outcome;
}

using StudyCall = grpc::Status (v1::Studies::Stub::*)(grpc::ClientContext*, const v1::StudyRequest&,
                                                      v1::StudyStatus*);

Change Calls(StudyCall call) {
  return [call](Client& client, const std::string& id) -> absl::StatusOr<v1::StudyStatus> {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::StudyRequest request;
    request.set_id(id);
    v1::StudyStatus response;
    const grpc::Status status = (client.studies().*call)(&context, request, &response);
    if (!status.ok()) return StudyError(client, id, status);
    return response;
  };
}

Change Adjusts(const v1::Adjustment& adjust) {
  return [adjust](Client& client, const std::string& id) -> absl::StatusOr<v1::StudyStatus> {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::AdjustRequest request;
    request.set_id(id);
    *request.mutable_adjust() = adjust;
    v1::StudyStatus response;
    const grpc::Status status = client.studies().Adjust(&context, request, &response);
    if (!status.ok()) return StudyError(client, id, status);
    return response;
  };
}

struct WaitOptions {
  std::string cluster, format;
  std::vector<std::string> ids;
  double timeout = 0;  // Seconds; 0: none.
};

absl::Status Wait(const WaitOptions& options) {
  CatchInterrupts();
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  const absl::Duration until =
      options.timeout > 0 ? Clock::Real().Now() + absl::Seconds(options.timeout)
                          : absl::InfiniteDuration();
  Json ended = Json::array();
  absl::Status outcome;
  for (const std::string& id : options.ids) {
    ASSIGN_OR_RETURN(const v1::StudyStatus status,
                     Watch(*client, id, [](const v1::StudyStatus&) {},
                           std::max(until - Clock::Real().Now(), absl::ZeroDuration())));
    if (options.format == "json") {
      ended.push_back(JsonOf(status));
    } else {
      Print(status);
    }
    if (outcome.ok()) outcome = StatusOf(status);
  }
  if (options.format == "json") PrintJson({{"studies", std::move(ended)}});
  return outcome;
}

struct DeleteOptions {
  std::string cluster, format;
  std::vector<std::string> ids;
  bool dry_run = false, yes = false;
};

bool Confirmed(const std::string& question) {
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  std::string answer;
  return std::getline(std::cin, answer) && (answer == "y" || answer == "yes");
}

absl::Status Delete(const DeleteOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.cluster));
  Json deleted = Json::array();
  for (const std::string& id : options.ids) {
    const auto ask = [&](bool dry_run) -> absl::StatusOr<v1::DeleteResponse> {
      grpc::ClientContext context;
      SetDeadline(context, 120);
      v1::DeleteRequest request;
      request.set_id(id);
      request.set_dry_run(dry_run);
      v1::DeleteResponse response;
      const grpc::Status status = client->studies().Delete(&context, request, &response);
      if (!status.ok()) return StudyError(*client, id, status);
      return response;
    };
    ASSIGN_OR_RETURN(v1::DeleteResponse gone, ask(true));
    const std::string what =
        absl::StrCat("study ", id, ", ", gone.results(), " results that only it has, ",
                     ByteText(gone.bytes()), gone.images() ? " with its image set" : "");
    if (!options.dry_run) {
      if (!options.yes) {
        if (isatty(STDIN_FILENO) == 0) {
          return absl::FailedPreconditionError(absl::StrCat(
              "this would delete ", what, "; nobody can be asked here: say --yes, or --dry-run"));
        }
        if (!Confirmed(absl::StrCat("Delete ", what, "?"))) {
          return absl::FailedPreconditionError(absl::StrCat("study ", id, " stays"));
        }
      }
      ASSIGN_OR_RETURN(gone, ask(false));
    }
    if (options.format == "json") {
      deleted.push_back({{"study", id},
                         {"results", gone.results()},
                         {"blobs", gone.blobs()},
                         {"bytes", gone.bytes()},
                         {"images", gone.images()}});
    } else {
      std::printf("%s %s\n", options.dry_run ? "would delete" : "deleted", what.c_str());
    }
  }
  if (options.format == "json") {
    PrintJson({{"dry_run", options.dry_run}, {"deleted", std::move(deleted)}});
  }
  return absl::OkStatus();
}

void AddStudies(CLI::App& command, std::vector<std::string>& ids, bool required = true) {
  auto* option = command.add_option("studies", ids, "Names of studies");
  if (required) option->required();
}

}  // namespace

void AddStudyCommands(CLI::App& app, absl::Status& outcome) {
  auto* status = app.add_subcommand("status", "All studies, or more of some");
  auto shown = std::make_shared<StatusOptions>();
  AddClusterOption(*status, shown->cluster);
  shown->format = "text";
  status->add_option("-o,--output", shown->format, "text, json for programs, or names alone")
      ->check(CLI::IsMember({"text", "json", "names"}))
      ->capture_default_str();
  AddStudies(*status, shown->ids, false);
  status->footer(R"(Examples:
  dermis status
  dermis status demo
  dermis status -o json | jq '.studies[] | select(.phase == "failed")')");
  status->callback([shown, &outcome] { outcome = ShowStatus(*shown); });

  auto* wait = app.add_subcommand("wait", "Wait until studies are over, without a word");
  auto waited = std::make_shared<WaitOptions>();
  AddClusterOption(*wait, waited->cluster);
  AddOutputOption(*wait, waited->format);
  AddStudies(*wait, waited->ids);
  wait->add_option("--timeout", waited->timeout, "Seconds; then it ends with exit code 4")
      ->check(CLI::PositiveNumber);
  wait->footer(R"(Examples:
  dermis wait demo && dermis report demo -o report.html
  dermis wait first second --timeout 3600)");
  wait->callback([waited, &outcome] { outcome = Wait(*waited); });

  const auto add = [&](const char* name, const char* help) {
    auto* command = app.add_subcommand(name, help);
    auto options = std::make_shared<ChangeOptions>();
    AddClusterOption(*command, options->cluster);
    AddOutputOption(*command, options->format);
    command->add_flag("--dry-run", options->dry_run, "Only say what would be changed");
    return std::pair(command, options);
  };
  {
    const auto [command, options] =
        add("pause", "Let a study's gangs store what they have and its workers go to others");
    AddStudies(*command, options->ids);
    command->footer("Examples:\n  dermis pause demo\n  dermis pause first second --dry-run");
    command->callback([options = options, &outcome] {
      v1::Adjustment adjust;
      adjust.set_paused(true);
      outcome = ChangeStudies(*options, "pause", Adjusts(adjust));
    });
  }
  {
    const auto [command, options] = add("resume", "Let a paused study go on");
    AddStudies(*command, options->ids);
    command->add_option("--max-hours", options->max_hours,
                        "Its budget of worker-hours from now on, what it has used included (0: no limit)")
        ->check(CLI::NonNegativeNumber);
    command->footer("Examples:\n  dermis resume demo\n  dermis resume demo --max-hours 12");
    command->callback([options = options, &outcome] {
      v1::Adjustment adjust;
      adjust.set_paused(false);
      if (options->max_hours >= 0) adjust.set_max_hours(options->max_hours);
      outcome = ChangeStudies(*options, "resume", Adjusts(adjust));
    });
  }
  {
    const auto [command, options] =
        add("priority", "Set a study's share of the workers beside other studies");
    command
        ->add_option_function<std::string>(
            "study", [options = options](const std::string& id) { options->ids = {id}; },
            "The study's name")
        ->required();
    command->add_option("value", options->priority, "0.1 to 10; twice the number is twice the time")
        ->required()
        ->check(CLI::Range(0.1, 10.0));
    command->footer("Examples:\n  dermis priority urgent 4\n  dermis priority sweep 0.5 --dry-run");
    command->callback([options = options, &outcome] {
      v1::Adjustment adjust;
      adjust.set_priority(options->priority);
      outcome = ChangeStudies(*options, absl::StrCat("give priority ", options->priority, " to"),
                              Adjusts(adjust));
    });
  }
  {
    const auto [command, options] =
        add("cancel", "Stop a study; its results stay, and submitting it again goes on");
    AddStudies(*command, options->ids);
    command->footer("Examples:\n  dermis cancel demo\n  dermis cancel demo --dry-run");
    command->callback([options = options, &outcome] {
      outcome = ChangeStudies(*options, "cancel", Calls(&v1::Studies::Stub::Cancel));
    });
  }
  {
    const auto [command, options] =
        add("retry", "Clear a study's failures and run what failed again");
    AddStudies(*command, options->ids);
    command->footer("Examples:\n  dermis retry demo\n  dermis retry demo -o json");
    command->callback([options = options, &outcome] {
      outcome = ChangeStudies(*options, "clear the failures of", Calls(&v1::Studies::Stub::Retry));
    });
  }

  auto* remove = app.add_subcommand(
      "delete", "Forget a study that is over, with the results and bytes that only it has");
  auto deleted = std::make_shared<DeleteOptions>();
  AddClusterOption(*remove, deleted->cluster);
  AddOutputOption(*remove, deleted->format);
  AddStudies(*remove, deleted->ids);
  remove->add_flag("--dry-run", deleted->dry_run, "Only say what would go");
  remove->add_flag("-y,--yes", deleted->yes, "Do not ask");
  remove->footer("Examples:\n  dermis delete demo --dry-run\n  dermis delete demo --yes");
  remove->callback([deleted, &outcome] { outcome = Delete(*deleted); });
}

}  // namespace dermis
