#include "worker/models/randomise.h"

#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/checks.h"
#include "worker/models/model.h"

namespace dermis {
namespace {

// Every number is one that no fresh network has.
Model Trained(v1::ModelKind kind, float value = 0.123f) {
  Model model;
  model.layout = *LayoutOf(kind, 32, 2,
                           kind == v1::MODEL_KIND_SEED_CNN ? v1::STEM_UNSPECIFIED : v1::STEM_SMALL);
  model.parameters.assign(model.layout.parameter_count, value);
  model.statistics.assign(model.layout.statistic_count, value);
  model.pixel_mean = 120;
  model.pixel_deviation = 40;
  return model;
}

Model After(const Model& model, const std::vector<std::string>& layers, uint64_t seed = 1) {
  v1::RandomisedLayers randomised;
  for (const std::string& layer : layers) randomised.add_layers(layer);
  randomised.set_seed(seed);
  const auto bytes = Randomise(SerializeModel(model), randomised);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return *ParseModel(*bytes);
}

// Names of the tensors in which any number differs.
std::set<std::string> Changed(const Model& a, const Model& b) {
  std::set<std::string> names;
  const auto compare = [&](const auto& specs, const auto& x, const auto& y) {
    for (const ParameterSpec& spec : specs) {
      for (uint64_t i = spec.offset; i < spec.offset + spec.count; ++i) {
        if (x[i] != y[i]) names.insert(spec.name);
      }
    }
  };
  compare(a.layout.parameters, a.parameters, b.parameters);
  compare(a.layout.statistics, a.statistics, b.statistics);
  return names;
}

TEST(Randomise, ALayerWithItsBatchNorm_AndNothingElse) {
  const Model trained = Trained(v1::MODEL_KIND_SEED_CNN);
  EXPECT_EQ(Changed(trained, After(trained, {"dense"})),
            (std::set<std::string>{"dense.weight", "dense.bias"}));
  const std::set<std::string> conv3 = {"conv3.weight", "conv3.bias",       "bn3.weight",
                                       "bn3.bias",     "bn3.running_mean", "bn3.running_var"};
  const Model after = After(trained, {"conv3"});
  EXPECT_EQ(Changed(trained, after), conv3);
  EXPECT_EQ(after.at("bn3.running_var")[0], 1.0f);
  EXPECT_EQ(after.at("bn3.running_mean")[0], 0.0f);
}

TEST(Randomise, AStageOfAResNet_IsAllItsBlocks) {
  const Model trained = Trained(v1::MODEL_KIND_RESNET18);
  const std::set<std::string> changed = Changed(trained, After(trained, {"layer2"}));
  EXPECT_TRUE(changed.contains("layer2.0.conv1.weight"));
  EXPECT_TRUE(changed.contains("layer2.1.bn2.running_var"));
  EXPECT_TRUE(changed.contains("layer2.0.downsample.0.weight"));
  for (const std::string& name : changed) EXPECT_EQ(name.substr(0, 7), "layer2.") << name;
  EXPECT_EQ(Changed(trained, After(trained, {"conv1"})),
            (std::set<std::string>{"conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean",
                                   "bn1.running_var"}));
}

TEST(Randomise, AllLayers_ForgetWhatWasTrained) {
  for (const v1::ModelKind kind : {v1::MODEL_KIND_SEED_CNN, v1::MODEL_KIND_RESNET18}) {
    const std::vector<std::string> layers = RandomisableLayers(kind);
    EXPECT_EQ(SerializeModel(After(Trained(kind, 0.1f), layers)),
              SerializeModel(After(Trained(kind, 0.2f), layers)));
  }
}

TEST(Randomise, IsAFunctionOfTheSeed_ButNotWhatTrainingWithThatSeedBeginsWith) {
  const Model trained = Trained(v1::MODEL_KIND_SEED_CNN);
  const auto layers = RandomisableLayers(v1::MODEL_KIND_SEED_CNN);
  EXPECT_EQ(SerializeModel(After(trained, layers, 1)), SerializeModel(After(trained, layers, 1)));
  EXPECT_TRUE(
      Changed(After(trained, layers, 1), After(trained, layers, 2)).contains("conv4.weight"));
  Model fresh = trained;
  InitializeModel(1, fresh);
  EXPECT_TRUE(Changed(After(trained, layers, 1), fresh).contains("conv4.weight"));
}

TEST(Randomise, LayerThatDoesNotExist_IsNamedBesideThoseThatDo) {
  v1::RandomisedLayers randomised;
  randomised.add_layers("conv9");
  const auto bytes = Randomise(SerializeModel(Trained(v1::MODEL_KIND_SEED_CNN)), randomised);
  EXPECT_EQ(bytes.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(bytes.status().message().find("no layer conv9"), std::string::npos);
  EXPECT_NE(bytes.status().message().find("dense, conv6"), std::string::npos);
}

}  // namespace
}  // namespace dermis
