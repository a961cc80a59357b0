// A sweep of trials that take no time: clients that play workers answer every training at once.
// Seconds until the coordinator has judged all of them, each durable.
//   dermis_bench_sweep --coordinator HOST:PORT --images FILE [--trials N] [--workers N]
#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"

#include "common/blob_client.h"
#include "common/image_set.h"
#include "common/split.h"
#include "common/tasks.h"
#include "common/tls.h"
#include "dermis/v1/cluster.grpc.pb.h"
#include "dermis/v1/studies.grpc.pb.h"
#include "tools/bench/bench.h"

namespace dermis::bench {
namespace {

v1::StudySpec Study(long trials) {
  v1::StudySpec spec;
  spec.set_name("sweep");
  spec.mutable_images()->set_set("bench");
  spec.mutable_training()->set_batch_size(16);
  spec.mutable_training()->set_logical_shards(1);
  spec.mutable_training()->set_epochs(1);
  v1::AxisSpec& axis = *spec.mutable_sweep()->add_axes();
  axis.set_key("training.optimizer.sgd.learning_rate");
  axis.mutable_range()->set_low(1e-6);
  axis.mutable_range()->set_high(1);
  axis.mutable_range()->set_log(true);
  v1::AxisSpec& second = *spec.mutable_sweep()->add_axes();
  second.set_key("training.optimizer.sgd.weight_decay");
  second.mutable_range()->set_low(0);
  second.mutable_range()->set_high(1e-2);
  spec.mutable_sweep()->mutable_random()->set_trials(static_cast<uint32_t>(trials));
  return spec;
}

v1::Completion Trained(const v1::GangSeat& seat, uint64_t steps_per_epoch, const Digest& blob) {
  v1::Payload payload;
  v1::TrainOutput& output = *payload.mutable_train();
  output.set_step(steps_per_epoch);
  output.set_steps_per_epoch(steps_per_epoch);
  output.set_state(blob.bytes());
  output.set_best_model(blob.bytes());
  output.set_last_model(blob.bytes());
  output.set_best_epoch(1);
  v1::EpochMetrics& epoch = *output.add_epochs();
  epoch.set_epoch(1);
  epoch.set_training_loss(1);
  // Any function of the recipe.
  epoch.set_validation_loss(seat.recipe().optimizer().sgd().learning_rate());
  v1::Completion completion;
  *completion.mutable_spec() = TrainTaskOf(seat.recipe(), steps_per_epoch, seat.numerics_class());
  completion.mutable_result()->set_payload(payload.SerializeAsString());
  completion.mutable_attempt()->set_worker(seat.roster(0).worker());
  return completion;
}

void Work(const std::string& address, long number, uint64_t steps_per_epoch, const Digest& blob,
          const std::atomic<bool>& stop) {
  auto stub = v1::Cluster::NewStub(MakeChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  auto stream = stub->Attend(&context);
  v1::WorkerMessage message;
  v1::Register& hello = *message.mutable_register_();
  hello.set_worker(absl::StrCat("bench", number));
  hello.set_incarnation(absl::StrCat(number));
  hello.set_numerics_class("bench");
  hello.set_software_version(kVersion);
  hello.set_threads(1);
  if (!stream->Write(message)) Die("the coordinator hung up");
  v1::Directive directive;
  double beaten = Seconds();
  while (!stop && stream->Read(&directive)) {
    if (directive.has_welcome() && !directive.welcome().refusal().empty()) {
      Die(directive.welcome().refusal());
    }
    if (!directive.has_assign()) continue;
    message.Clear();
    v1::AttemptEnded& ended = *message.mutable_ended();
    ended.set_assignment(directive.assign().assignment());
    ended.set_outcome(v1::OUTCOME_DONE);
    if (directive.assign().has_gang()) {
      v1::CompleteTasksRequest request;
      *request.add_completions() = Trained(directive.assign().gang(), steps_per_epoch, blob);
      v1::CompleteTasksResponse response;
      grpc::ClientContext call;
      const grpc::Status status = stub->CompleteTasks(&call, request, &response);
      if (!status.ok()) Die("CompleteTasks: " + status.error_message());
      if (response.replies(0).verdict() != v1::CompletionReply::STORED) {
        Die("not stored: " + response.replies(0).cause());
      }
    } else {
      ended.set_outcome(
          v1::OUTCOME_UNAVAILABLE);  // The evaluation of the chosen one: not measured.
    }
    stream->Write(message);
    if (Seconds() - beaten > 1) {
      message.Clear();
      message.mutable_beat();
      stream->Write(message);
      beaten = Seconds();
    }
  }
  context.TryCancel();
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const std::string address = arguments.Text("--coordinator");
  const long trials = arguments.Number("--trials", 10000);
  const auto images = ImageSet::OpenFile(arguments.Text("--images"));
  if (!images.ok()) Die(images.status().ToString());
  auto channel = MakeChannel(address, grpc::InsecureChannelCredentials());
  BlobClient blobs(channel);
  const auto put = [&](const Digest& digest, std::string_view bytes) {
    if (absl::Status status = blobs.Put(digest, bytes); !status.ok()) Die(status.ToString());
  };
  for (const v1::ImageChunk& chunk : (*images)->manifest().chunks()) {
    for (const std::string& named : BlobsOf(chunk)) {
      const Digest digest = *Digest::FromBytes(named);
      put(digest, *(*images)->ChunkBytes(digest));
    }
  }
  put((*images)->digest(), (*images)->manifest_blob());
  const Digest blob = Sha256Of("weights");
  put(blob, "weights");

  auto studies = v1::Studies::NewStub(channel);
  v1::SubmitRequest request;
  *request.mutable_spec() = Study(trials);
  request.set_image_set((*images)->digest().bytes());
  v1::SplitSpec split;
  split.set_test(0.2);
  split.set_validation(0.1);
  const auto parts = MakeSplit((*images)->manifest(), split, 1);
  if (!parts.ok()) Die(parts.status().ToString());
  const uint64_t steps = StepsPerEpoch(parts->training.size(), 16);

  const double start = Seconds();
  v1::SubmitResponse response;
  {
    grpc::ClientContext context;
    const grpc::Status status = studies->Submit(&context, request, &response);
    if (!status.ok()) Die("Submit: " + status.error_message());
  }
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (long w = 0; w < arguments.Number("--workers", 16); ++w) {
    workers.emplace_back(Work, address, w, steps, blob, std::cref(stop));
  }
  for (uint32_t over = 0; over < trials;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    grpc::ClientContext context;
    v1::ListResponse list;
    const grpc::Status status = studies->List(&context, v1::ListRequest(), &list);
    if (!status.ok() || list.studies().empty()) Die("List: " + status.error_message());
    const v1::TrialCounts& counts = list.studies(0).trials();
    if (counts.failed() + counts.dropped() > 0) Die("a trial failed");
    over = counts.trained();
  }
  Report(Seconds() - start, "s");
  std::_Exit(0);  // The workers' streams need no farewell.
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
