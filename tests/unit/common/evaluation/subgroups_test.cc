#include "common/evaluation/subgroups.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/philox.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;

double Draw(uint32_t a, uint32_t b) {
  const auto block = PhiloxBlock(21, Purpose::kTest, a, b, 0);
  return ToUnitDouble(block[0], block[1]);
}

v1::ImageSetManifest Manifest(
    const std::vector<std::vector<std::pair<std::string, std::string>>>& images) {
  v1::ImageSetManifest manifest;
  for (const auto& attributes : images) {
    v1::ImageEntry& entry = *manifest.add_images();
    for (const auto& [key, value] : attributes) {
      v1::Attribute& attribute = *entry.add_attributes();
      attribute.set_key(key);
      attribute.set_value(value);
    }
  }
  return manifest;
}

// Two images a lesion; half of the lesions are malignant; `wrong`: the share of errors where the
// value is "b", .1 where it is "a".
struct Made {
  ScoredImages images;
  std::vector<SubgroupColumn> columns;
};
Made Make(uint32_t lesions, double wrong, uint32_t repeat) {
  Made made;
  std::vector<float> logits;
  std::vector<uint32_t> label, group;
  SubgroupColumn column{"scanner", {}, {"a", "b"}};
  for (uint32_t i = 0; i < 2 * lesions; ++i) {
    const uint32_t lesion = i / 2;
    const bool is_b = lesion % 4 >= 2;
    label.push_back(lesion % 2);
    group.push_back(lesion);
    column.value.push_back(is_b ? "b" : "a");
    const bool errs = Draw(repeat, lesion) < (is_b ? wrong : .1);  // Both images alike.
    const double to = (label[i] == 1) != errs ? 1 : -1;
    logits.push_back(0);
    logits.push_back(static_cast<float>(to * (.1 + Draw(repeat + 1000, i))));
  }
  made.images = MakeScoredImages(logits, label, group).value();
  made.columns = {column};
  return made;
}

TEST(Columns, AreReadFromTheManifest_AndUnknownIsCounted) {
  const v1::ImageSetManifest manifest = Manifest({
      {{"age", "29.0"}, {"sex", "male"}, {"site", ""}, {"dx", "melanoma"}, {"dataset", "HAM"}},
      {{"age", "30"}, {"sex", "female"}, {"dx", "nevus"}, {"obtained_as", "1024 px"}},
      {{"age", ""}, {"sex", "female"}, {"dataset", "BCN"}, {"obtained_as", "512 px"}},
      {{"age", "85"}, {"sex", "unknown"}, {"dx", "nevus"}, {"dataset", "BCN"}},
  });
  const auto columns = SubgroupColumnsOf(manifest, {0, 1, 2, 3});
  ASSERT_EQ(columns.size(), 5u);
  EXPECT_EQ(columns[0].title, "diagnosis");
  EXPECT_THAT(columns[0].value, ElementsAre("melanoma", "nevus", "unknown", "nevus"));
  EXPECT_EQ(columns[1].title, "source");
  EXPECT_THAT(columns[1].value, ElementsAre("HAM", "unknown", "BCN", "BCN"));
  EXPECT_EQ(columns[2].title, "image size");
  EXPECT_THAT(columns[2].value, ElementsAre("unknown", "1024 px", "512 px", "unknown"));
  EXPECT_EQ(columns[3].title, "sex");
  EXPECT_THAT(columns[3].value, ElementsAre("male", "female", "female", "unknown"));
  EXPECT_THAT(columns[3].order, ElementsAre("female", "male", "unknown"));
  EXPECT_EQ(columns[4].title, "age");
  EXPECT_THAT(columns[4].order,
              ElementsAre("below 30", "30 to below 50", "70 and above", "unknown"));
  EXPECT_THAT(columns[4].value,
              ElementsAre("below 30", "30 to below 50", "unknown", "70 and above"));
  // In the order of the images that were asked for.
  EXPECT_THAT(SubgroupColumnsOf(manifest, {3, 0})[2].value, ElementsAre("unknown", "male"));
}

