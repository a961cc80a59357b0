#include "tools/dermis/overlap.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

// Of each image the digest of its pixels, of its file, and its lesion.
v1::ImageSetManifest Set(const std::vector<std::vector<std::string>>& images) {
  v1::ImageSetManifest set;
  for (const std::vector<std::string>& image : images) {
    v1::ImageEntry& entry = *set.add_images();
    entry.set_digest(image[0]);
    entry.set_source(image[1]);
    entry.set_group(image[2]);
  }
  return set;
}

TEST(Overlap, CountsByPixels_ByFile_AndByLesion_EachImageOnce) {
  const v1::ImageSetManifest own =
      Set({{"p0", "f0", "l0"}, {"p1", "f1", "l1"}, {"p2", "", ""}, {"p3", "f3", "l3"}});
  const std::vector<uint32_t> test = {2, 3};
  // Pixels and file and lesion; the file alone, at another size; the test part; a lesion alone;
  // nothing.
  const Overlap overlap = OverlapOf(own, test,
                                    Set({{"p0", "f0", "l0"},
                                         {"q1", "f1", ""},
                                         {"p2", "", ""},
                                         {"q4", "", "l3"},
                                         {"q5", "", ""}}));
  EXPECT_EQ(overlap.of, 5u);
  EXPECT_EQ(overlap.images, 3u);
  EXPECT_EQ(overlap.used, 2u);
  EXPECT_EQ(overlap.lesions, 1u);
  EXPECT_THAT(Describe(overlap, "isic"),
              HasSubstr("3 of 5 images stand in the study's own set 'isic', 2 of them among those "
                        "that it was trained on"));
  EXPECT_THAT(Describe(overlap, "isic"), HasSubstr("1 more are of a lesion"));
}

TEST(Overlap, ImagesOfNoKnownFileOrLesion_AreNoneOfTheOthersWithout) {
  const v1::ImageSetManifest own = Set({{"p0", "", ""}}), other = Set({{"q0", "", ""}});
  EXPECT_TRUE(OverlapOf(own, {}, other).none());
  EXPECT_THAT(Describe(OverlapOf(own, {}, other), "isic"), HasSubstr("none of the 1 images"));
}

// The same image stands in both parts: it was trained on.
TEST(Overlap, AnImageThatIsInTheTestPart_AndElsewhere_WasUsed) {
  const std::vector<uint32_t> test = {0};
  EXPECT_EQ(OverlapOf(Set({{"p", "", ""}, {"p", "", ""}}), test, Set({{"p", "", ""}})).used, 1u);
  EXPECT_EQ(OverlapOf(Set({{"p", "", ""}, {"q", "", ""}}), test, Set({{"p", "", ""}})).used, 0u);
}

}  // namespace
}  // namespace dermis
