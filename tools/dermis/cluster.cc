#include "tools/dermis/cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "common/tls.h"
#include "tools/dermis/submit.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

constexpr absl::Duration kStartPatience = absl::Seconds(20);
// A worker may take its time: its gang stores the state that it has reached.
constexpr absl::Duration kStopPatience = absl::Seconds(40);

void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(50)); }

// Start time of a process in clock ticks after boot (field 22 of /proc/PID/stat): with the pid it names a process
// for good, so a reused pid is never signalled.
std::optional<std::string> StartTime(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/stat"));
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const size_t after_name = text.rfind(") ");
  if (after_name == std::string::npos) return std::nullopt;
  const std::vector<std::string> fields = absl::StrSplit(text.substr(after_name + 2), ' ');
  if (fields.size() < 20 || fields[0] == "Z") return std::nullopt;
  return fields[19];
}

// The process that a pid file names, if it still runs.
std::optional<pid_t> Running(const fs::path& pid_file) {
  std::ifstream in(pid_file);
  pid_t pid = 0;
  std::string start;
  if (!(in >> pid >> start) || StartTime(pid) != start) return std::nullopt;
  return pid;
}

// What a log has got since it was `from` bytes long, at most the end of it.
std::string EndOf(const fs::path& log, std::streamoff from) {
  std::ifstream in(log);
  in.seekg(from);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return text.size() > 2000 ? "..." + text.substr(text.size() - 2000) : text;
}

fs::path ProgramFolder() { return fs::read_symlink("/proc/self/exe").parent_path(); }

// Starts a program in its own session with its output in DIR/logs/NAME.log.
absl::StatusOr<pid_t> Launch(const fs::path& directory, const std::string& name,
                             const std::vector<std::string>& command) {
  const fs::path log = directory / "logs" / (name + ".log");
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat("cannot start ", command[0], ": ", strerror(error)));
  }
  std::ofstream out(directory / "pids" / name);
  out << pid << ' ' << StartTime(pid).value_or("?") << '\n';
  return pid;
}

bool HasEnded(pid_t pid) { return waitpid(pid, nullptr, WNOHANG) == pid; }

absl::Status StartCoordinator(const LocalClusterOptions& options, const fs::path& directory) {
  const fs::path address = directory / "store" / "address";
  // After a crash the same address: the workers that still run look for it there.
  std::string listen = options.listen;
  std::ifstream(address) >> listen;
  fs::remove(address);
  const fs::path log = directory / "logs" / "coordinator.log";
  const auto before = static_cast<std::streamoff>(fs::exists(log) ? fs::file_size(log) : 0);
  std::vector<std::string> command = {
      ProgramFolder() / "dermis-coordinator", "--store", directory / "store", "--certs", directory / "certs",
      "--listen", listen, "--segment", absl::StrCat(options.segment)};
  if (options.allow_torchscript) command.push_back("--allow-torchscript");
  if (!options.dashboard.empty()) command.insert(command.end(), {"--dashboard", options.dashboard});
  ASSIGN_OR_RETURN(const pid_t pid, Launch(directory, "coordinator", command));
  const absl::Duration until = Clock::Real().Now() + kStartPatience;
  while (!fs::exists(address)) {
    if (HasEnded(pid) || Clock::Real().Now() > until) {
      // The next try takes the same address again: workers that run look for it there.
      if (listen != options.listen) std::ofstream(address) << listen << '\n';
      return absl::UnavailableError(absl::StrCat("the coordinator did not start:\n",
                                                 EndOf(log, before)));
    }
    Pause();
  }
  return absl::OkStatus();
}

absl::Status MakeDirectories(const fs::path& directory) {
  std::error_code error;
  for (const char* part : {"", "certs", "store", "cache", "logs", "pids"}) {
    fs::create_directories(directory / part, error);
    if (!error) fs::permissions(directory / part, fs::perms::owner_all, error);
    if (error) {
      return absl::UnavailableError(
          absl::StrCat((directory / part).string(), " cannot be made: ", error.message()));
    }
  }
  return absl::OkStatus();
}

