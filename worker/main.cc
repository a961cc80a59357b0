// dermis-worker: one process driving one device.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include <CLI/CLI.hpp>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/blob_client.h"
#include "common/blob_store.h"
#include "common/clock.h"
#include "common/command_line.h"
#include "common/image_set.h"
#include "common/join_token.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "common/tls.h"
#include "worker/attempts.h"
#include "worker/blob_cache.h"
#include "worker/blob_fetcher.h"
#include "worker/collective/mesh.h"
#include "worker/collective/peer_access.h"
#include "worker/completer.h"
#include "worker/data/image_source.h"
#include "worker/device/numerics_class.h"
#include "worker/familiarity_runner.h"
#include "worker/gang_runner.h"
#include "worker/given_images.h"
#include "worker/gpu/worker_gpu.h"
#include "worker/join.h"
#include "worker/peer_blob_service.h"
#include "worker/result_cache.h"
#include "worker/session.h"
#include "worker/supervisor.h"
#include "worker/task_runner.h"
#include "worker/training/trainer.h"
#include "worker/unit_pool.h"

namespace dermis {
namespace {

// What a worker that is told to stop may take for it: a step, a state, an upload; with the second
// after it, five in all. What takes longer is given up: a gang goes on from its last stored state,
// a unit is given out again.
constexpr absl::Duration kDrainPatience = absl::Seconds(4);

struct Flags {
  std::string coordinator, certs, join, cache, name, listen = "0.0.0.0:0", advertise, claim_version = kVersion;
  std::string shared_blobs, device = "auto";
  double device_memory = 0.9;
  uint64_t cache_limit = 0;  // 0: DefaultCacheLimit.
  uint64_t image_memory = 0;
  uint32_t threads = 0;
  bool insecure = false, supervise = false, allow_torchscript = false, computes_wrong = false;
};

// The smallest error that there is, of the kinds whose results are numbers.
void FlipOneBit(v1::Payload& payload) {
  const auto flip = [](auto* numbers) {
    if (numbers->empty()) return;
    auto& number = *numbers->Mutable(0);
    number = std::nextafter(number, static_cast<std::remove_reference_t<decltype(number)>>(1e9));
  };
  if (payload.has_evaluate()) flip(payload.mutable_evaluate()->mutable_logits());
  if (payload.has_perturb()) flip(payload.mutable_perturb()->mutable_logits());
  if (payload.has_fit()) flip(payload.mutable_fit()->mutable_values());
}

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = "localhost";
  gethostname(name, sizeof(name) - 1);
  return name;
}

std::string Random() {
  unsigned char bytes[8] = {};
  [[maybe_unused]] const ssize_t n = getrandom(bytes, sizeof(bytes), 0);
  return absl::BytesToHexString({reinterpret_cast<char*>(bytes), sizeof(bytes)});
}

// A Unix socket's path holds at most 107 characters.
std::string SocketDirectory(const std::string& cache) {
  if (cache.size() < 60) return cache + "/peer";
  std::string path = "/tmp/dermis-peer-XXXXXX";
  return mkdtemp(path.data()) == nullptr ? "" : path;
}

// Image sets by their manifest: those of ImageData that is loaded are shared, for a set may be large.
class ImageSets {
 public:
  using GetBlob = std::function<absl::StatusOr<std::string>(const Digest&)>;
  explicit ImageSets(GetBlob get_blob) : get_blob_(std::move(get_blob)) {}

  void Know(const std::shared_ptr<ImageSet>& set, const Digest& manifest) {
    absl::MutexLock lock(&mutex_);
    known_[manifest] = set;
  }
  absl::StatusOr<std::shared_ptr<ImageSet>> Get(const Digest& manifest) {
    absl::MutexLock lock(&mutex_);
    if (auto set = known_[manifest].lock(); set != nullptr) return set;
    ASSIGN_OR_RETURN(const std::string bytes, get_blob_(manifest));
    v1::ImageSetManifest parsed;
    if (!parsed.ParseFromString(bytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat("blob ", manifest.short_hex(), " is not the manifest of an image set"));
    }
    RETURN_IF_ERROR(ValidateManifest(parsed));
    ASSIGN_OR_RETURN(std::shared_ptr<ImageSet> set, ImageSet::OpenBlobs(std::move(parsed), get_blob_));
    last_ = set;
    last_manifest_ = manifest;
    known_[manifest] = set;
    return set;
  }
  void Forget(const Digest& manifest) {
    absl::MutexLock lock(&mutex_);
    known_.erase(manifest);
    if (last_manifest_ == manifest) last_.reset();
  }

