#include "tests/integration/test_cluster.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <chrono>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

fs::path BuildFolder() {
  const char* folder = std::getenv("DERMIS_BUILD_DIR");
  return folder != nullptr ? fs::path(folder) : fs::read_symlink("/proc/self/exe").parent_path().parent_path();
}

fs::path MakeDirectory() {
  std::string name = (fs::temp_directory_path() / "dermis-test-XXXXXX").string();
  return mkdtemp(name.data());
}

}  // namespace

CommandResult Shell(const std::string& command) {
  CommandResult result;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return result;
  std::array<char, 4096> piece;
  while (const size_t n = fread(piece.data(), 1, piece.size(), pipe)) result.output.append(piece.data(), n);
  const int status = pclose(pipe);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

std::string Program(const std::string& name) { return (BuildFolder() / "bin" / name).string(); }

Background::Background(std::vector<std::string> argv, std::string log) : log_(std::move(log)), pid_(fork()) {
  if (pid_ != 0) return;
  if (freopen(log_.c_str(), "w", stderr) == nullptr) _exit(1);
  std::vector<char*> arguments;
  for (std::string& a : argv) arguments.push_back(a.data());
  arguments.push_back(nullptr);
  execv(arguments[0], arguments.data());
  _exit(127);
}

void Background::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

int Background::Ended(int seconds) {
  for (int i = 0; i < seconds * 20; ++i) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = 0;
      return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return -1;
}

CommandResult Dermis(const std::string& arguments, int timeout_seconds) {
  return Shell(absl::StrCat("timeout ", timeout_seconds, " ", Program("dermis"), " ",
                            arguments, " 2>&1"));
}

std::string LineValue(const std::string& output, const std::string& name) {
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(name + ": ", 0) == 0) return line.substr(name.size() + 2);
  }
  return "";
}

int ProcessesOf(const std::string& text) {
  int count = 0;
  for (const auto& process : fs::directory_iterator("/proc")) {
    std::ifstream in(process.path() / "cmdline");
    const std::string line((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    if (line.find("dermis-") != std::string::npos && line.find(text) != std::string::npos) ++count;
  }
  return count;
}

TestCluster::TestCluster() : directory_(MakeDirectory()) {}

TestCluster::~TestCluster() {
  Stop();
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

CommandResult TestCluster::Run(const std::string& arguments, int timeout_seconds) const {
  return Dermis(absl::StrCat(arguments, " --cluster ", cluster()), timeout_seconds);
}

CommandResult TestCluster::Start(int workers, int threads) const {
  return Run(absl::StrCat("cluster start --workers ", workers, " --threads ", threads));
}

CommandResult TestCluster::Stop() const { return Run("cluster stop"); }

void TestCluster::Signal(const std::string& name, int signal) const {
  std::ifstream in(fs::path(cluster()) / "pids" / name);
  pid_t pid = 0;
  in >> pid;
  if (pid <= 0) return;
  if (name == "coordinator") {
    kill(pid, signal);
    // Until it has let go of its store, or one that is started again at once would be refused.
    const auto runs = [&] {
      const std::string stat = ReadAll(absl::StrCat("/proc/", pid, "/stat"));
      return !stat.empty() && stat.find(") Z") == std::string::npos;
    };
    for (int i = 0; signal == SIGKILL && runs() && i < 1000; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  } else {
    Shell(absl::StrCat("pkill -", signal, " -P ", pid));
  }
}

std::string TestCluster::Log(const std::string& name) const {
  return ReadAll(fs::path(cluster()) / "logs" / (name + ".log"));
}

bool TestCluster::AwaitDoing(const std::string& pattern) const {
  const std::regex doing(pattern);
  for (int i = 0; i < 1200; ++i) {
    if (std::regex_search(Run("cluster status").output, doing)) return true;
    if (std::regex_search(Run("status").output, std::regex("^(done|failed|cancelled)"))) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

std::string TestCluster::Write(const std::string& name, const std::string& text) const {
  std::ofstream(directory_ / name) << text;
  return (directory_ / name).string();
}

std::string TestCluster::Images() {
  struct Made {
    Made() : folder(MakeDirectory()), path((folder / "small.images").string()) {
      Dermis(absl::StrCat("synth --count 200 --size 64 -o ", path));
    }
    ~Made() { fs::remove_all(folder); }
    fs::path folder;
    std::string path;
  };
  static const Made made;
  return made.path;
}

std::string SmallStudy(const std::string& name, const std::string& epochs, const std::string& explanation) {
  const std::string methods = explanation.empty() ? R"(  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 1}}
  methods:
    - lime: {samples: 300, superpixels: {slic: {count: 12}}}
    - shapley: {permutations: 6, superpixels: {slic: {count: 12}}}
    - grad_cam
    - activation_maps
)"
                                                  : explanation;
  return absl::StrCat("name: ", name, "\nseed: 3\nimages: {set: small, size: 32, split: {test: 0.25, validation: 0.2}}\n",
                      "training: {logical_shards: 8, batch_size: 32, epochs: ", epochs, "}\nexplanation:\n", methods);
}

}  // namespace dermis
