#include "tools/bench/ranks.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/reduce_tree.h"
#include "common/tls.h"

namespace dermis::bench {
namespace {

// A rank that died before it could say where it listens must not leave the others waiting for ever.
constexpr double kPatience = 120;

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<int> Cores() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) Die("sched_getaffinity");
  std::vector<int> cores;
  for (int c = 0; c < CPU_SETSIZE; ++c) {
    if (CPU_ISSET(c, &allowed)) cores.push_back(c);
  }
  return cores;
}

}  // namespace

int RunRanks(int argc, char** argv, const RanksOptions& options) {
  const std::vector<int> cores = Cores();
  if (options.pin && cores.size() < options.ranks) {
    Die("a core for each rank is needed, there are " + std::to_string(cores.size()));
  }
  std::string directory = "/tmp/dermis-bench-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) Die("mkdtemp");
  if (options.tls) {
    const absl::Status made = MakeClusterCertificates(directory, {"127.0.0.1"});
    if (!made.ok()) Die(made.ToString());
  }
  std::vector<pid_t> children;
  for (uint32_t r = 0; r < options.ranks; ++r) {
    std::vector<std::string> words(argv, argv + argc);
    words.insert(words.end(), {"--rank", std::to_string(r), "--ranks",
                               std::to_string(options.ranks), "--directory", directory});
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t pid = fork();
    if (pid < 0) Die("fork");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // Who stops this benchmark stops its ranks.
      if (options.pin) {
        cpu_set_t mine;
        CPU_ZERO(&mine);
        CPU_SET(cores[r], &mine);
        if (sched_setaffinity(0, sizeof(mine), &mine) != 0) _exit(126);
      }
      execv("/proc/self/exe", arguments.data());
      _exit(127);
    }
    children.push_back(pid);
  }
  int result = 0;
  for (pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) result = 1;
  }
  std::filesystem::remove_all(directory);
  return result;
}

bool IsRank(const Arguments& arguments) { return !arguments.Text("--rank").empty(); }

Rank JoinRanks(const Arguments& arguments, uint32_t logical_shards) {
  const std::string directory = arguments.Text("--directory");
  const uint32_t rank = static_cast<uint32_t>(arguments.Number("--rank", 0));
  const uint32_t w = static_cast<uint32_t>(arguments.Number("--ranks", 1));
  if (w == 1) return {nullptr, MakeLocalCollective(logical_shards)};
  PeerMesh::Options options;
  options.host = "here";
  if (arguments.Text("--transport") == "tls") {
    auto identity = LoadIdentity(directory, "worker");
    if (!identity.ok()) Die(identity.status().ToString());
    options.identity = *identity;
    options.listen = "127.0.0.1:0";
    options.advertise_host = "127.0.0.1";
  } else {
    options.socket_directory = directory;
  }
  auto mesh = PeerMesh::Start(options);
  if (!mesh.ok()) Die(mesh.status().ToString());

  // The ranks find each other by files.
  const std::string mine = directory + "/rank" + std::to_string(rank);
  std::ofstream(mine + ".new") << ((*mesh)->socket_path().empty() ? (*mesh)->address()
                                                                  : (*mesh)->socket_path());
  std::filesystem::rename(mine + ".new", mine);
  v1::GangSeat seat;
  seat.mutable_generation()->set_counter(1);
  seat.set_rank(rank);
  const auto ranges = AssignShards(logical_shards, w);
  const double start = Seconds();
  for (uint32_t r = 0; r < w; ++r) {
    const std::string path = directory + "/rank" + std::to_string(r);
    while (!std::filesystem::exists(path)) {
      if (Seconds() - start > kPatience) Die("rank " + std::to_string(r) + " did not come");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    v1::GangMember* member = seat.add_roster();
    member->set_worker("bench");
    member->set_host("here");
    (options.socket_directory.empty() ? *member->mutable_peer_address()
                                      : *member->mutable_peer_socket()) = ReadAll(path);
    member->set_first_shard(ranges[r].first);
    member->set_shards(ranges[r].count);
  }
  auto collective = (*mesh)->Join(seat, absl::Seconds(20));
  if (!collective.ok()) Die(collective.status().ToString());
  return {*std::move(mesh), *std::move(collective)};
}

}  // namespace dermis::bench
