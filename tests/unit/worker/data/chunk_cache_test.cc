#include "worker/data/chunk_cache.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/philox.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kSize = 100;

// Makes chunks whose every byte is their number, and remembers what was loaded.
class ChunkCacheTest : public ::testing::Test {
 protected:
  void Start(uint32_t chunks, uint64_t limit) {
    cache_ = std::make_unique<ChunkCache>(
        std::vector<uint64_t>(chunks, kSize), limit,
        [this](uint32_t chunk) -> absl::StatusOr<std::vector<uint8_t>> {
          absl::MutexLock lock(&mutex_);
          loaded_.push_back(chunk);
          if (away_) return absl::UnavailableError("away");
          return std::vector<uint8_t>(size_, static_cast<uint8_t>(chunk));
        });
  }
  std::vector<uint32_t> WaitForLoads(uint64_t n) {
    while (cache_->counts().loads < n) std::this_thread::yield();
    absl::MutexLock lock(&mutex_);
    return loaded_;
  }
  void Use(uint32_t chunk) {
    const auto pin = cache_->Get(chunk);
    ASSERT_TRUE(pin.ok()) << pin.status();
    for (uint64_t k = 0; k < kSize; ++k) ASSERT_EQ(pin->data()[k], chunk);
  }

  absl::Mutex mutex_;
  std::vector<uint32_t> loaded_ ABSL_GUARDED_BY(mutex_);
  bool away_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t size_ ABSL_GUARDED_BY(mutex_) = kSize;
  std::unique_ptr<ChunkCache> cache_;
};

TEST_F(ChunkCacheTest, ManyThreads_ReadTheirChunks_WithinTheLimit) {
  Start(9, 250);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t k = 0; k < 300; ++k) {
        const auto draw = PhiloxBlock(1, Purpose::kTest, t, k, 0);
        if (draw[0] % 8 == 0) cache_->Expect({draw[1] % 3, 3 + draw[1] % 3, 6 + draw[1] % 3});
        Use(draw[2] % 9);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(cache_->counts().peak, 2 * kSize);
  EXPECT_LE(cache_->counts().held, 2 * kSize);
}

TEST_F(ChunkCacheTest, ExpectedChunks_AreThereBeforeTheyAreAskedFor) {
  Start(5, 2 * kSize);
  cache_->Expect({3, 1, 4});
  EXPECT_THAT(WaitForLoads(2), ElementsAre(3, 1));
  Use(3);
  cache_->Expect({1, 4});  // On the way.
  EXPECT_THAT(WaitForLoads(3), ElementsAre(3, 1, 4)) << "in the room of what is behind";
  Use(1);
  Use(4);
  EXPECT_EQ(cache_->counts().waits, 0u);
}

TEST_F(ChunkCacheTest, NextChunkIsLoaded_WhileTheOneBeforeIsInUse) {
  Start(3, 2 * kSize);
  const auto pin = cache_->Get(0);
  ASSERT_TRUE(pin.ok());
  cache_->Expect({0, 1, 2});
  EXPECT_THAT(WaitForLoads(2), ElementsAre(0, 1));
  EXPECT_EQ(pin->data()[0], 0);
}

TEST_F(ChunkCacheTest, WhereRoomIsNeeded_TheChunkExpectedLastGoes_ThenTheLeastRecentlyUsed) {
  Start(6, 3 * kSize);
  for (uint32_t chunk : {0, 1, 2, 0}) Use(chunk);
  Use(3);  // In the room of 1.
  Use(2);
  Use(0);
  EXPECT_THAT(WaitForLoads(4), ElementsAre(0, 1, 2, 3));
  cache_->Expect({3, 2});  // 0 was used last, but nobody expects it.
  Use(4);
  Use(3);
  Use(2);
  EXPECT_THAT(WaitForLoads(5), ElementsAre(0, 1, 2, 3, 4));
}

TEST_F(ChunkCacheTest, ChunkInUse_Stays_AndOthersWaitForItsRoom) {
  Start(2, kSize);
  auto pin = cache_->Get(0);
  ASSERT_TRUE(pin.ok());
  std::atomic<bool> done = false;
  std::thread other([&] {
    Use(1);
    done = true;
  });
  while (cache_->counts().waits < 2) std::this_thread::yield();
  EXPECT_EQ(pin->data()[kSize - 1], 0);
  EXPECT_FALSE(done);
  pin = absl::CancelledError("let go");
  other.join();
  EXPECT_EQ(cache_->counts().peak, kSize);
}

TEST_F(ChunkCacheTest, Failure_IsTold_AndTheNextCallTriesAgain) {
  Start(2, kSize);
  {
    absl::MutexLock lock(&mutex_);
    away_ = true;
  }
  EXPECT_EQ(cache_->Get(1).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(cache_->counts().held, 0u);
  {
    absl::MutexLock lock(&mutex_);
    away_ = false;
  }
  Use(1);
  {
    absl::MutexLock lock(&mutex_);
    size_ = kSize + 1;
  }
  EXPECT_EQ(cache_->Get(0).status().code(), absl::StatusCode::kInternal) << "more than was said";
}

}  // namespace
}  // namespace dermis
