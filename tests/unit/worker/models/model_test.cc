#include "worker/models/model.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/digest.h"
#include "worker/models/classes.h"

namespace dermis {
namespace {

Model FreshModel(uint64_t seed) {
  Model model;
  model.layout = *LayoutOf(v1::MODEL_KIND_SEED_CNN, 32, 2);
  model.pixel_mean = 141.25;
  model.pixel_deviation = 0.1;
  InitializeModel(seed, model);
  return model;
}

TEST(ModelTest, SeedCnn_HasThePapersNumberOfParameters) {
  const ModelLayout layout = *LayoutOf(v1::MODEL_KIND_SEED_CNN, 32, 2);
  EXPECT_EQ(layout.parameter_count, 292002u);
  EXPECT_EQ(layout.statistic_count, 896u);
  EXPECT_EQ(layout.parameter_count + layout.statistic_count, 292898u);
  uint64_t kernels = 0, convolutions = 0;
  for (const ParameterSpec& spec : layout.parameters) {
    if (spec.decayed) kernels += spec.count;
    if (spec.name.starts_with("conv")) convolutions += spec.count;
  }
  EXPECT_EQ(convolutions, 287008u);
  EXPECT_EQ(kernels, 287008u - 448u);
  EXPECT_EQ(layout.parameter("dense.weight").count + layout.parameter("dense.bias").count, 4098u);
}

TEST(ModelTest, Initialisation_IsGlorotUniform) {
  const Model model = FreshModel(1);
  const ParameterSpec& spec = model.layout.parameter("conv6.weight");
  const double limit = std::sqrt(6.0 / (128 * 9 + 128 * 9));
  double sum = 0, square = 0, largest = 0;
  for (uint64_t i = 0; i < spec.count; ++i) {
    const double v = model.parameters[spec.offset + i];
    sum += v;
    square += v * v;
    largest = std::max(largest, std::abs(v));
  }
  EXPECT_LE(largest, limit);
  EXPECT_GT(largest, 0.999 * limit);
  EXPECT_NEAR(sum / spec.count, 0, 0.01 * limit);
  EXPECT_NEAR(square / spec.count, limit * limit / 3, 0.01 * limit * limit);
  EXPECT_EQ(model.at("conv1.bias")[3], 0);
  EXPECT_EQ(model.at("bn1.weight")[3], 1);
  EXPECT_EQ(model.at("bn1.running_mean")[3], 0);
  EXPECT_EQ(model.at("bn1.running_var")[3], 1);
  EXPECT_NE(FreshModel(2).parameters, model.parameters);
  EXPECT_EQ(FreshModel(1).parameters, model.parameters);
}

TEST(ModelTest, File_GivesTheSameModelBack) {
  const Model model = FreshModel(1);
  const std::string bytes = SerializeModel(model);
  const auto read = ParseModel(bytes);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->parameters, model.parameters);
  EXPECT_EQ(read->statistics, model.statistics);
  EXPECT_EQ(read->pixel_mean, model.pixel_mean);
  EXPECT_EQ(read->pixel_deviation, model.pixel_deviation);
  EXPECT_EQ(SerializeModel(*read), bytes);
}

TEST(ModelTest, DamagedFile_IsAnError) {
  const std::string bytes = SerializeModel(FreshModel(1));
  EXPECT_EQ(ParseModel(bytes.substr(0, bytes.size() / 2)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseModel("").status().code(), absl::StatusCode::kInvalidArgument);
  std::string renamed = bytes;
  renamed.replace(renamed.find("conv1.bias"), 10, "conv1.bios");
  EXPECT_THAT(std::string(ParseModel(renamed).status().message()),
              testing::HasSubstr("conv1.bias"));
}

TEST(ModelTest, ImpossibleLayouts_AreErrors) {
  EXPECT_FALSE(LayoutOf(v1::MODEL_KIND_SEED_CNN, 30, 2).ok());
  EXPECT_FALSE(LayoutOf(v1::MODEL_KIND_SEED_CNN, 0, 2).ok());
  EXPECT_FALSE(LayoutOf(v1::MODEL_KIND_SEED_CNN, 32, 1).ok());
  EXPECT_FALSE(LayoutOf(v1::MODEL_KIND_UNSPECIFIED, 32, 2).ok());
}

TEST(MoveClassLast, MovesItsRowOfTheHead_AndNothingElse) {
  Model model;
  model.layout = *LayoutOf(v1::MODEL_KIND_SEED_CNN, 16, 3);
  model.pixel_mean = 120;
  model.pixel_deviation = 60;
  InitializeModel(5, model);
  const Model before = model;
  MoveClassLast(0, model);
  const ParameterSpec& weight = model.layout.parameter("dense.weight");
  const size_t row = weight.count / 3;
  for (size_t i = 0; i < row; ++i) {
    EXPECT_EQ(model.at("dense.weight")[2 * row + i], before.at("dense.weight")[i]);
    EXPECT_EQ(model.at("dense.weight")[i], before.at("dense.weight")[row + i]);
  }
  EXPECT_EQ(model.at("dense.bias")[2], before.at("dense.bias")[0]);
  EXPECT_EQ(model.at("conv1.weight")[0], before.at("conv1.weight")[0]);
}

}  // namespace
}  // namespace dermis
