#include "common/split.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// `n` images, every fifth one malignant, in groups of `group` consecutive ones (0: none).
v1::ImageSetManifest Manifest(uint32_t n, uint32_t group = 0) {
  v1::ImageSetManifest manifest;
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  for (uint32_t i = 0; i < n; ++i) {
    v1::ImageEntry* entry = manifest.add_images();
    entry->set_name(absl::StrFormat("%05d", i));
    const uint32_t unit = group == 0 ? i : i / group;
    entry->set_label(unit % 5 == 0 ? 1 : 0);
    if (group != 0) entry->set_group(absl::StrCat("patient ", unit));
  }
  return manifest;
}

v1::SplitSpec Fractions(double test, double validation) {
  v1::SplitSpec spec;
  spec.set_test(test);
  spec.set_validation(validation);
  return spec;
}

v1::SplitSpec Column(const std::string& column, double validation) {
  v1::SplitSpec spec;
  spec.set_column(column);
  spec.set_validation(validation);
  return spec;
}

void SetColumn(v1::ImageSetManifest& manifest, int image, const std::string& value) {
  auto* entry = manifest.mutable_images(image);
  entry->clear_attributes();
  auto* attribute = entry->add_attributes();
  attribute->set_key("set");
  attribute->set_value(value);
}

std::string ErrorOf(const v1::ImageSetManifest& manifest, const v1::SplitSpec& spec) {
  const auto split = MakeSplit(manifest, spec, 1);
  if (split.ok()) return "split";
  EXPECT_EQ(split.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(split.status().message());
}

uint32_t Malignant(const v1::ImageSetManifest& manifest, const std::vector<uint32_t>& images) {
  uint32_t count = 0;
  for (uint32_t i : images) count += manifest.images(i).label();
  return count;
}

void ExpectPartition(const v1::ImageSetManifest& manifest, const Split& split) {
  std::set<uint32_t> all;
  for (const auto* part : {&split.training, &split.validation, &split.test}) {
    EXPECT_TRUE(std::is_sorted(part->begin(), part->end()));
    EXPECT_FALSE(part->empty());
    all.insert(part->begin(), part->end());
  }
  EXPECT_EQ(all.size(), static_cast<size_t>(manifest.images_size()));
  EXPECT_EQ(split.training.size() + split.validation.size() + split.test.size(), all.size());
}

TEST(Split, Fractions_AreKeptInEveryClass) {
  const auto manifest = Manifest(1000);
  const auto split = MakeSplit(manifest, Fractions(.2, .1), 1);
  ASSERT_TRUE(split.ok()) << split.status();
  ExpectPartition(manifest, *split);
  EXPECT_EQ(split->test.size(), 200u);
  EXPECT_EQ(Malignant(manifest, split->test), 40u);
  EXPECT_EQ(split->validation.size(), 80u);
  EXPECT_EQ(Malignant(manifest, split->validation), 16u);
}

TEST(Split, Groups_AreNeverTornApart) {
  const auto manifest = Manifest(1000, /*group=*/4);
  const auto split = MakeSplit(manifest, Fractions(.2, .1), 1);
  ASSERT_TRUE(split.ok()) << split.status();
  ExpectPartition(manifest, *split);
  EXPECT_EQ(split->test.size(), 200u);
  std::map<std::string, std::set<int>> parts;
  int index = 0;
  for (const auto* part : {&split->training, &split->validation, &split->test}) {
    for (uint32_t i : *part) parts[manifest.images(i).group()].insert(index);
    ++index;
  }
  for (const auto& [group, where] : parts) EXPECT_EQ(where.size(), 1u) << group;
}

TEST(Split, IsAPureFunctionOfManifestAndSeed) {
  const auto manifest = Manifest(200);
  const auto a = MakeSplit(manifest, Fractions(.2, .1), 1);
  const auto b = MakeSplit(manifest, Fractions(.2, .1), 1);
  const auto c = MakeSplit(manifest, Fractions(.2, .1), 2);
  EXPECT_EQ(a->test, b->test);
  EXPECT_EQ(a->validation, b->validation);
  EXPECT_NE(a->test, c->test);
}

// Golden: the bits of every study hang on it.
TEST(Split, IsTheGoldenOne) {
  const auto split = MakeSplit(Manifest(40), Fractions(.2, .1), 1);
  ASSERT_TRUE(split.ok());
  EXPECT_THAT(split->test, ElementsAre(0, 2, 6, 15, 24, 26, 29, 38));
  EXPECT_THAT(split->validation, ElementsAre(17, 18, 32, 35));
}

TEST(Split, SmallClass_GivesOneGroupToEachPart) {
  const auto manifest = Manifest(15);  // Three malignant ones.
  const auto split = MakeSplit(manifest, Fractions(.01, .01), 1);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(Malignant(manifest, split->test), 1u);
  EXPECT_EQ(Malignant(manifest, split->validation), 1u);
  EXPECT_EQ(Malignant(manifest, split->training), 1u);
  EXPECT_THAT(ErrorOf(Manifest(10), Fractions(.2, .1)), HasSubstr("'malignant' has 1 group"));
}

TEST(Split, Column_DecidesTheTest_AndTheFractionTheValidation) {
  auto manifest = Manifest(100);
  for (int i = 0; i < 100; ++i) SetColumn(manifest, i, i < 30 ? "test" : "train");
  const auto split = MakeSplit(manifest, Column("set", .1), 1);
  ASSERT_TRUE(split.ok()) << split.status();
  ExpectPartition(manifest, *split);
  EXPECT_EQ(split->test.size(), 30u);
  EXPECT_EQ(split->test.back(), 29u);
  EXPECT_EQ(split->validation.size(), 7u);
  // round(.1 * 56) benign and round(.1 * 14) malignant ones.
  EXPECT_EQ(Malignant(manifest, split->validation), 1u);
}

TEST(Split, Column_MayNameTheValidationToo) {
  auto manifest = Manifest(30);
  for (int i = 0; i < 30; ++i)
    SetColumn(manifest, i, i < 3 ? "validation" : i < 9 ? "test" : "train");
  const auto split = MakeSplit(manifest, Column("set", .5), 1);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_THAT(split->validation, ElementsAre(0, 1, 2));
  EXPECT_THAT(split->test, ElementsAre(3, 4, 5, 6, 7, 8));
}

TEST(Split, WrongColumns_AreRefused_SayingWhichImage) {
  auto manifest = Manifest(30, 2);
  for (int i = 0; i < 30; ++i) SetColumn(manifest, i, i < 10 ? "test" : "train");
  EXPECT_THAT(ErrorOf(manifest, Column("sett", .1)),
              HasSubstr("no column 'sett'; its columns: set"));
  auto torn = manifest;
  SetColumn(torn, 9, "train");
  EXPECT_THAT(ErrorOf(torn, Column("set", .1)), HasSubstr("group 'patient 4' is torn apart"));
  auto odd = manifest;
  SetColumn(odd, 4, "Test");
  EXPECT_THAT(ErrorOf(odd, Column("set", .1)), HasSubstr("image 00004 has 'Test'"));
  auto no_test = manifest;
  for (int i = 0; i < 30; ++i) SetColumn(no_test, i, "train");
  EXPECT_THAT(ErrorOf(no_test, Column("set", .1)), HasSubstr("no image is left for test"));
}

TEST(Split, FractionsOutsideZeroAndOne_AreRefused) {
  EXPECT_THAT(ErrorOf(Manifest(100), Fractions(0, .1)), HasSubstr("test is 0"));
  EXPECT_THAT(ErrorOf(Manifest(100), Fractions(.2, 1)), HasSubstr("validation is 1"));
}

TEST(Split, ImageCalledLikeAGroup_IsNotOfThatGroup) {
  auto manifest = Manifest(30);
  manifest.mutable_images(1)->set_group("00002");
  const auto split = MakeSplit(manifest, Fractions(.2, .1), 1);
  ASSERT_TRUE(split.ok()) << split.status();
  ExpectPartition(manifest, *split);
}

TEST(SplitTest, Folds_PartWhatDoesNotTest_WholeGroupsOnceEach_EvenlyByClass) {
  const v1::ImageSetManifest manifest = Manifest(400, 3);
  v1::SplitSpec spec = Fractions(0.2, 0.1);
  const Split plain = *MakeSplit(manifest, spec, 1);
  std::map<uint32_t, int> validated;
  std::map<std::string, std::set<uint32_t>> folds_of_group;
  std::vector<size_t> sizes, malignant;
  for (uint32_t fold = 0; fold < 5; ++fold) {
    spec.set_folds(5);
    spec.set_fold(fold);
    const Split split = *MakeSplit(manifest, spec, 1);
    EXPECT_EQ(split.test, plain.test);
    EXPECT_EQ(split.training.size() + split.validation.size(),
              plain.training.size() + plain.validation.size());
    sizes.push_back(split.validation.size());
    malignant.push_back(0);
    for (uint32_t image : split.validation) {
      ++validated[image];
      malignant.back() += manifest.images(static_cast<int>(image)).label();
      folds_of_group[manifest.images(static_cast<int>(image)).group()].insert(fold);
    }
  }
  EXPECT_EQ(validated.size(), plain.training.size() + plain.validation.size());
  for (const auto& [image, times] : validated) EXPECT_EQ(times, 1) << image;
  for (const auto& [group, folds] : folds_of_group) EXPECT_EQ(folds.size(), 1u) << group;
  // Each class's share differs by a group at most.
  EXPECT_LE(*std::max_element(sizes.begin(), sizes.end()),
            *std::min_element(sizes.begin(), sizes.end()) + 6);
  EXPECT_LE(*std::max_element(malignant.begin(), malignant.end()),
            *std::min_element(malignant.begin(), malignant.end()) + 3);
}

TEST(SplitTest, MoreFoldsThanGroupsOfAClass_AreRefused) {
  v1::SplitSpec spec = Fractions(0.2, 0.1);
  spec.set_folds(50);
  spec.set_fold(0);
  EXPECT_THAT(ErrorOf(Manifest(60), spec), HasSubstr("fewer than 50 folds"));
}

TEST(Split, AllTest_LeavesNothingToTrain_WhateverTheLabels) {
  v1::ImageSetManifest manifest;
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  for (int i = 0; i < 3; ++i) manifest.add_images()->set_name(std::string(1, 'a' + i));
  v1::SplitSpec spec;
  spec.set_test(1);
  spec.set_validation(0.1);
  const auto split = MakeSplit(manifest, spec, 1);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->test, (std::vector<uint32_t>{0, 1, 2}));
  EXPECT_TRUE(split->training.empty());
  EXPECT_TRUE(split->validation.empty());
}

