// The exchange between ranks, over real sockets. Peers that die or freeze are real processes: this program
// starts itself again as one (main at the end).
#include "worker/collective/collective.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <barrier>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/reduce_tree.h"
#include "common/tls.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/collective/mesh.h"
#include "worker/collective/peer_access.h"
#include "worker/collective/tree_sum.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char path[] = "/tmp/dermis-mesh-XXXXXX";
    path_ = mkdtemp(path);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

PeerMesh::Options SocketOptions(const std::string& directory) {
  PeerMesh::Options options;
  options.socket_directory = directory;
  options.host = "here";
  options.timeout = absl::Seconds(10);
  return options;
}

// Deterministic values whose sum depends on the order of the additions.
float Value(uint32_t shard, uint64_t i, uint64_t seed) {
  uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull ^ (uint64_t{shard} << 40) ^ seed;
  x ^= x >> 31;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 29;
  const float scale = 1.0f / static_cast<float>(1u << (x % 20));
  return (static_cast<float>(static_cast<int64_t>(x >> 20) % 2000003) - 1000001.0f) * 1e-3f * scale;
}

std::vector<std::vector<float>> Shards(uint32_t first, uint32_t count, uint64_t n, uint64_t seed) {
  std::vector<std::vector<float>> shards(count, std::vector<float>(n));
  for (uint32_t k = 0; k < count; ++k) {
    for (uint64_t i = 0; i < n; ++i) shards[k][i] = Value(first + k, i, seed);
  }
  return shards;
}

std::vector<float*> Pointers(std::vector<std::vector<float>>& shards) {
  std::vector<float*> pointers;
  for (auto& shard : shards) pointers.push_back(shard.data());
  return pointers;
}

