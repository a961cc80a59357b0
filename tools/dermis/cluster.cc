#include "tools/dermis/cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
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
#include "tools/dermis/worker_plan.h"
#include "worker/cuda/list_gpus.h"

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

// In the child of a fork: who it is, by its own hand and before its program starts, so that whoever kills the starter leaves
// no process that `cluster stop` does not find. Calls only what may be called between fork and exec.
bool WritePidFile(const char* path) {
  char stat[1024] = {};
  const int in = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (in < 0 || ::read(in, stat, sizeof stat - 1) <= 0) return false;
  ::close(in);
  // "PID (NAME) STATE ...": the pid before the first space, the start time in the twentieth field after the name.
  const size_t pid_length = std::strcspn(stat, " ");
  const char* field = std::strrchr(stat, ')');
  for (int i = 0; i < 20 && field != nullptr; ++i) field = std::strchr(field + 1, ' ');
  if (field == nullptr) return false;
  char line[64];
  const size_t time_length = std::strcspn(field + 1, " ");
  if (pid_length + time_length + 2 > sizeof line) return false;
  std::memcpy(line, stat, pid_length);
  line[pid_length] = ' ';
  std::memcpy(line + pid_length + 1, field + 1, time_length);
  line[pid_length + 1 + time_length] = '\n';
  const int out = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const auto size = static_cast<ssize_t>(pid_length + time_length + 2);
  return out >= 0 && ::write(out, line, size) == size && ::close(out) == 0;
}

// Starts a program in its own session with its output in DIR/logs/NAME.log and itself in DIR/pids/NAME.
absl::StatusOr<pid_t> Launch(const fs::path& directory, const std::string& name,
                             const std::vector<std::string>& command, bool ends_with_starter) {
  const std::string log = directory / "logs" / (name + ".log");
  const std::string pid_file = directory / "pids" / name;
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int failed[2];  // Closed by a successful exec; else errno.
  if (::pipe2(failed, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "a pipe");
  const pid_t starter = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int input = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ::setsid();
    bool good = input >= 0 && output >= 0 && ::dup2(input, 0) == 0 && ::dup2(output, 1) == 1 && ::dup2(output, 2) == 2;
    // The directory's lock came along with the fork: a `cluster stop` waits until the line is written.
    good = good && WritePidFile(pid_file.c_str());
    if (good && ends_with_starter) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (::getppid() != starter) ::_exit(1);
    }
    if (good) ::execv(argv[0], argv.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t n = ::write(failed[1], &error, sizeof error);
    ::_exit(127);
  }
  const int fork_error = errno;
  ::close(failed[1]);
  int error = 0;
  const bool started = pid > 0 && ::read(failed[0], &error, sizeof error) <= 0;
  ::close(failed[0]);
  if (started) return pid;
  if (pid > 0) ::waitpid(pid, nullptr, 0);
  return absl::UnavailableError(
      absl::StrCat("cannot start ", command[0], ": ", strerror(pid > 0 ? error : fork_error)));
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
      "--listen", listen, "--segment", absl::StrCat(options.segment),
      "--spot-checks", absl::StrCat(options.spot_checks)};
  for (const auto& [option, number] : {std::pair{"--user-studies", options.user_studies}, std::pair{"--user-blobs", options.user_blobs},
                                       std::pair{"--user-gib", options.user_gib}}) {
    if (number.has_value()) command.insert(command.end(), {option, absl::StrCat(*number)});
  }
  if (options.allow_torchscript) command.push_back("--allow-torchscript");
  if (!options.dashboard.empty()) command.insert(command.end(), {"--dashboard", options.dashboard});
  ASSIGN_OR_RETURN(const pid_t pid, Launch(directory, "coordinator", command, options.ends_with_starter));
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

// Which GPUs there are is asked only where one may be taken.
absl::StatusOr<WorkerPlan> PlanHere(const LocalClusterOptions& options, const fs::path& directory) {
  Machine machine;
  machine.cores = std::max(1u, std::thread::hardware_concurrency());
  machine.memory = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE));
  if (options.devices != "cpu") machine.gpus = ListGpus();
  for (const ListedGpu& gpu : machine.gpus) {
    if (Running(directory / "pids" / absl::StrCat("gpu-", gpu.ordinal))) machine.own_gpus.insert(gpu.ordinal);
  }
  return PlanWorkers(options, machine);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ProcessesToBe(const LocalClusterOptions& options) {
  ASSIGN_OR_RETURN(const WorkerPlan plan, PlanHere(options, fs::absolute(options.directory)));
  std::vector<std::string> names = {"coordinator"};
  for (const PlannedWorker& worker : plan.workers) names.push_back(worker.name);
  return names;
}

absl::Status InitCluster(const std::string& directory) {
  const fs::path folder = fs::absolute(directory);
  RETURN_IF_ERROR(MakeDirectories(folder));
  const DirectoryLock lock(folder);
  return MakeClusterCertificates(folder / "certs", {});
}

absl::StatusOr<uint32_t> StartLocalCluster(const LocalClusterOptions& options) {
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
  ASSIGN_OR_RETURN(const WorkerPlan plan, PlanHere(options, directory));
  for (const PlannedWorker& worker : plan.workers) {
    if (Running(directory / "pids" / worker.name)) continue;
    std::vector<std::string> command = {ProgramFolder() / "dermis-worker", "--coordinator", address, "--certs",
                                        directory / "certs", "--cache", directory / "cache" / worker.name};
    const std::vector<std::string> planned = PlannedOptions(plan, worker);
    command.insert(command.end(), planned.begin(), planned.end());
    command.push_back("--supervise");
    if (options.allow_torchscript) command.push_back("--allow-torchscript");
    RETURN_IF_ERROR(Launch(directory, worker.name, command, options.ends_with_starter).status());
  }
  return static_cast<uint32_t>(plan.workers.size());
}

std::vector<LocalProcess> LocalProcesses(const std::string& directory) {
  std::vector<LocalProcess> processes;
  std::error_code ignored;
  for (const auto& file : fs::directory_iterator(fs::path(directory) / "pids", ignored)) {
    processes.push_back({file.path().filename(), Running(file.path()).value_or(0)});
  }
  std::sort(processes.begin(), processes.end(),
            [](const LocalProcess& a, const LocalProcess& b) { return a.name < b.name; });
  return processes;
}

absl::Status AwaitWorkers(Client& client, const std::string& directory, uint32_t workers) {
  const absl::Duration until = Clock::Real().Now() + absl::Seconds(60);
  int registered = 0;
  while (true) {
    const auto status = client.ClusterStatus();
    if (status.ok()) registered = status->workers_size();
    if (registered >= static_cast<int>(workers)) return absl::OkStatus();
    if (Interrupted()) return absl::CancelledError("interrupted");
    if (Clock::Real().Now() > until) {
      return absl::UnavailableError(
          absl::StrCat("only ", registered, " of ", workers,
                       " workers came up within 60 s; see ", directory, "/logs"));
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