TEST(SplitTest, MaskedOnly_LeavesImagesWithoutAMaskOut) {
  v1::ImageSetManifest manifest = Manifest(120);
  v1::SplitSpec spec = Fractions(0.25, 0.2);
  spec.set_masked_only(true);
  EXPECT_THAT(ErrorOf(manifest, spec), HasSubstr("dermis ingest --masks"));
  for (int i = 0; i < 120; ++i) manifest.mutable_images(i)->set_has_mask(i % 3 != 0);
  for (const double test : {0.25, 1.0}) {
    spec.set_test(test);
    const auto split = MakeSplit(manifest, spec, 1);
    ASSERT_TRUE(split.ok()) << split.status();
    size_t images = 0;
    for (const auto* part : {&split->training, &split->validation, &split->test}) {
      for (const uint32_t image : *part) EXPECT_NE(image % 3, 0u);
      images += part->size();
    }
    EXPECT_EQ(images, 80u);
  }
}

TEST(Split, AColumnThatIsNotThere_IsToldWhatToDo) {
  v1::ImageSetManifest manifest;
  manifest.add_classes("a");
  manifest.add_classes("b");
  for (int i = 0; i < 4; ++i) {
    manifest.add_images()->set_name(std::string(1, static_cast<char>('a' + i)));
    manifest.mutable_images(i)->set_label(static_cast<uint32_t>(i % 2));
  }
  EXPECT_THAT(ErrorOf(manifest, Column("suggested_split", 0.1)),
              HasSubstr("or remove it and give images.split.test: 0.2"));
}

}  // namespace
}  // namespace dermis
