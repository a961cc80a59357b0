#include "worker/data/image_source.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <thread>
#include <vector>

#include "common/resize.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/common/test_images.h"
#include "worker/data/given.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

// A set of 30 images of 12 x 10 pixels, served as blobs.
class ImageSourceTest : public ::testing::Test {
 protected:
  ImageSourceTest() {
    images_ = TestImages(30, 12, 10);
    EXPECT_TRUE(WriteImageSet(folder_ / "x.images", TestHeader(12, 10), images_).ok());
    file_ = *ImageSet::OpenFile(folder_ / "x.images");
    blobs_[file_->digest()] = file_->manifest_blob();
    for (const v1::ImageChunk& chunk : file_->manifest().chunks()) {
      const Digest digest = *Digest::FromBytes(chunk.pixels());
      blobs_[digest] = std::string(*file_->ChunkBytes(digest));
    }
  }

  ImageSources::Fetch Fetch() {
    return [this](const Digest& digest) -> absl::StatusOr<std::string> {
      ++fetches_;
      if (away_) return absl::UnavailableError("the coordinator is away");
      const auto at = blobs_.find(digest);
      if (at == blobs_.end()) return absl::NotFoundError("no such blob");
      return at->second;
    };
  }

  v1::ImageSource Source(uint32_t size, uint64_t seed = 1) const {
    v1::ImageSource source;
    source.set_image_set(file_->digest().bytes());
    source.set_size(size);
    source.mutable_split()->set_test(.2);
    source.mutable_split()->set_validation(.1);
    source.set_split_seed(seed);
    return source;
  }

  TestFolder folder_;
  std::vector<PackedImage> images_;
  std::unique_ptr<ImageSet> file_;
  std::map<Digest, std::string> blobs_;
  std::atomic<int> fetches_ = 0;
  std::atomic<bool> away_ = false;
};

TEST_F(ImageSourceTest, Images_AreResizedByTheOnePreprocessing) {
  ImageSources sources(Fetch());
  const auto data = sources.Get(Source(8));
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ((*data)->size, 8u);
  EXPECT_EQ((*data)->classes, 2u);
  ASSERT_EQ((*data)->pixels.size(), 30u * 8 * 8 * 3);
  std::vector<uint8_t> expected(8 * 8 * 3);
  for (uint32_t i = 0; i < 30; ++i) {
    EXPECT_EQ((*data)->labels[i], images_[i].entry.label());
    AreaResizeBytes(reinterpret_cast<const uint8_t*>(images_[i].pixels.data()), 12, 10, 3,
                    expected.data(), 8, 8);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), (*data)->image(i))) << i;
    EXPECT_EQ(*(*data)->set->Pixels(i), images_[i].pixels) << "display size on demand";
  }
  const auto split = MakeSplit(file_->manifest(), Source(8).split(), 1);
  EXPECT_EQ((*data)->split.training, split->training);
  EXPECT_EQ((*data)->split.test, split->test);
}

TEST_F(ImageSourceTest, Statistics_AreThoseOfTheTrainingSplitAlone) {
  ImageSources sources(Fetch());
  const auto data = *sources.Get(Source(8));
  long double sum = 0, squares = 0, red = 0;
  uint64_t n = 0;
  for (uint32_t i : data->split.training) {
    for (int k = 0; k < 8 * 8 * 3; ++k, ++n) {
      const long double v = data->image(i)[k];
      sum += v;
      squares += v * v;
      if (k % 3 == 0) red += v;
    }
  }
  EXPECT_NEAR(data->mean, static_cast<double>(sum / n), 1e-12);
  EXPECT_NEAR(data->deviation, static_cast<double>(std::sqrt(squares / n - sum / n * (sum / n))),
              1e-10);
  EXPECT_NEAR(data->channel_mean[0], static_cast<double>(red / (n / 3)), 1e-12);
  EXPECT_NEAR((data->channel_mean[0] + data->channel_mean[1] + data->channel_mean[2]) / 3,
              data->mean, 1e-10);
  const Normalisation normalise = NormalisationOf(*data);
  EXPECT_NEAR(normalise(static_cast<float>(data->mean)), 0, 1e-6);
  EXPECT_NEAR(normalise(static_cast<float>(data->mean + data->deviation)), 1, 1e-6);
}

