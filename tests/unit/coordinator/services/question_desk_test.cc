#include "coordinator/services/question_desk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using Kind = QuestionNews::Kind;

// A model that is too sure of itself: right three times in four, and far from .5 each time.
QuestionNews Begun(bool familiarity_follows, bool validation = true) {
  QuestionNews news;
  news.kind = Kind::kBegun;
  news.manifest = FakeManifest(80);
  news.familiarity_follows = familiarity_follows;
  for (uint32_t i = 0; validation && i < 80; ++i) {
    const bool says_positive = (i % 2 == 1) != (i % 8 < 2);
    news.validation_images.push_back(i);
    news.validation_logits.push_back(says_positive ? -4.f : 4.f);
    news.validation_logits.push_back(says_positive ? 4.f : -4.f);
  }
  return news;
}
QuestionNews Logits() {
  QuestionNews news;
  news.kind = Kind::kLogits;
  news.logits = {-4, 4};
  return news;
}
QuestionNews Distance(double distance) {
  QuestionNews news;
  news.kind = Kind::kFamiliarity;
  news.familiarity.set_distance(distance);
  news.familiarity.set_threshold(.5);
  return news;
}

TEST(QuestionTellerTest, NoConfidenceIsTold_BeforeItIsKnownWhetherThereMayBeAny) {
  for (const bool distance_first : {false, true}) {
    QuestionTeller teller;
    ASSERT_EQ(teller.Hear(Begun(true)).size(), 1u);
    std::vector<v1::ExplainUpdate> first, second;
    if (distance_first) {
      first = teller.Hear(Distance(.4));
      second = teller.Hear(Logits());
      EXPECT_TRUE(first.empty());
      ASSERT_EQ(second.size(), 2u);
      EXPECT_TRUE(second[0].has_prediction());
    } else {
      first = teller.Hear(Logits());
      second = teller.Hear(Distance(.4));
      ASSERT_EQ(first.size(), 1u);
      EXPECT_TRUE(first[0].has_prediction());
      ASSERT_EQ(second.size(), 1u);
    }
    const v1::ExplainConfidence& confidence = second.back().confidence();
    EXPECT_FALSE(confidence.unlike());
    ASSERT_EQ(confidence.probabilities_size(), 2);
    // Calibrated: 75 % of what it calls so is so, not the 99.97 % that it says.
    EXPECT_NEAR(confidence.probabilities(1), .75, .02);
    EXPECT_GT(confidence.temperature(), 2);
  }
}

TEST(QuestionTellerTest, UnlikeTheTrainingImages_StandsInThePlaceOfTheConfidence) {
  QuestionTeller teller;
  teller.Hear(Begun(true));
  teller.Hear(Logits());
  const auto updates = teller.Hear(Distance(.6));
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_TRUE(updates[0].confidence().unlike());
  EXPECT_TRUE(updates[0].confidence().probabilities().empty());
}

TEST(QuestionTellerTest, WithoutValidationImages_TheProbabilityIsTheModels_AndANoteSaysSo) {
  QuestionTeller teller;
  const auto begun = teller.Hear(Begun(false, false));
  ASSERT_EQ(begun[0].start().notes_size(), 1);
  EXPECT_THAT(begun[0].start().notes(0), HasSubstr("not calibrated"));
  const auto updates = teller.Hear(Logits());
  ASSERT_EQ(updates.size(), 2u);
  EXPECT_FALSE(updates[1].confidence().has_temperature());
  EXPECT_GT(updates[1].confidence().probabilities(1), .999);
}

}  // namespace
}  // namespace dermis