TEST(Columns, AreFoundUnderEachNameThatSetsGiveThem) {
  const struct {
    const char* title;
    std::vector<std::string> keys;
  } kColumns[] = {{"diagnosis", {"diagnosis", "dx"}},
                  {"source", {"source", "dataset"}},
                  {"image size", {"obtained_as", "image_size"}},
                  {"age", {"age", "age_approx"}},
                  {"site", {"site", "anatom_site_general", "localization"}}};
  for (const auto& column : kColumns) {
    for (const std::string& key : column.keys) {
      const auto columns = SubgroupColumnsOf(
          Manifest({{{"other", "x"}, {key, "71"}}, {{"other", "y"}}, {{key, "71"}}}), {0, 1, 2});
      ASSERT_EQ(columns.size(), 1u) << key;
      EXPECT_EQ(columns[0].title, column.title) << key;
      const std::string shown = columns[0].title == "age" ? "70 and above" : "71";
      EXPECT_THAT(columns[0].value, ElementsAre(shown, "unknown", shown)) << key;
      EXPECT_THAT(columns[0].order, ElementsAre(shown, "unknown")) << key;
    }
  }
}

TEST(Columns, JoinRareValues) {
  std::vector<std::vector<std::pair<std::string, std::string>>> images;
  for (int value = 0; value < 20; ++value) {
    for (int k = 0; k <= value; ++k) images.push_back({{"site", "s" + std::to_string(value)}});
  }
  const v1::ImageSetManifest manifest = Manifest(images);
  std::vector<uint32_t> all(images.size());
  for (uint32_t i = 0; i < all.size(); ++i) all[i] = i;
  const auto columns = SubgroupColumnsOf(manifest, all);
  ASSERT_EQ(columns.size(), 1u);
  ASSERT_EQ(columns[0].order.size(), kMostValues);
  EXPECT_EQ(columns[0].order.front(), "s19");
  EXPECT_EQ(columns[0].order.back(), "other");
}

TEST(Columns, BandNumbers) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const SubgroupColumn column = BandsOf("lesion", {5, 10, 24.9, 25, nan}, {10, 25}, " %");
  EXPECT_THAT(column.value, ElementsAre("below 10 %", "10 to below 25 %", "10 to below 25 %",
                                        "25 % and above", "unknown"));
}

TEST(Holm, HoldsByHand) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto adjusted = HolmAdjusted({.01, nan, .04, .03});
  EXPECT_DOUBLE_EQ(adjusted[0], .03);
  EXPECT_TRUE(std::isnan(adjusted[1]));
  EXPECT_DOUBLE_EQ(adjusted[2], .06);  // Not below the one before it.
  EXPECT_DOUBLE_EQ(adjusted[3], .06);
}

TEST(Subgroups, CountAndMeasureTheirOwnImages) {
  const Made made = Make(80, .5, 1);
  const auto rows = SubgroupsOf(made.images, made.columns, {.5, 99, 1});
  ASSERT_EQ(rows.size(), 2u);
  for (const Subgroup& row : rows) {
    EXPECT_EQ(row.n, 80u);
    EXPECT_EQ(row.lesions, 40u);
    EXPECT_EQ(row.positives, 40u);
    double right = 0;
    for (size_t i = 0; i < made.images.label.size(); ++i) {
      if (made.columns[0].value[i] != row.value) continue;
      right += (made.images.probability[i] >= .5) == (made.images.label[i] == 1);
    }
    EXPECT_DOUBLE_EQ(row.accuracy.estimate.value, right / 80);
    EXPECT_NEAR(row.accuracy.estimate.value,
                (row.sensitivity.estimate.value + row.specificity.estimate.value) / 2, 1e-12);
  }
  EXPECT_DOUBLE_EQ(rows[0].accuracy.difference, -rows[1].accuracy.difference);
  // Two halves are one question, asked twice.
  EXPECT_DOUBLE_EQ(rows[0].accuracy.p, rows[1].accuracy.p);
}

