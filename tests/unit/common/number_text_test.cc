#include "common/number_text.h"

#include "gtest/gtest.h"

namespace dermis {
namespace {

TEST(NumberTextTest, LargeWholeNumbers_AreInGroups_OthersAsTheyWere) {
  EXPECT_EQ(NumberText(1e6), "1,000,000");
  EXPECT_EQ(NumberText(-67200), "-67,200");
  EXPECT_EQ(NumberText(123456), "123,456");
  EXPECT_EQ(NumberText(1024), "1024");
  EXPECT_EQ(NumberText(0.01), "0.01");
  EXPECT_EQ(NumberText(1e-12), "1e-12");
  EXPECT_EQ(NumberText(67149, 3), "67,100");
  EXPECT_EQ(NumberText(0.01234, 2), "0.012");
}

}  // namespace
}  // namespace dermis
