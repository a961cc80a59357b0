// Ranks with a real control path (the gRPC mesh over Unix sockets), the host as their device, and
// the stand-in as NCCL.
#ifndef DERMIS_TESTS_UNIT_WORKER_CUDA_NCCL_GANG_H_
#define DERMIS_TESTS_UNIT_WORKER_CUDA_NCCL_GANG_H_

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include <dlfcn.h>
#include <stdlib.h>

#include "common/reduce_tree.h"
#include "tests/stand_in/nccl/control.h"
#include "worker/collective/mesh.h"
#include "worker/cuda/nccl_collective.h"

namespace dermis {

// A function of the stand-in, e.g. StandIn<decltype(DermisStandInFault)>("DermisStandInFault").
template <typename Function>
Function* StandIn(const char* name) {
  void* library = dlopen(DERMIS_NCCL_STAND_IN, RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<Function*>(dlsym(library, name));
}

inline void InjectFault(int rank, int call, StandInFault fault) {
  StandIn<decltype(DermisStandInFault)>("DermisStandInFault")(rank, call, static_cast<int>(fault));
}

inline std::shared_ptr<const NcclApi> StandInApi() {
  auto api = NcclApi::Load(DERMIS_NCCL_STAND_IN);
  EXPECT_TRUE(api.ok()) << api.status();
  return *api;
}

class SocketFolder {
 public:
  SocketFolder() {
    char path[] = "/tmp/dermis-nccl-XXXXXX";
    path_ = mkdtemp(path);
  }
  ~SocketFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::unique_ptr<PeerMesh> MakeMesh(const std::string& folder, absl::Duration timeout) {
  PeerMesh::Options options;
  options.socket_directory = folder;
  options.host = "here";
  options.timeout = timeout;
  auto mesh = PeerMesh::Start(options);
  EXPECT_TRUE(mesh.ok()) << mesh.status();
  return *std::move(mesh);
}

inline v1::GangSeat MakeSeat(const std::vector<std::string>& sockets, uint32_t rank, uint32_t v) {
  v1::GangSeat seat;
  seat.mutable_generation()->set_incarnation(1);
  seat.mutable_generation()->set_counter(1);
  seat.set_rank(rank);
  const auto ranges = AssignShards(v, static_cast<uint32_t>(sockets.size()));
  for (size_t r = 0; r < sockets.size(); ++r) {
    v1::GangMember* member = seat.add_roster();
    member->set_worker(absl::StrCat("worker-", r));
    member->set_peer_socket(sockets[r]);
    member->set_host("here");
    member->set_first_shard(ranges[r].first);
    member->set_shards(ranges[r].count);
  }
  return seat;
}

using MadeCollective = absl::StatusOr<std::unique_ptr<NcclCollective>>;

// Runs `body` as each of W ranks, in a thread of its own, with what Create gave that rank.
inline void RunGang(uint32_t w, uint32_t v,
                    const std::function<NcclCollective::Options(uint32_t rank)>& options,
                    const std::function<void(uint32_t rank, MadeCollective& made)>& body,
                    absl::Duration timeout = absl::Seconds(10)) {
  SocketFolder folder;
  std::vector<std::unique_ptr<PeerMesh>> meshes;
  std::vector<std::string> sockets;
  for (uint32_t r = 0; r < w; ++r) {
    meshes.push_back(MakeMesh(folder.path(), timeout));
    sockets.push_back(meshes.back()->socket_path());
  }
  const auto api = StandInApi();
  std::vector<std::thread> threads;
  for (uint32_t r = 0; r < w; ++r) {
    threads.emplace_back([&, r] {
      std::shared_ptr<Collective> control;
      if (w == 1) {
        control = MakeLocalCollective(v);
      } else {
        auto joined = meshes[r]->Join(MakeSeat(sockets, r, v), absl::Seconds(20));
        ASSERT_TRUE(joined.ok()) << joined.status();
        control = *std::move(joined);
      }
      const std::unique_ptr<Device> device = MakeHostDevice();
      MadeCollective made = NcclCollective::Create(api, device.get(), control, options(r));
      body(r, made);
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_CUDA_NCCL_GANG_H_