 private:
  const GetBlob get_blob_;
  absl::Mutex mutex_;
  std::map<Digest, std::weak_ptr<ImageSet>> known_;
  std::shared_ptr<ImageSet> last_;
  Digest last_manifest_;
};

// A call that is answered or fails within `timeout`.
template <typename Request, typename Response, typename Method>
absl::StatusOr<Response> Call(v1::Cluster::StubInterface& stub, Method method, const Request& request,
                              absl::Duration timeout, std::string_view what) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  context.set_wait_for_ready(true);
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return ToAbsl(status, what);
  return response;
}

int Fail(int code, const absl::Status& status) {
  DERMIS_LOG(kError, status.message());
  return code;
}

// Of a device that cannot be used: whether a supervisor shall try again.
int ExitCodeOf(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) ? 1 : kExitHopeless;
}

// What --device asks for; null: the processor.
absl::StatusOr<std::unique_ptr<WorkerGpu>> OpenGpu(const Flags& flags) {
  if (flags.device == "cpu") return nullptr;
  const size_t colon = flags.device.find(':');
  const int ordinal =
      colon == std::string::npos ? 0 : std::atoi(flags.device.c_str() + colon + 1);
  absl::StatusOr<std::unique_ptr<WorkerGpu>> gpu = WorkerGpu::Open(ordinal, flags.device_memory);
  if (gpu.ok()) {
    DERMIS_LOG(kInfo, "gpu:", ordinal, ": ", (*gpu)->description());
    return gpu;
  }
  // A GPU that does not answer now may do so later.
  const bool none = absl::IsNotFound(gpu.status());
  if (flags.device.rfind("auto", 0) != 0 || !(none || absl::IsFailedPrecondition(gpu.status()))) {
    return gpu;
  }
  // No GPU is no news; one that cannot be used is.
  if (!none) {
    DERMIS_LOG(kWarning, "there is a GPU and it is not used: ", gpu.status().message(),
               ". This worker computes on the processor");
  }
  return nullptr;
}

// The connection to the coordinator; another one once the certificate was renewed. Thread-safe.
class Link {
 public:
  explicit Link(std::shared_ptr<grpc::Channel> channel) { Use(std::move(channel)); }
  void Use(std::shared_ptr<grpc::Channel> channel) {
    absl::MutexLock lock(&mutex_);
    stub_ = v1::Cluster::NewStub(channel);
    blobs_.emplace_back(channel);
    channel_ = std::move(channel);
  }
  std::shared_ptr<grpc::Channel> channel() const {
    absl::MutexLock lock(&mutex_);
    return channel_;
  }
  std::shared_ptr<v1::Cluster::StubInterface> stub() const {
    absl::MutexLock lock(&mutex_);
    return stub_;
  }
  // Outlives the next Use, too: calls may be under way.
  BlobClient* blobs() {
    absl::MutexLock lock(&mutex_);
    return &blobs_.back();
  }

 private:
  mutable absl::Mutex mutex_;
  std::shared_ptr<grpc::Channel> channel_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<v1::Cluster::StubInterface> stub_ ABSL_GUARDED_BY(mutex_);
  std::list<BlobClient> blobs_ ABSL_GUARDED_BY(mutex_);  // One every few days; the last is in use.
};

