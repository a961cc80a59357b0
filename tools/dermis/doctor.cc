#include "tools/dermis/doctor.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/tasks.h"
#include "common/tls.h"
#include "tools/dermis/client.h"
#include "tools/dermis/cluster.h"
#include "tools/dermis/output.h"
#include "worker/cuda/load.h"

namespace dermis {

namespace fs = std::filesystem;

Check CheckCertificate(const std::string& file, const std::string& pem, absl::Time now) {
  Check check{absl::StrCat("certificate ", file), Check::kOk, "", ""};
  const char* const renew =
      "`dermis cluster stop`, remove the expired .crt file (of ca.crt: the whole certs folder), then `dermis "
      "cluster start` makes new ones; copy them to remote workers";
  const absl::StatusOr<Validity> validity = ValidityOf(pem);
  if (!validity.ok()) {
    return {check.name, Check::kBad, "cannot be read as a certificate", renew};
  }
  const std::string until = absl::FormatTime("%Y-%m-%d", validity->until, absl::UTCTimeZone());
  if (now < validity->from) {
    return {check.name, Check::kBad,
            absl::StrCat("is valid only from ",
                         absl::FormatTime("%Y-%m-%d %H:%M", validity->from, absl::UTCTimeZone()), " UTC"),
            "set this machine's clock"};
  }
  if (now >= validity->until) return {check.name, Check::kBad, absl::StrCat("ended on ", until), renew};
  check.detail = absl::StrCat("valid until ", until);
  if (validity->until - now < absl::Hours(24 * 30)) {
    check.state = Check::kWarning;
    check.next = renew;
  }
  return check;
}

Check CheckClock(absl::Time here, absl::Time coordinator) {
  const absl::Duration apart = here > coordinator ? here - coordinator : coordinator - here;
  Check check{"clock", Check::kOk,
              absl::StrCat("within ", absl::ToInt64Seconds(apart) + 1, " s of the coordinator's"), ""};
  if (apart > absl::Hours(20)) {
    check.state = Check::kBad;
  } else if (apart > absl::Minutes(5)) {
    check.state = Check::kWarning;
  }
  if (check.state != Check::kOk) {
    check.detail = absl::StrCat(absl::FormatDuration(absl::Trunc(apart, absl::Seconds(1))),
                                here > coordinator ? " ahead of" : " behind", " the coordinator's");
    check.next = "set the clock (NTP): results never depend on it, but certificates do";
  }
  return check;
}

Check CheckDisk(const std::string& directory, uint64_t free_bytes) {
  Check check{"disk", Check::kOk, absl::StrCat(ByteText(free_bytes), " free in ", directory), ""};
  if (free_bytes < (512ull << 20)) {
    check.state = Check::kBad;
    check.next = "free space: below 512 MiB new studies are refused (dermis delete, or another --cluster folder)";
  } else if (free_bytes < 5'000'000'000ull) {
    check.state = Check::kWarning;
    check.next = "states of large models and image sets need more: free space (dermis delete)";
  }
  return check;
}

Check CheckMemory(uint64_t available_bytes) {
  Check check{"memory", Check::kOk, absl::StrCat(ByteText(available_bytes), " available"), ""};
  if (available_bytes < 500'000'000ull) {
    check.state = Check::kBad;
    check.next = "end other programs: a worker needs about 500 MB, and its images";
  } else if (available_bytes < 2'000'000'000ull) {
    check.state = Check::kWarning;
    check.next = "start few workers, with a small --image-memory";
  }
  return check;
}

Check CheckGpus(const absl::StatusOr<int>& driver, bool library) {
  if (absl::IsNotFound(driver.status())) {
    return {"gpu", Check::kOk, absl::StrCat(driver.status().message(), "; workers compute on the processor"), ""};
  }
  if (!driver.ok()) {
    return {"gpu", Check::kWarning, std::string(driver.status().message()),
            "`nvidia-smi` says more; until it answers workers compute on the processor"};
  }
  const std::string shown = absl::StrCat("the driver shows ", *driver, *driver == 1 ? " GPU" : " GPUs");
  if (library) return {"gpu", Check::kOk, absl::StrCat(shown, "; libdermis_cuda.so is there"), ""};
  return {"gpu", Check::kWarning, absl::StrCat(shown, ", but libdermis_cuda.so is not beside dermis: they are not used"),
          "build where CUDA 13's nvcc is installed (docs/gpu.md), or start with --devices cpu"};
}

std::vector<Check> CheckCluster(const v1::ClusterStatusResponse& status) {
  std::vector<Check> checks;
  if (status.version() == kVersion) {
    checks.push_back({"version", Check::kOk, absl::StrCat("the coordinator's, ", kVersion), ""});
  } else {
    checks.push_back({"version", Check::kBad,
                      absl::StrCat("the coordinator is of version ", status.version(), ", this program of ", kVersion),
                      "use programs of one version on all machines; then `dermis cluster stop` and start"});
  }
  std::map<std::string, std::vector<std::string>> classes;
  std::vector<std::string> quarantined;
  for (const v1::WorkerStatus& worker : status.workers()) {
    classes[worker.numerics_class()].push_back(worker.worker());
    const bool wrong = std::any_of(
        status.quarantined().begin(), status.quarantined().end(),
        [&](const v1::QuarantinedWorker& other) { return other.worker() == worker.worker(); });  // An alarm says so.
    if (worker.state() == "quarantined" && !wrong) quarantined.push_back(worker.worker());
  }
  if (classes.empty()) {
    checks.push_back({"workers", Check::kBad, "none has registered",
                      "`dermis cluster start --workers 2`; `dermis logs --process worker-0` says why one does not come"});
  } else {
    checks.push_back({"workers", Check::kOk, absl::StrCat(status.workers_size(), " registered"), ""});
  }
  if (!quarantined.empty()) {
    checks.push_back({"quarantine", Check::kBad,
                      absl::StrCat(absl::StrJoin(quarantined, ", "), " lost different tasks while others succeeded"),
                      "look at the host: memory, disk, the worker's log"});
  }
  if (classes.size() == 1) {
    checks.push_back({"numerics", Check::kOk, absl::StrCat("one class: ", classes.begin()->first), ""});
  } else if (classes.size() > 1) {
    std::vector<std::string> parts;
    for (const auto& [name, workers] : classes) {
      parts.push_back(absl::StrCat(name, ": ", absl::StrJoin(workers, ", ")));
    }
    checks.push_back({"numerics", Check::kWarning,
                      absl::StrCat(classes.size(), " classes (", absl::StrJoin(parts, "; "), ")"),
                      "a study stays with one class, as others give other bits: workers of the others only help "
                      "studies of their own"});
  }
  if (status.disk_low()) {
    checks.push_back({"store", Check::kBad,
                      absl::StrCat("the coordinator's disk is almost full, ", ByteText(status.free_bytes()), " free"),
                      "free space: `dermis delete STUDY --dry-run` says what a study holds"});
  }
  for (const std::string& alarm : status.alarms()) {
    checks.push_back({"alarm", Check::kBad, alarm,
                      "one of the two workers computes wrong: test its memory, and take it out of the cluster"});
  }
  return checks;
}

std::vector<Check> CheckStudies(const v1::ListResponse& studies) {
  std::vector<Check> checks;
  int failed = 0;
  std::string last;
  for (const v1::StudyStatus& study : studies.studies()) {
    if (study.phase() == v1::StudyStatus::FAILED) {
      ++failed;
      last = study.id();
    } else if (study.phase() == v1::StudyStatus::RUNNING && !study.paused() && !study.problems().empty()) {
      checks.push_back({absl::StrCat("study ", study.id()), Check::kWarning, study.problems(0),
                        absl::StrCat("`dermis logs ", study.id(), "` says more")});
    }
  }
  if (failed > 0) {
    checks.push_back({"studies", Check::kWarning,
                      absl::StrCat(failed, failed == 1 ? " study has failed: " : " studies have failed, the last: ", last),
                      absl::StrCat("`dermis logs ", last, "`, then `dermis retry ", last, "`")});
  } else {
    checks.push_back({"studies", Check::kOk, absl::StrCat(studies.studies_size(), " known, none failed"), ""});
  }
  return checks;
}

namespace {

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

// The first line that a program beside this one prints.
std::string VersionOf(const fs::path& program) {
  // A name that the shell would read otherwise is not tried.
  if (absl::StrContains(program.string(), "'")) return "";
  FILE* pipe = popen(absl::StrCat("'", program.string(), "' --version 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return "";
  std::array<char, 256> line{};
  const bool any = fgets(line.data(), line.size(), pipe) != nullptr;
  pclose(pipe);
  std::string text = any ? line.data() : "";
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

void CheckPrograms(std::vector<Check>& checks) {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  std::vector<std::string> wrong;
  for (const char* name : {"dermis-coordinator", "dermis-worker"}) {
    const std::string version = VersionOf(folder / name);
    if (version.empty()) {
      wrong.push_back(absl::StrCat(name, " is not there or does not run"));
    } else if (!absl::StrContains(version, kVersion)) {
      wrong.push_back(absl::StrCat(name, " says ", version));
    }
  }
  if (wrong.empty()) {
    checks.push_back({"programs", Check::kOk, absl::StrCat("version ", kVersion), ""});
  } else {
    checks.push_back({"programs", Check::kBad, absl::StrJoin(wrong, "; "),
                      absl::StrCat("install all three programs of version ", kVersion, " in ", folder.string())});
  }
}

void CheckProcessor(std::vector<Check>& checks) {
  const std::string info = ReadAll("/proc/cpuinfo");
  std::string detail = absl::StrCat(std::thread::hardware_concurrency(), " cores");
  for (const auto& [flag, name] : {std::pair(" avx2 ", "AVX2"), {" avx512f ", "AVX-512"},
                                   {" amx_bf16 ", "AMX (bf16)"}}) {
    if (absl::StrContains(info, flag)) absl::StrAppend(&detail, ", ", name);
  }
  const bool slow = absl::StrContains(info, "flags") && !absl::StrContains(info, " avx2 ");
  checks.push_back({"processor", slow ? Check::kWarning : Check::kOk, detail,
                    slow ? "without AVX2 everything is several times slower: use another machine" : ""});
}

void CheckOpenFiles(std::vector<Check>& checks) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const bool few = limit.rlim_cur < 1024;
  checks.push_back({"open files", few ? Check::kWarning : Check::kOk,
                    absl::StrCat("at most ", limit.rlim_cur, " at a time"),
                    few ? "raise it (ulimit -n 4096): each worker and watcher is a connection" : ""});
}

uint64_t AvailableMemory() {
  std::istringstream info(ReadAll("/proc/meminfo"));
  std::string key, unit;
  for (uint64_t kib; info >> key >> kib;) {
    if (key == "MemAvailable:") return kib * 1024;
    std::getline(info, unit);
  }
  return 0;
}

// The folder, or the nearest above it that is there.
fs::path Existing(fs::path path) {
  std::error_code ignored;
  while (path.has_relative_path() && !fs::exists(path, ignored)) path = path.parent_path();
  return path;
}

void CheckFolder(const std::string& directory, std::vector<Check>& checks) {
  const fs::path existing = Existing(fs::absolute(directory));
  struct statvfs disk {};
  if (statvfs(existing.c_str(), &disk) == 0) {
    checks.push_back(CheckDisk(existing, uint64_t{disk.f_bavail} * disk.f_frsize));
  }
  if (access(existing.c_str(), W_OK) != 0) {
    checks.push_back({"folder", Check::kBad, absl::StrCat(existing.string(), ": ", std::strerror(errno)),
                      "name a folder of yours with --cluster or DERMIS_CLUSTER"});
  }
  std::error_code error;
  const fs::perms perms = fs::status(fs::path(directory) / "certs", error).permissions();
  if (!error && fs::exists(fs::path(directory) / "certs") &&
      (perms & (fs::perms::group_all | fs::perms::others_all)) != fs::perms::none) {
    checks.push_back({"secrets", Check::kBad, absl::StrCat(directory, "/certs is open to others: it holds the cluster's keys"),
                      absl::StrCat("chmod 700 ", directory, "/certs")});
  }
}

void CheckCertificates(const std::string& directory, std::vector<Check>& checks) {
  for (const char* name : {"ca", "coordinator", "worker", "user", "admin"}) {
    const fs::path file = fs::path(directory) / "certs" / absl::StrCat(name, ".crt");
    std::error_code ignored;
    if (!fs::exists(file, ignored)) continue;
    checks.push_back(CheckCertificate(file.filename(), ReadAll(file), absl::Now()));
  }
}

// Whether the port could be listened on: nobody else has it.
bool CanListen(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return true;
  std::string host = address.substr(0, colon);
  std::erase_if(host, [](char c) { return c == '[' || c == ']'; });
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  if (getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) return true;
  const int fd = socket(found->ai_family, found->ai_socktype, 0);
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  const bool good = fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) == 0 || errno != EADDRINUSE;
  if (fd >= 0) close(fd);
  freeaddrinfo(found);
  return good;
}

// False: no coordinator is to be asked.
bool CheckProcesses(const std::string& directory, std::vector<Check>& checks) {
  std::string address;
  std::ifstream(fs::path(directory) / "store" / "address") >> address;
  std::vector<std::string> dead;
  bool coordinator = false, remote = true;
  for (const LocalProcess& process : LocalProcesses(directory)) {
    remote &= process.name != "coordinator";
    if (process.pid == 0) dead.push_back(process.name);
    coordinator |= process.name == "coordinator" && process.pid > 0;
  }
  if (!dead.empty()) {
    checks.push_back({"processes", Check::kBad, absl::StrCat(absl::StrJoin(dead, ", "), " ended without being told to"),
                      absl::StrCat("`dermis logs --process ", dead.front(), "` says why; `dermis cluster start` starts it again")});
  }
  if (address.empty()) {
    checks.push_back({"coordinator", Check::kWarning, absl::StrCat("no cluster runs in ", directory),
                      "`dermis cluster start`, or name another with --cluster"});
    return false;
  }
  if (!coordinator && !remote && !CanListen(address)) {
    checks.push_back({"port", Check::kBad, absl::StrCat(address, ", where the coordinator was, is used by another program"),
                      "end that program, or remove store/address: then another port is taken, and remote workers "
                      "must be told"});
  }
  return true;
}

}  // namespace

std::vector<Check> Examine(const std::string& directory) {
  std::vector<Check> checks;
  CheckPrograms(checks);
  CheckProcessor(checks);
  std::error_code ignored;
  checks.push_back(CheckGpus(CountGpusOfDriver(), fs::exists(CudaLibraryPath(), ignored)));
  checks.push_back(CheckMemory(AvailableMemory()));
  CheckOpenFiles(checks);
  CheckFolder(directory, checks);
  CheckCertificates(directory, checks);
  if (!CheckProcesses(directory, checks)) return checks;
  const auto bad = [&](const absl::Status& status) {
    checks.push_back({"coordinator", Check::kBad, std::string(status.message()), "`dermis logs --process coordinator`"});
  };
  const auto client = Client::Connect(directory);
  if (!client.ok()) {
    bad(client.status());
    return checks;
  }
  const absl::StatusOr<v1::ClusterStatusResponse> status = (*client)->ClusterStatus();
  if (!status.ok()) {
    bad(status.status());
    return checks;
  }
  checks.push_back({"coordinator", Check::kOk, absl::StrCat("answers; start ", status->incarnation()), ""});
  checks.push_back(CheckClock(absl::Now(), absl::FromUnixMillis(static_cast<int64_t>(status->unix_ms()))));
  for (Check& check : CheckCluster(*status)) checks.push_back(std::move(check));
  if (const auto studies = (*client)->List(); studies.ok()) {
    for (Check& check : CheckStudies(*studies)) checks.push_back(std::move(check));
  }
  return checks;
}

}  // namespace dermis
