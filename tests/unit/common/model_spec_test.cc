#include "common/model_spec.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/digest.h"
#include "common/spec_yaml.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kDigest[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

absl::StatusOr<v1::StudySpec> Resolved(const std::string& model, const std::string& more = "") {
  const auto spec = ParseStudyYaml(
      absl::StrCat("name: x\nmodel: {digest: ", kDigest, ", ", model, "}\n", more), "s.yaml");
  if (!spec.ok()) return spec.status();
  return ResolveSpec(*spec);
}

std::string ErrorOf(const std::string& model, const std::string& more = "") {
  return std::string(Resolved(model, more).status().message());
}

TEST(ModelSpecTest, TheFormatFollowsFromTheEnding) {
  for (const auto& [file, format] : {std::pair("a.onnx", v1::MODEL_FORMAT_ONNX),
                                     {"a.PT", v1::MODEL_FORMAT_TORCHSCRIPT},
                                     {"a.torchscript", v1::MODEL_FORMAT_TORCHSCRIPT}}) {
    const auto spec = Resolved(absl::StrCat("file: ", file));
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->model().format(), format) << file;
  }
  EXPECT_THAT(ErrorOf("file: a.h5"), HasSubstr("give safetensors, torchscript or onnx"));
}

TEST(ModelSpecTest, ABlackBoxGetsItsDefaults_AndResolvingAgainChangesNothing) {
  const auto spec =
      Resolved("file: a.onnx, input: {mean: [0.5], deviation: [.1, .2, .3]}", "explanation: {}\n");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->model().input().mean(), ElementsAre(.5, .5, .5));
  EXPECT_THAT(spec->model().input().deviation(), ElementsAre(.1, .2, .3));
  EXPECT_EQ(spec->model().input().range(), 1);
  EXPECT_EQ(spec->model().input().channels(), v1::CHANNEL_ORDER_RGB);
  EXPECT_EQ(spec->model().outputs(), v1::MODEL_OUTPUTS_LOGITS);
  EXPECT_FALSE(spec->has_training());
  ASSERT_EQ(spec->explanation().methods_size(), 2) << "those that need outputs alone";
  EXPECT_TRUE(spec->explanation().methods(0).has_lime());
  EXPECT_TRUE(spec->explanation().methods(1).has_shapley());
  EXPECT_EQ(ResolveSpec(*spec)->SerializeAsString(), spec->SerializeAsString());
}

TEST(ModelSpecTest, MethodsThatLookInside_AreRefusedForABlackBox_ByName) {
  EXPECT_THAT(ErrorOf("file: a.onnx", "explanation: {methods: [lime, grad_cam]}\n"),
              AllOf(HasSubstr("grad_cam"), HasSubstr("a.onnx"), HasSubstr("lime or shapley")));
  EXPECT_TRUE(
      Resolved("file: a.safetensors, kind: resnet18", "explanation: {methods: [grad_cam]}\n").ok());
}

TEST(ModelSpecTest, LayersOfABlackBoxAreNotRandomised) {
  const auto spec = Resolved("file: a.onnx", "explanation: {checks: {stability: {}}}\n");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_FALSE(spec->explanation().checks().stability().randomisation());
  EXPECT_THAT(
      ErrorOf("file: a.onnx", "explanation: {checks: {stability: {randomisation: true}}}\n"),
      HasSubstr("only the outputs are known"));
}

TEST(ModelSpecTest, WhatASafetensorsFileSays_IsNotSaidAgain) {
  EXPECT_THAT(ErrorOf("file: a.safetensors"), HasSubstr("dermis run"));
  EXPECT_THAT(ErrorOf("file: a.safetensors, kind: seed_cnn, outputs: logits"),
              HasSubstr("model.outputs"));
  EXPECT_THAT(ErrorOf("file: a.onnx, kind: seed_cnn"), HasSubstr("model.kind"));
  EXPECT_THAT(ErrorOf("file: a.onnx, precision: bf16"), HasSubstr("model.precision"));
}

TEST(ModelSpecTest, AModelExcludesTrainingAndSweep_AndNeedsItsFile) {
  EXPECT_THAT(ErrorOf("file: a.onnx", "training: {epochs: 3}\n"),
              AllOf(HasSubstr("excludes 'training'"), HasSubstr("training.init")));
  EXPECT_THAT(
      std::string(
          ResolveSpec(*ParseStudyYaml("name: x\nmodel: {file: a.onnx}\n", "s")).status().message()),
      HasSubstr("dermis run"));
  EXPECT_THAT(ErrorOf("file: a.onnx, input: {deviation: [0]}"), HasSubstr("model.input.deviation"));
  EXPECT_THAT(ErrorOf("file: a.onnx, input: {mean: [1, 2]}"), HasSubstr("one or three"));
  EXPECT_THAT(ErrorOf("file: a.onnx, classes: [a, b, a]"), HasSubstr("'a' twice"));
}

TEST(ModelSpecTest, OnlyAGivenModelMayTestOnAllImages) {
  const std::string all = "images: {split: {test: 1}}\n";
  EXPECT_TRUE(Resolved("file: a.onnx", all).ok());
  EXPECT_THAT(std::string(ResolveSpec(*ParseStudyYaml("name: x\n" + all, "s")).status().message()),
              HasSubstr("images.split.test"));
}

v1::ImageSetManifest Classes(const std::vector<std::string>& names) {
  v1::ImageSetManifest manifest;
  for (const std::string& name : names) manifest.add_classes(name);
  return manifest;
}

v1::ForeignModel ForeignOf(const std::string& model, const std::vector<std::string>& classes) {
  const auto ref = ModelRefOf(Resolved(model)->model(), Classes(classes));
  EXPECT_TRUE(ref.ok()) << ref.status();
  return ref->foreign();
}

TEST(ModelRefTest, OutputsAreFoundByTheNamesOfTheClasses) {
  const v1::ForeignModel foreign =
      ForeignOf("file: a.onnx, classes: [cat, malignant, dog, benign]", {"benign", "malignant"});
  EXPECT_EQ(foreign.width(), 4u);
  EXPECT_THAT(foreign.columns(), ElementsAre(3, 1));
  const auto lacking =
      ModelRefOf(Resolved("file: a.onnx, classes: [cat, dog]")->model(), Classes({"cat", "cow"}));
  EXPECT_THAT(std::string(lacking.status().message()),
              AllOf(HasSubstr("'cow'"), HasSubstr("cat, dog")));
}

TEST(ModelRefTest, OneMeaningHasOneAddress) {
  EXPECT_THAT(
      ForeignOf("file: a.onnx, classes: [benign, malignant]", {"benign", "malignant"}).columns(),
      IsEmpty());
  EXPECT_EQ(ForeignOf("file: a.onnx", {"benign", "malignant"}).width(), 0u);
}

TEST(ModelRefTest, ASafetensorsModelIsTheSameTaskAsATrainedOne) {
  const auto ref =
      ModelRefOf(Resolved("file: a.safetensors, kind: seed_cnn")->model(), Classes({"a", "b"}));
  ASSERT_TRUE(ref.ok());
  EXPECT_FALSE(ref->has_foreign());
  EXPECT_EQ(ref->kind(), v1::MODEL_KIND_SEED_CNN);
  EXPECT_EQ(Digest::FromBytes(ref->weights())->hex(), kDigest);
}

}  // namespace
}  // namespace dermis
