// A coordinator under many workers: streams as workers open them, each over its own connection with
// mutual TLS, beats every second, units that are answered after a stated time with results of the
// right form. No LibTorch, nothing is computed.
//   dermis_bench_load --coordinator HOST:PORT --certs DIR --pid PID [--workers N] [--unit-ms N]
//   [--seconds S]
// Prints one line of JSON: latencies in ms, completions, and what the coordinator's process (--pid)
// took.
//
// A beat has no answer. So each names, beside what its worker runs, an attempt that nobody gave it:
// the core answers with a cancel of that. What is measured is thus network, core thread, commit and
// network back, as for an assignment.
#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <queue>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "grpcpp/grpcpp.h"

#include "common/blob_client.h"
#include "common/image_set.h"
#include "common/spec_yaml.h"
#include "common/split.h"
#include "common/tasks.h"
#include "common/tls.h"
#include "dermis/v1/cluster.grpc.pb.h"
#include "dermis/v1/studies.grpc.pb.h"
#include "tools/bench/bench.h"

namespace dermis::bench {
namespace {

constexpr uint64_t kProbe = 1ull << 63;  // Assignments that no coordinator gives out.

v1::ImageSetManifest Manifest(int images) {
  v1::ImageSetManifest manifest;
  manifest.set_format(1);
  manifest.set_name("load");
  manifest.set_height(32);
  manifest.set_width(32);
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  constexpr int kChunk = 16'384;  // Of 64 MiB at most; nobody looks at the pixels.
  for (int first = 0; first < images; first += kChunk) {
    v1::ImageChunk& chunk = *manifest.add_chunks();
    chunk.set_pixels(Sha256Of("pixels").bytes());
    chunk.set_count(static_cast<uint32_t>(std::min(kChunk, images - first)));
  }
  for (int i = 0; i < images; ++i) {
    v1::ImageEntry& entry = *manifest.add_images();
    entry.set_name(absl::StrFormat("%06d", i));
    entry.set_digest(Sha256Of(absl::StrCat("image ", i)).bytes());
    entry.set_label(static_cast<uint32_t>(i % 2));
  }
  return manifest;
}

constexpr char kStudy[] =
    "name: load\n"
    "images: {set: load, size: 32, split: {test: 1}}\n"
    "model: {file: weights.safetensors}\n"
    "explanation:\n"
    "  images: {all_test: true}\n"
    "  methods: [activation_maps, grad_cam]\n"
    "  checks: {fidelity: false}\n";

// Of the right form; what it says does not matter.
v1::Payload Answer(const v1::TaskSpec& task, const Split& split) {
  v1::Payload payload;
  switch (task.kind_case()) {
    case v1::TaskSpec::kEvaluate:
      payload.mutable_evaluate()->set_classes(2);
      for (uint32_t i = 0; i < task.evaluate().count(); ++i) {
        const uint32_t image = split.test[task.evaluate().first() + i];
        payload.mutable_evaluate()->add_images(image);
        payload.mutable_evaluate()->add_logits(static_cast<float>(image % 7));
        payload.mutable_evaluate()->add_logits(static_cast<float>(image % 5));
      }
      break;
    case v1::TaskSpec::kActivations: {
      v1::LayerMaps& layer = *payload.mutable_activations()->add_layers();
      layer.set_layer("conv1");
      layer.set_channels(1);
      layer.set_height(1);
      layer.set_width(1);
      if (task.activations().cam() != v1::CAM_KIND_UNSPECIFIED) {
        layer.add_cam(0.5f);
      } else {
        layer.add_activations(0.5f);
        layer.add_grad_cam(0.5f);
      }
      break;
    }
    default:
      Die(absl::StrCat("a task that this does not know: ", Describe(task)));
  }
  return payload;
}

// What all workers saw.
struct Seen {
  std::mutex mutex;
  std::vector<double> beats, assignments;  // ms, of the counted time.
  std::atomic<uint64_t> completions{0}, explained{0};
  std::atomic<int> welcome{0};
  std::atomic<bool> counting{false}, stop{false};
};

class Worker {
 public:
  Worker(std::string address, const Identity& identity, long number, double unit_seconds,
         const Split& split, Seen& seen)
      : name_(absl::StrCat("load", number)),
        unit_seconds_(unit_seconds *
                      (0.75 + 0.005 * static_cast<double>(number % 100))),  // No two alike.
        split_(split),
        seen_(seen) {
    stub_ = v1::Cluster::NewStub(
        MakeChannel(address, ClientCredentials(identity)));  // Each its own connection.
    context_.set_wait_for_ready(true);
    offset_ = static_cast<double>(number % 100) / 100;  // Not all beat at once.
    thread_ = std::thread([this] { Read(); });
  }
  // Its streams end with the process.
  void Cancel() { context_.TryCancel(); }
  void Join() { thread_.join(); }

