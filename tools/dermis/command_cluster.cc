#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "tools/dermis/client.h"
#include "tools/dermis/cluster.h"
#include "tools/dermis/command_join.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/output.h"

namespace dermis {
namespace {

struct ClusterOptions {
  LocalClusterOptions local;  // Of stop and status: the directory alone.
  std::string format;
  bool dry_run = false, workers_named = false;
};

absl::Status PrintClusterStatus(const ClusterOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.local.directory));
  ASSIGN_OR_RETURN(const v1::ClusterStatusResponse status, client->ClusterStatus());
  if (options.format == "json") {
    PrintJson(JsonOf(status));
    return absl::OkStatus();
  }
  std::printf("coordinator %s, start %lu, %.1f GB free%s\n", status.version().c_str(),
              status.incarnation(), status.free_bytes() / 1e9,
              status.disk_low() ? " (too little: new studies and blobs are refused)" : "");
  if (const std::string url = DashboardUrl(options.local.directory); !url.empty()) {
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
  for (const std::string& alarm : status.alarms()) {
    std::printf("%s %s\n", Paint(Color::kRed, "ALARM:").c_str(), alarm.c_str());
  }
  return absl::OkStatus();
}

absl::Status Start(const ClusterOptions& options) {
  const LocalClusterOptions& local = options.local;
  ASSIGN_OR_RETURN(std::vector<std::string> starts, ProcessesToBe(local));
  uint32_t workers = 0;
  const bool gpus = std::any_of(starts.begin(), starts.end(),
                                [](const std::string& name) { return name.starts_with("gpu-"); });
  if (options.workers_named && gpus) {
    std::fprintf(stderr,
                 "--workers is for workers of the processor; here each GPU gets one worker (--devices cpu: none of "
                 "them)\n");
  }
  for (const LocalProcess& process : LocalProcesses(local.directory)) {
    if (process.pid > 0) std::erase(starts, process.name);
  }
  if (!options.dry_run) {
    ASSIGN_OR_RETURN(workers, StartLocalCluster(local));
    ASSIGN_OR_RETURN(auto client, Client::Connect(local.directory));
    RETURN_IF_ERROR(AwaitWorkers(*client, local.directory, workers));
  }
  if (options.format == "json") {
    PrintJson({{"dry_run", options.dry_run}, {"directory", local.directory}, {"started", starts}});
  } else if (options.dry_run) {
    std::printf("would start %s in %s\n",
                starts.empty() ? "nothing: all of it runs" : absl::StrJoin(starts, ", ").c_str(),
                local.directory.c_str());
  } else {
    std::printf("A coordinator and %u workers run. Directory: %s\n", workers,
                local.directory.c_str());
    if (!DashboardUrl(local.directory).empty()) {
      std::printf("Dashboard: `dermis dashboard` prints its address\n");
    }
  }
  return absl::OkStatus();
}

absl::Status Init(const ClusterOptions& options) {
  const std::string& directory = options.local.directory;
  RETURN_IF_ERROR(InitCluster(directory));
  if (options.format == "json") {
    PrintJson({{"directory", directory}, {"certificates", absl::StrCat(directory, "/certs")}});
    return absl::OkStatus();
  }
  std::printf("Certificates are in %s/certs. ca.key makes new ones: it stays here.\n", directory.c_str());
  return absl::OkStatus();
}

struct WorkerOptions {
  std::string directory, worker, format;
  bool dry_run = false;
};

// Says what would be done; NOT_FOUND where the coordinator would say so.
absl::Status TryOnWorker(Client& client, const WorkerOptions& options, bool release) {
  ASSIGN_OR_RETURN(const v1::ClusterStatusResponse status, client.ClusterStatus());
  bool here = false, quarantined = false;
  for (const v1::WorkerStatus& worker : status.workers()) here |= worker.worker() == options.worker;
  for (const v1::QuarantinedWorker& worker : status.quarantined()) quarantined |= worker.worker() == options.worker;
  if (release ? !quarantined : !here && !quarantined) {
    return absl::NotFoundError(absl::StrCat("worker ", options.worker, release ? " is not quarantined" : " is not here now",
                                            "; `dermis cluster status` lists them"));
  }
  if (options.format == "json") {
    PrintJson({{"dry_run", true}, {"worker", options.worker}});
  } else {
    std::printf(release ? "would give worker %s work again\n"
                        : "would give worker %s no work any more, withdraw all its results, and compute them again\n",
                options.worker.c_str());
  }
  return absl::OkStatus();
}

absl::Status Quarantine(const WorkerOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.directory));
  if (options.dry_run) return TryOnWorker(*client, options, false);
  grpc::ClientContext context;
  SetDeadline(context, 120);
  v1::QuarantineRequest request;
  request.set_worker(options.worker);
  v1::QuarantineResponse response;
  const grpc::Status status = client->studies().Quarantine(&context, request, &response);
  if (!status.ok()) return ToAbsl(status, absl::StrCat("worker ", options.worker));
  if (options.format == "json") {
    PrintJson({{"dry_run", false}, {"worker", options.worker}, {"why", response.worker().why()}, {"withdrawn", response.worker().withdrawn()}});
  } else {
    std::printf("worker %s gets no work (%s); %lu results are withdrawn and computed again\n", options.worker.c_str(),
                response.worker().why().c_str(), response.worker().withdrawn());
  }
  return absl::OkStatus();
}

