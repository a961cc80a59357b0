#include "tools/ingest/csv.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Csv, ReadsQuotesDoubledQuotesAndWindowsLines) {
  const auto table = ParseCsv("\xEF\xBB\xBF" "a,b\r\n\"x,1\",\"say \"\"no\"\"\"\r\n\n,2\n");
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->header, ElementsAre("a", "b"));
  ASSERT_EQ(table->rows.size(), 2u);
  EXPECT_THAT(table->rows[0], ElementsAre("x,1", "say \"no\""));
  EXPECT_THAT(table->rows[1], ElementsAre("", "2"));
  EXPECT_THAT(table->lines, ElementsAre(2u, 4u));
}

TEST(Csv, KeepsALineBreakInsideQuotes) {
  const auto table = ParseCsv("a\n\"1\n2\"\n3");
  ASSERT_TRUE(table.ok());
  EXPECT_THAT(table->rows[0], ElementsAre("1\n2"));
  EXPECT_EQ(table->lines[1], 4u);
}

TEST(Csv, NamesTheLineOfAnError) {
  EXPECT_THAT(ParseCsv("a,b\n1,2\n3\n").status().message(), HasSubstr("line 3"));
  EXPECT_THAT(ParseCsv("a,b\n\"1,2\n").status().message(), HasSubstr("line 2: a quote"));
  EXPECT_THAT(ParseCsv("a,a\n").status().message(), HasSubstr("'a' stands there twice"));
  EXPECT_FALSE(ParseCsv("").ok());
}

}  // namespace
}  // namespace dermis
