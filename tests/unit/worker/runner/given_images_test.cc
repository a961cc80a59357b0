#include "worker/given_images.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/tasks.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/common/test_images.h"

namespace dermis {
namespace {

TEST(GivenBundleTest, IsWhatATaskOfItReads_AndNothingOfOtherThreads) {
  TestFolder folder;
  ASSERT_TRUE(WriteImageSet(folder / "x.images", TestHeader(12, 10), TestImages(3, 12, 10)).ok());
  std::shared_ptr<ImageSet> set = *ImageSet::OpenFile(folder / "x.images");
  v1::Given given;
  given.set_pixels(std::string(12 * 10 * 3, 'p'));
  v1::GivenResult& result = *given.add_results();
  const Digest task = Sha256Of("task");
  result.set_task(task.bytes());
  v1::Payload payload;
  payload.set_noop(7);
  payload.SerializeToString(result.mutable_payload());

  const std::atomic<bool> cancelled = false;
  GivenBundle bundle(given, &cancelled);
  EXPECT_EQ(GivenBundle::Current(), nullptr);
  {
    const GivenBundle::Scope scope(&bundle);
    EXPECT_EQ(GivenBundle::Current(), &bundle);
    std::thread([] { EXPECT_EQ(GivenBundle::Current(), nullptr); }).join();
  }
  EXPECT_EQ(GivenBundle::Current(), nullptr);
  const auto with = bundle.Set(set);
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_EQ(*(*with)->Pixels(3), given.pixels());
  ASSERT_NE(bundle.Result(task), nullptr);
  EXPECT_EQ(bundle.Result(task)->noop(), 7u);
  EXPECT_EQ(bundle.Result(Sha256Of("other")), nullptr);
}

}  // namespace
}  // namespace dermis
