#include "worker/models/resnet.h"

#include <cmath>
#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/safetensors.h"
#include "worker/models/init.h"

namespace dermis {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Model Fresh(v1::ModelKind kind, uint32_t classes = 2, uint64_t seed = 1) {
  Model model;
  model.layout = *LayoutOf(kind, 32, classes, v1::STEM_SMALL);
  InitializeModel(seed, model);
  return model;
}

TEST(ResNetLayoutTest, Counts_AreThePublishedOnes) {
  const std::map<v1::ModelKind, uint64_t> published = {{v1::MODEL_KIND_RESNET18, 11689512},
                                                       {v1::MODEL_KIND_RESNET34, 21797672},
                                                       {v1::MODEL_KIND_RESNET50, 25557032}};
  for (const auto& [kind, count] : published) {
    EXPECT_EQ(LayoutOf(kind, 224, 1000, v1::STEM_IMAGENET)->parameter_count, count);
  }
}

TEST(ResNetLayoutTest, WeightsDecay_NormsAndBiasesDoNot) {
  const ModelLayout layout = *LayoutOf(v1::MODEL_KIND_RESNET50, 224, 2, v1::STEM_IMAGENET);
  for (const ParameterSpec& spec : layout.parameters) {
    EXPECT_EQ(spec.decayed, spec.shape.size() > 1) << spec.name;
  }
  EXPECT_EQ(layout.batch_norm_epsilon, 1e-5);
  EXPECT_EQ(layout.batch_norm_momentum, 0.1);
}

TEST(ResNetLayoutTest, Initialisation_IsKaimingNormalByFanOut) {
  const Model model = Fresh(v1::MODEL_KIND_RESNET18);
  const ParameterSpec& spec = model.layout.parameter("layer4.1.conv2.weight");
  double sum = 0, square = 0, fourth = 0;
  for (uint64_t i = 0; i < spec.count; ++i) {
    const double v = model.parameters[spec.offset + i];
    sum += v;
    square += v * v;
    fourth += v * v * v * v;
  }
  const double n = static_cast<double>(spec.count), variance = 2.0 / (512 * 9);
  EXPECT_NEAR(sum / n, 0, 0.005 * std::sqrt(variance));
  EXPECT_NEAR(square / n, variance, 0.01 * variance);
  EXPECT_NEAR(fourth / n, 3 * variance * variance, 0.05 * variance * variance);
  EXPECT_EQ(model.at("bn1.weight")[0], 1);
  EXPECT_EQ(model.at("layer1.0.bn2.running_var")[5], 1);
  EXPECT_LE(std::abs(model.at("fc.weight")[3]), 1 / std::sqrt(512.0));
  EXPECT_NE(model.at("fc.bias")[0], 0);
  EXPECT_EQ(Fresh(v1::MODEL_KIND_RESNET18).parameters, model.parameters);
}

TEST(ResNetLayoutTest, ImpossibleForms_AreErrors) {
  EXPECT_FALSE(LayoutOf(v1::MODEL_KIND_RESNET18, 100, 2, v1::STEM_IMAGENET).ok());
  EXPECT_FALSE(LayoutOf(v1::MODEL_KIND_RESNET18, 36, 2, v1::STEM_SMALL).ok());
  EXPECT_FALSE(LayoutOf(v1::MODEL_KIND_RESNET18, 64, 2, v1::STEM_AUTO).ok());
  EXPECT_FALSE(LayoutOf(v1::MODEL_KIND_RESNET18, 64, 2).ok());
  EXPECT_FALSE(LayoutOf(v1::MODEL_KIND_SEED_CNN, 32, 2, v1::STEM_SMALL).ok());
}

TEST(ResNetLayoutTest, File_GivesTheSameModelBack) {
  const Model model = Fresh(v1::MODEL_KIND_RESNET18);
  const std::string bytes = SerializeModel(model);
  const auto read = ParseModel(bytes);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->layout.kind, v1::MODEL_KIND_RESNET18);
  EXPECT_EQ(read->layout.stem, v1::STEM_SMALL);
  EXPECT_EQ(read->parameters, model.parameters);
  EXPECT_EQ(SerializeModel(*read), bytes);
}

// What a file of torchvision holds: no metadata of ours, and a count of batches beside each norm.
std::map<std::string, TensorView> TensorsOf(const Model& model, const int64_t& batches) {
  std::map<std::string, TensorView> tensors;
  AddTensors(model.layout.parameters, "", model.parameters, tensors);
  AddTensors(model.layout.statistics, "", model.statistics, tensors);
  tensors["bn1.num_batches_tracked"] = {
      "I64", {}, std::string_view(reinterpret_cast<const char*>(&batches), sizeof batches)};
  return tensors;
}

