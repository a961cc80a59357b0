#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/progress.h"

namespace dermis {
namespace {

void Print(const v1::StudyStatus& status) {
  std::printf("%-9s %s\n",
              absl::AsciiStrToLower(v1::StudyStatus::Phase_Name(status.phase())).c_str(),
              ProgressLine(status).c_str());
  for (const std::string& problem : status.problems()) std::printf("          %s\n", problem.c_str());
}

absl::Status PrintStudies(const std::string& cluster) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(cluster));
  grpc::ClientContext context;
  SetDeadline(context);
  v1::ListResponse response;
  const grpc::Status status = client->studies().List(&context, {}, &response);
  if (!status.ok()) return ToAbsl(status, "studies");
  for (const v1::StudyStatus& study : response.studies()) Print(study);
  if (response.studies().empty()) std::printf("no studies yet\n");
  return absl::OkStatus();
}

using StudyCall = grpc::Status (v1::Studies::Stub::*)(grpc::ClientContext*, const v1::StudyRequest&,
                                                      v1::StudyStatus*);

absl::Status CallStudy(const std::string& cluster, const std::string& id, StudyCall call) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(cluster));
  grpc::ClientContext context;
  SetDeadline(context);
  v1::StudyRequest request;
  request.set_id(id);
  v1::StudyStatus response;
  const grpc::Status status = (client->studies().*call)(&context, request, &response);
  if (!status.ok()) return ToAbsl(status, absl::StrCat("study ", id));
  Print(response);
  return absl::OkStatus();
}

}  // namespace

void AddStatusCommands(CLI::App& app, absl::Status& outcome) {
  auto cluster = std::make_shared<std::string>();
  auto id = std::make_shared<std::string>();
  auto* status = app.add_subcommand("status", "All studies");
  AddClusterOption(*status, *cluster);
  status->callback([cluster, &outcome] { outcome = PrintStudies(*cluster); });

  const auto add = [&](const char* name, const char* help, StudyCall call) {
    auto* command = app.add_subcommand(name, help);
    AddClusterOption(*command, *cluster);
    command->add_option("study", *id, "The study's name")->required();
    command->callback([cluster, id, call, &outcome] { outcome = CallStudy(*cluster, *id, call); });
  };
  add("cancel", "Stop a study; its results stay, and submitting it again goes on",
      &v1::Studies::Stub::Cancel);
  add("retry", "Clear a study's failures and run what failed again", &v1::Studies::Stub::Retry);
}

}  // namespace dermis
