// The small parent of a worker process: starts it again when it dies, and says why it died.
#ifndef DERMIS_WORKER_SUPERVISOR_H_
#define DERMIS_WORKER_SUPERVISOR_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace dermis {

// The child's exit code for "a restart would not help" (EX_CONFIG): the supervisor ends with it.
inline constexpr int kExitHopeless = 78;

// The child's exit code when it ends because a thread of it hangs: a new process is the cure (EX_SOFTWARE).
inline constexpr int kExitHung = 70;

// Tells a child how the one before it died, and the end of its log; absent for the first one.
inline constexpr char kLastEndVariable[] = "DERMIS_WORKER_LAST_END";

struct SupervisorOptions {
  absl::Duration first_backoff = absl::Milliseconds(500);
  absl::Duration last_backoff = absl::Seconds(30);
  absl::Duration healthy = absl::Seconds(30);   // A child that lived so long resets the back-off.
  absl::Duration patience = absl::Seconds(35);  // Between SIGTERM and SIGKILL when told to stop.
  int log_lines = 30;                           // End of the child's log that a report holds.
  std::function<void(const std::string&)> report;  // Default: the log.
};

// Runs `argv` (argv[0] a path) as a child in the same environment; its standard error passes through here.
// Returns the exit code when the child ended by itself with 0 or kExitHopeless, or after SIGTERM / SIGINT.
// The kernel kills the child when this process dies, however it dies: no orphan stays. Uses fork: call it
// while the process has one thread.
int Supervise(const std::vector<std::string>& argv, const SupervisorOptions& options);

// "killed by signal 9 (Killed): out of memory?, or kill -9", "exit code 3".
std::string DeathCause(int wait_status);

}  // namespace dermis

#endif  // DERMIS_WORKER_SUPERVISOR_H_
