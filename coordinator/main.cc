// dermis-coordinator: journal, core thread, services.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "grpcpp/ext/health_check_service_server_builder_option.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/blob_store.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/tasks.h"
#include "common/tls.h"
#include "coordinator/core.h"
#include "coordinator/core_thread.h"
#include "coordinator/journal.h"
#include "coordinator/services/access.h"
#include "coordinator/services/blob_service.h"
#include "coordinator/services/cluster_service.h"
#include "coordinator/services/health_probe.h"
#include "coordinator/services/streams.h"
#include "coordinator/services/study_service.h"

namespace dermis {
namespace {

// Exit codes, for supervisors and scripts.
enum Exit { kOk = 0, kUnhealthy = 1, kUsage = 2, kStore = 3, kListen = 4, kCertificates = 5, kCommit = 6 };

struct Flags {
  std::string store, listen = "0.0.0.0:7433", certs;
  bool insecure = false, check_health = false;
  uint64_t reserve_mib = 512;
  double segment = 30;
  double bundle = 1;
  bool allow_torchscript = false;
};

// The address that a process on this machine reaches, in STORE/address: written whole or not at
// all.
absl::Status WriteAddress(const std::string& store, const std::string& address) {
  const std::string path = absl::StrCat(store, "/address"), temporary = absl::StrCat(path, ".new");
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, temporary);
  const std::string text = address + "\n";
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (::close(fd) != 0 || !written || ::rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, path);
  }
  return absl::OkStatus();
}

int Fail(Exit code, const std::string& text) {
  DERMIS_LOG(kError, text);
  return code;
}

int CheckHealth(const Flags& flags) {
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (!flags.insecure) {
    const absl::StatusOr<Identity> identity = LoadIdentity(flags.certs, "coordinator");
    if (!identity.ok()) return Fail(kCertificates, std::string(identity.status().message()));
    credentials = ClientCredentials(*identity);
  }
  const size_t colon = flags.listen.rfind(':');
  const std::string host = flags.listen.substr(0, colon);
  const bool everywhere = host == "0.0.0.0" || host == "[::]";
  const absl::Status health = ProbeHealth(everywhere ? "127.0.0.1" + flags.listen.substr(colon) : flags.listen,
                                          credentials, absl::Seconds(5));
  if (!health.ok()) return Fail(kUnhealthy, std::string(health.message()));
  return kOk;
}

