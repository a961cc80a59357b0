#include "common/background.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace dermis {
namespace {

// 300 images, every fifth one of class 1; training is those that 3 does not divide.
struct Set {
  Set() {
    for (uint32_t i = 0; i < 300; ++i) {
      labels.push_back(i % 5 == 0 ? 1 : 0);
      if (i % 3 != 0) training.push_back(i);
      v1::ImageEntry* entry = manifest.add_images();
      entry->set_digest(std::string(32, static_cast<char>(i % 251)));
    }
  }
  std::vector<uint32_t> labels, training;
  v1::ImageSetManifest manifest;
};

TEST(BackgroundTest, HasAsManyImagesOfEachClass_FromTheTrainingSplitAlone) {
  const Set set;
  const std::vector<uint32_t> images = BackgroundImages(set.training, set.labels, 1, 25);
  ASSERT_EQ(images.size(), 50u);
  EXPECT_TRUE(std::is_sorted(images.begin(), images.end()));
  EXPECT_EQ(std::adjacent_find(images.begin(), images.end()), images.end());
  std::array<int, 2> of_class{};
  for (const uint32_t image : images) {
    EXPECT_TRUE(std::binary_search(set.training.begin(), set.training.end(), image)) << image;
    ++of_class[set.labels[image]];
  }
  EXPECT_EQ(of_class[0], 25);
  EXPECT_EQ(of_class[1], 25);
}

TEST(BackgroundTest, TakesAllOfAClassThatHasTooFew) {
  const Set set;
  const std::vector<uint32_t> images = BackgroundImages(set.training, set.labels, 1, 100);
  EXPECT_EQ(
      std::count_if(images.begin(), images.end(), [&](uint32_t i) { return set.labels[i] == 1; }),
      40);  // 0, 5, 10, ..., 295 less those that 3 divides.
  EXPECT_EQ(images.size(), 140u);
}

TEST(BackgroundTest, IsAFunctionOfTheSeed_AndALargerSetHoldsTheSmaller) {
  const Set set;
  const auto draw = [&](uint64_t seed, uint32_t per_class) {
    return BackgroundImages(set.training, set.labels, seed, per_class);
  };
  EXPECT_EQ(draw(1, 20), draw(1, 20));
  EXPECT_NE(draw(1, 20), draw(2, 20));
  const std::vector<uint32_t> small = draw(1, 10), large = draw(1, 20);
  EXPECT_TRUE(std::includes(large.begin(), large.end(), small.begin(), small.end()));
}

TEST(BackgroundTest, DigestNamesTheImagesContents) {
  const Set set;
  const std::vector<uint32_t> images = {3, 7}, others = {3, 8};
  EXPECT_EQ(BackgroundDigest(set.manifest, images),
            Sha256Of(std::string(32, '\x03') + std::string(32, '\x07')));
  EXPECT_NE(BackgroundDigest(set.manifest, images), BackgroundDigest(set.manifest, others));
}

}  // namespace
}  // namespace dermis