absl::Status Release(const WorkerOptions& options) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(options.directory));
  if (options.dry_run) return TryOnWorker(*client, options, true);
  grpc::ClientContext context;
  SetDeadline(context);
  v1::ReleaseRequest request;
  request.set_worker(options.worker);
  v1::ReleaseResponse response;
  const grpc::Status status = client->studies().Release(&context, request, &response);
  if (!status.ok()) return ToAbsl(status, absl::StrCat("worker ", options.worker));
  if (options.format == "json") {
    PrintJson({{"dry_run", false}, {"worker", options.worker}});
  } else {
    std::printf("worker %s gets work again\n", options.worker.c_str());
  }
  return absl::OkStatus();
}

absl::Status Stop(const ClusterOptions& options) {
  const std::string& directory = options.local.directory;
  std::vector<std::string> stops;
  for (const LocalProcess& process : LocalProcesses(directory)) {
    if (process.pid > 0) stops.push_back(process.name);
  }
  int stopped = 0;
  if (!options.dry_run) {
    ASSIGN_OR_RETURN(stopped, StopLocalCluster(directory));
  }
  if (options.format == "json") {
    PrintJson({{"dry_run", options.dry_run}, {"directory", directory}, {"stopped", stops}});
  } else if (options.dry_run) {
    std::printf("would stop %s\n",
                stops.empty() ? "nothing: nothing runs" : absl::StrJoin(stops, ", ").c_str());
  } else {
    std::printf("%d processes stopped; results stay in %s\n", stopped, directory.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddClusterCommands(CLI::App& app, absl::Status& outcome) {
  auto* cluster = app.add_subcommand("cluster", "Start, stop and look at a cluster of this machine");
  cluster->require_subcommand(1);
  cluster->footer(R"(Examples:
  dermis cluster start --workers 2
  dermis cluster status
  dermis cluster stop)");

  auto* start = cluster->add_subcommand("start", "Start a coordinator and workers in the background");
  auto starting = std::make_shared<ClusterOptions>();
  LocalClusterOptions* const options = &starting->local;
  AddClusterOption(*start, options->directory);
  start->add_option("--devices", options->devices,
                    "auto: a worker for each GPU that nobody else uses, or else of the processor; cpu; or GPUs "
                    "as gpu:0,gpu:1")
      ->capture_default_str();
  start->add_option("--device-memory", options->device_memory,
                    "Share of a GPU's memory that its worker takes at most")
      ->capture_default_str()
      ->check(CLI::Range(0.05, 1.0));
  AddOutputOption(*start, starting->format);
  start->add_flag("--dry-run", starting->dry_run, "Only say what would be started");
  auto* const number =
      start->add_option("--workers", options->workers, "Worker processes, where they are of the processor");
  number
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
  start->add_option("--spot-checks", options->spot_checks,
                    "Part of the units that a second worker computes, too, to find workers whose results are wrong; 0: none")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  start->add_option("--user-studies", options->user_studies, "Studies that one user may have; 0: any number (default: 10000)");
  start->add_option("--user-blobs", options->user_blobs,
                    "Blobs of image sets and models that one user may have; 0: any number (default: 1000000)");
  start->add_option("--user-gib", options->user_gib, "GiB that these may hold; 0: no limit (default: 10240)")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 33));
  start->add_flag("--allow-torchscript", options->allow_torchscript,
                  "Take studies of TorchScript models, which carry code");
  start->add_option("--image-memory", options->image_memory,
                    "Bytes of an image set, at the model's size, that a worker holds, e.g. 4GB; a larger set is read "
                    "by chunks (default: a quarter of this machine's memory, shared by all workers)")
      ->transform(CLI::AsSizeValue(true));
  start->footer(R"(Examples:
  dermis cluster start --workers 2
  dermis cluster start --workers 4 --threads 2 --listen 0.0.0.0:7433
  dermis cluster start --dry-run)");
  start->callback([starting, number, &outcome] {
    starting->workers_named = number->count() > 0;
    outcome = Start(*starting);
  });

  auto* quarantine = cluster->add_subcommand(
      "quarantine", "Give a worker no work any more: its results are wrong, and are computed again");
  auto* release = cluster->add_subcommand("release", "Give a quarantined worker work again");
  auto named = std::make_shared<WorkerOptions>();
  for (auto* command : {quarantine, release}) {
    AddClusterOption(*command, named->directory);
    AddOutputOption(*command, named->format);
    command->add_option("worker", named->worker, "Its name, as `dermis cluster status` says it")->required();
    command->add_flag("--dry-run", named->dry_run, "Only say what would be done");
  }
  quarantine->footer("Examples:\n  dermis cluster quarantine worker-1");
  release->footer("Examples:\n  dermis cluster release worker-1");
  quarantine->callback([named, &outcome] { outcome = Quarantine(*named); });
  release->callback([named, &outcome] { outcome = Release(*named); });

  auto* init = cluster->add_subcommand("init", "Make the directory and its certificates, start nothing");
  auto* stop = cluster->add_subcommand("stop", "Stop all processes; results stay");
  auto* status = cluster->add_subcommand("status", "Workers and what they do");
  auto other = std::make_shared<ClusterOptions>();
  for (auto* command : {init, stop, status}) {
    AddClusterOption(*command, other->local.directory);
    AddOutputOption(*command, other->format);
  }
  init->footer("Examples:\n  dermis cluster init");
  init->callback([other, &outcome] { outcome = Init(*other); });
  stop->add_flag("--dry-run", other->dry_run, "Only say what would be stopped");
  stop->footer("Examples:\n  dermis cluster stop\n  dermis cluster stop --dry-run");
  status->footer("Examples:\n  dermis cluster status\n  dermis cluster status -o json");
  stop->callback([other, &outcome] { outcome = Stop(*other); });
  status->callback([other, &outcome] { outcome = PrintClusterStatus(*other); });
  AddJoinCommands(*cluster, outcome);
}

}  // namespace dermis
