#include "worker/collective/mesh.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/status_macros.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/support/channel_arguments.h"
#include <grpc/grpc.h>
#include "worker/collective/gang.h"
#include "worker/collective/gang_collective.h"
#include "worker/collective/switchboard.h"

namespace dermis {
namespace {

grpc::ChannelArguments StreamArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt("grpc.use_local_subchannel_pool", 1);   // A connection for each stream.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return arguments;
}

// Flow control of HTTP/2 for frames of 256 KiB; both ends.
const std::pair<const char*, int> kTransport[] = {
    {GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20},
    {GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 8 << 20},
    {GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, 1 << 20},
    {GRPC_ARG_HTTP2_BDP_PROBE, 0},
    {"grpc.experimental.tcp_read_chunk_size", 256 << 10},
    {"grpc.experimental.tcp_min_read_chunk_size", 64 << 10},
    {"grpc.experimental.tcp_max_read_chunk_size", 4 << 20},
};

// Makes the directory, or checks that nobody else can enter it.
absl::Status PrepareDirectory(const std::string& directory) {
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make the socket directory ", directory, ": ", std::strerror(errno)));
  }
  struct stat info;
  if (lstat(directory.c_str(), &info) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot look at the socket directory ", directory, ": ", std::strerror(errno)));
  }
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the socket directory ", directory,
                     " must be a directory of this user with mode 0700; make it so or name another"));
  }
  return absl::OkStatus();
}

class PeerMeshImpl : public PeerMesh {
 public:
  explicit PeerMeshImpl(Options options)
      : options_(std::move(options)),
        // Peers get their seats within seconds of each other, but some have images to fetch first.
        board_(std::make_shared<Switchboard>(options_.timeout, kJoinPatience)),
        service_(board_) {}

