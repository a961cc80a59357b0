#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "absl/time/clock.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/runner/fakes.h"
#include "worker/blob_cache.h"
#include "worker/result_cache.h"
#include "worker/used_results.h"

namespace dermis {
namespace {

TEST(BlobCacheTest, Get_DownloadsOnce_ForManyThreads) {
  const TemporaryFolder folder;
  std::atomic<int> downloads{0};
  BlobCache cache(
      *BlobStore::Open(folder.path(), {.durable = false}),
      [&](const Digest&) -> absl::StatusOr<std::string> {
        ++downloads;
        absl::SleepFor(absl::Milliseconds(20));  // Long enough for the others to come.
        return std::string("bytes");
      },
      [](const Digest&, std::string_view) { return absl::OkStatus(); });
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const absl::StatusOr<std::string> bytes = cache.Get(Sha256Of("bytes"));
      if (bytes.ok() && *bytes == "bytes") ++good;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 4);
  EXPECT_EQ(downloads, 1);
}

TEST(BlobCacheTest, Get_OfWrongBytes_IsUnavailable_NotAResult) {
  const TemporaryFolder folder;
  BlobCache cache(
      *BlobStore::Open(folder.path(), {.durable = false}),
      [](const Digest&) -> absl::StatusOr<std::string> { return std::string("other"); },
      [](const Digest&, std::string_view) { return absl::OkStatus(); });
  EXPECT_TRUE(absl::IsUnavailable(cache.Get(Sha256Of("bytes")).status()));
  EXPECT_TRUE(absl::IsUnavailable(cache.Get(Digest()).status()));
}

// A cache of at most `limit` bytes that downloads what `bytes_of` says, and what it downloaded.
struct LimitedCache {
  explicit LimitedCache(uint64_t limit, BlobStore::Options options = {.durable = false})
      : cache(
            *BlobStore::Open(folder.path(), options),
            [this](const Digest& d) -> absl::StatusOr<std::string> {
              ++downloads;
              return source[d];
            },
            [](const Digest&, std::string_view) { return absl::OkStatus(); },
            {.limit = limit,
             .came = [this](const Digest&, uint64_t, bool kept) { ++(kept ? came : lost); }}) {}

  Digest Offer(char fill) {
    const std::string bytes(1000, fill);
    return source.emplace(Sha256Of(bytes), bytes).first->first;
  }
  bool Here(const Digest& digest) { return (*BlobStore::Open(folder.path(), {}))->Has(digest); }
  // As if it had been used so long ago: file systems count time in ticks of some milliseconds.
  void Age(const Digest& digest, int seconds) {
    const auto store = *BlobStore::Open(folder.path(), {});
    std::filesystem::last_write_time(
        store->PathOf(digest),
        std::filesystem::file_time_type::clock::now() - std::chrono::seconds(seconds));
  }

