#include "tools/ingest/ingest.h"

#include <turbojpeg.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "common/image_set.h"
#include "opencv2/imgcodecs.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Left half one grey, right half another: so that orientation shows.
std::string Jpeg(uint8_t left, uint8_t right, int width = 64, int height = 48) {
  std::vector<uint8_t> pixels(size_t(width) * height * 3);
  for (int i = 0; i < width * height; ++i) {
    for (int c = 0; c < 3; ++c) pixels[i * 3 + c] = i % width < width / 2 ? left : right;
  }
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  const tjhandle encoder = tjInitCompress();
  tjCompress2(encoder, pixels.data(), width, 0, height, TJPF_RGB, &bytes, &size, TJSAMP_444, 95, 0);
  std::string file(reinterpret_cast<char*>(bytes), size);
  tjFree(bytes);
  tjDestroy(encoder);
  return file;
}

// The same file with an EXIF orientation tag.
std::string WithOrientation(const std::string& jpeg, char orientation) {
  std::string exif("Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", 24);
  exif += std::string({orientation, 0, 0, 0, 0, 0, 0, 0});
  const size_t length = exif.size() + 2;
  std::string segment = {'\xFF', '\xE1', static_cast<char>(length >> 8), static_cast<char>(length)};
  return jpeg.substr(0, 2) + segment + exif + jpeg.substr(2);
}

class IngestTest : public ::testing::Test {
 protected:
  IngestTest() {
    std::string name = (fs::temp_directory_path() / "dermis-ingest-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    options_.folder = (folder_ / "in").string();
    options_.output = (folder_ / "out.images").string();
    options_.size = 32;
  }
  ~IngestTest() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& bytes) {
    fs::create_directories((folder_ / "in" / name).parent_path());
    std::ofstream(folder_ / "in" / name, std::ios::binary) << bytes;
  }
  void WriteFour() {
    Write("benign/a.jpg", Jpeg(10, 20));
    Write("benign/b.jpg", Jpeg(30, 40));
    Write("malignant/c.jpg", Jpeg(50, 60));
    Write("malignant/d.jpg", Jpeg(70, 80));
  }

  fs::path folder_;
  IngestOptions options_;
};

TEST_F(IngestTest, AFolderAClassGivesThePositiveClassLast) {
  WriteFour();
  fs::create_directory(folder_ / "in" / "zebra");
  Write("zebra/e.jpg", Jpeg(1, 2));
  const auto result = Ingest(options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->images, 5u);
  const auto set = ImageSet::OpenFile(options_.output);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ((*set)->manifest().classes(2), "malignant");
  EXPECT_EQ((*set)->manifest().images(0).name(), "benign/a.jpg");
}

TEST_F(IngestTest, ALabelsFileGivesGroupsAndAttributes) {
  WriteFour();
  Write("labels.csv",
        "file,label,lesion_id,suggested_split\nbenign/a.jpg,no,L1,train\nmalignant/c.jpg,yes,L2,test\n");
  options_.labels = "labels.csv";
  const auto result = Ingest(options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->not_taken, ElementsAre("benign/b.jpg", "malignant/d.jpg"));
  const auto set = ImageSet::OpenFile(options_.output);
  ASSERT_TRUE(set.ok());
  const auto& entry = (*set)->manifest().images(1);
  EXPECT_EQ(entry.group(), "L2");
  EXPECT_EQ(entry.label(), 1u);
  EXPECT_EQ(entry.attributes(1).key(), "suggested_split");
  EXPECT_EQ(entry.attributes(1).value(), "test");
}

TEST_F(IngestTest, PicturesThatAreNotTakenAreNamed) {
  WriteFour();
  Write("root.jpg", Jpeg(1, 2));
  Write("benign/deeper/e.jpg", Jpeg(3, 4));
  Write("benign/scan.TIF", "any");
  Write("masks/a.png", "any");  // Masks are no pictures of the set; this one cannot be read.
  options_.leave_out = true;
  const auto result = Ingest(options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->not_taken, ElementsAre("benign/deeper/e.jpg", "benign/scan.TIF", "root.jpg"));
  ASSERT_EQ(result->left_out.size(), 1u);
  EXPECT_THAT(result->left_out[0].reason, HasSubstr("a.png"));
}

