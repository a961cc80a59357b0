#include "tools/dermis/preview.h"

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/spec_yaml.h"
#include "tools/dermis/study_file.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// 40 images a class.
v1::ImageSetManifest TwoClasses() {
  v1::ImageSetManifest manifest;
  manifest.set_height(64);
  manifest.set_width(64);
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  for (uint32_t i = 0; i < 80; ++i) {
    v1::ImageEntry& image = *manifest.add_images();
    image.set_name(absl::StrCat("image-", 100 + i));
    image.set_label(i % 2);
  }
  return manifest;
}

std::string PreviewOf(const v1::StudySpec& spec) {
  const absl::StatusOr<std::string> text = Preview(spec, TwoClasses());
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : "";
}

TEST(PreviewTest, AGivenModelOfEveryFormat_IsNotTrained_AndItsExplanationIsPriced) {
  for (const char* model : {"file: m.onnx", "file: m.pth", "file: m.safetensors, kind: resnet18"}) {
    const absl::StatusOr<v1::StudySpec> parsed = ParseStudyYaml(
        absl::StrCat("name: given\nimages: {size: 64, split: {test: 1}}\nmodel: {", model, ", digest: ",
                     std::string(64, 'a'), "}\nexplanation: {methods: [lime]}\n"),
        "given.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    const absl::StatusOr<v1::StudySpec> spec = ResolveSpec(*parsed);
    ASSERT_TRUE(spec.ok()) << spec.status();
    const std::string text = PreviewOf(*spec);
    EXPECT_THAT(text, HasSubstr("Images: 80 test\n")) << model;
    EXPECT_THAT(text, HasSubstr("Training: none (the model is given)\n")) << model;
    EXPECT_THAT(text, HasSubstr("Explanation: at most 20 images, ")) << model;
    EXPECT_THAT(text, HasSubstr("Checks, fidelity: ")) << model;
  }
}

TEST(PreviewTest, NumbersAreWrittenOut_AndWhatIsNoneIsNotSaid) {
  const v1::StudySpec spec = *ResolveSpec(*ParseStudyYaml(
      "name: a\nimages: {size: 64}\nexplanation: {methods: [lime: {samples: 5000}]}\n", "a.yaml"));
  const std::string text = PreviewOf(spec);
  EXPECT_THAT(text, HasSubstr("about 80,000 masked inputs\n"));
  EXPECT_THAT(text, Not(HasSubstr("e+")));
  EXPECT_THAT(text, Not(HasSubstr(" 0 gradients")));
}

TEST(PreviewTest, TheStudyToStartWith_RunsOnAFolderPerClass) {
  const char* source = std::getenv("DERMIS_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "set DERMIS_SOURCE_DIR to the source tree";
  const absl::StatusOr<StudyFile> study = ReadStudy(absl::StrCat(source, "/studies/start.yaml"));
  ASSERT_TRUE(study.ok()) << study.status();
  EXPECT_TRUE(CheckFiles(*study, TwoClasses()).ok());
  EXPECT_THAT(PreviewOf(study->spec), HasSubstr("Training: 1 trial"));
}

}  // namespace
}  // namespace dermis
