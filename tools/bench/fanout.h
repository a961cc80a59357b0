// A coordinator's blob service and workers' caches in one process: the real services, over loopback
// and Unix sockets. For the benchmark and for tests.
#ifndef DERMIS_TOOLS_BENCH_FANOUT_H_
#define DERMIS_TOOLS_BENCH_FANOUT_H_

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include <grpc/grpc.h>

#include "common/blob_client.h"
#include "common/blob_store.h"
#include "common/clock.h"
#include "common/tls.h"
#include "coordinator/services/access.h"
#include "coordinator/services/blob_holders.h"
#include "coordinator/services/blob_service.h"
#include "worker/blob_cache.h"
#include "worker/blob_fetcher.h"
#include "worker/collective/mesh.h"
#include "worker/peer_blob_service.h"

namespace dermis::bench {

class FanoutCoordinator {
 public:
  explicit FanoutCoordinator(const std::string& folder)
      : store_(*BlobStore::Open(folder, {.durable = false})),
        holders_(Clock::Real()),
        service_(access_, *store_, holders_, [](const Digest&, const absl::Status&) {}, {}) {
    // Held for good: gRPC 1.51 may take ten seconds to shut down with its last user.
    [[maybe_unused]] static const bool held = (grpc_init(), true);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  ~FanoutCoordinator() { Stop(); }

  // Of all calls: those that go on are cut off.
  uint64_t Stop() {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
    return service_.bytes_sent();
  }

  BlobStore& store() { return *store_; }
  std::shared_ptr<grpc::Channel> NewChannel() const {
    return MakeChannel(address_, grpc::InsecureChannelCredentials());
  }

 private:
  const std::unique_ptr<BlobStore> store_;
  const Access access_{/*insecure=*/true};
  BlobHolders holders_;
  BlobService service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

class FanoutWorker {
 public:
  struct Options {
    grpc::Service* instead = nullptr;  // Served in place of the cache.
    std::string shared_folder = "";
    absl::Duration stall = absl::Seconds(10);
  };
  FanoutWorker(const FanoutCoordinator& coordinator, const std::string& name,
               const std::string& folder, Options options)
      : store_(*BlobStore::Open(folder + "/blobs", {.durable = false})),
        service_(*store_),
        client_(coordinator.NewChannel()) {
    PeerMesh::Options mesh;
    mesh.socket_directory = folder + "/peer";
    mesh.host = "here";
    mesh.service = options.instead != nullptr ? options.instead : &service_;
    mesh_ = *PeerMesh::Start(std::move(mesh));
    BlobFetcher::Options fetching;
    fetching.me.set_worker(name);
    fetching.me.set_socket(mesh_->socket_path());
    fetching.me.set_host("here");
    fetching.shared_folder = options.shared_folder;
    fetching.stall = options.stall;
    fetcher_ = std::make_unique<BlobFetcher>(
        &client_, [this](const v1::BlobPeer& peer) { return mesh_->ChannelTo(peer); },
        std::move(fetching));
    cache_ = std::make_unique<BlobCache>(
        *BlobStore::Open(folder + "/blobs", {.durable = false}),
        [this](const Digest& d) { return fetcher_->Get(d); },
        [this](const Digest& d, std::string_view bytes) { return client_.Put(d, bytes); },
        BlobCache::Options{.came = [this](const Digest& d, uint64_t size, bool kept) {
          fetcher_->Tell(d, size, kept);
        }});
  }

  BlobCache& cache() { return *cache_; }
  BlobFetcher& fetcher() { return *fetcher_; }
  BlobStore& store() { return *store_; }
  void Die() { mesh_.reset(); }  // No peer reaches it any more; calls under way break.

 private:
  const std::unique_ptr<BlobStore> store_;
  PeerBlobService service_;
  BlobClient client_;
  std::unique_ptr<PeerMesh> mesh_;
  std::unique_ptr<BlobFetcher> fetcher_;
  std::unique_ptr<BlobCache> cache_;
};

// Bytes that differ from blob to blob and do not compress.
inline std::string FanoutBytes(size_t size, uint64_t blob) {
  std::string bytes(size, '\0');
  uint64_t x = blob * 0x9e3779b97f4a7c15u + 1;
  for (size_t i = 0; i + 8 <= size; i += 8) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    __builtin_memcpy(bytes.data() + i, &x, 8);
  }
  return bytes;
}

// Each worker gets all blobs, in order and all workers at once. The first error, if any.
inline absl::Status FetchAll(std::vector<std::unique_ptr<FanoutWorker>>& workers,
                             const std::vector<Digest>& blobs) {
  std::vector<absl::Status> results(workers.size());
  std::vector<std::thread> threads;
  for (size_t w = 0; w < workers.size(); ++w) {
    threads.emplace_back([&, w] {
      for (const Digest& blob : blobs) {
        const absl::StatusOr<std::string> bytes = workers[w]->cache().Get(blob);
        if (!bytes.ok()) results[w].Update(bytes.status());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) {
    if (!result.ok()) return result;
  }
  return absl::OkStatus();
}

}  // namespace dermis::bench

#endif  // DERMIS_TOOLS_BENCH_FANOUT_H_