int Serve(const Flags& flags) {
  // Signals are taken by one thread; block them before any other thread is born.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!flags.insecure) {
    const absl::StatusOr<Identity> identity = LoadIdentity(flags.certs, "coordinator");
    if (!identity.ok()) return Fail(kCertificates, std::string(identity.status().message()));
    credentials = MutualTlsServerCredentials(*identity);
  } else if (!IsLoopback(flags.listen)) {
    return Fail(kUsage,
                absl::StrCat("--insecure speaks plain text and is for loopback only: --listen ",
                             flags.listen, " is not. Use 127.0.0.1:PORT, or certificates"));
  }

  absl::StatusOr<std::unique_ptr<Journal>> journal = OpenSqliteJournal(flags.store);
  if (!journal.ok()) {
    return Fail(kStore, absl::StrCat("the store ", flags.store,
                                     " cannot be opened: ", journal.status().message()));
  }
  const uint64_t reserve = flags.reserve_mib << 20;
  absl::StatusOr<std::unique_ptr<BlobStore>> store = BlobStore::Open(
      absl::StrCat(flags.store, "/blobs"), {.durable = true, .reserve_bytes = reserve});
  if (!store.ok()) {
    return Fail(kStore, absl::StrCat("the blobs in ", flags.store,
                                     " cannot be opened: ", store.status().message()));
  }

  StoredBlobs blobs(**store, reserve);
  Streams streams;
  Core core(Clock::Real(), **journal, streams, blobs,
            {.bundle = absl::Seconds(flags.bundle), .segment = absl::Seconds(flags.segment)});
  const absl::Duration opened = Clock::Real().Now();
  if (const absl::Status status = core.Open(); !status.ok()) {
    return Fail(kStore, absl::StrCat("the journal in ", flags.store,
                                     " cannot be replayed: ", status.ToString()));
  }
  DERMIS_LOG(kInfo, "journal replayed in ", absl::ToDoubleSeconds(Clock::Real().Now() - opened),
             " s");
  // What was said after the last commit is not true any more: end at once, replay restores the
  // rest.
  CoreThread core_thread(core, [](const absl::Status& status) {
    DERMIS_LOG(kError,
               "a commit failed; the process ends so that a restart replays what is durable: ",
               status.ToString());
    std::_Exit(kCommit);
  });
  streams.SetCore(&core_thread);

  const Access access(flags.insecure);
  Watches watches(core_thread);
  ClusterService cluster(access, core_thread, streams, blobs, **journal);
  StudyService studies(access, core_thread, blobs, watches, **journal,
                       flags.allow_torchscript);
  BlobHolders holders(Clock::Real());
  BlobService blob_service(
      access, **store, holders, [&core_thread](const Digest& blob, const absl::Status& why) {
        core_thread.Post(
            [blob, cause = std::string(why.message())](Core& core) { core.BlobLost(blob, cause); });
      });

  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(flags.listen, credentials, &port);
  builder.RegisterService(&cluster);
  builder.RegisterService(&studies);
  builder.RegisterService(&blob_service);
  builder.SetMaxReceiveMessageSize(64 << 20);
  builder.SetMaxSendMessageSize(64 << 20);
  // Two coordinators must not share a port silently.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Clients ping (common/tls.h): that is no abuse. Our own pings find dead ones.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return Fail(kListen,
                absl::StrCat("cannot listen on ", flags.listen,
                             ": the port is in use (another coordinator?) or the address is "
                             "not this machine's. Give --listen another HOST:PORT"));
  }
  server->GetHealthCheckService()->SetServingStatus(true);

  std::string host = flags.listen.substr(0, flags.listen.rfind(':'));
  if (host == "0.0.0.0" || host == "[::]" || host.empty()) host = "127.0.0.1";
  const std::string address = absl::StrCat(host, ":", port);
  if (const absl::Status status = WriteAddress(flags.store, address); !status.ok()) {
    return Fail(kStore, status.ToString());
  }
  DERMIS_LOG(kInfo, "version ", kVersion, ", incarnation ", core.incarnation(), ", listens on ",
             address, flags.insecure ? " (plain text)" : "", ", store ", flags.store);

  int signal_number = 0;
  sigwait(&signals, &signal_number);
  DERMIS_LOG(kInfo, "signal ", signal_number, ": stops");
  // Everything is durable already; nobody is helped by a slow end.
  std::thread([] {
    std::this_thread::sleep_for(std::chrono::seconds(10));
    DERMIS_LOG(kWarning, "calls did not end in time: the process ends now");
    std::_Exit(kOk);
  }).detach();
  server->GetHealthCheckService()->SetServingStatus(false);
  streams.CloseAll("the coordinator stops");
  watches.CloseAll("the coordinator stops");
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(3));
  core_thread.Stop();
  server.reset();
  DERMIS_LOG(kInfo, "stopped");
  return kOk;
}

}  // namespace
}  // namespace dermis

int main(int argc, char** argv) {
  dermis::SetLogProcess("coordinator");
  dermis::Flags flags;
  CLI::App app(
      "dermis-coordinator: keeps the studies of a Dermis cluster and gives out their tasks");
  app.set_version_flag("--version", std::string("dermis-coordinator ") + dermis::kVersion);
  app.add_option("--store", flags.store, "Folder of the journal and the blobs (made where absent); required");
  app.add_option("--listen", flags.listen, "HOST:PORT to listen on; port 0: any free one")
      ->capture_default_str();
  app.add_option("--certs", flags.certs,
                 "Folder of the cluster's certificates (dermis cluster start)");
  app.add_flag("--insecure", flags.insecure, "Plain text, no certificates: on loopback only");
  app.add_option("--reserve-mib", flags.reserve_mib,
                 "Free disk space below which new studies and blobs are refused, MiB")
      ->capture_default_str();
  app.add_option("--segment", flags.segment, "Seconds of training between two stored states")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 86400.0));
  app.add_option("--bundle", flags.bundle,
                 "Seconds of evaluation and explanation that a worker is given at a time; more of them "
                 "leave shorter gaps, and let other studies wait longer")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 600.0));
  app.add_flag("--check-health", flags.check_health,
               "Ask the coordinator that runs at --listen whether it serves, then end: 0 where it does, else 1");
  app.add_flag("--allow-torchscript", flags.allow_torchscript,
               "Take studies of TorchScript models, which carry code (docs/security.md)");
  CLI11_PARSE(app, argc, argv);
  if (flags.certs.empty() && !flags.insecure) {
    std::cerr << "dermis-coordinator: give --certs DIR, or --insecure on loopback\n";
    return dermis::kUsage;
  }
  if (flags.listen.rfind(':') == std::string::npos) {
    std::cerr << "dermis-coordinator: --listen " << flags.listen << " is not HOST:PORT\n";
    return dermis::kUsage;
  }
  if (flags.store.empty() && !flags.check_health) {
    std::cerr << "dermis-coordinator: --store is required\n";
    return dermis::kUsage;
  }
  try {
    return flags.check_health ? dermis::CheckHealth(flags) : dermis::Serve(flags);
  } catch (const std::exception& error) {
    DERMIS_LOG(kError, "unexpected: ", error.what());
    return 1;
  }
}