TEST_F(IngestTest, AMaskThatMayBeOfTwoImagesIsAnError_OneInItsFolderIsNot) {
  WriteFour();
  Write("malignant/a.jpg", Jpeg(90, 91));
  // A mask of another image of the folder serves as one.
  const std::string mask = std::string("\x89PNG");
  Write("masks/a.png", mask);
  EXPECT_THAT(Ingest(options_).status().message(),
              AllOf(HasSubstr("benign/a.jpg: its mask"), HasSubstr("may be of any of 2 images")));
  fs::create_directories(folder_ / "in" / "masks" / "benign");
  Write("masks/benign/a.png", mask);
  const auto named = Ingest(options_);
  EXPECT_THAT(named.status().message(), HasSubstr("masks/benign/a.png: "));  // Its own, and damaged.
}

// A grey PNG of `value`s.
std::string GreyPng(int width, int height, int depth, const std::function<int(int y, int x)>& value) {
  cv::Mat picture(height, width, depth);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      if (depth == CV_8U) {
        picture.at<uint8_t>(y, x) = static_cast<uint8_t>(value(y, x));
      } else {
        picture.at<uint16_t>(y, x) = static_cast<uint16_t>(value(y, x));
      }
    }
  }
  std::vector<uint8_t> bytes;
  cv::imencode(".png", picture, bytes);
  return std::string(bytes.begin(), bytes.end());
}

TEST_F(IngestTest, MasksAndLabelMapsLieOverTheImage_AndSayWhereTheyCameFrom) {
  WriteFour();
  // 64 x 48: the centred square begins at column 8. Left of column 32: lesion; label: column * 256.
  Write("masks/a.png", GreyPng(64, 48, CV_8U, [](int, int x) { return x < 32 ? 255 : 0; }));
  Write("masks/c.png", GreyPng(64, 48, CV_8U, [](int, int) { return 255; }));
  Write("maps/a.png", GreyPng(64, 48, CV_16U, [](int, int x) { return x * 256; }));
  Write("maps/b.png", GreyPng(64, 48, CV_8U, [](int y, int) { return y; }));
  Write("labels.csv",
        "file,label,mask_origin\nbenign/a.jpg,no,expert\nbenign/b.jpg,no,expert\nmalignant/c.jpg,yes,\n"
        "malignant/d.jpg,yes,\n");
  options_.labels = "labels.csv";
  options_.mask_origin = "a network";
  options_.label_maps = (folder_ / "in" / "maps").string();
  options_.size = 48;
  const auto result = Ingest(options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->masks, 2u);
  EXPECT_EQ(result->label_maps, 2u);
  EXPECT_TRUE(result->not_taken.empty()) << "masks and maps are no pictures of the set";
  const auto set = *ImageSet::OpenFile(options_.output);
  const auto& manifest = set->manifest();
  EXPECT_EQ(manifest.images(0).mask_origin(), "expert");
  EXPECT_EQ(manifest.images(1).mask_origin(), "") << "it has no mask";
  EXPECT_EQ(manifest.images(2).mask_origin(), "a network");
  const std::string_view mask = *set->Mask(0), labels = *set->Labels(0);
  for (int x = 0; x < 48; ++x) {
    EXPECT_EQ(mask[x], x + 8 < 32);
    EXPECT_EQ(static_cast<uint8_t>(labels[2 * x + 1]), x + 8);
    EXPECT_EQ(labels[2 * x], 0);
  }
  EXPECT_EQ((*set->Labels(1))[2 * 48 * 47], 47);
}

TEST_F(IngestTest, ALabelMapInColoursIsRefused) {
  WriteFour();
  std::vector<uint8_t> bytes;
  cv::imencode(".png", cv::Mat(48, 64, CV_8UC3, cv::Scalar(1, 2, 3)), bytes);
  Write("maps/a.png", std::string(bytes.begin(), bytes.end()));
  options_.label_maps = (folder_ / "in" / "maps").string();
  EXPECT_THAT(Ingest(options_).status().message(),
              AllOf(HasSubstr("benign/a.jpg: its label map"), HasSubstr("a label map is a grey PNG")));
  options_.label_maps = (folder_ / "nowhere").string();
  EXPECT_THAT(Ingest(options_).status().message(), HasSubstr("--label-maps"));
}

TEST_F(IngestTest, DamagedMissingAndRepeatedFilesAreNamed) {
  WriteFour();
  Write("benign/cut.jpg", Jpeg(90, 200).substr(0, 400));
  Write("benign/text.jpg", "not a picture");
  Write("malignant/again.jpg", Jpeg(10, 20));
  const auto refused = Ingest(options_);
  EXPECT_THAT(refused.status().message(),
              AllOf(HasSubstr("benign/cut.jpg: damaged JPEG"), HasSubstr("benign/text.jpg: neither"),
                    HasSubstr("malignant/again.jpg: the same image as benign/a.jpg")));
  EXPECT_FALSE(fs::exists(options_.output));
  options_.leave_out = true;
  const auto taken = Ingest(options_);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->images, 4u);
  EXPECT_EQ(taken->left_out.size(), 3u);
  EXPECT_TRUE(fs::exists(options_.output + ".left-out.csv"));
}