  TemporaryFolder folder;
  std::map<Digest, std::string> source;
  int downloads = 0, came = 0, lost = 0;
  BlobCache cache;
};

TEST(BlobCacheTest, Limit_DeletesWhatWasUsedLongestAgo) {
  LimitedCache limited(3500);
  const Digest a = limited.Offer('a'), b = limited.Offer('b'), c = limited.Offer('c'),
               d = limited.Offer('d');
  for (const Digest& digest : {a, b, c}) ASSERT_TRUE(limited.cache.Get(digest).ok());
  limited.Age(a, 30);
  limited.Age(b, 20);
  limited.Age(c, 10);
  ASSERT_TRUE(limited.cache.Get(a).ok());  // From the disk: used now.
  EXPECT_EQ(limited.downloads, 3);
  ASSERT_TRUE(limited.cache.Get(d).ok());
  EXPECT_TRUE(limited.Here(a));
  EXPECT_FALSE(limited.Here(b));
  EXPECT_TRUE(limited.Here(c));
  EXPECT_TRUE(limited.Here(d));
  EXPECT_EQ(*limited.cache.Get(b), limited.source[b]);  // Fetched again.
  EXPECT_EQ(limited.downloads, 5);
}

TEST(BlobCacheTest, Forgotten_IsGoneFromTheDisk_AndFetchedAgainWhereItIsWanted) {
  LimitedCache limited(1'000'000);
  const Digest a = limited.Offer('a'), b = limited.Offer('b');
  for (const Digest& digest : {a, b}) ASSERT_TRUE(limited.cache.Get(digest).ok());
  limited.cache.Forget(a);
  limited.cache.Forget(a);  // And where it is not.
  EXPECT_FALSE(limited.Here(a));
  EXPECT_TRUE(limited.Here(b));
  EXPECT_EQ(*limited.cache.Get(a), limited.source[a]);
  EXPECT_EQ(limited.downloads, 3);
}

TEST(BlobCacheTest, Limit_HoldsForWhatAnEarlierProcessLeft) {
  LimitedCache limited(1'000'000);
  const Digest a = limited.Offer('a'), b = limited.Offer('b');
  for (const Digest& digest : {a, b}) ASSERT_TRUE(limited.cache.Get(digest).ok());
  limited.Age(a, 10);
  const BlobCache again(*BlobStore::Open(limited.folder.path(), {.durable = false}), nullptr,
                        nullptr, {.limit = 1500});
  EXPECT_FALSE(limited.Here(a));
  EXPECT_TRUE(limited.Here(b));
}

TEST(BlobCacheTest, Get_WithoutSpace_GivesTheBytes_AndSaysThatTheyWereNotKept) {
  LimitedCache limited(1'000'000, {.durable = false, .reserve_bytes = uint64_t{1} << 62});
  const Digest a = limited.Offer('a');
  EXPECT_EQ(*limited.cache.Get(a), limited.source[a]);
  EXPECT_EQ(limited.came, 0);
  EXPECT_EQ(limited.lost, 1);
}

TEST(BlobCacheTest, DefaultLimit_IsHalfOfTheFreeSpace_Or20GB) {
  const TemporaryFolder folder;
  const std::unique_ptr<BlobStore> store = *BlobStore::Open(folder.path(), {.durable = false});
  ASSERT_TRUE(store->Put("some bytes").ok());
  const uint64_t limit = DefaultCacheLimit(*store);
  EXPECT_GT(limit, 0u);
  EXPECT_LE(limit, 20'000'000'000u);
  // Others use the disk meanwhile.
  EXPECT_LE(limit, store->FreeBytes() / 2 + (1u << 30));
  EXPECT_TRUE(store->Has(Sha256Of("some bytes")));
}

class ResultCacheTest : public ::testing::Test {
 protected:
  absl::StatusOr<v1::FetchResultsResponse> Fetch(const v1::FetchResultsRequest& request) {
    ++fetches;
    v1::FetchResultsResponse response;
    for (const std::string& task : request.tasks()) {
      v1::TaskResult& result = *response.add_results();
      const auto it = results.find(task);
      if (it != results.end()) result = it->second;
    }
    return response;
  }
  void Store(const v1::TaskSpec& spec, bool as_blob) {
    v1::Payload payload;
    payload.set_noop(spec.noop().index());
    v1::TaskResult& result = results[TaskDigest(spec)->bytes()];
    result.set_task(TaskDigest(spec)->bytes());
    const std::string bytes = payload.SerializeAsString();
    result.set_payload_digest(Sha256Of(bytes).bytes());
    if (as_blob) {
      result.set_payload_blob(Sha256Of(bytes).bytes());
      blobs[Sha256Of(bytes)] = bytes;
    } else {
      result.set_payload(bytes);
    }
  }
  std::map<std::string, v1::TaskResult> results;
  std::map<Digest, std::string> blobs;
  int fetches = 0;
  ResultCache cache{[this](const v1::FetchResultsRequest& r) { return Fetch(r); },
                    [this](const Digest& d) -> absl::StatusOr<std::string> { return blobs[d]; }, 600};
};

TEST_F(ResultCacheTest, Get_GivesPayloadsInOrder_InlineOrFromBlobs_AndKeepsThem) {
  Store(Noop(1), false);
  Store(Noop(2), true);
  for (int repeat = 0; repeat < 2; ++repeat) {
    const auto payloads = cache.Get({Noop(2), Noop(1)});
    ASSERT_TRUE(payloads.ok()) << payloads.status();
    EXPECT_EQ((*payloads)[0]->noop(), 2u);
    EXPECT_EQ((*payloads)[1]->noop(), 1u);
  }
  EXPECT_EQ(fetches, 1);
}

TEST_F(ResultCacheTest, Get_OfVeryMany_AsksInParts) {
  std::vector<v1::TaskSpec> tasks;
  for (uint64_t i = 0; i < 2500; ++i) {
    tasks.push_back(Noop(i));
    Store(tasks.back(), false);
  }
  const auto payloads = cache.Get(tasks);
  ASSERT_TRUE(payloads.ok()) << payloads.status();
  for (uint64_t i = 0; i < 2500; ++i) EXPECT_EQ((*payloads)[i]->noop(), i);
  EXPECT_EQ(fetches, 3);
}

TEST_F(ResultCacheTest, Get_IsUnavailable_ForAbsentOrChangedResults) {
  EXPECT_TRUE(absl::IsUnavailable(cache.Get({Noop(1)}).status()));
  Store(Noop(2), true);
  blobs.begin()->second = "changed";
  EXPECT_TRUE(absl::IsUnavailable(cache.Get({Noop(2)}).status()));
}

TEST_F(ResultCacheTest, WhatIsTaken_IsNotedWithItsPayload_AndForgottenOnesAreFetchedAgain) {
  Store(Noop(1), false);
  Store(Noop(2), true);
  for (int repeat = 0; repeat < 2; ++repeat) {  // Fetched, then kept.
    const UsedResults results;
    ASSERT_TRUE(cache.Get({Noop(1), Noop(2)}).ok());
    ASSERT_TRUE(cache.Get({Noop(1)}).ok());
    ASSERT_EQ(results.used().size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(results.used()[i].task(), TaskDigest(Noop(i + 1))->bytes());
      EXPECT_EQ(results.used()[i].payload(),
                this->results[results.used()[i].task()].payload_digest());
    }
  }
  EXPECT_EQ(fetches, 1);
  cache.Forget(*TaskDigest(Noop(1)));
  cache.Forget(*TaskDigest(Noop(3)));
  const UsedResults results;
  ASSERT_TRUE(cache.Get({Noop(1), Noop(2)}).ok());
  EXPECT_EQ(results.used().size(), 2u);
  EXPECT_EQ(fetches, 2);
}

TEST_F(ResultCacheTest, Cleared_IsFetchedAgain) {
  Store(Noop(1), false);
  ASSERT_TRUE(cache.Get({Noop(1)}).ok());
  cache.Clear();
  ASSERT_TRUE(cache.Get({Noop(1)}).ok());
  EXPECT_EQ(fetches, 2);
}

TEST_F(ResultCacheTest, Memory_IsBounded_LeastRecentlyUsedGoesFirst) {
  for (int i = 0; i < 10; ++i) Store(Noop(i), false);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(cache.Get({Noop(i)}).ok());
  EXPECT_EQ(fetches, 10);
  ASSERT_TRUE(cache.Get({Noop(9)}).ok());
  EXPECT_EQ(fetches, 10);
  ASSERT_TRUE(cache.Get({Noop(0)}).ok());
  EXPECT_EQ(fetches, 11);
}

}  // namespace
}  // namespace dermis
