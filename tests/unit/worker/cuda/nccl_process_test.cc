// A rank in a process of its own, which is killed: this program starts itself again as one (main at
// the end).
#include <iostream>
#include <thread>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/worker/cuda/nccl_gang.h"
#include "tests/unit/worker/cuda/shards.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kWorld = 3;
constexpr uint32_t kShards = 4;
constexpr uint64_t kFloats = 40'000;

// As rank `rank`: reduces until that fails, and checks each sum.
absl::Status BeRank(PeerMesh& mesh, const v1::GangSeat& seat,
                    const std::function<void()>& after_first) {
  auto joined = mesh.Join(seat, absl::Seconds(20));
  if (!joined.ok()) return joined.status();
  std::shared_ptr<Collective> control = *std::move(joined);
  const std::unique_ptr<Device> device = MakeHostDevice();
  auto made = NcclCollective::Create(StandInApi(), device.get(), control, {});
  if (!made.ok()) return made.status();
  const std::vector<float> want = LocalSum(kShards, kFloats, 1);
  for (int round = 0;; ++round) {
    Vectors shards = MakeShards(control->first_shard(), control->shard_count(), kFloats, 1);
    std::vector<float> out(kFloats);
    const absl::Status status = (*made)->OrderedReduce(Pointers(shards), kFloats, out.data());
    if (!status.ok()) return status;
    if (!SameBits(out, want)) return absl::DataLossError("other bits");
    if (round == 0) after_first();
  }
}

std::string ReadLine(int from) {
  std::string line;
  for (char c; read(from, &c, 1) == 1 && c != '\n';) line += c;
  return line;
}

}  // namespace

// Standard input: the other ranks' sockets; output: its own, then "reduced" after the first sum.
int RunNcclPeer(const std::string& folder) {
  auto mesh = MakeMesh(folder, absl::Seconds(2));
  std::cout << mesh->socket_path() << std::endl;
  std::vector<std::string> sockets = {ReadLine(0), ReadLine(0), mesh->socket_path()};
  const absl::Status status =
      BeRank(*mesh, MakeSeat(sockets, 2, kShards), [] { std::cout << "reduced" << std::endl; });
  std::cout << status << std::endl;
  return 1;
}

namespace {

// How ranks 0 and 1 end when the process of rank 2 gets `signal`.
void ExpectPeerIsNamed(int signal, const std::string& words) {
  SocketFolder folder, peer_folder;
  int in[2], out[2];
  ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    execl("/proc/self/exe", "peer", "--nccl-peer", peer_folder.path().c_str(), nullptr);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  std::vector<std::unique_ptr<PeerMesh>> meshes;
  std::vector<std::string> sockets;
  std::string given;
  for (uint32_t r = 0; r + 1 < kWorld; ++r) {
    meshes.push_back(MakeMesh(folder.path(), absl::Seconds(2)));
    sockets.push_back(meshes.back()->socket_path());
    absl::StrAppend(&given, sockets.back(), "\n");
  }
  sockets.push_back(ReadLine(out[0]));
  ASSERT_EQ(write(in[1], given.data(), given.size()), static_cast<ssize_t>(given.size()));

  absl::Time struck;
  std::vector<std::thread> threads;
  std::vector<absl::Status> ended(2);
  for (uint32_t r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      ended[r] = BeRank(*meshes[r], MakeSeat(sockets, r, kShards), [&, r] {
        if (r != 0) return;
        // Real data have come from the other process.
        EXPECT_EQ(ReadLine(out[0]), "reduced");
        struck = absl::Now();
        kill(pid, signal);
      });
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_LT(absl::Now() - struck, absl::Seconds(8));
  for (const absl::Status& status : ended) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 2 (worker worker-2)"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  }
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  close(in[1]);
  close(out[0]);
}

TEST(NcclProcess, KilledPeer_IsNamedByAll_WhileNcclHangs) {
  ExpectPeerIsNamed(SIGKILL, "connection lost");
}

TEST(NcclProcess, FrozenPeer_IsNamed_WithinTheTimeout) {
  ExpectPeerIsNamed(SIGSTOP, "sent nothing for 2s");
}

}  // namespace
}  // namespace dermis

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--nccl-peer") return dermis::RunNcclPeer(argv[2]);
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
