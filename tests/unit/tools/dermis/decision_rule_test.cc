#include "tools/dermis/decision_rule.h"

#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/safetensors.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

std::string File(const std::map<std::string, std::string>& metadata) {
  const std::string data(8, '\1');
  return SerializeSafetensors({{"w", {"F32", {2}, data}}}, metadata);
}

TEST(DecisionRule, ComesBackExactly_AndWithoutItTheFileIsWhatItWas) {
  const std::string plain = File({{"format", "dermis model"}});
  const auto ruled = WithRule(plain, {0.1 + 0.2, 1.0 / 3, 260});
  ASSERT_TRUE(ruled.ok()) << ruled.status();
  EXPECT_NE(*ruled, plain);
  const auto back = WithoutRule(*ruled);
  ASSERT_TRUE(back.ok() && back->rule) << back.status();
  EXPECT_EQ(back->bytes, plain);
  EXPECT_EQ(back->rule->threshold, 0.1 + 0.2);
  EXPECT_EQ(back->rule->temperature, 1.0 / 3);
  EXPECT_EQ(back->rule->validation_images, 260u);
  // Where the best rule finds nobody.
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(WithoutRule(*WithRule(plain, {infinity, 1, 2}))->rule->threshold, infinity);
}

TEST(DecisionRule, FilesWithoutOne_ComeBackAsTheyAre) {
  for (const std::string& bytes : {File({{"format", "dermis model"}}), std::string("no file")}) {
    const auto back = WithoutRule(bytes);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->bytes, bytes);
    EXPECT_FALSE(back->rule.has_value());
  }
}

TEST(DecisionRule, ThatIsNone_IsRefused) {
  for (const auto& [threshold, temperature, images] :
       std::vector<std::tuple<std::string, std::string, std::string>>{{"x", "1", "2"},
                                                                      {"nan", "1", "2"},
                                                                      {".5", "0", "2"},
                                                                      {".5", "inf", "2"},
                                                                      {".5", "1", ""}}) {
    const auto back = WithoutRule(File(
        {{"threshold", threshold}, {"temperature", temperature}, {"validation_images", images}}));
    EXPECT_THAT(back.status().message(), HasSubstr("three numbers are due")) << threshold;
  }
}

}  // namespace
}  // namespace dermis
