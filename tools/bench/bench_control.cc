// Durable completions a second of a running coordinator: clients that play workers and complete noop tasks in
// batches, each acknowledged only when it is in the journal.
//   dermis_bench_control --coordinator HOST:PORT [--clients N] [--batch N] [--seconds S]
#include <atomic>
#include <thread>

#include "common/tasks.h"
#include "common/tls.h"
#include "dermis/v1/cluster.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "tools/bench/bench.h"

namespace dermis::bench {
namespace {

v1::CompleteTasksRequest Batch(uint64_t first, int count) {
  v1::CompleteTasksRequest request;
  for (int i = 0; i < count; ++i) {
    v1::Completion* completion = request.add_completions();
    v1::TaskSpec spec;
    spec.mutable_noop()->set_index(first + i);
    *completion->mutable_spec() = MakeTask(std::move(spec), "bench");
    v1::Payload payload;
    payload.set_noop(first + i);
    completion->mutable_result()->set_payload(payload.SerializeAsString());
    completion->mutable_attempt()->set_worker("bench");
  }
  return request;
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const std::string address = arguments.Text("--coordinator");
  const long clients = arguments.Number("--clients", 4);
  const int batch = static_cast<int>(arguments.Number("--batch", 256));
  const double seconds = static_cast<double>(arguments.Number("--seconds", 4));
  std::atomic<uint64_t> next{1}, stored{0};
  std::atomic<bool> stop{false}, counting{false};
  std::vector<std::thread> threads;
  for (long c = 0; c < clients; ++c) {
    threads.emplace_back([&] {
      auto stub = v1::Cluster::NewStub(MakeChannel(address, grpc::InsecureChannelCredentials()));
      while (!stop) {
        const v1::CompleteTasksRequest request = Batch(next.fetch_add(batch), batch);
        grpc::ClientContext context;
        context.set_wait_for_ready(true);
        v1::CompleteTasksResponse response;
        const grpc::Status status = stub->CompleteTasks(&context, request, &response);
        if (!status.ok()) Die("CompleteTasks: " + status.error_message());
        for (const v1::CompletionReply& reply : response.replies()) {
          if (reply.verdict() != v1::CompletionReply::STORED) Die("not stored: " + reply.cause());
        }
        if (counting) stored += response.replies_size();
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const double start = Seconds();
  counting = true;
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const uint64_t count = stored;
  const double took = Seconds() - start;
  stop = true;
  for (auto& thread : threads) thread.join();
  Report(static_cast<double>(count) / took, "completions/s");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