// One start or stop of a directory's cluster at a time; held until it is destroyed, or the process ends.
class DirectoryLock {
 public:
  explicit DirectoryLock(const fs::path& directory)
      : fd_(::open((directory / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    while (fd_ >= 0 && ::flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~DirectoryLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  const int fd_;
};

// Asks all to end and waits until they have; the number that ran.
int StopAll(const std::vector<fs::path>& pid_files) {
  int stopped = 0;
  for (const fs::path& file : pid_files) {
    if (auto pid = Running(file)) {
      kill(*pid, SIGTERM);
      ++stopped;
    }
  }
  const absl::Duration until = Clock::Real().Now() + kStopPatience;
  for (const fs::path& file : pid_files) {
    while (auto pid = Running(file)) {
      if (Clock::Real().Now() > until) kill(*pid, SIGKILL);
      Pause();
    }
    fs::remove(file);
  }
  return stopped;
}

}  // namespace

absl::Status StartLocalCluster(const LocalClusterOptions& options) {
  const fs::path directory = fs::absolute(options.directory);
  RETURN_IF_ERROR(MakeDirectories(directory));
  const DirectoryLock lock(directory);
  RETURN_IF_ERROR(MakeClusterCertificates(directory / "certs", {}));
  if (!Running(directory / "pids" / "coordinator")) {
    RETURN_IF_ERROR(StartCoordinator(options, directory));
  }
  std::ifstream in(directory / "store" / "address");
  std::string address;
  if (!(in >> address)) {
    return absl::UnavailableError(absl::StrCat("the coordinator runs, but ", (directory / "store" / "address").string(),
                                               " does not say where: `dermis cluster stop`, then start it again"));
  }
  const uint32_t cores = std::max(1u, std::thread::hardware_concurrency());
  const uint32_t threads =
      options.threads > 0 ? options.threads : std::max(1u, cores / std::max(1u, options.workers));
  const uint64_t memory = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE));
  const uint64_t image_memory = options.image_memory > 0
                                    ? options.image_memory
                                    : memory / 4 / std::max(1u, options.workers);
  for (uint32_t w = 0; w < options.workers; ++w) {
    const std::string name = absl::StrCat("worker-", w);
    if (Running(directory / "pids" / name)) continue;
    std::vector<std::string> command = {
        ProgramFolder() / "dermis-worker", "--coordinator", address, "--certs", directory / "certs", "--cache",
        directory / "cache" / name, "--name", name, "--threads", absl::StrCat(threads),
        "--image-memory", absl::StrCat(image_memory), "--supervise"};
    if (options.allow_torchscript) command.push_back("--allow-torchscript");
    RETURN_IF_ERROR(Launch(directory, name, command).status());
  }
  return absl::OkStatus();
}

absl::Status AwaitWorkers(Client& client, const LocalClusterOptions& options) {
  const absl::Duration until = Clock::Real().Now() + absl::Seconds(60);
  int registered = 0;
  while (true) {
    const auto status = client.ClusterStatus();
    if (status.ok()) registered = status->workers_size();
    if (registered >= static_cast<int>(options.workers)) return absl::OkStatus();
    if (Interrupted()) return absl::CancelledError("interrupted");
    if (Clock::Real().Now() > until) {
      return absl::UnavailableError(
          absl::StrCat("only ", registered, " of ", options.workers,
                       " workers came up within 60 s; see ", options.directory, "/logs"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

absl::StatusOr<int> StopLocalCluster(const std::string& directory) {
  if (!fs::is_directory(directory)) return 0;
  const DirectoryLock lock(directory);
  const fs::path pids = fs::path(directory) / "pids";
  std::vector<fs::path> files;
  if (fs::is_directory(pids)) {
    for (const auto& file : fs::directory_iterator(pids)) files.push_back(file.path());
  }
  // Workers first, and the coordinator only when they are gone: it takes what they hand back.
  const auto is_coordinator = [](const fs::path& file) { return file.filename() == "coordinator"; };
  const auto workers_end = std::stable_partition(
      files.begin(), files.end(), [&](const fs::path& file) { return !is_coordinator(file); });
  const int stopped = StopAll({files.begin(), workers_end}) + StopAll({workers_end, files.end()});
  fs::remove(fs::path(directory) / "store" / "address");
  return stopped;
}

}  // namespace dermis
