#include "common/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

class FilesTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directory(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  const std::string folder_ = absl::StrCat(testing::TempDir(), "/files-", getpid());
};

TEST_F(FilesTest, File_IsReadWhole_AlsoAnEmptyOne) {
  const std::string bytes("a\0b\r\n\xff", 6);
  std::ofstream(folder_ + "/a", std::ios::binary) << bytes;
  std::ofstream(folder_ + "/empty").flush();
  EXPECT_EQ(ReadFile(folder_ + "/a").value(), bytes);
  EXPECT_EQ(ReadFile(folder_ + "/empty").value(), "");
}

TEST_F(FilesTest, WhatCannotBeRead_IsNamedWithTheCause) {
  const auto missing = ReadFile(folder_ + "/nobody").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("nobody cannot be read: No such file"));
  EXPECT_THAT(std::string(ReadFile(folder_).status().message()), HasSubstr("Is a directory"));
}

TEST_F(FilesTest, WhatIsTooLong_OrHasNoEnd_IsRefused_AndNotReadOn) {
  const std::string huge = folder_ + "/huge";
  std::ofstream(huge).flush();
  std::filesystem::resize_file(
      huge, uint64_t{1} << 40);  // More than memory holds; its blocks are not there.
  for (const std::string& file : {huge, std::string("/dev/zero")}) {
    const auto refused = ReadFile(file, 1 << 20).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(file + " has more than 1 MiB"));
  }
  std::filesystem::resize_file(huge, 1 << 20);
  EXPECT_EQ(ReadFile(huge, 1 << 20).value().size(), size_t{1} << 20);
  std::filesystem::resize_file(huge, (1 << 20) + 1);
  EXPECT_FALSE(ReadFile(huge, 1 << 20).ok());
}

}  // namespace
}  // namespace dermis
