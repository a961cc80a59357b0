#include "coordinator/services/blob_holders.h"

#include <set>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/blob_client.h"

namespace dermis {
namespace {

constexpr uint64_t kSize = 64 << 20;
using Answer = BlobHolders::Answer;

v1::BlobPeer Peer(const std::string& worker, const std::string& address = "") {
  v1::BlobPeer peer;
  peer.set_worker(worker);
  peer.set_address(address.empty() ? worker + ":1" : address);
  return peer;
}

class BlobHoldersTest : public ::testing::Test {
 protected:
  // "coordinator", "wait", or the worker to be asked.
  std::string Want(const std::string& worker, const std::vector<std::string>& avoid = {},
                   const std::string& blob = "blob", uint64_t size = kSize) {
    const Answer answer = holders.Want(Sha256Of(blob), size, Peer(worker), avoid);
    if (answer.what == Answer::kSend) return "coordinator";
    if (answer.what == Answer::kWait) return "wait";
    EXPECT_EQ(answer.peer.address(), answer.peer.worker() + ":1");
    return answer.peer.worker();
  }
  void Holds(const std::string& worker, const std::string& blob = "blob") {
    holders.Told(Sha256Of(blob), Peer(worker), true);
  }
  void Failed(const std::string& worker) { holders.Told(Sha256Of("blob"), Peer(worker), false); }

  FakeClock clock;
  BlobHolders holders{clock};
};

TEST_F(BlobHoldersTest, Want_SmallBlob_IsAlwaysSent) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Want(absl::StrCat("w", i), {}, "small", kLargeBlob - 1), "coordinator");
  }
}

TEST_F(BlobHoldersTest, Want_OfManyAtOnce_GivesTwoCopies_ThenATree) {
  constexpr int kWorkers = 100;
  std::set<std::string> waiting;
  std::vector<std::string> receiving;
  int sent = 0, rounds = 0;
  for (int i = 0; i < kWorkers; ++i) waiting.insert(absl::StrCat("w", i));
  for (; !waiting.empty() || !receiving.empty(); ++rounds) {
    ASSERT_LT(rounds, 20);
    for (const std::string& worker : receiving) Holds(worker);
    receiving.clear();
    std::map<std::string, int> uploads;
    for (const std::string& worker : std::set<std::string>(waiting)) {
      const std::string from = Want(worker);
      if (from == "wait") continue;
      waiting.erase(worker);
      receiving.push_back(worker);
      if (from == "coordinator") {
        ++sent;
      } else {
        EXPECT_LE(++uploads[from], BlobHolders::kUploads) << from;
      }
    }
  }
  EXPECT_EQ(sent, 2);
  // 2, then times three a round: 6, 18, 54, 100; a last round to say that they have it.
  EXPECT_EQ(rounds, 6);
}

TEST_F(BlobHoldersTest, Want_AsksTheLeastBusyHolder_OfEqualsTheLatest) {
  Holds("a");
  Holds("b");
  EXPECT_EQ(Want("1"), "b");
  EXPECT_EQ(Want("2"), "a");
  EXPECT_EQ(Want("3"), "b");
  EXPECT_EQ(Want("4"), "a");
  EXPECT_EQ(Want("5"), "wait");
  Holds("1");  // Ends its transfer from b, and holds it itself.
  EXPECT_EQ(Want("5"), "1");
  EXPECT_EQ(Want("6"), "1");  // Busy with one as b is, and later.
  EXPECT_EQ(Want("7"), "b");
}

TEST_F(BlobHoldersTest, Want_CountsUploadsOfOtherBlobs) {
  for (const char* blob : {"blob", "other"}) {
    Holds("a", blob);
    Holds("b", blob);
  }
  EXPECT_EQ(Want("1", {}, "other"), "b");
  EXPECT_EQ(Want("2", {}, "blob"), "a");
}

TEST_F(BlobHoldersTest, Want_NeverAsksWhoIsToBeAvoided_AndTheCoordinatorIsTheLastResort) {
  Holds("a");
  Holds("b");
  EXPECT_EQ(Want("1", {"b"}), "a");
  EXPECT_EQ(Want("1", {"a", "b"}), "coordinator");
}

TEST_F(BlobHoldersTest, Want_Again_EndsWhatWasToldBefore) {
  Holds("a");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Want("1"), "a");
  EXPECT_EQ(Want("a"), "coordinator");  // It has the blob no more.
  EXPECT_EQ(Want("1"), "coordinator");
}

TEST_F(BlobHoldersTest, Told_OfAFailure_LetsTheNextHaveACopy) {
  EXPECT_EQ(Want("1"), "coordinator");
  EXPECT_EQ(Want("2"), "coordinator");
  EXPECT_EQ(Want("3"), "wait");
  Failed("1");
  EXPECT_EQ(Want("3"), "coordinator");
  EXPECT_EQ(Want("4"), "wait");
}

TEST_F(BlobHoldersTest, Want_WhoIsNeverHeardOfAgain_IsNotWaitedFor) {
  EXPECT_EQ(Want("1"), "coordinator");
  EXPECT_EQ(Want("2"), "coordinator");
  EXPECT_EQ(Want("3"), "wait");
  clock.Advance(absl::Seconds(25));  // 64 MiB at 4 MiB/s and ten seconds: 26.
  EXPECT_EQ(Want("3"), "wait");
  clock.Advance(absl::Seconds(2));
  EXPECT_EQ(Want("3"), "coordinator");

  Holds("a", "other");
  Holds("b", "other");
  for (const char* gone : {"4", "5", "6", "7"}) Want(gone, {}, "other");
  EXPECT_EQ(Want("8", {}, "other"), "wait");
  clock.Advance(absl::Seconds(27));
  EXPECT_EQ(Want("8", {}, "other"), "b");
}

TEST_F(BlobHoldersTest, Want_IsSent_WhenNothingMoves) {
  Holds("a");
  Holds("b");
  for (const char* worker : {"1", "2", "3", "4"}) Want(worker);
  for (int second = 0; second < 29; ++second) {
    clock.Advance(absl::Seconds(1));
    for (const char* worker : {"1", "2", "3", "4"}) Want(worker);  // Tried again and again.
    ASSERT_EQ(Want("5"), "wait") << second;
  }
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(Want("5"), "coordinator");
  EXPECT_EQ(Want("6"), "wait");
}

TEST_F(BlobHoldersTest, Told_NewAddressOfAWorker_IsUsed) {
  holders.Told(Sha256Of("blob"), Peer("a", "old:7"), true);
  holders.Told(Sha256Of("other"), Peer("a", "new:8"), true);
  EXPECT_EQ(holders.Want(Sha256Of("blob"), kSize, Peer("1"), {}).peer.address(), "new:8");
}

TEST_F(BlobHoldersTest, Memory_IsBounded_TheLongestUnwantedIsForgotten) {
  Holds("a", "first");
  Holds("a", "second");
  for (size_t i = 0; i + 2 < BlobHolders::kBlobs; ++i) {
    clock.Advance(absl::Milliseconds(1));
    Holds("a", absl::StrCat("blob ", i));
  }
  clock.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Want("1", {}, "first"), "a");
  clock.Advance(absl::Milliseconds(1));
  Holds("a", "one more");
  EXPECT_EQ(Want("2", {}, "second"), "coordinator");
  EXPECT_EQ(Want("2", {}, "first"), "a");
}

}  // namespace
}  // namespace dermis
