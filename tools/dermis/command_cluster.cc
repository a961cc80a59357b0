#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/cluster.h"
#include "tools/dermis/commands.h"

namespace dermis {
namespace {

absl::Status PrintClusterStatus(const std::string& directory) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(directory));
  ASSIGN_OR_RETURN(const v1::ClusterStatusResponse status, client->ClusterStatus());
  std::printf("coordinator %s, start %lu, %.1f GB free%s\n", status.version().c_str(),
              status.incarnation(), status.free_bytes() / 1e9,
              status.disk_low() ? " (too little: new studies and blobs are refused)" : "");
  if (const std::string url = DashboardUrl(directory); !url.empty()) {
    std::printf("dashboard %s (dermis dashboard signs in)\n", url.c_str());
  }
  std::map<std::string, std::string> classes;  // Numerics class -> its workers.
  for (const v1::WorkerStatus& worker : status.workers()) {
    std::printf("%-16s %-12s %2u threads %8lu tasks  %s\n", worker.worker().c_str(),
                worker.state().c_str(), worker.threads(), worker.completed(), worker.doing().c_str());
    std::string& names = classes[worker.numerics_class()];
    absl::StrAppend(&names, names.empty() ? "" : ", ", worker.worker());
  }
  // Workers of one class give the same bits; a study stays with one.
  for (const auto& [numerics_class, names] : classes) {
    std::printf("numerics class %s: %s\n", numerics_class.c_str(), names.c_str());
  }
  for (const std::string& alarm : status.alarms()) std::printf("ALARM: %s\n", alarm.c_str());
  return absl::OkStatus();
}

absl::Status Start(const LocalClusterOptions& options) {
  RETURN_IF_ERROR(StartLocalCluster(options));
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.directory));
  RETURN_IF_ERROR(AwaitWorkers(*client, options));
  std::printf("A coordinator and %u workers run. Directory: %s\n", options.workers,
              options.directory.c_str());
  if (!DashboardUrl(options.directory).empty()) {
    std::printf("Dashboard: `dermis dashboard` prints its address\n");
  }
  return absl::OkStatus();
}

absl::Status Stop(const std::string& directory) {
  ASSIGN_OR_RETURN(const int stopped, StopLocalCluster(directory));
  std::printf("%d processes stopped; results stay in %s\n", stopped, directory.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddClusterCommands(CLI::App& app, absl::Status& outcome) {
  auto* cluster = app.add_subcommand("cluster", "Start, stop and look at a cluster of this machine");
  cluster->require_subcommand(1);

  auto* start = cluster->add_subcommand("start", "Start a coordinator and workers in the background");
  auto options = std::make_shared<LocalClusterOptions>();
  AddClusterOption(*start, options->directory);
  start->add_option("--workers", options->workers, "Worker processes")
      ->capture_default_str()
      ->check(CLI::Range(0, 256));
  start->add_option("--threads", options->threads,
                    "Compute threads a worker (default: cores / workers)")
      ->check(CLI::Range(1, 1024));
  start->add_option("--listen", options->listen, "Address of the coordinator")->capture_default_str();
  start->add_option("--dashboard", options->dashboard,
                    "HOST:PORT that serves the dashboard and /metrics (docs/dashboard.md); '' for none")
      ->capture_default_str();
  start->add_option("--segment", options->segment, "Seconds of training between two stored states")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 86400.0));
  start->add_flag("--allow-torchscript", options->allow_torchscript,
                  "Take studies of TorchScript models, which carry code");
  start->add_option("--image-memory", options->image_memory,
                    "Bytes of an image set, at the model's size, that a worker holds, e.g. 4GB; a larger set is read "
                    "by chunks (default: a quarter of this machine's memory, shared by all workers)")
      ->transform(CLI::AsSizeValue(true));
  start->callback([options, &outcome] { outcome = Start(*options); });

  auto* stop = cluster->add_subcommand("stop", "Stop all processes; results stay");
  auto* status = cluster->add_subcommand("status", "Workers and what they do");
  auto directory = std::make_shared<std::string>();
  for (auto* command : {stop, status}) AddClusterOption(*command, *directory);
  stop->callback([directory, &outcome] { outcome = Stop(*directory); });
  status->callback([directory, &outcome] { outcome = PrintClusterStatus(*directory); });
}

}  // namespace dermis
