// OrderedReduce between the processes of one host: milliseconds for one vector (median of the rounds, of
// the slowest rank). Starts its ranks itself.
//   dermis_bench_reduce [--floats N] [--rounds N] [--ranks W] [--transport socket|tls]
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "common/reduce_tree.h"
#include "common/tls.h"
#include "tools/bench/bench.h"
#include "worker/collective/mesh.h"

namespace dermis::bench {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

int RunRank(const Arguments& arguments) {
  const std::string directory = arguments.Text("--directory");
  const uint32_t rank = static_cast<uint32_t>(arguments.Number("--rank", 0));
  const uint32_t w = static_cast<uint32_t>(arguments.Number("--ranks", 2));
  const uint64_t n = static_cast<uint64_t>(arguments.Number("--floats", 0));
  const long rounds = arguments.Number("--rounds", 10);
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
  const auto ranges = AssignShards(std::max(w, 2u), w);
  for (uint32_t r = 0; r < w; ++r) {
    const std::string path = directory + "/rank" + std::to_string(r);
    while (!std::filesystem::exists(path)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    v1::GangMember* member = seat.add_roster();
    member->set_worker("bench");
    member->set_host("here");
    (options.socket_directory.empty() ? *member->mutable_peer_address() : *member->mutable_peer_socket()) =
        ReadAll(path);
    member->set_first_shard(ranges[r].first);
    member->set_shards(ranges[r].count);
  }
  auto collective = (*mesh)->Join(seat, absl::Seconds(20));
  if (!collective.ok()) Die(collective.status().ToString());

  std::vector<std::vector<float>> data((*collective)->shard_count(), std::vector<float>(n, 1.0f));
  std::vector<float*> shards;
  for (auto& shard : data) shards.push_back(shard.data());
  std::vector<float> out(n);
  std::vector<double> times;
  for (long round = -3; round < rounds; ++round) {   // Three to warm up.
    if (!(*collective)->AllGather("").ok()) Die("barrier");
    const double start = Seconds();
    const absl::Status status = (*collective)->OrderedReduce(shards, n, out.data());
    if (!status.ok()) Die(status.ToString());
    const double took = Seconds() - start;
    auto all = (*collective)->AllGather(std::to_string(took));
    if (!all.ok()) Die(all.status().ToString());
    double slowest = 0;
    for (const std::string& text : *all) slowest = std::max(slowest, std::atof(text.c_str()));
    if (round >= 0) times.push_back(slowest * 1e3);
  }
  if (n > 0 && out[n - 1] != static_cast<float>(std::max(w, 2u))) Die("wrong sum");
  if (rank == 0) Report(Median(times), "ms");
  return 0;
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  if (!arguments.Text("--rank").empty()) return RunRank(arguments);
  char directory[] = "/tmp/dermis-bench-XXXXXX";
  if (mkdtemp(directory) == nullptr) Die("mkdtemp");
  const std::string transport = arguments.Text("--transport", "socket");
  if (transport == "tls") {
    const absl::Status made = MakeClusterCertificates(directory, {"127.0.0.1"});
    if (!made.ok()) Die(made.ToString());
  }
  const long w = arguments.Number("--ranks", 2);
  std::vector<pid_t> children;
  for (long r = 0; r < w; ++r) {
    const std::string rank = std::to_string(r), ranks = std::to_string(w);
    const std::string floats = std::to_string(arguments.Number("--floats", 11'700'000));
    const std::string rounds = std::to_string(arguments.Number("--rounds", 10));
    const pid_t pid = fork();
    if (pid == 0) {
      execl("/proc/self/exe", argv[0], "--rank", rank.c_str(), "--ranks", ranks.c_str(), "--directory",
            directory, "--transport", transport.c_str(), "--floats", floats.c_str(), "--rounds",
            rounds.c_str(), nullptr);
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

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
