// dermis-coordinator: journal, core thread, services.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/ext/health_check_service_server_builder_option.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/blob_store.h"
#include "common/clock.h"
#include "common/command_line.h"
#include "common/log.h"
#include "common/tasks.h"
#include "common/tls.h"
#include "coordinator/audit_log.h"
#include "coordinator/core.h"
#include "coordinator/core_thread.h"
#include "coordinator/dashboard/serve.h"
#include "coordinator/journal.h"
#include "coordinator/services/access.h"
#include "coordinator/services/audit_service.h"
#include "coordinator/services/blob_service.h"
#include "coordinator/services/cluster_service.h"
#include "coordinator/services/failed_handshakes.h"
#include "coordinator/services/health_probe.h"
#include "coordinator/services/join_service.h"
#include "coordinator/services/limits.h"
#include "coordinator/services/open_streams.h"
#include "coordinator/services/question_desk.h"
#include "coordinator/services/question_service.h"
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
  double spot_checks = 0.01;
  uint64_t user_studies = 10'000, user_blobs = 1'000'000, user_gib = 10 << 10;
  bool allow_torchscript = false;
  std::string dashboard;  // HOST:PORT; empty: none.
};

// The address that a process on this machine reaches, in STORE/`name`: written whole or not at
// all.
absl::Status WriteAddress(const std::string& store, const std::string& name,
                          const std::string& address) {
  const std::string path = absl::StrCat(store, "/", name), temporary = absl::StrCat(path, ".new");
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, temporary);
  const std::string text = address + "\n";
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (::close(fd) != 0 || !written || ::rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, path);
  }
  return absl::OkStatus();
}

// Where this machine reaches what listens there.
std::string LocalAddress(const std::string& listen, int port) {
  std::string host = listen.substr(0, listen.rfind(':'));
  if (host == "0.0.0.0" || host == "[::]" || host.empty()) host = "127.0.0.1";
  return absl::StrCat(host, ":", port);
}

std::string BesideThisProgram(const std::string& name) {
  std::error_code error;
  return (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / name).string();
}

