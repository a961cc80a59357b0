// Whole trainings by the GPU's engine.
#include "worker/gpu/gpu_engine.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/safetensors.h"
#include "tests/unit/worker/gpu/devices.h"
#include "tests/unit/worker/training/run_gang.h"
#include "tests/unit/worker/training/toy_data.h"

namespace dermis {
namespace {

class GpuEngineTest : public testing::TestWithParam<std::string> {
 protected:
  // An engine with a device of its own: each rank is a thread.
  EngineFactory Factory(uint64_t image_memory = 1 << 30) const {
    return [name = GetParam(), image_memory](
               const EngineSetting& setting) -> absl::StatusOr<std::unique_ptr<StepEngine>> {
      // It must outlive the engine, and ends with the test.
      static std::vector<std::unique_ptr<Device>> devices;
      static absl::Mutex mutex;
      absl::MutexLock lock(&mutex);
      devices.push_back(OpenTestDevice(name));
      return MakeGpuEngine(*devices.back(), setting, {.image_memory = image_memory});
    };
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, GpuEngineTest, testing::ValuesIn(TestDevices()), NameOf);

std::vector<v1::Recipe> Recipes() {
  std::vector<v1::Recipe> recipes(3, TestRecipe());
  recipes[1].mutable_optimizer()->mutable_sgd()->set_learning_rate(0.01);
  recipes[1].mutable_optimizer()->mutable_sgd()->set_momentum(0.9);
  recipes[1].mutable_optimizer()->mutable_sgd()->set_nesterov(true);
  recipes[1].set_clip_norm(0.1);
  recipes[1].set_balance_classes(true);
  v1::AdamwSpec& adamw = *recipes[2].mutable_optimizer()->mutable_adamw();
  adamw.set_learning_rate(1e-3);
  adamw.set_beta1(0.9);
  adamw.set_beta2(0.999);
  adamw.set_epsilon(1e-8);
  adamw.set_weight_decay(0.01);
  recipes[2].set_ema_decay(0.7);
  recipes[2].mutable_augmentation()->set_contrast(0.3);
  recipes[2].mutable_augmentation()->set_hue(0.1);
  return recipes;
}

std::vector<float> Weights(const TrainedState& state) {
  const auto file = ParseSafetensors(state.last_model);
  EXPECT_TRUE(file.ok()) << file.status();
  std::vector<float> weights;
  for (const auto& [name, tensor] : file->tensors) {
    const float* values = reinterpret_cast<const float*>(tensor.data.data());
    weights.insert(weights.end(), values, values + tensor.data.size() / sizeof(float));
  }
  return weights;
}

TEST_P(GpuEngineTest, Training_IsTheProcessors_ForEveryOptimiser) {
  const auto data = ToyData(40, 12);
  for (const v1::Recipe& recipe : Recipes()) {
    const Outcome expected = RunGang(recipe, GoalOf(2), data, 1, 1);
    const Outcome is = RunGang(recipe, GoalOf(2), data, 1, 1, "", false, absl::InfiniteDuration(),
                               Factory());
    ASSERT_TRUE(is.step.ok()) << is.step.status();
    EXPECT_EQ(*is.step, *expected.step);
    const std::vector<float> a = Weights(is.states.back()), b = Weights(expected.states.back());
    ASSERT_EQ(a.size(), b.size());
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
      norm += std::pow(static_cast<double>(b[i]), 2);
    }
    // Four steps: RMSprop and AdamW divide by the gradient's size, so a rounding of a small
    // gradient may turn a whole step of one weight.
    EXPECT_LT(std::sqrt(difference / norm), 5e-3);
    for (int e = 0; e < 2; ++e) {
      const auto &mine = is.states.back().output.epochs(e),
                 &theirs = expected.states.back().output.epochs(e);
      EXPECT_NEAR(mine.training_loss(), theirs.training_loss(), 0.01 * theirs.training_loss());
      EXPECT_NEAR(mine.validation_loss(), theirs.validation_loss(), 0.05 * theirs.validation_loss());
    }
  }
}

TEST_P(GpuEngineTest, FinalState_IsBitwiseEqual_ForAnyWorldSizeAndCutting) {
  const auto data = ToyData(40, 12);
  for (const v1::Recipe& recipe : Recipes()) {
    const Outcome alone = RunGang(recipe, GoalOf(3), data, 1, 1, "", false,
                                  absl::InfiniteDuration(), Factory());
    ASSERT_TRUE(alone.step.ok()) << alone.step.status();
    for (uint32_t ranks : {2u, 3u, 4u}) {
      EXPECT_EQ(LastHash(RunGang(recipe, GoalOf(3), data, ranks, 1, "", false,
                                 absl::InfiniteDuration(), Factory())),
                LastHash(alone))
          << ranks << " ranks";
    }
    std::string state;
    for (uint64_t step = 1; step <= *alone.step; ++step) {
      const Outcome one = RunGang(recipe, GoalOf(3), data, 1 + step % 2, 1, state, true,
                                  absl::InfiniteDuration(), Factory());
      ASSERT_TRUE(one.step.ok()) << one.step.status();
      state = one.states[0].state;
    }
    EXPECT_EQ(Sha256Of(state).hex(), LastHash(alone));
  }
}

TEST_P(GpuEngineTest, Bits_AreTheSame_WhereImagesDoNotFitOnTheDevice) {
  const auto data = ToyData(40, 12);
  const auto run = [&](uint64_t image_memory) {
    return LastHash(RunGang(TestRecipe(), GoalOf(2), data, 1, 1, "", false,
                            absl::InfiniteDuration(), Factory(image_memory)));
  };
  EXPECT_EQ(run(1 << 30), run(1));
}

TEST_P(GpuEngineTest, ResNet_InBf16_IsNearTheProcessors_AndHasTheSameBits_ForAnyWorldSize) {
  const auto data = ToyData(32, 8);
  v1::Recipe recipe = TestRecipe();
  recipe.set_model(v1::MODEL_KIND_RESNET18);
  recipe.set_logical_shards(2);
  recipe.set_stem(v1::STEM_SMALL);
  recipe.set_dropout(false);
  recipe.set_precision(v1::PRECISION_BF16);
  v1::SgdSpec& sgd = *recipe.mutable_optimizer()->mutable_sgd();
  sgd.set_learning_rate(0.01);
  sgd.set_momentum(0.9);
  const Outcome processor = RunGang(recipe, GoalOf(2), data, 1, 1);
  const Outcome alone =
      RunGang(recipe, GoalOf(2), data, 1, 1, "", false, absl::InfiniteDuration(), Factory());
  ASSERT_TRUE(alone.step.ok()) << alone.step.status();
  for (int e = 0; e < 2; ++e) {
    const double is = alone.states.back().output.epochs(e).training_loss();
    // Roundings to eight bits go their own ways; a wrong formula is far off.
    EXPECT_NEAR(is, processor.states.back().output.epochs(e).training_loss(), 0.15 * is);
  }
  EXPECT_EQ(LastHash(RunGang(recipe, GoalOf(2), data, 2, 1, "", false, absl::InfiniteDuration(),
                             Factory())),
            LastHash(alone));
}

}  // namespace
}  // namespace dermis
