#include "common/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace dermis {
namespace {

using ::testing::HasSubstr;

class FilesTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directory(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  const std::string folder_ = testing::TempDir() + "/files";
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

}  // namespace
}  // namespace dermis