TEST(LoadWeightsTest, TheSameNetwork_IsTakenWhole) {
  const Model source = Fresh(v1::MODEL_KIND_RESNET18, 2, 7);
  const int64_t batches = 5;
  Model model = Fresh(v1::MODEL_KIND_RESNET18);
  const auto warning = LoadWeights(SerializeSafetensors(TensorsOf(source, batches), {}), model);
  ASSERT_TRUE(warning.ok()) << warning.status();
  EXPECT_EQ(*warning, "");
  EXPECT_EQ(model.parameters, source.parameters);
  EXPECT_EQ(model.statistics, source.statistics);
}

TEST(LoadWeightsTest, AnotherNumberOfClasses_KeepsTheFreshHeadAndSaysSo) {
  const Model source = Fresh(v1::MODEL_KIND_RESNET18, 1000, 7);
  const int64_t batches = 5;
  Model model = Fresh(v1::MODEL_KIND_RESNET18), fresh = model;
  const auto warning = LoadWeights(SerializeSafetensors(TensorsOf(source, batches), {}), model);
  ASSERT_TRUE(warning.ok()) << warning.status();
  EXPECT_THAT(*warning, AllOf(HasSubstr("1000"), HasSubstr("2"), HasSubstr("afresh")));
  EXPECT_EQ(model.at("layer4.1.conv2.weight")[9], source.at("layer4.1.conv2.weight")[9]);
  for (int i = 0; i < 1024; ++i) EXPECT_EQ(model.at("fc.weight")[i], fresh.at("fc.weight")[i]);
  EXPECT_EQ(model.at("fc.bias")[1], fresh.at("fc.bias")[1]);
}

TEST(LoadWeightsTest, TensorsThatDoNotFit_AreNamed_AndNothingIsChanged) {
  const Model source = Fresh(v1::MODEL_KIND_RESNET18, 2, 7);
  const int64_t batches = 5;
  auto tensors = TensorsOf(source, batches);
  tensors.erase("layer2.0.downsample.0.weight");
  tensors["extra.weight"] = tensors["fc.bias"];
  tensors["bn1.weight"].shape = {8, 8};
  tensors["conv1.weight"].dtype = "I32";
  Model model = Fresh(v1::MODEL_KIND_RESNET18), fresh = model;
  const auto outcome = LoadWeights(SerializeSafetensors(tensors, {}), model);
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(outcome.status().message()),
              AllOf(HasSubstr("layer2.0.downsample.0.weight"), HasSubstr("extra.weight"),
                    HasSubstr("bn1.weight (F32 [8, 8], expected F32 [64])"),
                    HasSubstr("conv1.weight (I32")));
  EXPECT_EQ(model.parameters, fresh.parameters);

  // Another network altogether: a few names, then a number.
  const auto other = LoadWeights(
      SerializeSafetensors(TensorsOf(Fresh(v1::MODEL_KIND_RESNET50), batches), {}), model);
  EXPECT_THAT(std::string(other.status().message()), HasSubstr(" more"));
  EXPECT_FALSE(LoadWeights("junk", model).ok());
}

TEST(LoadWeightsTest, NanInTheFile_IsAnError) {
  Model source = Fresh(v1::MODEL_KIND_RESNET18, 2, 7);
  source.parameters[source.layout.parameter("layer3.0.bn1.bias").offset] = std::nanf("");
  Model model = Fresh(v1::MODEL_KIND_RESNET18);
  const auto outcome = LoadWeights(SerializeSafetensors(TensorsOf(source, 0), {}), model);
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("layer3.0.bn1.bias"));
}

TEST(FreezeTest, EverythingBeforeThePart_IsFrozen) {
  Model model = Fresh(v1::MODEL_KIND_RESNET18);
  ASSERT_TRUE(FreezeBefore("layer3", model.layout).ok());
  EXPECT_TRUE(model.layout.parameter("conv1.weight").frozen);
  EXPECT_TRUE(model.layout.parameter("layer2.1.bn2.bias").frozen);
  EXPECT_FALSE(model.layout.parameter("layer3.0.conv1.weight").frozen);
  EXPECT_FALSE(model.layout.parameter("fc.bias").frozen);
  EXPECT_FALSE(FreezeBefore("layer3.1", model.layout).ok());
  EXPECT_FALSE(FreezeBefore("conv1", model.layout).ok());
  ModelLayout seed = *LayoutOf(v1::MODEL_KIND_SEED_CNN, 32, 2);
  EXPECT_TRUE(FreezeBefore("", seed).ok());
  EXPECT_FALSE(FreezeBefore("layer3", seed).ok());
}

}  // namespace
}  // namespace dermis
