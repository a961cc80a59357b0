#include "common/safetensors.h"

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/common/test_folder.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A file with this header text and data.
std::string FileOf(const std::string& header, const std::string& data) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(uint64_t{header.size()} >> (8 * i));
  return out + header + data;
}

std::string ErrorOf(const std::string& bytes) {
  const auto view = ParseSafetensors(bytes);
  if (view.ok()) return "parsed";
  EXPECT_EQ(view.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(view.status().message());
}

TEST(Safetensors, BytesAreTheFormats) {
  const std::string file = SerializeSafetensors(
      {{"b", {"U8", {3}, "xyz"}}, {"a", {"I16", {1}, "hi"}}}, {{"key", "value"}});
  const std::string header =
      R"({"__metadata__":{"key":"value"},"a":{"dtype":"I16","shape":[1],"data_offsets":[0,2]},)"
      R"("b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(file, FileOf(padded, "hixyz"));
  EXPECT_EQ((file.size() - 5) % 8, 0u);
}

TEST(Safetensors, WhatIsWritten_IsReadBack) {
  const float values[6] = {1, -2, 3.5f, 0, 1e-30f, -0.0f};
  const std::string data(reinterpret_cast<const char*>(values), sizeof(values));
  const std::string file = SerializeSafetensors({{"w", {"F32", {2, 3}, data}},
                                                 {"scalar", {"F64", {}, "12345678"}},
                                                 {"none", {"F32", {0, 4}, ""}}},
                                                {{"unicode", "näevus \"quoted\""}});
  const auto view = ParseSafetensors(file);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->tensors.at("w").data, data);
  EXPECT_THAT(view->tensors.at("w").shape, ElementsAre(2, 3));
  EXPECT_EQ(view->tensors.at("scalar").data, "12345678");
  EXPECT_TRUE(view->tensors.at("none").data.empty());
  EXPECT_EQ(view->metadata.at("unicode"), "näevus \"quoted\"");
  EXPECT_EQ(SerializeSafetensors(view->tensors, view->metadata), file) << "canonical";
}

TEST(Safetensors, Header_NeedsNoData) {
  const std::map<std::string, TensorView> tensors = {{"a", {"U8", {4}, "abcd"}}};
  EXPECT_EQ(SafetensorsHeader({{"a", {"U8", {4}, {}}}}, {}) + "abcd",
            SerializeSafetensors(tensors, {}));
}

TEST(Safetensors, DamagedFiles_AreRefused_SayingWhy) {
  const auto tensor = [](const std::string& body) { return "{\"t\":{" + body + "}}"; };
  EXPECT_THAT(ErrorOf(""), HasSubstr("no header"));
  EXPECT_THAT(ErrorOf(std::string(8, '\xff')), HasSubstr("header of"));
  EXPECT_THAT(ErrorOf(FileOf("{}", "").substr(0, 9)), HasSubstr("header of"));
  EXPECT_THAT(ErrorOf(FileOf("[1]", "")), HasSubstr("no JSON object"));
  EXPECT_THAT(ErrorOf(FileOf("{\"a\":", "")), HasSubstr("no JSON object"));
  EXPECT_THAT(ErrorOf(FileOf(std::string(100000, '['), "")), HasSubstr("no JSON object"));
  EXPECT_THAT(ErrorOf(FileOf("{\"__metadata__\":{\"a\":1}}", "")), HasSubstr("no string"));
  EXPECT_THAT(ErrorOf(FileOf(tensor("\"dtype\":\"U8\",\"shape\":[1]"), "x")), HasSubstr("lacks"));
  EXPECT_THAT(ErrorOf(FileOf(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[0])"), "x")),
              HasSubstr("wrong type"));
  EXPECT_THAT(ErrorOf(FileOf(tensor(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), "x")),
              HasSubstr("natural number"));
  EXPECT_THAT(ErrorOf(FileOf(tensor(R"("dtype":"Q8","shape":[1],"data_offsets":[0,1])"), "x")),
              HasSubstr("unknown dtype"));
  EXPECT_THAT(ErrorOf(FileOf(tensor(R"("dtype":"F64","shape":[4294967296,4294967296],)"
                                    R"("data_offsets":[0,0])"),
                             "")),
              HasSubstr("too large"));
  EXPECT_THAT(ErrorOf(FileOf(tensor(R"("dtype":"U8","shape":[2],"data_offsets":[0,2])"), "x")),
              HasSubstr("of 1 bytes"));
  EXPECT_THAT(ErrorOf(FileOf(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"), "x")),
              HasSubstr("lies at"));
  EXPECT_THAT(ErrorOf(FileOf(tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,2])"), "xx")),
              HasSubstr("dtype and shape say 4"));
  EXPECT_THAT(ErrorOf(FileOf(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                             R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                             "xyz")),
              HasSubstr("overlap"));
}

TEST(MappedFile, GivesAFilesBytes) {
  TestFolder folder;
  WriteFile(folder / "a", "hello");
  WriteFile(folder / "empty", "");
  EXPECT_EQ((*MappedFile::Open(folder / "a"))->bytes(), "hello");
  EXPECT_EQ((*MappedFile::Open(folder / "empty"))->bytes(), "");
  EXPECT_EQ(MappedFile::Open(folder / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(MappedFile::Open(folder.path()).ok());
}

}  // namespace
}  // namespace dermis
