#include "tools/report/compare.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/philox.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

constexpr int kImages = 300;

// Two images a lesion; malignant in turn.
v1::ImageSetManifest Manifest() {
  v1::ImageSetManifest manifest;
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  for (int i = 0; i < kImages; ++i) {
    v1::ImageEntry& image = *manifest.add_images();
    image.set_group("lesion " + std::to_string(i / 2));
    image.set_label(i / 2 % 2);
  }
  return manifest;
}

// A model that knows `signal` of the label, with its own noise.
v1::StudyResults Study(const std::string& id, double signal, uint32_t seed) {
  v1::StudyResults results;
  results.mutable_status()->set_id(id);
  results.set_image_set("set");
  for (uint32_t i = 0; i < kImages; ++i) {
    results.add_test_images(i);
    const auto block = PhiloxBlock(seed, Purpose::kTest, i, 0, 0);
    results.add_test_logits(0);
    results.add_test_logits(
        static_cast<float>(signal * (i / 2 % 2) + ToUnitDouble(block[0], block[1])));
  }
  return results;
}

TEST(Compare, FindsTheBetterModel_AndSaysByHowMuch) {
  const std::vector<v1::StudyResults> good = {Study("a", .6, 1), Study("b", .6, 2)};
  const std::vector<v1::StudyResults> bad = {Study("c", .1, 3), Study("d", .1, 4)};
  const auto comparison = CompareModels(good, bad, Manifest());
  ASSERT_TRUE(comparison.ok()) << comparison.status();
  EXPECT_EQ(comparison->images, 300u);
  EXPECT_EQ(comparison->groups, 150u);
  EXPECT_GT(comparison->interval.low, 0);
  EXPECT_LT(comparison->interval.low, comparison->difference);
  EXPECT_GT(comparison->interval.high, comparison->difference);
  EXPECT_DOUBLE_EQ(comparison->difference, comparison->first.area - comparison->second.area);
  // Noise of two seeds averages out.
  EXPECT_GT(comparison->first.area,
            *std::max_element(comparison->first.areas.begin(), comparison->first.areas.end()));
  EXPECT_THAT(Describe(*comparison), HasSubstr("300 test images in 150 groups"));
}

TEST(Compare, SeedsOfOneStudy_CountAsStudiesOfTheirOwn) {
  v1::StudyResults swept = Study("a", .6, 1);
  for (const uint32_t seed : {1, 2}) {
    *swept.add_seeds()->mutable_test_logits() = Study("", .6, seed).test_logits();
  }
  const auto one = CompareModels({swept}, {Study("c", .1, 3)}, Manifest());
  const auto two =
      CompareModels(std::vector<v1::StudyResults>{Study("a", .6, 1), Study("b", .6, 2)},
                    {Study("c", .1, 3)}, Manifest());
  ASSERT_TRUE(one.ok() && two.ok()) << one.status();
  EXPECT_EQ(one->first.areas, two->first.areas);
  EXPECT_EQ(one->first.area, two->first.area);
  EXPECT_EQ(one->interval.low, two->interval.low);
}

TEST(Compare, OfAModelWithItself_IsExactlyNothing) {
  const std::vector<v1::StudyResults> one = {Study("a", .3, 1)};
  const auto comparison = CompareModels(one, one, Manifest());
  ASSERT_TRUE(comparison.ok()) << comparison.status();
  EXPECT_EQ(comparison->difference, 0);
  EXPECT_EQ(comparison->interval.low, 0);
  EXPECT_EQ(comparison->interval.high, 0);
}

TEST(Compare, RefusesOtherTestImages_AndWhatIsNotEvaluated) {
  const std::vector<v1::StudyResults> a = {Study("a", .3, 1)};
  std::vector<v1::StudyResults> b = {Study("b", .3, 2)};
  b[0].set_test_images(0, 299);
  EXPECT_THAT(CompareModels(a, b, Manifest()).status().message(),
              HasSubstr("study b was tested on other images"));
  v1::StudyResults open;
  open.mutable_status()->set_id("open");
  open.set_image_set("set");
  EXPECT_EQ(CompareModels({open}, {open}, Manifest()).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CompareModels(a, {}, Manifest()).status().code(), absl::StatusCode::kInvalidArgument);
  v1::ImageSetManifest three = Manifest();
  three.add_classes("third");
  EXPECT_THAT(CompareModels(a, a, three).status().message(), HasSubstr("3 classes"));
}

}  // namespace
}  // namespace dermis