TEST_F(IngestTest, ExifOrientationIsApplied) {
  WriteFour();
  Write("benign/upright.jpg", Jpeg(0, 250, 48, 48));
  Write("benign/turned.jpg", WithOrientation(Jpeg(0, 250, 48, 48), 3));   // Upside down: halves swap.
  const auto result = Ingest(options_);
  ASSERT_TRUE(result.ok()) << result.status();
  const auto set = ImageSet::OpenFile(options_.output);
  ASSERT_TRUE(set.ok());
  for (int i = 0; i < (*set)->manifest().images_size(); ++i) {
    const std::string& name = (*set)->manifest().images(i).name();
    const uint8_t left = (*(*set)->Pixels(i))[0];
    if (name == "benign/upright.jpg") { EXPECT_LT(left, 20); }
    if (name == "benign/turned.jpg") { EXPECT_GT(left, 230); }
  }
}

TEST_F(IngestTest, TheSameFilesGiveTheSameSet) {
  WriteFour();
  ASSERT_TRUE(Ingest(options_).ok());
  const auto first = ImageSet::OpenFile(options_.output);
  ASSERT_TRUE(first.ok());
  const Digest digest = (*first)->digest();
  ASSERT_TRUE(Ingest(options_).ok());
  EXPECT_EQ((*ImageSet::OpenFile(options_.output))->digest(), digest);
}

TEST_F(IngestTest, WrongInputSaysWhatToDo) {
  EXPECT_THAT(Ingest(options_).status().message(), HasSubstr("is not a folder"));
  Write("benign/a.jpg", Jpeg(10, 20));
  EXPECT_THAT(Ingest(options_).status().message(), HasSubstr("two classes"));
  Write("labels.csv", "image_name,kind\nbenign/a.jpg,x\n");
  options_.labels = "lables.csv";
  EXPECT_THAT(Ingest(options_).status().message(), HasSubstr("neither lables.csv nor "));
  options_.labels = "labels.csv";
  EXPECT_THAT(Ingest(options_).status().message(),
              ::testing::AllOf(HasSubstr("--file-column"), HasSubstr("(file, path, image, filename)")));
  Write("labels.csv", "file,label\n../secret.jpg,x\n");
  EXPECT_THAT(Ingest(options_).status().message(), HasSubstr("beneath the folder"));
}

TEST_F(IngestTest, WhatIsTooLarge_IsRefused_AndNotHeldInMemory) {
  WriteFour();
  Write("benign/huge.jpg", "");
  fs::resize_file(folder_ / "in/benign/huge.jpg", uint64_t{1} << 40);
  EXPECT_THAT(Ingest(options_).status().message(),
              HasSubstr("benign/huge.jpg: larger than 512 MiB"));
  fs::remove(folder_ / "in/benign/huge.jpg");
  Write("labels.csv", "");
  fs::resize_file(folder_ / "in/labels.csv", uint64_t{1} << 40);
  options_.labels = "labels.csv";
  EXPECT_THAT(Ingest(options_).status().message(), HasSubstr("labels.csv has more than 256 MiB"));
}

TEST_F(IngestTest, WithoutLabels_EveryPictureIsTaken_AndTheSetSaysSo) {
  Write("a.jpg", Jpeg(10, 20));
  Write("deep/below/b.jpg", Jpeg(30, 40));
  Write("notes.txt", "no picture");
  options_.unlabelled = true;
  options_.classes = {"malignant", "benign"};
  const auto result = Ingest(options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->images, 2u);
  const auto set = ImageSet::OpenFile(options_.output);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_TRUE((*set)->manifest().unlabelled());
  EXPECT_THAT((*set)->manifest().classes(), ElementsAre("malignant", "benign"));
}

TEST_F(IngestTest, GivenClasses_KeepTheirOrder_AndALabelBesidesThemIsNamed) {
  WriteFour();
  options_.classes = {"malignant", "benign"};
  ASSERT_TRUE(Ingest(options_).ok());
  EXPECT_THAT((*ImageSet::OpenFile(options_.output))->manifest().classes(),
              ElementsAre("malignant", "benign"));
  options_.classes = {"malignant", "nevus"};
  EXPECT_THAT(std::string(Ingest(options_).status().message()),
              AllOf(HasSubstr("labelled 'benign'"), HasSubstr("malignant, nevus")));
}

}  // namespace
}  // namespace dermis
