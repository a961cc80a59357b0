#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/common/test_images.h"
#include "tests/unit/worker/training/run_gang.h"
#include "worker/data/image_source.h"

namespace dermis {
namespace {

// 120 images in chunks of 10, of which two and a half fit into the small memory.
constexpr uint32_t kSide = 16, kChunk = 10 * kSide * kSide * 3;
constexpr uint64_t kSmall = kChunk * 5 / 2;

class WindowedTrainingTest : public ::testing::Test {
 protected:
  std::shared_ptr<const ImageData> Open(uint64_t memory) {
    ImageSources sources(
        [this](const Digest& digest) -> absl::StatusOr<std::string> {
          const auto at = set_.blobs.find(digest);
          if (at == set_.blobs.end()) return absl::UnavailableError("no such blob");
          return at->second;
        },
        memory);
    v1::ImageSource source;
    source.set_image_set(set_.address.bytes());
    source.set_size(kSide);
    source.mutable_split()->set_test(.2);
    source.mutable_split()->set_validation(.1);
    source.set_split_seed(1);
    const auto data = sources.Get(source);
    EXPECT_TRUE(data.ok()) << data.status();
    return data.ok() ? *data : nullptr;
  }

  TestBlobs set_ = ChunkedBlobs(TestImages(120, 20, kSide), 20, kSide, 10);
};

v1::Recipe WithWindow(uint32_t window) {
  v1::Recipe recipe = TestRecipe();
  recipe.set_shuffle_window(window);
  return recipe;
}

TEST_F(WindowedTrainingTest, WindowedTraining_GivesTheBitsOfResident) {
  const auto resident = Open(UINT64_MAX), windowed = Open(kSmall);
  ASSERT_TRUE(resident != nullptr && windowed != nullptr);
  ASSERT_EQ(resident->chunks, nullptr);
  ASSERT_NE(windowed->chunks, nullptr);
  std::vector<std::string> hashes;
  for (uint32_t window : {0u, 20u}) {
    const Outcome expected = RunGang(WithWindow(window), GoalOf(2), resident, 1, 1);
    ASSERT_TRUE(expected.step.ok()) << expected.step.status();
    hashes.push_back(LastHash(expected));
    for (uint32_t ranks : {1u, 2u}) {
      EXPECT_EQ(LastHash(RunGang(WithWindow(window), GoalOf(2), windowed, ranks, 2)), hashes.back())
          << "window " << window << ", " << ranks << " ranks, few chunks in memory";
    }
    EXPECT_EQ(LastHash(RunGang(WithWindow(window), GoalOf(2), resident, 2, 2)), hashes.back());
  }
  EXPECT_NE(hashes[0], hashes[1]) << "the window has an order of its own";
  const ChunkCache::Counts counts = windowed->chunks->counts();
  EXPECT_LE(counts.peak, kSmall);
  EXPECT_GE(counts.peak, 2 * kChunk) << "what there is is used";
}

TEST_F(WindowedTrainingTest, Window_NeedsFewerLoadsThanAVisitAllOverTheSet) {
  std::vector<uint64_t> loads;
  for (uint32_t window : {0u, 16u}) {
    const auto data = Open(6 * kChunk);
    ASSERT_NE(data, nullptr);
    const uint64_t before = data->chunks->counts().loads;
    const Outcome outcome = RunGang(WithWindow(window), GoalOf(2), data, 1, 1);
    ASSERT_TRUE(outcome.step.ok()) << outcome.step.status();
    loads.push_back(data->chunks->counts().loads - before);
  }
  EXPECT_LT(loads[1], loads[0]);
}

TEST_F(WindowedTrainingTest, ChunkThatCannotBeHad_EndsTrainingOnAllRanks) {
  const auto data = Open(kSmall);
  ASSERT_NE(data, nullptr);
  const std::string chunk = data->set->manifest().chunks(7).pixels();
  set_.blobs.erase(*Digest::FromBytes(chunk));
  const Outcome outcome = RunGang(WithWindow(20), GoalOf(2), data, 2, 1);
  EXPECT_EQ(outcome.step.status().code(), absl::StatusCode::kUnavailable) << outcome.step.status();
  EXPECT_THAT(std::string(outcome.step.status().message()),
              ::testing::HasSubstr(set_.address.short_hex()));
}

}  // namespace
}  // namespace dermis
