// Blobs from the coordinator, from peers and from a shared folder: the real services in one
// process.
#include "tools/bench/fanout.h"

#include <fstream>

#include "absl/synchronization/notification.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/runner/fakes.h"

namespace dermis {
namespace {

using bench::FanoutBytes;
using bench::FanoutCoordinator;
using bench::FanoutWorker;

// A peer that does not do what it should.
class BadPeer : public v1::Blobs::Service {
 public:
  enum Fault { kWrongBytes, kTooManyBytes, kStalls };
  explicit BadPeer(Fault fault) : fault_(fault) {}

  grpc::Status Get(grpc::ServerContext* context, const v1::GetRequest*,
                   grpc::ServerWriter<v1::GetResponse>* writer) override {
    ++asked;
    v1::GetResponse piece;
    piece.set_size(kSize);
    piece.set_data(std::string(1 << 20, 'x'));
    writer->Write(piece);
    piece.clear_size();
    if (fault_ == kStalls) {
      if (!begun.HasBeenNotified()) begun.Notify();
      while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
    } else if (fault_ == kTooManyBytes) {
      while (writer->Write(piece)) {
      }
    } else {
      piece.set_data(std::string(kSize - (1 << 20), 'x'));
      writer->Write(piece);
    }
    return grpc::Status::OK;
  }

  static constexpr uint64_t kSize = (3 << 19);
  std::atomic<int> asked{0};
  absl::Notification begun;

 private:
  const Fault fault_;
};

class FanoutTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kSize = BadPeer::kSize;

  std::unique_ptr<FanoutWorker> Worker(const std::string& name,
                                       FanoutWorker::Options options = {}) {
    const std::string own = folder.path() + "/" + name;
    std::filesystem::create_directories(own);
    return std::make_unique<FanoutWorker>(coordinator, name, own, std::move(options));
  }
  std::vector<Digest> PutBlobs(int count) {
    std::vector<Digest> digests;
    for (int b = 0; b < count; ++b)
      digests.push_back(*coordinator.store().Put(FanoutBytes(kSize, b)));
    return digests;
  }
  // Got right, from wherever.
  static void ExpectGets(FanoutWorker& worker, const Digest& blob) {
    const absl::StatusOr<std::string> bytes = worker.cache().Get(blob);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_EQ(Sha256Of(*bytes), blob);
  }