 private:
  void Say(const v1::WorkerMessage& message) {
    std::lock_guard lock(mutex_);
    if (!stream_->Write(message) && !seen_.stop) Die(name_ + ": the coordinator hung up");
  }

  void Read() {
    stream_ = stub_->Attend(&context_);
    v1::WorkerMessage message;
    v1::Register& hello = *message.mutable_register_();
    hello.set_worker(name_);
    hello.set_incarnation(name_);
    hello.set_numerics_class("load");
    hello.set_software_version(kVersion);
    hello.set_host(name_);
    hello.set_threads(1);
    hello.set_peer_address("127.0.0.1:1");
    Say(message);
    v1::Directive directive;
    std::thread beats, works;
    while (stream_->Read(&directive)) {
      if (directive.has_welcome()) {
        if (!directive.welcome().refusal().empty()) Die(directive.welcome().refusal());
        ++seen_.welcome;
        beats = std::thread([this] { Beat(); });
        works = std::thread([this] { Work(); });
      } else if (directive.has_cancel() && directive.cancel().assignment() >= kProbe) {
        std::lock_guard lock(mutex_);
        Note(seen_.beats, probed_);
      } else if (directive.has_assign()) {
        std::lock_guard lock(mutex_);
        if (ended_ > 0) Note(seen_.assignments, std::exchange(ended_, 0));
        assignment_ = directive.assign().assignment();
        bundles_.push(directive.assign());
        wake_.notify_all();
      }
    }
    {
      std::lock_guard lock(mutex_);
      over_ = true;
      wake_.notify_all();
    }
    if (beats.joinable()) beats.join();
    if (works.joinable()) works.join();
  }

  void Note(std::vector<double>& where, double since) {
    const double took = 1e3 * (Seconds() - since);
    if (!seen_.counting) return;
    std::lock_guard lock(seen_.mutex);
    where.push_back(took);
  }

  void Beat() {
    for (double next = Seconds() + offset_;; next += 1) {
      std::unique_lock lock(mutex_);
      wake_.wait_until(
          lock, std::chrono::steady_clock::now() + std::chrono::duration<double>(next - Seconds()),
          [&] { return over_ || Seconds() >= next; });
      if (over_) return;
      v1::WorkerMessage message;
      v1::Beat& beat = *message.mutable_beat();
      if (assignment_ != 0) {
        v1::RunningAttempt& running = *beat.add_running();
        running.set_assignment(assignment_);
        running.set_progress(++progress_);
      }
      beat.add_running()->set_assignment(kProbe);
      probed_ = Seconds();
      if (!stream_->Write(message)) return;
    }
  }

  void Work() {
    for (;;) {
      v1::Assign assign;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return over_ || !bundles_.empty(); });
        if (over_) return;
        assign = std::move(bundles_.front());
        bundles_.pop();
        if (unit_seconds_ > 0) {
          const auto until =
              std::chrono::steady_clock::now() +
              std::chrono::duration<double>(unit_seconds_ * assign.bundle().tasks_size());
          wake_.wait_until(lock, until, [&] { return over_; });
          if (over_) return;
        }
      }
      v1::CompleteTasksRequest request;
      for (const v1::TaskSpec& task : assign.bundle().tasks()) {
        v1::Completion& completion = *request.add_completions();
        *completion.mutable_spec() = task;
        completion.mutable_result()->set_payload(Answer(task, split_).SerializeAsString());
        completion.mutable_attempt()->set_worker(name_);
      }
      grpc::ClientContext context;
      v1::CompleteTasksResponse response;
      const grpc::Status status = stub_->CompleteTasks(&context, request, &response);
      if (seen_.stop) return;
      if (!status.ok()) Die("CompleteTasks: " + status.error_message());
      for (const v1::CompletionReply& reply : response.replies()) {
        if (reply.verdict() != v1::CompletionReply::STORED) Die("not stored: " + reply.cause());
      }
      const auto count = static_cast<uint64_t>(response.replies_size());
      if (seen_.counting) seen_.completions += count;
      if (assign.bundle().tasks(0).has_activations()) seen_.explained += count;
      v1::WorkerMessage message;
      message.mutable_ended()->set_assignment(assign.assignment());
      message.mutable_ended()->set_outcome(v1::OUTCOME_DONE);
      {
        std::lock_guard lock(mutex_);
        assignment_ = 0;
        ended_ = Seconds();
      }
      Say(message);
    }
  }

  const std::string name_;
  const double unit_seconds_;
  const Split& split_;
  Seen& seen_;
  double offset_ = 0;
  std::unique_ptr<v1::Cluster::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::Directive>> stream_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::queue<v1::Assign> bundles_;
  bool over_ = false;
  uint64_t assignment_ = 0, progress_ = 0;
  double probed_ = 0, ended_ = 0;
  std::thread thread_;
};

double Percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<size_t>(p * static_cast<double>(values.size())))];
}

// Seconds of processor time of a process.
double CpuOf(long pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string field;
  double ticks = 0;
  for (int i = 3; i <= 15 && fields >> field; ++i) {
    if (i >= 14) ticks += std::atof(field.c_str());
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}
double MebibytesOf(long pid, const std::string& key) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) return std::atof(line.c_str() + key.size() + 1) / 1024;
  }
  return 0;
}

absl::Status Run(const Arguments& arguments) {
  const std::string address = arguments.Text("--coordinator"), certs = arguments.Text("--certs");
  const long workers = arguments.Number("--workers", 200), pid = arguments.Number("--pid", 0);
  const double seconds = static_cast<double>(arguments.Number("--seconds", 20));
  const double unit_seconds = 1e-3 * static_cast<double>(arguments.Number("--unit-ms", 100));
  const absl::StatusOr<Identity> user = LoadIdentity(certs, "user"),
                                 worker = LoadIdentity(certs, "worker");
  if (!user.ok()) return user.status();
  if (!worker.ok()) return worker.status();

  auto channel = MakeChannel(address, ClientCredentials(*user));
  BlobClient blobs(channel);
  const v1::ImageSetManifest manifest =
      Manifest(static_cast<int>(arguments.Number("--images", 50'000)));
  const std::string bytes = manifest.SerializeAsString();
  const Digest weights = Sha256Of("weights");
  for (const std::string& blob : {std::string("pixels"), std::string("weights"), bytes}) {
    if (absl::Status status = blobs.Put(Sha256Of(blob), blob); !status.ok()) return status;
  }
  absl::StatusOr<v1::StudySpec> spec = ParseStudyYaml(kStudy, "load.yaml");
  if (!spec.ok()) return spec.status();
  spec->mutable_model()->set_digest(weights.hex());
  spec->mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  const auto split = MakeSplit(manifest, spec->images().split(), spec->seed());
  if (!split.ok()) return split.status();
  v1::SubmitRequest request;
  *request.mutable_spec() = *spec;
  request.set_image_set(Sha256Of(bytes).bytes());
  v1::SubmitResponse response;
  grpc::ClientContext context;
  const grpc::Status submitted =
      v1::Studies::NewStub(channel)->Submit(&context, request, &response);
  if (!submitted.ok()) return absl::InternalError("Submit: " + submitted.error_message());

  Seen seen;
  std::vector<std::unique_ptr<Worker>> fleet;
  for (long w = 0; w < workers; ++w) {
    fleet.push_back(std::make_unique<Worker>(address, *worker, w, unit_seconds, *split, seen));
  }
  const double begun = Seconds();
  while (seen.welcome < workers) {
    if (Seconds() > begun + 60) Die(absl::StrCat(seen.welcome.load(), " workers came in a minute"));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const double joined = Seconds() - begun;
  // The evaluation, and the first bundles: those begin all at once.
  while (seen.explained < static_cast<uint64_t>(20 * workers)) {
    if (Seconds() > begun + 120) Die("the explanation did not begin in two minutes");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  std::this_thread::sleep_for(std::chrono::seconds(3));
  const double cpu = CpuOf(pid), start = Seconds();
  seen.counting = true;
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  seen.counting = false;
  const double took = Seconds() - start;
  std::lock_guard lock(seen.mutex);
  if (seen.beats.empty() || seen.assignments.empty()) {
    Die(absl::StrCat(seen.beats.size(), " beats were answered and ", seen.assignments.size(),
                     " assignments made in ", took, " s"));
  }
  std::printf(
      "{\"beat_p50\": %.4g, \"beat_p99\": %.4g, \"assign_p50\": %.4g, \"assign_p99\": %.4g, "
      "\"beats\": %zu, "
      "\"assignments\": %zu, \"completions\": %.6g, \"cpu\": %.4g, \"memory\": %.4g, \"join\": "
      "%.3g}\n",
      Percentile(seen.beats, .5), Percentile(seen.beats, .99), Percentile(seen.assignments, .5),
      Percentile(seen.assignments, .99), seen.beats.size(), seen.assignments.size(),
      static_cast<double>(seen.completions) / took, (CpuOf(pid) - cpu) / took,
      MebibytesOf(pid, "VmHWM"), joined);
  std::fflush(stdout);
  seen.stop = true;
  std::_Exit(0);  // The streams need no farewell.
}

int Main(int argc, char** argv) {
  const absl::Status status = Run(Arguments(argc, argv));
  Die(std::string(status.message()));
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