// A connection takes a descriptor, and so does a blob that is read: as many as the system allows.
void RaiseFileLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) DERMIS_LOG(kWarning, "the limit of open files stays as it is");
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
  RaiseFileLimit();

  Access access(flags.insecure);
  Identity own;
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  std::unique_ptr<CertificateAuthority> authority;
  if (!flags.insecure) {
    absl::StatusOr<Identity> identity = LoadIdentity(flags.certs, "coordinator");
    if (!identity.ok()) return Fail(kCertificates, std::string(identity.status().message()));
    own = *std::move(identity);
    credentials = GuardedServerCredentials(own, access);
    // Where the CA's key is kept elsewhere, nobody joins by a token.
    absl::StatusOr<std::unique_ptr<CertificateAuthority>> loaded = CertificateAuthority::Load(flags.certs);
    if (loaded.ok()) authority = *std::move(loaded);
    if (absl::IsDataLoss(loaded.status())) return Fail(kCertificates, std::string(loaded.status().message()));
  } else if (!IsLoopback(flags.listen)) {
    return Fail(kUsage,
                absl::StrCat("--insecure speaks plain text and is for loopback only: --listen ",
                             flags.listen, " is not. Use 127.0.0.1:PORT, or certificates"));
  } else if (!flags.dashboard.empty() && !IsLoopback(flags.dashboard)) {
    return Fail(kUsage,
                absl::StrCat("--insecure speaks plain text and is for loopback only: --dashboard ",
                             flags.dashboard, " is not. Use 127.0.0.1:PORT, or certificates"));
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

  const absl::StatusOr<std::unique_ptr<AuditLog>> audit =
      AuditLog::Open(absl::StrCat(flags.store, "/audit.jsonl"), Clock::Real());
  if (!audit.ok()) return Fail(kStore, std::string(audit.status().message()));
  access.OnRefusal([log = audit->get()](const AuditCaller& caller, std::string_view method, const grpc::Status& why) {
    log->Record({caller.name, caller.role, std::string(method), "", why.error_message()});
  });
  OnFailedHandshake([log = audit->get()](const std::string& why) { log->Record({"", "", "a handshake", "", why}); });
  const absl::Cleanup unheard = [] { OnFailedHandshake(nullptr); };

  const UserQuota quota = {flags.user_studies, flags.user_blobs, flags.user_gib << 30};
  const absl::StatusOr<std::unique_ptr<UserUploads>> uploads =
      UserUploads::Open(absl::StrCat(flags.store, "/uploads"), **store, Clock::Real(), {.quota = quota});
  if (!uploads.ok()) return Fail(kStore, std::string(uploads.status().message()));
  StoredBlobs blobs(**store, reserve, uploads->get());
  Streams streams;
  Core core(Clock::Real(), **journal, streams, blobs,
            {.bundle = absl::Seconds(flags.bundle),
             .segment = absl::Seconds(flags.segment),
             .quota = quota,
             .spot_checks = flags.spot_checks});
  core.OnBrought([uploads = uploads->get()](const std::string& user, const Usage& has, const std::vector<Digest>& named) {
    uploads->Named(user, has, named);
  });
  const absl::Duration opened = Clock::Real().Now();
  if (const absl::Status status = core.Open(); !status.ok()) {
    return Fail(kStore, absl::StrCat("the journal in ", flags.store,
                                     " cannot be replayed: ", status.ToString()));
  }
  DERMIS_LOG(kInfo, "journal replayed in ", absl::ToDoubleSeconds(Clock::Real().Now() - opened),
             " s");
  for (const std::string& serial : core.studies().state().trust().revoked()) access.Revoke(serial);
  // What was said after the last commit is not true any more: end at once, replay restores the
  // rest.
  CoreThread core_thread(core, [](const absl::Status& status) {
    DERMIS_LOG(kError,
               "a commit failed; the process ends so that a restart replays what is durable: ",
               status.ToString());
    std::_Exit(kCommit);
  });
  streams.SetCore(&core_thread);

  Watches watches(core_thread);
  ClusterService cluster(access, core_thread, streams, blobs, **journal);
  StudyService studies(access, core_thread, blobs, watches, **journal,
                       flags.allow_torchscript);
  OpenStreams open(access);
  JoinService joins(access, core_thread,
                    {.authority = authority.get(), .listen = flags.listen, .revoked = [&] {
                      streams.CheckAll();
                      open.EndRefused();
                    }});
  AuditService audits(access, **audit, own);
  QuestionDesk desk(core_thread);
  QuestionService questions(access, desk);
  BlobHolders holders(Clock::Real());
  BlobService blob_service(
      access, **store, holders,
      [&core_thread](const Digest& blob, const absl::Status& why) {
        core_thread.Post(
            [blob, cause = std::string(why.message())](Core& core) { core.BlobLost(blob, cause); });
      },
      {.uploads = uploads->get(),
       .index = &blobs,
       .unused =
           [&core_thread, uploads = uploads->get()](std::vector<Digest> due) {
             core_thread.Post([due = std::move(due), uploads](Core& core) mutable {
               std::erase_if(due, [&](const Digest& blob) { return !uploads->Take(blob); });
               core.DropUnused(due);
             });
           },
       .refused =
           [log = audit->get()](const AuditCaller& caller, const absl::Status& why) {
             log->Record({caller.name, caller.role, "Blobs/Put", "", std::string(why.message())});
           }});

  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(flags.listen, credentials, &port);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(AuditCalls(access, **audit));
  interceptors.push_back(open.Notes());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  builder.RegisterService(&audits);
  builder.RegisterService(&cluster);
  builder.RegisterService(&joins);
  builder.RegisterService(&questions);
  builder.RegisterService(&studies);
  builder.RegisterService(&blob_service);
  SetLimits(builder);
  // Two coordinators must not share a port silently.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return Fail(kListen,
                absl::StrCat("cannot listen on ", flags.listen,
                             ": the port is in use (another coordinator?) or the address is "
                             "not this machine's. Give --listen another HOST:PORT"));
  }
  server->GetHealthCheckService()->SetServingStatus(true);

  // Workers may have come back already: their calls must not hold up the end.
  const auto fail = [&](Exit code, const std::string& text) {
    server->Shutdown(std::chrono::system_clock::now());
    return Fail(code, text);
  };
  absl::StatusOr<DashboardParts> dashboard = DashboardParts();
  if (!flags.dashboard.empty()) {
    DashboardOptions options = {flags.dashboard, std::nullopt, flags.store,
                                BesideThisProgram("dermis-decode")};
    if (!flags.insecure) options.tls = own;
    dashboard = ServeDashboard(options, core_thread, **journal, blobs, **store, desk, **audit);
    if (!dashboard.ok()) {
      return fail(kListen, absl::StrCat("the dashboard: ", dashboard.status().message(),
                                        ". Give --dashboard another HOST:PORT"));
    }
  }
  const std::string url =
      flags.dashboard.empty()
          ? ""
          : absl::StrCat(flags.insecure ? "http://" : "https://",
                         LocalAddress(flags.dashboard, dashboard->server->port()));
  if (const absl::Status status = WriteAddress(flags.store, "dashboard", url); !status.ok()) {
    return fail(kStore, status.ToString());
  }
  const std::string address = LocalAddress(flags.listen, port);
  if (const absl::Status status = WriteAddress(flags.store, "address", address); !status.ok()) {
    return fail(kStore, status.ToString());
  }
  if (!url.empty()) DERMIS_LOG(kInfo, "dashboard at ", url, " (dermis dashboard signs in)");
  DERMIS_LOG(kInfo, "version ", kVersion, ", incarnation ", core.incarnation(), ", listens on ",
             address, flags.insecure ? " (plain text)" : "", ", store ", flags.store);

  // Once a second: what no call brings about.
  const timespec second{1, 0};
  int signal_number = -1;
  while (signal_number < 0) {
    signal_number = sigtimedwait(&signals, nullptr, &second);
    open.EndRefused();
    open.EndStalled();
    blob_service.DropUnused();
  }
  DERMIS_LOG(kInfo, "signal ", signal_number, ": stops");
  // Everything is durable already; nobody is helped by a slow end.
  std::thread([] {
    std::this_thread::sleep_for(std::chrono::seconds(10));
    DERMIS_LOG(kWarning, "calls did not end in time: the process ends now");
    std::_Exit(kOk);
  }).detach();
  server->GetHealthCheckService()->SetServingStatus(false);
  dashboard->server.reset();
  streams.CloseAll("the coordinator stops");
  watches.CloseAll("the coordinator stops");
  desk.CloseAll("the coordinator stops");
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
  app.add_option("--spot-checks", flags.spot_checks,
                 "Part of the units that a second worker computes, too, to find workers whose "
                 "results are wrong; 0: none")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--user-studies", flags.user_studies, "Studies that one user may have; 0: any number")
      ->capture_default_str();
  app.add_option("--user-blobs", flags.user_blobs,
                 "Blobs (chunks of image sets, models) that one user's studies may name; 0: any number")
      ->capture_default_str();
  app.add_option("--user-gib", flags.user_gib, "GiB that these may hold; 0: no limit")
      ->capture_default_str()
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 33));
  app.add_flag("--check-health", flags.check_health,
               "Ask the coordinator that runs at --listen whether it serves, then end: 0 where it "
               "does, 1 where not, 5 where --certs is of no use to ask with");
  app.add_flag("--allow-torchscript", flags.allow_torchscript,
               "Take studies of TorchScript models, which carry code (docs/security.md)");
  app.add_option("--dashboard", flags.dashboard,
                 "HOST:PORT that serves the dashboard, /metrics and /healthz; port 0: any free one "
                 "(default: none)");
  if (const auto end = dermis::ParseCommandLine(app, argc, argv)) return *end;
  if (flags.certs.empty() && !flags.insecure) {
    std::cerr << "dermis-coordinator: give --certs DIR, or --insecure on loopback\n";
    return dermis::kUsage;
  }
  if (!flags.dashboard.empty() && flags.dashboard.rfind(':') == std::string::npos) {
    std::cerr << "dermis-coordinator: --dashboard " << flags.dashboard << " is not HOST:PORT\n";
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