TEST_F(ImageSourceTest, SameSource_IsLoadedOnce_AlsoForManyThreads) {
  ImageSources sources(Fetch());
  std::vector<std::thread> threads;
  std::vector<std::shared_ptr<const ImageData>> got(4);
  for (int t = 0; t < 4; ++t) threads.emplace_back([&, t] { got[t] = *sources.Get(Source(8)); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& data : got) EXPECT_EQ(data, got[0]);
  EXPECT_EQ(fetches_, 2) << "manifest and one chunk";
}

TEST_F(ImageSourceTest, OtherSizeOrSeed_IsOtherData_AndTheOldestGoes) {
  ImageSources sources(Fetch());
  const auto a = *sources.Get(Source(8));
  const auto b = *sources.Get(Source(4));
  EXPECT_EQ(b->size, 4u);
  EXPECT_EQ(*sources.Get(Source(8)), a);
  const auto c = *sources.Get(Source(8, 2));
  EXPECT_NE(c->split.test, a->split.test);
  EXPECT_EQ(*sources.Get(Source(8)), a) << "used lately";
  EXPECT_NE(*sources.Get(Source(4)), b) << "went";
  EXPECT_EQ(b->image(0)[0], b->pixels[0]) << "who holds it may go on";
}

TEST_F(ImageSourceTest, Failure_KeepsItsCode_AndIsTriedAgain) {
  ImageSources sources(Fetch());
  away_ = true;
  const auto failed = sources.Get(Source(8));
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr(file_->digest().short_hex()));
  away_ = false;
  EXPECT_TRUE(sources.Get(Source(8)).ok());
}

TEST_F(ImageSourceTest, SizesThatCannotBe_AreRefused) {
  ImageSources sources(Fetch());
  for (uint32_t size : {0u, 11u, 12u, 1000u}) {
    EXPECT_EQ(sources.Get(Source(size)).status().code(), absl::StatusCode::kInvalidArgument)
        << size;
  }
  EXPECT_TRUE(sources.Get(Source(10)).ok());
}

// The same 30 images in chunks of 8, of which memory holds two.
class WindowedSourceTest : public ImageSourceTest {
 protected:
  static constexpr uint64_t kMemory = 2 * 8 * (8 * 8 * 3);
  WindowedSourceTest() {
    TestBlobs chunked = ChunkedBlobs(images_, 12, 10, 8);
    address_ = chunked.address;
    blobs_.merge(chunked.blobs);
  }
  v1::ImageSource Chunked() const {
    v1::ImageSource source = Source(8);
    source.set_image_set(address_.bytes());
    return source;
  }
  Digest address_;
};

TEST_F(WindowedSourceTest, ImagesAndStatistics_AreThoseOfResidentData) {
  ImageSources large(Fetch()), small(Fetch(), kMemory);
  const auto resident = *large.Get(Chunked());
  const auto windowed = small.Get(Chunked());
  ASSERT_TRUE(windowed.ok()) << windowed.status();
  EXPECT_EQ(resident->chunks, nullptr);
  EXPECT_TRUE((*windowed)->pixels.empty());
  EXPECT_EQ((*windowed)->mean, resident->mean);
  EXPECT_EQ((*windowed)->deviation, resident->deviation);
  EXPECT_EQ((*windowed)->channel_mean, resident->channel_mean);
  for (uint32_t i = 0; i < 30; ++i) {
    const uint32_t image = i * 7 % 30;  // All over the set.
    const auto a = resident->Pin(image), b = (*windowed)->Pin(image);
    ASSERT_TRUE(a.ok() && b.ok()) << b.status();
    EXPECT_TRUE(std::equal(a->data(), a->data() + 8 * 8 * 3, b->data())) << image;
  }
  EXPECT_EQ((*windowed)->chunks->counts().peak, kMemory);
}

TEST_F(WindowedSourceTest, ExpectedImages_AreThereBeforeTheyAreAskedFor) {
  ImageSources sources(Fetch(), kMemory);
  const auto data = *sources.Get(Chunked());
  data->Expect({});
  for (uint32_t image : {8u, 16u}) ASSERT_TRUE(data->Pin(image).ok());  // Chunks 1 and 2 are there.
  const ChunkCache::Counts before = data->chunks->counts();
  data->Expect({29, 5, 28, 12});  // Chunks 3 and 0; there is no room for a third one.
  while (data->chunks->counts().loads < before.loads + 2) std::this_thread::yield();
  for (uint32_t image : {29u, 5u, 28u}) EXPECT_TRUE(data->Pin(image).ok());
  EXPECT_EQ(data->chunks->counts().waits, before.waits);
}