  TemporaryFolder folder;
  FanoutCoordinator coordinator{folder.path() + "/store"};
};

TEST_F(FanoutTest, Fanout_SendsEachBlobTwiceAtMost_ForEightWorkers) {
  const std::vector<Digest> blobs = PutBlobs(6);
  std::vector<std::unique_ptr<FanoutWorker>> workers;
  for (int w = 0; w < 8; ++w) workers.push_back(Worker(absl::StrCat("w", w)));
  ASSERT_TRUE(bench::FetchAll(workers, blobs).ok());
  const uint64_t sent = coordinator.Stop();
  EXPECT_LE(sent, 2 * blobs.size() * kSize);
  EXPECT_GE(sent, blobs.size() * kSize);
  for (auto& worker : workers) {
    for (const Digest& blob : blobs) EXPECT_EQ(Sha256Of(*worker->store().Get(blob)), blob);
  }
}

TEST_F(FanoutTest, Put_MakesTheWorkerAHolder) {
  const auto author = Worker("author"), reader = Worker("reader");
  const std::string bytes = FanoutBytes(kSize, 1);
  ASSERT_TRUE(author->cache().Put(Sha256Of(bytes), bytes).ok());
  ExpectGets(*reader, Sha256Of(bytes));
  EXPECT_EQ(coordinator.Stop(), 0u);
}

TEST_F(FanoutTest, Peer_ThatDiesInTheMiddle_IsReplacedByTheCoordinator) {
  BadPeer bad(BadPeer::kStalls);
  const auto dying = Worker("dying", {.instead = &bad}), reader = Worker("reader");
  const Digest blob = PutBlobs(1)[0];
  dying->fetcher().Tell(blob, kSize, true);
  std::thread death([&] {
    bad.begun.WaitForNotification();
    dying->Die();
  });
  ExpectGets(*reader, blob);
  death.join();
  EXPECT_EQ(bad.asked, 1);
  EXPECT_EQ(coordinator.Stop(), kSize);
}

TEST_F(FanoutTest, Peers_ThatDieWhileOthersFetch_FailNobody) {
  const std::vector<Digest> blobs = PutBlobs(12);
  const auto first = Worker("first"), second = Worker("second");
  for (const Digest& blob : blobs) {
    ExpectGets(*first, blob);
    ExpectGets(*second, blob);
  }
  std::vector<std::unique_ptr<FanoutWorker>> workers;
  for (int w = 0; w < 4; ++w) workers.push_back(Worker(absl::StrCat("w", w)));
  first->Die();  // Is still listed as a holder of everything.
  std::thread death([&] { second->Die(); });
  EXPECT_TRUE(bench::FetchAll(workers, blobs).ok());
  death.join();
}

TEST_F(FanoutTest, Peer_ThatStalls_IsLeft) {
  BadPeer bad(BadPeer::kStalls);
  const auto stalling = Worker("stalling", {.instead = &bad});
  const auto reader = Worker("reader", {.stall = absl::Seconds(2)});
  const Digest blob = PutBlobs(1)[0];
  stalling->fetcher().Tell(blob, kSize, true);
  ExpectGets(*reader, blob);
  EXPECT_EQ(bad.asked, 1);
  EXPECT_EQ(coordinator.Stop(), kSize);
}

class FanoutFromBadPeerTest : public FanoutTest,
                              public ::testing::WithParamInterface<BadPeer::Fault> {};

TEST_P(FanoutFromBadPeerTest, Bytes_AreNotTaken_AndThePeerIsNotAskedAgain) {
  BadPeer bad(GetParam());
  const auto lying = Worker("lying", {.instead = &bad}), reader = Worker("reader");
  const std::vector<Digest> blobs = PutBlobs(2);
  for (const Digest& blob : blobs) lying->fetcher().Tell(blob, kSize, true);
  for (const Digest& blob : blobs) ExpectGets(*reader, blob);
  EXPECT_EQ(bad.asked, 1);
  EXPECT_EQ(coordinator.Stop(), 2 * kSize);
}

INSTANTIATE_TEST_SUITE_P(Faults, FanoutFromBadPeerTest,
                         ::testing::Values(BadPeer::kWrongBytes, BadPeer::kTooManyBytes));

TEST_F(FanoutTest, Peer_WithADamagedCopy_RemovesIt_AndTheReceiverGoesOn) {
  const auto holder = Worker("holder"), reader = Worker("reader");
  const Digest blob = PutBlobs(1)[0];
  ExpectGets(*holder, blob);
  std::fstream(holder->store().PathOf(blob), std::ios::in | std::ios::out) << "damage";
  ExpectGets(*reader, blob);
  EXPECT_FALSE(holder->store().Has(blob));
  EXPECT_EQ(coordinator.Stop(), 2 * kSize);
}

TEST_F(FanoutTest, SharedFolder_IsLookedAtFirst_AndVerified) {
  const std::vector<Digest> blobs = PutBlobs(3);
  const auto shared = *BlobStore::Open(folder.path() + "/shared", {});
  for (int b : {0, 1}) ASSERT_TRUE(shared->Put(FanoutBytes(kSize, b)).ok());
  std::fstream(shared->PathOf(blobs[1]), std::ios::in | std::ios::out) << "damage";
  const auto worker = Worker("worker", {.shared_folder = folder.path() + "/shared"});
  for (const Digest& blob : blobs) ExpectGets(*worker, blob);
  EXPECT_TRUE(shared->Has(blobs[1])) << "the shared folder is only read";
  EXPECT_EQ(coordinator.Stop(), 2 * kSize);
}

TEST_F(FanoutTest, PeerBlobs_AreServedToWorkersOnly_AndOnlyGet) {
  const std::string certificates = folder.path() + "/certs";
  ASSERT_TRUE(MakeClusterCertificates(certificates, {}).ok());
  const std::unique_ptr<BlobStore> store = *BlobStore::Open(folder.path() + "/cache", {});
  const Digest blob = *store->Put("bytes");
  PeerBlobService service(*store);
  PeerMesh::Options options;
  options.identity = *LoadIdentity(certificates, "worker");
  options.listen = "127.0.0.1:0";
  options.advertise_host = "127.0.0.1";
  options.service = &service;
  const std::unique_ptr<PeerMesh> mesh = *PeerMesh::Start(options);
  const auto client_as = [&](const std::string& role) {
    return BlobClient(
        MakeChannel(mesh->address(), ClientCredentials(*LoadIdentity(certificates, role))),
        absl::ZeroDuration());
  };
  EXPECT_EQ(*client_as("worker").Get(blob), "bytes");
  EXPECT_TRUE(absl::IsNotFound(client_as("worker").Get(Sha256Of("absent")).status()));
  for (const char* role : {"user", "coordinator"}) {
    EXPECT_TRUE(absl::IsPermissionDenied(client_as(role).Get(blob).status())) << role;
  }
  EXPECT_TRUE(absl::IsUnimplemented(client_as("worker").Has({blob}).status()));
  EXPECT_TRUE(absl::IsUnimplemented(client_as("worker").Holding({})));
  BlobClient plain(MakeChannel(mesh->address(), grpc::InsecureChannelCredentials()),
                   absl::ZeroDuration(), absl::Seconds(5));
  EXPECT_FALSE(plain.Get(blob).ok());
}

}  // namespace
}  // namespace dermis