int Work(Flags flags) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  Identity identity;
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (!flags.insecure) {
    if (!flags.join.empty()) {
      // A second between two tries, unless a signal says that there is to be none.
      const absl::Status joined = EnsureJoined(flags.join, flags.certs, flags.name, [&] {
        const timespec pause = {.tv_sec = 1, .tv_nsec = 0};
        return sigtimedwait(&signals, nullptr, &pause) < 0;
      });
      if (absl::IsCancelled(joined)) return 0;
      if (!joined.ok()) return Fail(kExitHopeless, joined);
    }
    absl::StatusOr<Identity> loaded = LoadIdentity(flags.certs, "worker");
    if (!loaded.ok()) {
      return Fail(kExitHopeless, absl::UnauthenticatedError(absl::StrCat(
                                     loaded.status().message(), ", or join with a token (dermis-worker --join)")));
    }
    if (flags.coordinator.empty()) flags.coordinator = NotedCoordinator(flags.certs);
    if (flags.coordinator.empty()) {
      return Fail(kExitHopeless, absl::NotFoundError(absl::StrCat(
                                     flags.certs, " does not say where the coordinator is: give --coordinator HOST:PORT")));
    }
    identity = *std::move(loaded);
    credentials = ClientCredentials(identity);
  } else if (!IsLoopback(flags.coordinator)) {
    return Fail(kExitHopeless,
                absl::InvalidArgumentError(absl::StrCat(
                    "--insecure speaks plain text and is for loopback only, not for ",
                    flags.coordinator)));
  }
  absl::StatusOr<std::unique_ptr<BlobStore>> store =
      BlobStore::Open(flags.cache + "/blobs", {.durable = false, .reserve_bytes = 256 << 20});
  if (!store.ok()) return Fail(kExitHopeless, store.status());

  // Before LibTorch is used at all.
  absl::StatusOr<std::unique_ptr<WorkerGpu>> opened = OpenGpu(flags);
  if (!opened.ok()) return Fail(ExitCodeOf(opened.status()), opened.status());
  const std::unique_ptr<WorkerGpu> gpu = *std::move(opened);
  const absl::Duration start = Clock::Real().Now();
  absl::StatusOr<std::string> numerics = NumericsClassOfCpu();
  if (numerics.ok() && gpu != nullptr) numerics = gpu->NumericsClass(*numerics);
  if (!numerics.ok()) return Fail(ExitCodeOf(numerics.status()), numerics.status());
  DERMIS_LOG(kInfo, "version ", flags.claim_version, ", ", flags.threads, " compute threads, numerics class ",
             *numerics, " (canary: ", absl::FormatDuration(absl::Trunc(Clock::Real().Now() - start,
                                                                     absl::Milliseconds(1))), ")");

  const std::string host = HostName();
  PeerMesh::Options mesh_options;
  mesh_options.identity = identity;
  if (!flags.insecure) mesh_options.certs = flags.certs;
  mesh_options.listen = flags.listen;
  mesh_options.advertise_host =
      !flags.advertise.empty() ? flags.advertise : IsLoopback(flags.coordinator) ? "127.0.0.1" : host;
  mesh_options.socket_directory = SocketDirectory(flags.cache);
  mesh_options.host = host;
  PeerBlobService peer_blobs(**store);
  mesh_options.service = &peer_blobs;
  absl::StatusOr<std::unique_ptr<PeerMesh>> mesh = PeerMesh::Start(std::move(mesh_options));
  if (!mesh.ok()) return Fail(1, mesh.status());

  Link link(MakeChannel(flags.coordinator, credentials, kCoordinatorName));
  BlobFetcher::Options fetching;
  fetching.shared_folder = flags.shared_blobs;
  fetching.me.set_worker(flags.name);
  fetching.me.set_address((*mesh)->address());
  fetching.me.set_socket((*mesh)->socket_path());
  fetching.me.set_host(host);
  BlobFetcher fetcher(
      link.blobs(), [&](const v1::BlobPeer& peer) { return (*mesh)->ChannelTo(peer); },
      std::move(fetching));
  const uint64_t cache_limit =
      flags.cache_limit > 0 ? flags.cache_limit : DefaultCacheLimit(**store);
  BlobCache blobs(
      *std::move(store), [&](const Digest& d) { return fetcher.Get(d); },
      [&](const Digest& d, std::string_view bytes) { return link.blobs()->Put(d, bytes); },
      {.limit = cache_limit,
       .came = [&](const Digest& d, uint64_t size, bool kept) { fetcher.Tell(d, size, kept); }});
  const auto get_blob = [&](const Digest& d) { return blobs.Get(d); };
  ResultCache results(
      [&](const v1::FetchResultsRequest& request) {
        // Patient: the coordinator may be starting again.
        for (int attempt = 0;; ++attempt) {
          auto response = Call<v1::FetchResultsRequest, v1::FetchResultsResponse>(
              *link.stub(), &v1::Cluster::StubInterface::FetchResults, request, absl::Seconds(30),
              "results that are inputs");
          // A call that waits for the connection ends with its deadline.
          const bool away = absl::IsUnavailable(response.status()) || absl::IsDeadlineExceeded(response.status());
          if (response.ok() || !away || attempt >= 30) return response;
          absl::SleepFor(absl::Seconds(1));
        }
      },
      get_blob);
  Completer completer(
      [&](const v1::CompleteTasksRequest& request) {
        auto response = Call<v1::CompleteTasksRequest, v1::CompleteTasksResponse>(
            *link.stub(), &v1::Cluster::StubInterface::CompleteTasks, request, absl::Seconds(30),
            "completions");
        if (!response.ok()) return response;
        for (const v1::CompletionReply& reply : response->replies()) {
          for (const std::string& bytes : reply.stale()) {
            if (const auto task = Digest::FromBytes(bytes); task.ok()) results.Forget(*task);
          }
        }
        return response;
      },
      &blobs);
  ImageSources sources(get_blob, flags.image_memory);
  ImageSets sets(get_blob);
  const auto images =
      [&](const v1::ImageSource& source) -> absl::StatusOr<std::shared_ptr<const ImageData>> {
    ASSIGN_OR_RETURN(std::shared_ptr<const ImageData> data, sources.Get(source));
    ASSIGN_OR_RETURN(const Digest manifest, Digest::FromBytes(source.image_set()));
    sets.Know(data->set, manifest);
    return data;
  };
  // What a task reads; one of a question also what its bundle brought.
  const auto images_of_task =
      [&](const v1::ImageSource& source) -> absl::StatusOr<std::shared_ptr<const ImageData>> {
    ASSIGN_OR_RETURN(std::shared_ptr<const ImageData> data, images(source));
    GivenBundle* const given = GivenBundle::Current();
    if (given == nullptr) return data;
    return given->Images(data, source);
  };
  const auto set_of_task = [&](const Digest& manifest) -> absl::StatusOr<std::shared_ptr<ImageSet>> {
    ASSIGN_OR_RETURN(std::shared_ptr<ImageSet> set, sets.Get(manifest));
    GivenBundle* const given = GivenBundle::Current();
    if (given == nullptr) return set;
    return given->Set(set);
  };
  const auto results_of_task = [&](const std::vector<v1::TaskSpec>& tasks)
      -> absl::StatusOr<std::vector<std::shared_ptr<const v1::Payload>>> {
    const GivenBundle* const given = GivenBundle::Current();
    if (given == nullptr) return results.Get(tasks);
    std::vector<std::shared_ptr<const v1::Payload>> out;
    for (const v1::TaskSpec& task : tasks) {
      ASSIGN_OR_RETURN(const Digest digest, TaskDigest(task));
      out.push_back(given->Result(digest));
      if (out.back() == nullptr) return absl::InternalError("a question's bundle lacks a result");
    }
    return out;
  };
  FamiliarityRunner familiarity({.images = images, .blob = get_blob});
  const TaskRunner runner({.numerics_class = *numerics,
                           .images = images_of_task,
                           .image_set = set_of_task,
                           .blob = get_blob,
                           .results = results_of_task});

  // The table starts what the two runners below run.
  UnitPool* units = nullptr;
  GangRunner* gangs = nullptr;
  Attempts attempts([&](std::shared_ptr<RunningWork> work) {
    if (work->assign.has_gang()) {
      gangs->Start(std::move(work));
    } else {
      units->Start(std::move(work));
    }
  });
  UnitPool unit_pool(
      [&](const v1::TaskSpec& task, PlanCache& plans, uint64_t* items) {
        absl::StatusOr<v1::Payload> payload = runner.Run(task, plans, items);
        if (flags.computes_wrong && payload.ok()) FlipOneBit(*payload);
        return payload;
      },
      &completer, &attempts,
      {.threads = flags.threads,
       .worker = flags.name,
       .prepare_thread = PrepareComputeThread,
       .familiarity = [&](const v1::FamiliarityQuestion& question,
                          GivenBundle& bundle) { return familiarity.Run(question, bundle); },
       .foreign = {.allow_torchscript = flags.allow_torchscript, .onnx_library = ""},
       .networks = gpu != nullptr ? gpu->Plans() : PlanMaker()});
  GangRunner gang_runner({.images = images,
                          .blob = get_blob,
                          .join = [&](const v1::GangSeat& seat,
                                      absl::Duration patience) { return (*mesh)->Join(seat, patience); },
                          .leave = [&](const v1::Generation& generation) { (*mesh)->Leave(generation); },
                          .train = Train},
                         &completer, &attempts,
                         {.worker = flags.name,
                          .numerics_class = *numerics,
                          .threads = flags.threads,
                          .engine = gpu != nullptr ? gpu->Engines() : EngineFactory(),
                          .prepare_thread = PrepareComputeThread});
  units = &unit_pool;
  gangs = &gang_runner;

  Session::Options options;
  options.hello.set_worker(flags.name);
  options.hello.set_incarnation(Random());
  if (const char* last_end = std::getenv(kLastEndVariable)) options.hello.set_last_end(last_end);
  options.hello.set_numerics_class(*numerics);
  options.hello.set_software_version(flags.claim_version);
  options.hello.set_host(host);
  options.hello.set_threads(flags.threads);
  options.hello.set_peer_address((*mesh)->address());
  options.hello.set_peer_socket((*mesh)->socket_path());
  options.give_up = [](const std::string& why) {
    DERMIS_LOG(kError, "this process ends, for a new one to begin: ", why);
    std::cerr.flush();
    std::_Exit(kExitHung);
  };
  options.revoked = RefusePeers;
  options.forget = [&](const std::set<Digest>& deleted) {
    for (const Digest& blob : deleted) {
      blobs.Forget(blob);
      sources.Forget(blob);
      sets.Forget(blob);
    }
    results.Clear();
  };
  options.connect = [&] {
    return link.channel()->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(2));
  };
  Session session(link.stub(), &attempts, std::move(options));
  if (!flags.insecure) {
    std::thread([&] {
      KeepCertificateFresh({.certs = flags.certs, .channel = [&] { return link.channel(); }, .renewed = [&](const Identity& fresh) {
                              link.Use(MakeChannel(flags.coordinator, ClientCredentials(fresh), kCoordinatorName));
                              const bool connected = link.channel()->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(5));
                              fetcher.Use(link.blobs());
                              // A stream that is open is not left for a connection that may not come.
                              session.MoveTo(link.stub(), connected);
                            }});
    }).detach();
  }
  std::thread([&] {
    int signal_number = 0;
    sigwait(&signals, &signal_number);
    DERMIS_LOG(kInfo, "signal ", signal_number, ": stores what runs, then stops");
    // One request may come twice: schedulers and terminals signal every process of a job, and the supervisor hands on what
    // it gets. A later one ends it at once.
    std::thread([signals] {
      std::this_thread::sleep_for(std::chrono::seconds(2));
      const timespec now = {};
      while (sigtimedwait(&signals, nullptr, &now) > 0) {
      }
      int again = 0;
      sigwait(&signals, &again);
      std::_Exit(0);
    }).detach();
    attempts.Drain();
    attempts.WaitUntilIdle(kDrainPatience);
    session.Stop();
    // What hangs is left behind.
    std::this_thread::sleep_for(std::chrono::seconds(1));
    std::_Exit(0);
  }).detach();

  const absl::Status status = session.Run();
  if (!status.ok()) {
    DERMIS_LOG(kError, "the coordinator ", flags.coordinator, " refuses this worker: ", status.message());
    if (absl::IsUnauthenticated(status)) ForgetCertificate(flags.certs);   // A new token counts, then.
  }
  // Crash-only: nothing here needs an orderly end, and threads may still compute.
  std::cerr.flush();
  std::_Exit(status.ok() ? 0 : kExitHopeless);
}

}  // namespace
}  // namespace dermis