// By the contract of common/reduce_tree.h.
std::vector<float> Reference(uint32_t v, uint64_t n, uint64_t seed) {
  auto shards = Shards(0, v, n, seed);
  std::vector<TreeNode> leaves;
  for (uint32_t k = 0; k < v; ++k) leaves.push_back({k, 1});
  SumNodes(leaves, Pointers(shards), n, v);
  return shards[0];
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

v1::GangSeat Seat(const std::vector<std::unique_ptr<PeerMesh>>& meshes, uint32_t rank, uint32_t v,
                  uint64_t counter, bool sockets = true) {
  v1::GangSeat seat;
  seat.mutable_generation()->set_incarnation(1);
  seat.mutable_generation()->set_counter(counter);
  seat.set_rank(rank);
  const auto ranges = AssignShards(v, static_cast<uint32_t>(meshes.size()));
  for (size_t r = 0; r < meshes.size(); ++r) {
    v1::GangMember* member = seat.add_roster();
    member->set_worker(absl::StrCat("worker-", r));
    member->set_peer_address(meshes[r]->address());
    if (sockets) member->set_peer_socket(meshes[r]->socket_path());
    member->set_host("here");
    member->set_first_shard(ranges[r].first);
    member->set_shards(ranges[r].count);
  }
  return seat;
}

// Runs `body` as every rank of a gang, each in its thread with its own mesh.
class Ranks {
 public:
  explicit Ranks(uint32_t w, absl::Duration timeout = absl::Seconds(10)) {
    for (uint32_t r = 0; r < w; ++r) {
      PeerMesh::Options options = SocketOptions(directory_.path());
      options.timeout = timeout;
      auto mesh = PeerMesh::Start(options);
      EXPECT_TRUE(mesh.ok()) << mesh.status();
      meshes_.push_back(*std::move(mesh));
    }
  }

  void Run(uint32_t v, uint64_t counter, const std::function<void(Collective&)>& body) {
    std::vector<std::thread> threads;
    std::barrier joined(static_cast<std::ptrdiff_t>(meshes_.size()));
    for (uint32_t r = 0; r < meshes_.size(); ++r) {
      threads.emplace_back([&, r] {
        auto collective = meshes_[r]->Join(Seat(meshes_, r, v, counter), absl::Seconds(20));
        ASSERT_TRUE(collective.ok()) << collective.status();
        // Nobody ends the gang while another still joins.
        ASSERT_TRUE((*collective)->AllGather("joined").ok());
        joined.arrive_and_wait();
        body(**collective);
      });
    }
    for (auto& thread : threads) thread.join();
  }

  std::vector<std::unique_ptr<PeerMesh>>& meshes() { return meshes_; }

 private:
  TemporaryDirectory directory_;
  std::vector<std::unique_ptr<PeerMesh>> meshes_;
};

// The longest two go by shared memory; the last call but one is repeated so that its buffers are used again.
constexpr uint64_t kSizes[] = {0, 1, 15, 17, 1001, 65536 * 2, 333333, 1048576, 2345679, 2345679, 2345679, 3};

TEST(Collective, OrderedReduce_IsBitwiseEqual_ForAnyWorldSize) {
  for (uint32_t w : {1u, 2u, 3u, 4u}) {
    Ranks ranks(w);
    uint64_t counter = 0;
    for (uint32_t v : {4u, 8u}) {
      ranks.Run(v, ++counter, [&](Collective& collective) {
        EXPECT_EQ(collective.world_size(), w);
        EXPECT_EQ(collective.logical_shards(), v);
        for (uint64_t n : kSizes) {
          auto shards = Shards(collective.first_shard(), collective.shard_count(), n, n + v);
          std::vector<float> out(n, -1.0f);
          const absl::Status status = collective.OrderedReduce(Pointers(shards), n, out.data());
          ASSERT_TRUE(status.ok()) << status;
          EXPECT_TRUE(SameBits(out, Reference(v, n, n + v)))
              << "rank " << collective.rank() << " of " << w << ", V " << v << ", n " << n;
        }
      });
    }
  }
}

TEST(Collective, OrderedReduce_DependsOnOrder_SoTheTestAboveCanFail) {
  const uint64_t n = 1001;
  auto shards = Shards(0, 8, n, 7);
  std::vector<float> plain(n, 0.0f);
  for (const auto& shard : shards) {
    for (uint64_t i = 0; i < n; ++i) plain[i] += shard[i];
  }
  EXPECT_FALSE(SameBits(plain, Reference(8, n, 7)));
}

TEST(Collective, LocalCollective_SumsInTreeOrder) {
  auto collective = MakeLocalCollective(8);
  auto shards = Shards(0, 8, 5000, 3);
  std::vector<float> out(5000);
  ASSERT_TRUE(collective->OrderedReduce(Pointers(shards), 5000, out.data()).ok());
  EXPECT_TRUE(SameBits(out, Reference(8, 5000, 3)));
  EXPECT_EQ(*collective->AllGather("a"), std::vector<std::string>{"a"});
  collective->Abort(absl::InternalError("enough"));
  EXPECT_EQ(collective->AllGather("a").status().code(), absl::StatusCode::kAborted);
}

TEST(Collective, TreeSumInto_MayWriteOverItsFirstOperand) {
  auto shards = Shards(0, 4, 5000, 5);
  const std::vector<float*> data = Pointers(shards);
  TreeSumInto({{0, 1}, {1, 1}, {2, 1}, {3, 1}}, {data.begin(), data.end()}, {0, 4}, 5000, data[0]);
  EXPECT_TRUE(SameBits(shards[0], Reference(4, 5000, 5)));
}

TEST(Collective, AllGather_GivesEveryRankAllBytes_OfDifferentLengths) {
  Ranks ranks(3);
  const std::vector<std::string> want = {std::string(), std::string(700'001, 'x'), "short"};
  ranks.Run(4, 1, [&](Collective& collective) {
    for (int round = 0; round < 3; ++round) {
      auto got = collective.AllGather(want[(collective.rank() + round) % 3]);
      ASSERT_TRUE(got.ok()) << got.status();
      for (size_t r = 0; r < 3; ++r) EXPECT_TRUE((*got)[r] == want[(r + round) % 3]);
    }
  });
}

TEST(Collective, MixedCallsInOneOrder_NeverMeetEachOther) {
  Ranks ranks(4);
  ranks.Run(8, 1, [&](Collective& collective) {
    for (uint64_t round = 0; round < 30; ++round) {
      const uint64_t n = round * 977 % 5000;
      auto shards = Shards(collective.first_shard(), collective.shard_count(), n, round);
      std::vector<float> out(n);
      ASSERT_TRUE(collective.OrderedReduce(Pointers(shards), n, out.data()).ok());
      ASSERT_TRUE(SameBits(out, Reference(8, n, round)));
      auto got = collective.AllGather(absl::StrCat(collective.rank(), ":", round));
      ASSERT_TRUE(got.ok()) << got.status();
      for (size_t r = 0; r < 4; ++r) EXPECT_EQ((*got)[r], absl::StrCat(r, ":", round));
    }
  });
}

TEST(Collective, RanksThatMakeDifferentCalls_FailInsteadOfHanging) {
  Ranks ranks(2);
  ranks.Run(4, 1, [&](Collective& collective) {
    if (collective.rank() == 0) {
      EXPECT_FALSE(collective.AllGather("x").ok());
    } else {
      auto shards = Shards(0, 2, 100, 1);
      std::vector<float> out(100);
      EXPECT_FALSE(collective.OrderedReduce(Pointers(shards), 100, out.data()).ok());
    }
  });
}

TEST(Collective, Abort_WakesAllRanks_WithRankWorkerAndCause) {
  Ranks ranks(3);
  ranks.Run(4, 1, [&](Collective& collective) {
    if (collective.rank() == 2) {
      std::thread other([&] { collective.Abort(absl::InternalError("the disk is full")); });
      const absl::Status status = collective.AllGather("x").status();
      other.join();
      // The gather may have been done, or not, when the abort came.
      const absl::Status later = collective.AllGather("y").status();
      EXPECT_EQ(later.code(), absl::StatusCode::kAborted);
      EXPECT_THAT(std::string(later.message()), HasSubstr("the disk is full"));
      return;
    }
    absl::Status status;
    while (status.ok()) status = collective.AllGather("x").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 2 (worker worker-2): the disk is full"));
    EXPECT_EQ(collective.AllGather("x").status(), status);   // Dead for good.
  });
}

TEST(Collective, RankThatLeavesEarly_IsNamed) {
  Ranks ranks(2);
  ranks.Run(4, 1, [&](Collective& collective) {
    if (collective.rank() == 1) return;
    const absl::Status status = collective.AllGather("x").status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 (worker worker-1): left the gang"));
  });
}

TEST(Collective, SlowRank_IsNotLost_WhileItsProcessLives) {
  Ranks ranks(2, absl::Seconds(2));
  ranks.Run(4, 1, [&](Collective& collective) {
    // Computes for longer than the timeout: its mesh beats meanwhile.
    if (collective.rank() == 1) absl::SleepFor(absl::Seconds(5));
    EXPECT_TRUE(collective.AllGather("x").ok());
  });
}

TEST(Collective, EarlyPeer_IsKept_UntilTheOtherJoins) {
  Ranks ranks(2);
  auto& meshes = ranks.meshes();
  absl::Notification dialled;
  std::thread early([&] {
    dialled.Notify();
    auto collective = meshes[1]->Join(Seat(meshes, 1, 4, 1), absl::Seconds(20));
    ASSERT_TRUE(collective.ok()) << collective.status();
    EXPECT_TRUE((*collective)->AllGather("b").ok());
  });
  dialled.WaitForNotification();
  absl::SleepFor(absl::Milliseconds(300));   // Long enough for the stream to arrive before the join.
  auto collective = meshes[0]->Join(Seat(meshes, 0, 4, 1), absl::Seconds(20));
  ASSERT_TRUE(collective.ok()) << collective.status();
  EXPECT_EQ(*(*collective)->AllGather("a"), (std::vector<std::string>{"a", "b"}));
  early.join();
}

TEST(Collective, MissingPeer_IsNamed_WithinPatience) {
  Ranks ranks(2);
  auto& meshes = ranks.meshes();
  for (uint32_t rank : {0u, 1u}) {
    const absl::Time start = absl::Now();
    auto collective = meshes[rank]->Join(Seat(meshes, rank, 4, 1), absl::Milliseconds(300));
    EXPECT_LT(absl::Now() - start, absl::Seconds(5));
    EXPECT_EQ(collective.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(collective.status().message()),
                HasSubstr(absl::StrCat("rank ", 1 - rank, " (worker worker-", 1 - rank, ")")));
  }
}

TEST(Collective, Leave_EndsAJoinThatWaits_AndOneThatIsStillToCome) {
  Ranks ranks(2);
  auto& meshes = ranks.meshes();
  const v1::GangSeat first = Seat(meshes, 0, 4, 1), second = Seat(meshes, 0, 4, 2);
  std::thread waits([&] {
    EXPECT_EQ(meshes[0]->Join(first, absl::Seconds(60)).status().code(), absl::StatusCode::kAborted);
  });
  absl::SleepFor(absl::Milliseconds(50));
  meshes[0]->Leave(first.generation());
  waits.join();
  meshes[0]->Leave(second.generation());
  EXPECT_EQ(meshes[0]->Join(second, absl::Seconds(60)).status().code(), absl::StatusCode::kAborted);
  ranks.Run(4, 3, [](Collective& collective) { EXPECT_TRUE(collective.AllGather("x").ok()); });
}

TEST(Collective, StaleGeneration_IsRefused_AtBothEnds) {
  Ranks ranks(2);
  auto& meshes = ranks.meshes();
  ranks.Run(4, 5, [](Collective& collective) { EXPECT_TRUE(collective.AllGather("").ok()); });
  // By the own mesh.
  EXPECT_EQ(meshes[0]->Join(Seat(meshes, 0, 4, 4), absl::Seconds(1)).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(meshes[0]->Join(Seat(meshes, 0, 4, 5), absl::Seconds(1)).status().code(),
            absl::StatusCode::kUnavailable);
  // By the peer: a worker that has not seen generation 5 dials with 4.
  TemporaryDirectory directory;
  auto fresh = PeerMesh::Start(SocketOptions(directory.path()));
  ASSERT_TRUE(fresh.ok());
  auto late = (*fresh)->Join(Seat(meshes, 1, 4, 4), absl::Seconds(10));
  EXPECT_EQ(late.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(late.status().message()),
              AllOf(HasSubstr("rank 0 (worker worker-0)"), HasSubstr("generation 1.4 is over")));
}

TEST(Collective, SameMesh_ServesTheNextGeneration_AfterAFailure) {
  Ranks ranks(3);
  ranks.Run(4, 1, [](Collective& collective) {
    if (collective.rank() == 1) collective.Abort(absl::InternalError("first attempt"));
    EXPECT_FALSE(collective.AllGather("x").ok() && collective.AllGather("x").ok());
  });
  ranks.Run(4, 2, [](Collective& collective) {
    auto shards = Shards(collective.first_shard(), collective.shard_count(), 1001, 9);
    std::vector<float> out(1001);
    ASSERT_TRUE(collective.OrderedReduce(Pointers(shards), 1001, out.data()).ok());
    EXPECT_TRUE(SameBits(out, Reference(4, 1001, 9)));
  });
}

// gRPC joins the threads of its callback queue where the queue's last user ends; a dialled link that ended on one of them
// after its mesh joined that thread from itself and freed the queue under the others (one run in thirty on a busy machine).
TEST(Collective, Mesh_OutlivesItsLinks_WhenItEndsAtOnce) {
  for (int i = 0; i < 100; ++i) {
    Ranks ranks(2);
    ranks.Run(2, 1, [](Collective& collective) { ASSERT_TRUE(collective.AllGather("x").ok()); });
  }
}

TEST(Collective, NewerSeat_AbortsTheOlderGang) {
  Ranks ranks(2);
  auto& meshes = ranks.meshes();
  ranks.Run(4, 1, [&](Collective& collective) {
    if (collective.rank() == 0) {
      EXPECT_FALSE(meshes[0]->Join(Seat(meshes, 0, 4, 2), absl::Milliseconds(50)).ok());
      EXPECT_EQ(collective.AllGather("x").status().code(), absl::StatusCode::kAborted);
    } else {
      EXPECT_THAT(std::string(collective.AllGather("x").status().message()),
                  AllOf(HasSubstr("rank 0"), HasSubstr("newer generation")));
    }
  });
}

TEST(Collective, BadSeats_AreInvalid) {
  Ranks ranks(2);
  auto& meshes = ranks.meshes();
  v1::GangSeat outside = Seat(meshes, 0, 4, 1);
  outside.set_rank(2);
  EXPECT_EQ(meshes[0]->Join(outside, absl::Seconds(1)).status().code(), absl::StatusCode::kInvalidArgument);
  v1::GangSeat gap = Seat(meshes, 0, 4, 1);
  gap.mutable_roster(1)->set_first_shard(3);
  EXPECT_EQ(meshes[0]->Join(gap, absl::Seconds(1)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Collective, SocketDirectoryOpenToOthers_IsRefused) {
  TemporaryDirectory directory;
  ASSERT_EQ(chmod(directory.path().c_str(), 0755), 0);
  const auto mesh = PeerMesh::Start(SocketOptions(directory.path()));
  EXPECT_EQ(mesh.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(mesh.status().message()), HasSubstr("0700"));
}

TEST(Collective, Tls_CarriesTheSameBits_AndAdmitsOnlyWorkers) {
  TemporaryDirectory directory;
  const absl::Status made = MakeClusterCertificates(directory.path(), {"127.0.0.1"});
  ASSERT_TRUE(made.ok()) << made;
  auto start = [&](const std::string& role, bool by_files = false) {
    auto identity = LoadIdentity(directory.path(), role);
    EXPECT_TRUE(identity.ok()) << identity.status();
    PeerMesh::Options options;
    options.identity = *identity;
    if (by_files) options.certs = directory.path();
    options.listen = "127.0.0.1:0";
    options.advertise_host = "127.0.0.1";
    auto mesh = PeerMesh::Start(options);
    EXPECT_TRUE(mesh.ok()) << mesh.status();
    return *std::move(mesh);
  };
  std::vector<std::unique_ptr<PeerMesh>> meshes;
  // The one that is dialled follows its files, as those that may be renewed do.
  meshes.push_back(start("worker", true));
  meshes.push_back(start("worker"));
  std::vector<std::thread> threads;
  for (uint32_t r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      auto collective = meshes[r]->Join(Seat(meshes, r, 4, 1, false), absl::Seconds(20));
      ASSERT_TRUE(collective.ok()) << collective.status();
      auto shards = Shards(2 * r, 2, 300'001, 11);
      std::vector<float> out(300'001);
      ASSERT_TRUE((*collective)->OrderedReduce(Pointers(shards), out.size(), out.data()).ok());
      EXPECT_TRUE(SameBits(out, Reference(4, out.size(), 11)));
    });
  }
  for (auto& thread : threads) thread.join();

  auto intruder = start("user");
  const auto refused = intruder->Join(Seat(meshes, 1, 4, 2, false), absl::Seconds(10));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("role user is not a worker"));

  // One whose certificate the coordinator has called revoked is no worker any more.
  const auto bearer = BearerOf(LoadIdentity(directory.path(), "worker")->certificate);
  ASSERT_TRUE(bearer.ok()) << bearer.status();
  RefusePeers({bearer->serial});
  const auto revoked = meshes[1]->Join(Seat(meshes, 1, 4, 3, false), absl::Seconds(10));
  EXPECT_THAT(std::string(revoked.status().message()), HasSubstr("was revoked"));
  RefusePeers({});
}

// A rank in a process of its own, which gathers for ever.
class PeerProcess {
 public:
  explicit PeerProcess(const std::string& directory) {
    int in[2], out[2];
    EXPECT_EQ(pipe2(in, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      execl("/proc/self/exe", "peer", "--peer", directory.c_str(), nullptr);
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    to_ = in[1];
    from_ = out[0];
    socket_ = ReadLine();
  }
  ~PeerProcess() {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(to_);
    close(from_);
  }
  const std::string& socket() const { return socket_; }
  void Signal(int number) { kill(pid_, number); }
  void Give(const v1::GangSeat& seat) {
    const std::string bytes = seat.SerializeAsString();
    const uint32_t size = static_cast<uint32_t>(bytes.size());
    EXPECT_EQ(write(to_, &size, 4), 4);
    EXPECT_EQ(write(to_, bytes.data(), size), static_cast<ssize_t>(size));
  }
  std::string ReadLine() {
    std::string line;
    for (char c; read(from_, &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }

 private:
  pid_t pid_;
  int to_, from_;
  std::string socket_;
};

int RunPeer(const std::string& directory) {
  auto mesh = PeerMesh::Start(SocketOptions(directory));
  if (!mesh.ok()) return 1;
  std::cout << (*mesh)->socket_path() << std::endl;
  uint32_t size = 0;
  if (read(0, &size, 4) != 4) return 2;
  std::string bytes(size, '\0');
  if (read(0, bytes.data(), size) != static_cast<ssize_t>(size)) return 2;
  v1::GangSeat seat;
  if (!seat.ParseFromString(bytes)) return 3;
  auto collective = (*mesh)->Join(seat, absl::Seconds(20));
  while (collective.ok() && (*collective)->AllGather("peer").ok()) {
  }
  return 0;
}

// How the others end when rank `victim` of three gets `signal`.
void ExpectVictimIsNamed(int signal, uint32_t victim, absl::Duration timeout, absl::Duration bound,
                         const std::string& cause) {
  TemporaryDirectory directory;
  TemporaryDirectory peer_directory;
  PeerProcess peer(peer_directory.path());
  std::vector<std::unique_ptr<PeerMesh>> meshes;
  v1::GangSeat seat;
  seat.mutable_generation()->set_counter(1);
  for (uint32_t r = 0; r < 3; ++r) {
    PeerMesh::Options options = SocketOptions(directory.path());
    options.timeout = timeout;
    auto mesh = PeerMesh::Start(options);
    ASSERT_TRUE(mesh.ok());
    meshes.push_back(*std::move(mesh));
    v1::GangMember* member = seat.add_roster();
    member->set_worker(r == victim ? "the-victim" : absl::StrCat("worker-", r));
    member->set_host("here");
    member->set_peer_socket(r == victim ? peer.socket() : meshes[r]->socket_path());
    member->set_first_shard(r == 0 ? 0 : r + 1);
    member->set_shards(r == 0 ? 2 : 1);
  }
  seat.set_rank(victim);
  peer.Give(seat);
  std::vector<std::thread> threads;
  std::barrier survivors(2);
  for (uint32_t r = 0; r < 3; ++r) {
    if (r == victim) continue;
    threads.emplace_back([&, r] {
      v1::GangSeat own = seat;
      own.set_rank(r);
      auto collective = meshes[r]->Join(own, absl::Seconds(20));
      ASSERT_TRUE(collective.ok()) << collective.status();
      ASSERT_TRUE((*collective)->AllGather("before").ok());
      survivors.arrive_and_wait();
      absl::Time struck = absl::Now();
      if (r == (victim + 1) % 3) peer.Signal(signal);
      absl::Status status;
      while (status.ok()) status = (*collective)->AllGather("after").status();
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr(absl::StrCat("rank ", victim, " (worker the-victim)")), HasSubstr(cause)));
      EXPECT_LT(absl::Now() - struck, bound);
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(Collective, KilledPeer_IsNamedByAll) {
  for (uint32_t victim : {0u, 1u, 2u}) {
    ExpectVictimIsNamed(SIGKILL, victim, absl::Seconds(10), absl::Seconds(8), "connection lost");
  }
}

TEST(Collective, FrozenPeer_IsFoundWithinTheTimeout) {
  for (uint32_t victim : {0u, 2u}) {
    ExpectVictimIsNamed(SIGSTOP, victim, absl::Seconds(1), absl::Seconds(4), "sent nothing for 1s");
  }
}

}  // namespace
}  // namespace dermis

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--peer") return dermis::RunPeer(argv[2]);
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
