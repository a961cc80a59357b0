// The bytes that other workers say to a worker: the streams of a gang's ranks, from their hello on
// and in any order, while it shares memory, sums and gathers; and what they ask its cache for. Each
// call of the collective ends, well or with an error that stays, and no blob comes with bytes that
// are not its own.
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/support/byte_buffer.h"

#include "common/blob_store.h"
#include "common/log.h"
#include "dermis/v1/cluster.pb.h"
#include "tests/fuzz/calls.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/streams.h"
#include "worker/collective/gang.h"
#include "worker/collective/gang_collective.h"
#include "worker/collective/peer_link.h"
#include "worker/collective/switchboard.h"
#include "worker/peer_blob_service.h"

namespace dermis {
namespace {

// Nobody is waited for: who has not said what is awaited has left.
constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr uint64_t kFloats = 40;

class Worker {
 public:
  Worker()
      : board_(std::make_shared<Switchboard>(kPatience, kPatience)),
        gang_(std::make_shared<Gang>(PeerSeat(), kPatience)) {
    Require(board_->Enter(gang_).ok(), "the first gang can be entered");
    for (auto& stream : streams_)
      stream = std::make_unique<Exchange>(AcceptPeer(nullptr, board_).reactor);
  }
  ~Worker() { gang_->Leave(); }

  void Say(size_t stream, const std::string& frame) {
    const grpc::Slice slice(frame);
    streams_[stream]->Say(grpc::ByteBuffer(&slice, 1));
    streams_[stream]->Hear();
  }

  void Work() {
    FrameHeader bye{};
    bye.kind = FrameKind::kBye;
    const std::string frame(reinterpret_cast<const char*>(&bye), sizeof bye);
    for (size_t stream = 0; stream < std::size(streams_); ++stream) Say(stream, frame);
    absl::Status status = gang_->AwaitAll(absl::ZeroDuration());
    GangCollective collective(gang_);
    std::vector<float> shard(kFloats, 1.f), sum(kFloats);
    float* const shards[] = {shard.data()};
    const auto next = [&](const absl::Status& result) {
      Require(status.ok() || result == status, "after an error each call gives that error");
      status = result;
      for (auto& stream : streams_) stream->Hear();
    };
    next(collective.ShareMemory(true));
    next(collective.OrderedReduce(shards, kFloats, sum.data()));
    const auto all = collective.AllGather("mine");
    next(all.status());
    Require(!all.ok() || (all->size() == 3 && (*all)[0] == "mine"), "each rank's bytes, by rank");
  }

 private:
  using Exchange = FakeExchange<grpc::ByteBuffer, grpc::ByteBuffer>;

  std::shared_ptr<Switchboard> board_;
  std::shared_ptr<Gang> gang_;
  std::unique_ptr<Exchange> streams_[2];
};

// A cache with one blob; its folder is gone at the end.
struct Cache {
  Cache() { Require(store->Put("a blob").ok(), "a blob can be stored"); }
  ~Cache() { std::filesystem::remove_all(folder); }
  static std::string MakeFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "dermis-fuzz-XXXXXX").string();
    return mkdtemp(name.data());
  }
  const std::string folder = MakeFolder();
  std::unique_ptr<BlobStore> store = *BlobStore::Open(folder, {.durable = false});
  PeerBlobService service{*store};
};

void Get(const std::string& bytes) {
  static Cache cache;
  v1::GetRequest request;
  if (!request.ParseFromString(bytes)) return;
  FakeWriting<v1::GetResponse> answer(cache.service.Answer(request));
  std::string sent;
  while (const std::optional<v1::GetResponse> piece = answer.Hear()) sent += piece->data();
  Require(!answer.status()->ok() || Sha256Of(sent).bytes() == request.digest(),
          "what is sent has its digest");
}

}  // namespace
}  // namespace dermis

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using dermis::PeerCall;
  dermis::Hush();
  dermis::SetLogLevel(static_cast<dermis::LogLevel>(4));  // Not a word.
  dermis::Worker worker;
  dermis::ForEachCall<PeerCall>(data, size, [&](PeerCall call, const std::string& bytes) {
    if (call == PeerCall::kGet) {
      dermis::Get(bytes);
    } else {
      worker.Say(call == PeerCall::kSecond ? 1 : 0, bytes);
    }
  });
  worker.Work();
  return 0;
}
