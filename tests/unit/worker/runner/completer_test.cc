#include "worker/completer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/unit/worker/runner/fakes.h"

namespace dermis {
namespace {

Finished NoopResult(uint64_t index, std::promise<absl::Status>* done) {
  Finished finished;
  finished.spec = Noop(index);
  finished.payload.set_noop(index);
  finished.done = [done](absl::Status status) { done->set_value(std::move(status)); };
  return finished;
}

Finished LargeResult(std::promise<absl::Status>* done) {
  Finished finished;
  finished.spec = Noop(0);
  finished.payload.mutable_superpixels()->set_labels(std::string(40'000, 'x'));
  finished.done = [done](absl::Status status) { done->set_value(std::move(status)); };
  return finished;
}

TEST(CompleterTest, Add_IsRetriedUntilAcknowledged_WhileTheCoordinatorIsAway) {
  CompleterBench bench;
  bench.coordinator.away = 5;
  std::promise<absl::Status> done;
  bench.completer.Add(NoopResult(3, &done));
  EXPECT_TRUE(done.get_future().get().ok());
  EXPECT_EQ(bench.coordinator.calls, 6);
  EXPECT_EQ(bench.coordinator.Stored(), 1u);
}

TEST(CompleterTest, Add_StoresLargePayloadsAsBlobsFirst) {
  CompleterBench bench;
  std::promise<absl::Status> done;
  bench.completer.Add(LargeResult(&done));
  ASSERT_TRUE(done.get_future().get().ok());
  const v1::TaskResult& result = bench.coordinator.stored.begin()->second.result();
  EXPECT_TRUE(result.payload().empty());
  EXPECT_EQ(result.payload_blob(), result.payload_digest());
  v1::Payload payload;
  ASSERT_TRUE(payload.ParseFromString(bench.coordinator.blobs.at(result.payload_blob())));
  EXPECT_EQ(payload.superpixels().labels().size(), 40'000u);
}

TEST(CompleterTest, Add_StoresASmallPayloadAsABlob_WhereTheCoordinatorMissesItAsOne) {
  CompleterBench bench;
  bench.coordinator.blobs_alone = true;
  std::promise<absl::Status> done;
  bench.completer.Add(NoopResult(3, &done));
  ASSERT_TRUE(done.get_future().get().ok());
  EXPECT_EQ(bench.coordinator.calls, 2);
  const v1::TaskResult& result = bench.coordinator.stored.begin()->second.result();
  EXPECT_TRUE(result.payload().empty());
  EXPECT_EQ(result.payload_blob(), result.payload_digest());
  v1::Payload payload;
  ASSERT_TRUE(payload.ParseFromString(bench.coordinator.blobs.at(result.payload_blob())));
  EXPECT_EQ(payload.noop(), 3u);
}

TEST(CompleterTest, Missing_IsUploadedAgain) {
  CompleterBench bench;
  bench.coordinator.lose = 1;
  std::promise<absl::Status> done;
  bench.completer.Add(LargeResult(&done));
  EXPECT_TRUE(done.get_future().get().ok());
  EXPECT_EQ(bench.coordinator.Stored(), 1u);
}

TEST(CompleterTest, AMissingBlob_IsUploadedAgain_AlsoAfterALongOutage) {
  CompleterBench bench;
  bench.coordinator.away = 12;
  bench.coordinator.lose = 1;
  std::promise<absl::Status> done;
  bench.completer.Add(LargeResult(&done));
  EXPECT_TRUE(done.get_future().get().ok());
}

TEST(CompleterTest, FullDisk_IsUnavailable_AndHoldsUpNoSmallResult) {
  CompleterBench bench;
  bench.coordinator.full = true;
  std::promise<absl::Status> large, small;
  bench.completer.Add(LargeResult(&large));
  bench.completer.Add(NoopResult(1, &small));
  EXPECT_TRUE(small.get_future().get().ok());
  const absl::Status status = large.get_future().get();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("disk full"));
}

TEST(CompleterTest, Verdicts_ReachTheCaller) {
  CompleterBench bench;
  bench.coordinator.verdicts[TaskDigest(Noop(1))->bytes()] = v1::CompletionReply::REFUSED;
  bench.coordinator.verdicts[TaskDigest(Noop(2))->bytes()] = v1::CompletionReply::CONFLICT;
  bench.coordinator.verdicts[TaskDigest(Noop(4))->bytes()] = v1::CompletionReply::STALE;
  std::promise<absl::Status> refused, conflict, stored, stale;
  bench.completer.Add(NoopResult(1, &refused));
  bench.completer.Add(NoopResult(2, &conflict));
  bench.completer.Add(NoopResult(3, &stored));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.get_future().get()));
  EXPECT_TRUE(absl::IsDataLoss(conflict.get_future().get()));
  EXPECT_TRUE(stored.get_future().get().ok());
  bench.completer.Add(NoopResult(4, &stale));
  EXPECT_TRUE(absl::IsUnavailable(stale.get_future().get()));  // Not the task's fault: another try.
}

TEST(CompleterTest, Destruction_AnswersWhatWaits) {
  std::promise<absl::Status> done;
  {
    CompleterBench bench;
    bench.coordinator.away = 1'000'000;
    bench.completer.Add(NoopResult(1, &done));
  }
  EXPECT_TRUE(absl::IsCancelled(done.get_future().get()));
}

}  // namespace
}  // namespace dermis