TEST_F(WindowedSourceTest, FittingWindow_LeavesRoomForTheChunksAtItsEnds) {
  ImageSources small(Fetch(), kMemory), large(Fetch());
  const auto data = *small.Get(Chunked());
  const uint32_t training = static_cast<uint32_t>(data->split.training.size());
  EXPECT_EQ(data->FittingWindow(), 8 * training / 30) << "one chunk, at the least";
  EXPECT_EQ((*large.Get(Chunked()))->FittingWindow(), training);
}

TEST_F(WindowedSourceTest, ChunkThatDoesNotFit_IsRefusedWithTheOption) {
  ImageSources sources(Fetch(), kMemory / 2 - 1);
  const absl::Status status = sources.Get(Chunked()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--image-memory"));
}

TEST_F(WindowedSourceTest, FailureOfAChunk_KeepsItsCode_AndIsTriedAgain) {
  ImageSources sources(Fetch(), kMemory);
  const auto data = *sources.Get(Chunked());
  data->Expect({});
  away_ = true;
  absl::Status failed;
  for (uint32_t image : {0u, 8u, 16u}) failed.Update(data->Pin(image).status());
  EXPECT_EQ(failed.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(failed.message()), HasSubstr(address_.short_hex()));
  away_ = false;
  for (uint32_t image : {0u, 8u, 16u}) EXPECT_TRUE(data->Pin(image).ok());
}

TEST_F(ImageSourceTest, BlobThatIsNoManifest_IsRefused) {
  ImageSources sources(Fetch());
  v1::ImageSource source = Source(8);
  source.set_image_set(file_->manifest().chunks(0).pixels());
  EXPECT_EQ(sources.Get(source).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ImageSourceTest, ForgottenSet_IsNotKept_WhoUsesItGoesOn) {
  ImageSources sources(Fetch());
  std::shared_ptr<const ImageData> data = *sources.Get(Source(8));
  const std::weak_ptr<const ImageData> known = data;
  sources.Forget(Sha256Of("another set"));
  EXPECT_EQ(*sources.Get(Source(8)), data);
  sources.Forget(file_->digest());
  EXPECT_TRUE(data->Pin(0).ok());
  data.reset();
  EXPECT_TRUE(known.expired());
  EXPECT_TRUE(sources.Get(Source(8)).ok());
}

TEST_F(WindowedSourceTest, GivenImage_IsWhatItWouldBeInTheSet_AndTheOnlyTestImage) {
  // All in memory, and by chunks of which memory holds a part.
  for (const uint64_t memory : {std::numeric_limits<uint64_t>::max(), kMemory}) {
    ImageSources sources(Fetch(), memory);
    const auto data = *sources.Get(Chunked());
    const auto n = static_cast<uint32_t>(images_.size());
    const uint32_t known = data->split.test[0];
    const auto pixels = std::make_shared<const std::string>(*data->set->Pixels(known));
    const auto with = WithGiven(data, pixels);
    ASSERT_TRUE(with.ok()) << with.status();
    EXPECT_EQ((*with)->split.test, std::vector<uint32_t>{n});
    EXPECT_EQ((*with)->split.training, data->split.training);
    EXPECT_EQ((*with)->channel_mean, data->channel_mean);
    EXPECT_EQ((*with)->labels.size(), n + 1);
    EXPECT_EQ((*with)->set->manifest().images_size(), static_cast<int>(n) + 1);
    EXPECT_EQ(*(*with)->set->Pixels(n), *pixels);
    EXPECT_EQ(*(*with)->set->Pixels(3), *data->set->Pixels(3));
    EXPECT_FALSE((*with)->set->Mask(n).ok());
    // The model sees the very bytes that it sees of the set's image, and the others are still there.
    const auto bytes = [&](const ImageData& of, uint32_t image) {
      const auto pinned = of.Pin(image);
      EXPECT_TRUE(pinned.ok()) << pinned.status();
      return std::vector<uint8_t>(pinned->data(), pinned->data() + of.image_bytes());
    };
    EXPECT_EQ(bytes(**with, n), bytes(*data, known));
    for (uint32_t i = 0; i < n; ++i) EXPECT_EQ(bytes(**with, i), bytes(*data, i)) << i;
    EXPECT_TRUE(absl::IsInvalidArgument(
        WithGiven(data, std::make_shared<const std::string>("short")).status()));
  }
}

}  // namespace
}  // namespace dermis