TEST(Subgroups, FindTheHarderOne_AndNoOtherWhereNoneIs) {
  const Made planted = Make(200, .5, 2);
  const auto rows = SubgroupsOf(planted.images, planted.columns, {.5, 999, 1});
  EXPECT_LT(rows[1].accuracy.holm, .05);
  EXPECT_LT(rows[1].accuracy.difference, -.2);
  int found = 0;
  for (uint32_t repeat = 0; repeat < 100; ++repeat) {
    const Made even = Make(60, .1, 10 + repeat);
    found += SubgroupsOf(even.images, even.columns, {.5, 199, repeat})[0].accuracy.p < .05;
  }
  // Lesions are permuted, not images: two alike are no more evidence than one.
  EXPECT_LE(found, 11);
}

TEST(Subgroups, ArePermutedWithinAClass_SoTheirMixIsNotFound) {
  // "a" has the negatives, of which 95 % are right; "b" most positives, of which 60 % are.
  int found = 0;
  double difference = 0;
  for (uint32_t repeat = 0; repeat < 60; ++repeat) {
    std::vector<float> logits;
    std::vector<uint32_t> label, group;
    SubgroupColumn column{"clinic", {}, {"a", "b"}};
    for (uint32_t i = 0; i < 200; ++i) {
      label.push_back(i % 2);
      group.push_back(i);
      const bool mostly = Draw(2000 + repeat, i) < .85;
      column.value.push_back((label[i] == 1) == mostly ? "b" : "a");
      const bool right = Draw(3000 + repeat, i) < (label[i] == 1 ? .6 : .95);
      logits.push_back(0);
      logits.push_back((label[i] == 1) == right ? 1 : -1);
    }
    const ScoredImages images = MakeScoredImages(logits, label, group).value();
    const auto rows = SubgroupsOf(images, std::vector<SubgroupColumn>{column}, {.5, 199, 1});
    difference += rows[1].accuracy.difference / 60;
    found += rows[1].accuracy.p < .05;
  }
  EXPECT_LT(difference, -.2);  // There it is ...
  EXPECT_LE(found, 8);         // ... and says nothing.
}

TEST(Subgroups, HaveNoIntervalOrTest_WhereLesionsAreFew) {
  Made made = Make(60, .3, 3);
  for (size_t i = 0; i < made.columns[0].value.size(); ++i) {
    made.columns[0].value[i] = i < 12 ? "few" : "a";
  }
  made.columns[0].order = {"few", "a"};
  const SubgroupOptions options{.5, 99, 1};
  auto rows = SubgroupsOf(made.images, made.columns, options);
  BootstrapPass pass;
  AddIntervals(made.images, made.columns, options, rows, pass);
  pass.Run(made.images.group, 100, 1);
  EXPECT_EQ(rows[0].lesions, 6u);
  EXPECT_TRUE(std::isnan(rows[0].accuracy.estimate.interval.low));
  EXPECT_TRUE(std::isnan(rows[0].accuracy.p));
  EXPECT_TRUE(std::isnan(rows[1].accuracy.p));  // Its rest is the few.
  EXPECT_LT(rows[1].area.estimate.interval.low, rows[1].area.estimate.interval.high);
}

TEST(Subgroups, OfOneClass_HaveNoAreaAndNoSpecificity) {
  Made made = Make(60, .3, 4);
  for (size_t i = 0; i < made.columns[0].value.size(); ++i) {
    made.columns[0].value[i] = made.images.label[i] == 1 ? "melanoma" : "nevus";
  }
  made.columns[0].order = {"melanoma", "nevus"};
  const auto rows = SubgroupsOf(made.images, made.columns, {.5, 99, 1});
  EXPECT_TRUE(std::isnan(rows[0].area.estimate.value));
  EXPECT_TRUE(std::isnan(rows[0].specificity.estimate.value));
  EXPECT_FALSE(std::isnan(rows[0].sensitivity.estimate.value));
  EXPECT_TRUE(std::isnan(rows[0].sensitivity.difference));
}

}  // namespace
}  // namespace dermis
