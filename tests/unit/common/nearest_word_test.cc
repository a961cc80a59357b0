#include "common/nearest_word.h"

#include "gtest/gtest.h"

namespace dermis {
namespace {

TEST(NearestWord, IsTheFirstWithTheFewestChanges_AndNoneBeyondTheBound) {
  const std::vector<std::string> known = {"run", "report", "results", "resume"};
  EXPECT_EQ(NearestWord("runn", known, 1), "run");
  EXPECT_EQ(NearestWord("rnu", known, 1), "run");  // Swapped letters are one change.
  EXPECT_EQ(NearestWord("resulst", known, 1), "results");
  EXPECT_EQ(NearestWord("resue", known, 1), "resume");
  EXPECT_EQ(NearestWord("rxxn", known, 1), "");
  EXPECT_EQ(NearestWord("rxxn", known, 2), "run");
  EXPECT_EQ(NearestWord("run", {}, 2), "");
}

}  // namespace
}  // namespace dermis