  absl::Status Start() {
    grpc::ServerBuilder builder;
    builder.RegisterCallbackGenericService(&service_);
    if (options_.service != nullptr) builder.RegisterService(options_.service);
    builder.SetMaxReceiveMessageSize(-1);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    for (const auto& [name, value] : kTransport) builder.AddChannelArgument(name, value);
    int port = 0;
    const bool tcp = !options_.identity.certificate.empty();
    if (tcp) {
      builder.AddListeningPort(options_.listen,
                               options_.certs.empty() ? MutualTlsServerCredentials(options_.identity)
                                                      : RenewedServerCredentials(options_.certs, "worker"),
                               &port);
    }
    int bound = 0;
    if (!options_.socket_directory.empty()) {
      RETURN_IF_ERROR(PrepareDirectory(options_.socket_directory));
      static std::atomic<int> count{0};
      socket_ = absl::StrCat(options_.socket_directory, "/peer-", getpid(), "-", count++, ".sock");
      if (socket_.size() > 107) {
        return absl::InvalidArgumentError(absl::StrCat(
            "the socket path ", socket_, " is longer than 107 bytes; choose a shorter socket directory"));
      }
      unlink(socket_.c_str());   // Of an earlier process with this id.
      builder.AddListeningPort("unix:" + socket_, grpc::experimental::LocalServerCredentials(UDS), &bound);
    }
    if (!tcp && socket_.empty()) {
      return absl::InvalidArgumentError("the mesh has neither an identity for TCP nor a socket directory");
    }
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || (tcp && port == 0)) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen for peers on ", tcp ? options_.listen : "(no TCP)",
                       socket_.empty() ? "" : " and ", socket_, "; is the address taken?"));
    }
    if (tcp) {
      const bool colon = options_.advertise_host.find(':') != std::string::npos;
      address_ = absl::StrCat(colon ? "[" : "", options_.advertise_host, colon ? "]" : "", ":", port);
    }
    tender_ = std::thread([this] {
      const absl::Duration period = std::min(options_.timeout / 5, absl::Seconds(1));
      absl::MutexLock lock(&stop_mutex_);
      while (!stop_) {
        if (stop_changed_.WaitWithTimeout(&stop_mutex_, period) && !stop_) board_->Tend();
      }
    });
    return absl::OkStatus();
  }

  ~PeerMeshImpl() override {
    {
      absl::MutexLock lock(&stop_mutex_);
      stop_ = true;
      stop_changed_.Signal();
    }
    if (tender_.joinable()) tender_.join();
    board_->Close(absl::Seconds(4));
    if (server_ != nullptr) {
      server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
      server_->Wait();
    }
    if (!socket_.empty()) unlink(socket_.c_str());
  }

  std::string address() const override { return address_; }
  std::string socket_path() const override { return socket_; }

  absl::StatusOr<std::unique_ptr<Collective>> Join(const v1::GangSeat& seat,
                                                   absl::Duration patience) override {
    const uint32_t w = static_cast<uint32_t>(seat.roster_size());
    if (w == 0 || seat.rank() >= w) {
      return absl::InvalidArgumentError(
          absl::StrCat("rank ", seat.rank(), " is not in a roster of ", w, " workers"));
    }
    uint32_t v = 0;
    for (const v1::GangMember& member : seat.roster()) {
      if (member.shards() == 0 || member.first_shard() != v) {
        return absl::InvalidArgumentError(
            absl::StrCat("the roster gives worker ", member.worker(), " shards [", member.first_shard(), ", ",
                         member.first_shard() + member.shards(), "), expected to begin at ", v));
      }
      v += member.shards();
    }
    if ((v & (v - 1)) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(v, " logical shards are not a power of two"));
    }

    auto gang = std::make_shared<Gang>(seat, options_.timeout);
    RETURN_IF_ERROR(board_->Enter(gang));
    if (w == 1) return MakeLocalCollective(v);
    for (uint32_t to = 0; to < seat.rank(); ++to) {
      const v1::GangMember& member = gang->member(to);
      v1::BlobPeer peer;
      peer.set_address(member.peer_address());
      peer.set_socket(member.peer_socket());
      peer.set_host(member.host());
      absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = ChannelTo(peer);
      if (!channel.ok()) {
        gang->Fail(absl::StatusCode::kUnavailable, to, std::string(channel.status().message()));
        return gang->status();
      }
      board_->Watch(gang->Dial(to, *std::move(channel)));
    }
    RETURN_IF_ERROR(gang->AwaitAll(patience));
    auto collective = std::make_unique<GangCollective>(std::move(gang));
    RETURN_IF_ERROR(collective->ShareMemory(!socket_.empty()));
    return collective;
  }

  void Leave(const v1::Generation& generation) override { board_->Leave(generation); }

  absl::StatusOr<std::shared_ptr<grpc::Channel>> ChannelTo(
      const v1::BlobPeer& peer) const override {
    grpc::ChannelArguments arguments = StreamArguments();
    for (const auto& [name, value] : kTransport) arguments.SetInt(name, value);
    // The same host name does not prove the same file system (containers): the socket must be there.
    if (!peer.socket().empty() && !options_.host.empty() && peer.host() == options_.host &&
        access(peer.socket().c_str(), W_OK) == 0) {
      return grpc::CreateCustomChannel("unix:" + peer.socket(),
                                       grpc::experimental::LocalCredentials(UDS), arguments);
    }
    if (options_.identity.certificate.empty() || peer.address().empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "no way to reach it: socket '", peer.socket(), "' on host '", peer.host(),
          "' cannot be opened from host '", options_.host, "', and ",
          options_.identity.certificate.empty() ? "this worker" : "it", " has no TCP port"));
    }
    arguments.SetSslTargetNameOverride("dermis");
    Identity identity = options_.identity;
    if (!options_.certs.empty()) {
      ASSIGN_OR_RETURN(identity, LoadIdentity(options_.certs, "worker"));
    }
    return grpc::CreateCustomChannel(peer.address(), ClientCredentials(identity), arguments);
  }

 private:
  const Options options_;
  std::shared_ptr<Switchboard> board_;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::string socket_;
  std::string address_;
  std::thread tender_;
  absl::Mutex stop_mutex_;
  absl::CondVar stop_changed_;
  bool stop_ ABSL_GUARDED_BY(stop_mutex_) = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PeerMesh>> PeerMesh::Start(Options options) {
  // Held for good: gRPC 1.51 may take ten seconds to shut down with its last user.
  [[maybe_unused]] static const bool held = (grpc_init(), true);
  auto mesh = std::make_unique<PeerMeshImpl>(std::move(options));
  RETURN_IF_ERROR(mesh->Start());
  return mesh;
}

}  // namespace dermis
