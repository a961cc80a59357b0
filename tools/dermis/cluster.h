// A cluster of this machine: a coordinator and workers as background processes, kept track of in a directory.
//   DIR/certs/  DIR/store/  DIR/cache/  DIR/logs/NAME.log  DIR/pids/NAME (pid and start time)
#ifndef DERMIS_TOOLS_DERMIS_CLUSTER_H_
#define DERMIS_TOOLS_DERMIS_CLUSTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/dermis/client.h"

namespace dermis {

struct LocalClusterOptions {
  std::string directory;
  uint32_t workers = 2;
  uint32_t threads = 0;            // Compute threads a worker; 0 = this machine's cores / workers.
  std::string listen = "127.0.0.1:0";
  std::string dashboard = "127.0.0.1:0";  // Empty: none.
  double segment = 30;             // Seconds of training between two stored states.
  bool allow_torchscript = false;  // Studies may bring models that carry code.
  uint64_t image_memory = 0;       // Bytes of an image set that a worker holds; 0 = a quarter of the memory, shared by all.
};

// Starts what does not run yet and waits until the coordinator answers. Errors carry the end of the log of what
// did not start.
absl::Status StartLocalCluster(const LocalClusterOptions& options);

// Waits until that many workers have registered: they measure their numerics first. UNAVAILABLE after a minute;
// CANCELLED where the user interrupts.
absl::Status AwaitWorkers(Client& client, const LocalClusterOptions& options);

// Workers, then the coordinator: SIGTERM, and SIGKILL after 40 s. Fine when nothing runs. Returns how many processes
// were stopped.
absl::StatusOr<int> StopLocalCluster(const std::string& directory);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_CLUSTER_H_