int main(int argc, char** argv) {
  dermis::Flags flags;
  flags.threads = std::max(1u, std::thread::hardware_concurrency());
  flags.name = dermis::HostName();
  flags.image_memory = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE)) / 4;
  CLI::App app("dermis-worker: computes for a Dermis cluster");
  app.set_version_flag("--version", std::string("dermis-worker ") + dermis::kVersion);
  app.add_option("--coordinator", flags.coordinator, "HOST:PORT of the coordinator (default: the one that it joined)");
  app.add_option("--certs", flags.certs, "Folder with ca.crt, worker.crt and worker.key; with --join they are made there");
  app.add_option("--join", flags.join,
                 "File with a join token (dermis cluster token create), '-' for standard input; not looked at while --certs holds "
                 "a valid certificate of the same cluster");
  app.add_flag("--insecure", flags.insecure, "Plain text, no certificates: on loopback only");
  app.add_option("--cache", flags.cache, "Folder of this worker's own for blobs")->required();
  app.add_option("--cache-limit", flags.cache_limit,
                 "Bytes that the cache may take, e.g. 5GB (default: 20GB, or half of the free space)")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--image-memory", flags.image_memory,
                 "Bytes of model-size images of a set that are held in memory, e.g. 4GB; a larger set is "
                 "read by chunks (default: a quarter of the machine's memory)")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--shared-blobs", flags.shared_blobs,
                 "Folder with blobs (a copy of the coordinator's STORE/blobs) to look into first; "
                 "only read")
      ->check(CLI::ExistingDirectory);
  app.add_option("--name", flags.name, "Unique in the cluster")->capture_default_str();
  app.add_option("--threads", flags.threads, "Compute threads")->capture_default_str()
      ->check(CLI::Range(1, 4096));
  app.add_option("--device", flags.device, "What computes the networks: cpu; a GPU (gpu:0, gpu:1, ...); auto or auto:N: the GPU, or the "
                 "processor where there is none that can be used")
      ->capture_default_str()
      ->check([](const std::string& device) {
        static const std::regex known("cpu|auto|(auto|gpu):[0-9]{1,4}");
        return std::regex_match(device, known) ? "" : device + " is none of cpu, auto and gpu:N";
      });
  app.add_option("--device-memory", flags.device_memory, "Share of the GPU's memory that is used at most")
      ->capture_default_str()
      ->check(CLI::Range(0.05, 1.0));
  app.add_option("--listen", flags.listen, "HOST:PORT for other workers; port 0: any free one")
      ->capture_default_str();
  app.add_option("--advertise", flags.advertise, "Host name under which other workers reach this one");
  app.add_flag("--allow-torchscript", flags.allow_torchscript,
               "Run TorchScript models of studies, which are code (docs/security.md)");
  app.add_flag("--supervise", flags.supervise, "Stay as a small parent that restarts the worker");
  app.add_flag("--test-computes-wrong", flags.computes_wrong,
               "For tests: one bit of every result that has numbers is wrong")
      ->group("");
  app.add_option("--claim-version", flags.claim_version, "For tests: another software version")
      ->group("");
  if (const auto end = dermis::ParseCommandLine(app, argc, argv)) return *end;
  dermis::SetLogProcess("worker/" + flags.name + (flags.supervise ? "/supervisor" : ""));
  if (flags.certs.empty() && !flags.insecure) {
    std::cerr << "dermis-worker: give --certs DIR, or --insecure on loopback\n";
    return 2;
  }
  if (flags.insecure && (flags.coordinator.empty() || !flags.join.empty())) {
    std::cerr << "dermis-worker: --insecure needs --coordinator HOST:PORT, and no --join: it has no certificates\n";
    return 2;
  }
  if (flags.supervise) {
    std::vector<std::string> child;
    char path[PATH_MAX] = {};
    child.push_back(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0 ? path : argv[0]);
    for (int i = 1; i < argc; ++i) {
      if (std::string_view(argv[i]) != "--supervise") child.push_back(argv[i]);
    }
    return dermis::Supervise(child, {});
  }
  try {
    return dermis::Work(flags);
  } catch (const std::exception& error) {
    DERMIS_LOG(kError, "unexpected: ", error.what());
    return 1;
  }
}
