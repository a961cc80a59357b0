// Whole trainings by the GPU's engine.
#include "worker/gpu/gpu_engine.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

#include "common/safetensors.h"
#include "tests/unit/worker/gpu/devices.h"
#include "tests/unit/worker/training/run_gang.h"
#include "tests/unit/worker/training/toy_data.h"
#include "worker/models/model.h"

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

v1::Recipe ResNetRecipe(uint32_t shards) {
  v1::Recipe recipe = TestRecipe();
  recipe.set_model(v1::MODEL_KIND_RESNET18);
  recipe.set_logical_shards(shards);
  recipe.set_stem(v1::STEM_SMALL);
  recipe.set_dropout(false);
  recipe.set_precision(v1::PRECISION_BF16);
  v1::SgdSpec& sgd = *recipe.mutable_optimizer()->mutable_sgd();
  sgd.set_learning_rate(0.01);
  sgd.set_momentum(0.9);
  return recipe;
}

TEST_P(GpuEngineTest, ResNet_InBf16_IsNearTheProcessors_AndHasTheSameBits_ForAnyWorldSize) {
  const auto data = ToyData(32, 8);
  const v1::Recipe recipe = ResNetRecipe(2);
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

// Of eight shards of a rank only the last four are computed in parts.
TEST_P(GpuEngineTest, ResNet_HasTheSameBits_WhereARankHasMoreShardsThanAreComputedSideBySide) {
  const auto data = ToyData(32, 8);
  const v1::Recipe recipe = ResNetRecipe(16);
  const auto run = [&](uint32_t ranks) {
    return LastHash(RunGang(recipe, GoalOf(1), data, ranks, 1, "", false, absl::InfiniteDuration(),
                            Factory()));
  };
  EXPECT_EQ(run(2), run(1));
}

// Sees the buckets of one rank that are exchanged, and what has been computed by then.
class BucketSpy : public Collective {
 public:
  BucketSpy(Collective& collective, uint64_t parameters)
      : collective_(collective), parameters_(parameters), end_(parameters) {}
  uint32_t rank() const override { return collective_.rank(); }
  uint32_t world_size() const override { return collective_.world_size(); }
  uint32_t logical_shards() const override { return collective_.logical_shards(); }
  uint32_t first_shard() const override { return collective_.first_shard(); }
  uint32_t shard_count() const override { return collective_.shard_count(); }
  absl::StatusOr<std::vector<std::string>> AllGather(std::string mine) override {
    return collective_.AllGather(std::move(mine));
  }
  void Abort(const absl::Status& cause) override { collective_.Abort(cause); }

  absl::Status OrderedReduce(absl::Span<float* const> shards, uint64_t n, float* out) override {
    const float* const whole = shards[0] - (end_ - n);
    if (end_ == parameters_) {
      const std::vector<float> now(whole, whole + parameters_);
      // From here on the gradients are those of this step.
      fresh.push_back(static_cast<uint64_t>(
          std::mismatch(now.begin(), now.end(), before_.begin(), before_.end()).first -
          now.begin()));
    }
    end_ -= n;
    begins.push_back(end_);
    const absl::Status status = collective_.OrderedReduce(shards, n, out);
    if (end_ == 0) {
      before_.assign(whole, whole + parameters_);
      end_ = parameters_;
    }
    return status;
  }

  std::vector<uint64_t> begins;
  std::vector<uint64_t> fresh;  // A step each, as its first bucket was exchanged.

 private:
  Collective& collective_;
  const uint64_t parameters_;
  uint64_t end_;
  std::vector<float> before_;
};

TEST(GpuEngine, Buckets_AreExchangedFromTheLastStageOn_WhileTheBackwardPassGoesOn) {
  const v1::Recipe recipe = ResNetRecipe(2);
  const auto layout = LayoutOf(recipe.model(), 16, 2, recipe.stem());
  ASSERT_TRUE(layout.ok());
  const auto begin_of = [&](const std::string& name) { return layout->parameter(name).offset; };
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<std::unique_ptr<BucketSpy>> spies;
  absl::Mutex mutex;
  const EngineFactory factory =
      [&](const EngineSetting& setting) -> absl::StatusOr<std::unique_ptr<StepEngine>> {
    absl::MutexLock lock(&mutex);
    devices.push_back(MakePromptHostDevice());
    Device& device = *devices.back();
    devices.push_back(*device.Branch());
    spies.push_back(std::make_unique<BucketSpy>(setting.collective, layout->parameter_count));
    const EngineSetting seen = {setting.recipe,  setting.data, *spies.back(),   setting.pool,
                                setting.threads, setting.loss, setting.progress};
    return MakeGpuEngine(device, seen,
                         {.collective_device = devices.back().get(), .image_memory = 1 << 30});
  };
  const auto data = ToyData(32, 8);
  const Outcome gang =
      RunGang(recipe, GoalOf(2), data, 2, 1, "", false, absl::InfiniteDuration(), factory);
  ASSERT_TRUE(gang.step.ok()) << gang.step.status();
  ASSERT_EQ(spies.size(), 2u);
  for (const std::unique_ptr<BucketSpy>& spy : spies) {
    ASSERT_EQ(spy->begins.size(), 3 * *gang.step);
    for (uint64_t step = 0; step < *gang.step; ++step) {
      EXPECT_EQ(spy->begins[3 * step], begin_of("layer4.0.conv1.weight"));
      EXPECT_EQ(spy->begins[3 * step + 1], begin_of("layer3.0.conv1.weight"));
      EXPECT_EQ(spy->begins[3 * step + 2], 0u);
      // While the last stage's bucket travels, the stage before it runs and nothing before that has.
      if (step > 0) {
        EXPECT_EQ(spy->fresh[step], begin_of("layer3.0.conv1.weight"));
      }
    }
  }
}

}  // namespace
}  // namespace dermis
