// A cluster of this machine: a coordinator and workers as background processes, kept track of in a directory.
//   DIR/certs/  DIR/store/  DIR/cache/  DIR/logs/NAME.log  DIR/pids/NAME (pid and start time)
#ifndef DERMIS_TOOLS_DERMIS_CLUSTER_H_
#define DERMIS_TOOLS_DERMIS_CLUSTER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/dermis/client.h"

namespace dermis {

// What workers of a local cluster drive. "auto": a worker for each GPU that nobody else uses, or,
// where there is none, --workers of the processor; "cpu": those; "gpu:0,gpu:2": these GPUs.
struct LocalClusterOptions {
  std::string devices = "auto";
  double device_memory = 0.9;      // Share of a GPU's memory that its worker takes at most.
  std::string directory;
  uint32_t workers = 2;
  uint32_t threads = 0;            // Compute threads a worker; 0 = this machine's cores / workers.
  std::string listen = "127.0.0.1:0";
  std::string dashboard = "127.0.0.1:0";  // Empty: none.
  double segment = 30;             // Seconds of training between two stored states.
  double spot_checks = 0.01;       // Part of the units that a second worker computes, too.
  std::optional<uint64_t> user_studies, user_blobs, user_gib;  // What a user may have; else the coordinator's defaults.
  bool allow_torchscript = false;  // Studies may bring models that carry code.
  bool ends_with_starter = false;  // All processes are told to end when the thread that starts them does, however it ends.
  uint64_t image_memory = 0;       // Bytes of an image set that a worker holds; 0 = a quarter of the memory, shared by all.
};

// Makes what is missing of the directory and of its certificates, and starts nothing. For clusters whose processes others
// start: systemd, Slurm, Kubernetes (cluster/).
absl::Status InitCluster(const std::string& directory);

// Starts what does not run yet and waits until the coordinator answers. Errors carry the end of the log of what
// did not start.
// Gives the number of workers.
absl::StatusOr<uint32_t> StartLocalCluster(const LocalClusterOptions& options);

// The names of all processes of such a cluster, whether or not they run now.
absl::StatusOr<std::vector<std::string>> ProcessesToBe(const LocalClusterOptions& options);

// A process that `cluster start` started in the directory.
struct LocalProcess {
  std::string name;  // "coordinator", "worker-0".
  int pid = 0;       // 0: it does not run any more.
};
// In the order of their names.
std::vector<LocalProcess> LocalProcesses(const std::string& directory);

// Waits until that many workers have registered: they measure their numerics first. UNAVAILABLE after a minute;
// CANCELLED where the user interrupts.
absl::Status AwaitWorkers(Client& client, const std::string& directory, uint32_t workers);

// Workers, then the coordinator: SIGTERM, and SIGKILL after 40 s. Fine when nothing runs. Returns how many processes
// were stopped.
absl::StatusOr<int> StopLocalCluster(const std::string& directory);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_CLUSTER_H_
