#include "tools/dermis/explain_photo.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

v1::ImageSetManifest Manifest() {
  v1::ImageSetManifest manifest;
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  v1::ImageEntry& image = *manifest.add_images();
  image.set_name("near.png");
  image.set_label(1);
  return manifest;
}

PhotoAnswer Predicted() {
  PhotoAnswer answer;
  answer.start.set_study("s");
  v1::ExplainUpdate update;
  update.mutable_prediction()->set_predicted(1);
  AddUpdate(update, answer);
  return answer;
}

// With a distance, and probabilities.
PhotoAnswer Answered() {
  PhotoAnswer answer = Predicted();
  v1::ExplainUpdate update;
  v1::ExplainConfidence& confidence = *update.mutable_confidence();
  confidence.add_probabilities(0.25);
  confidence.add_probabilities(0.75);
  v1::Familiarity& familiarity = *confidence.mutable_familiarity();
  familiarity.set_distance(0.5);
  familiarity.add_nearest()->set_distance(0.125);
  AddUpdate(update, answer);
  return answer;
}

TEST(ExplainPhotoTest, NotesOfALaterStart_AreShown) {
  PhotoAnswer answer = Answered();
  v1::ExplainUpdate update;
  update.mutable_start()->set_study("s");
  update.mutable_start()->add_notes("nothing tells whether it is like them");
  AddUpdate(update, answer);
  EXPECT_THAT(TextOf(answer, Manifest(), "a.png"),
              HasSubstr("note: nothing tells whether it is like them"));
  EXPECT_EQ(JsonOf(answer, Manifest(), "a.png").at("notes").at(0),
            "nothing tells whether it is like them");
}

TEST(ExplainPhotoTest, NoThreshold_IsNoLikeness_ButTheNearestImagesAreNamed) {
  const PhotoAnswer answer = Answered();
  EXPECT_THAT(TextOf(answer, Manifest(), "a.png"),
              AllOf(HasSubstr("75.0 %"), HasSubstr("0.125  near.png (malignant)"),
                    Not(HasSubstr("within")), Not(HasSubstr("distance"))));
  const Json json = JsonOf(answer, Manifest(), "a.png");
  EXPECT_TRUE(json.at("familiarity").at("threshold").is_null());
  EXPECT_TRUE(json.at("unlike_training_images").is_null());
  EXPECT_EQ(json.at("familiarity").at("nearest").at(0).at("image"), "near.png");
}

TEST(ExplainPhotoTest, Threshold_SaysLikenessBothWays) {
  PhotoAnswer answer = Answered();
  answer.confidence.mutable_familiarity()->set_threshold(0.625);
  EXPECT_THAT(TextOf(answer, Manifest(), "a.png"), HasSubstr("(within 0.625)"));
  EXPECT_EQ(JsonOf(answer, Manifest(), "a.png").at("unlike_training_images"), false);
  answer.confidence.mutable_familiarity()->set_threshold(0.25);
  answer.confidence.set_unlike(true);
  answer.confidence.clear_probabilities();
  EXPECT_THAT(TextOf(answer, Manifest(), "a.png"),
              AllOf(HasSubstr("unlike the training images"), HasSubstr("99 in 100 lie within 0.250"),
                    Not(HasSubstr(" %\n"))));
  EXPECT_EQ(JsonOf(answer, Manifest(), "a.png").at("unlike_training_images"), true);
}

TEST(ExplainPhotoTest, NoFamiliarity_LeavesTheProbabilities) {
  PhotoAnswer answer = Answered();
  answer.confidence.clear_familiarity();
  EXPECT_THAT(TextOf(answer, Manifest(), "a.png"),
              AllOf(HasSubstr("malignant\n"), HasSubstr("75.0 %"), Not(HasSubstr("nearest"))));
  const Json json = JsonOf(answer, Manifest(), "a.png");
  EXPECT_TRUE(json.at("familiarity").is_null());
  EXPECT_TRUE(json.at("unlike_training_images").is_null());
  EXPECT_EQ(json.at("probabilities").at("malignant"), 0.75);
}

TEST(ExplainPhotoTest, PartOfAnAnswer_SaysThatItIsOne_AndGivesNoConfidence) {
  PhotoAnswer answer = Predicted();
  answer.partial = true;
  EXPECT_THAT(TextOf(answer, Manifest(), "a.png"),
              AllOf(HasSubstr("by study s: malignant"), HasSubstr("no confidence is given"),
                    HasSubstr(kPartialNote), Not(HasSubstr("%"))));
  const Json json = JsonOf(answer, Manifest(), "a.png");
  EXPECT_EQ(json.at("partial"), true);
  EXPECT_TRUE(json.at("probabilities").is_null());
  EXPECT_EQ(json.at("predicted"), "malignant");
}

}  // namespace
}  // namespace dermis
