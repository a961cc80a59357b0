// Optimisers, schedules, losses, clipping and the moving average against real PyTorch: goldens by
// make_goldens.py.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/safetensors.h"
#include "worker/training/loss.h"
#include "worker/training/optimizer.h"
#include "worker/training/schedule.h"

namespace dermis {
namespace {

std::vector<float> Formula(uint32_t k, uint64_t count, double scale) {
  std::vector<float> values(count);
  for (uint64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(scale * std::sin(0.37 * static_cast<double>(i) + k));
  }
  return values;
}

class OptimizerParityTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* root = std::getenv("DERMIS_SOURCE_DIR");
    auto file = MappedFile::Open(absl::StrCat(root == nullptr ? "." : root,
                                              "/tests/parity/training/optimizers.safetensors"));
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    auto parsed = ParseSafetensors(file_->bytes());
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    golden_ = *std::move(parsed);
  }

  std::vector<float> Golden(const std::string& name) const {
    const auto it = golden_.tensors.find(name);
    EXPECT_NE(it, golden_.tensors.end()) << name;
    if (it == golden_.tensors.end()) return {};
    std::vector<float> values(it->second.data.size() / sizeof(float));
    std::memcpy(values.data(), it->second.data.data(), it->second.data.size());
    return values;
  }

  void ExpectGolden(const std::vector<float>& values, const std::string& name,
                    double tolerance = 1e-6) const {
    const std::vector<float> golden = Golden(name);
    ASSERT_EQ(values.size(), golden.size());
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(values[i], golden[i], tolerance * (std::abs(golden[i]) + 0.1))
          << name << " " << i;
    }
  }

  struct Run {
    std::vector<float> weights, average;
  };
  static Run TwentySteps(const v1::OptimizerSpec& spec, double rate, double clip = 0,
                         double decay = 0) {
    Run run = {Formula(100, 32, 0.5), {}};
    std::vector<std::vector<float>> slots(OptimizerSlots(spec).size(), std::vector<float>(32));
    std::vector<float*> pointers;
    for (std::vector<float>& slot : slots) pointers.push_back(slot.data());
    for (uint32_t step = 0; step < 20; ++step) {
      std::vector<float> gradient = Formula(200 + step, 32, 0.01 * (1 + step));
      if (clip > 0) ClipNorm(clip, gradient.data(), gradient.size());
      OptimizerStep(spec, rate, step, true, gradient.data(), 32, run.weights.data(), pointers);
      if (step == 0) {
        run.average = run.weights;
      } else {
        Blend(decay, run.weights.data(), 32, run.average.data());
      }
    }
    return run;
  }

  static v1::OptimizerSpec Sgd(double momentum, bool nesterov, double weight_decay) {
    v1::OptimizerSpec spec;
    spec.mutable_sgd()->set_momentum(momentum);
    spec.mutable_sgd()->set_nesterov(nesterov);
    spec.mutable_sgd()->set_weight_decay(weight_decay);
    return spec;
  }

  std::unique_ptr<MappedFile> file_;
  SafetensorsView golden_;
};

TEST_F(OptimizerParityTest, TwentySteps_ArePyTorchs_ForEveryOptimiser) {
  ExpectGolden(TwentySteps(Sgd(0, false, 0), 0.1).weights, "sgd.final");
  ExpectGolden(TwentySteps(Sgd(0.9, false, 1e-2), 0.1).weights, "sgd_momentum.final");
  ExpectGolden(TwentySteps(Sgd(0.9, true, 1e-2), 0.1).weights, "sgd_nesterov.final");
  v1::OptimizerSpec rmsprop;
  rmsprop.mutable_rmsprop()->set_alpha(0.9);
  rmsprop.mutable_rmsprop()->set_epsilon(1e-7);
  rmsprop.mutable_rmsprop()->set_weight_decay(1e-2);  // lambda; torch's weight_decay is 2 lambda.
  ExpectGolden(TwentySteps(rmsprop, 1e-3).weights, "rmsprop.final");
  v1::OptimizerSpec adamw;
  adamw.mutable_adamw()->set_beta1(0.9);
  adamw.mutable_adamw()->set_beta2(0.99);
  adamw.mutable_adamw()->set_epsilon(1e-8);
  adamw.mutable_adamw()->set_weight_decay(0.05);
  ExpectGolden(TwentySteps(adamw, 1e-2).weights, "adamw.final");
}

TEST_F(OptimizerParityTest, ClippingAndMovingAverage_ArePyTorchs) {
  ExpectGolden(TwentySteps(Sgd(0.9, false, 0), 0.1, 0.2).weights, "sgd_clipped.final");
  const Run averaged = TwentySteps(Sgd(0.9, false, 0), 0.1, 0, 0.8);
  ExpectGolden(averaged.weights, "sgd_average.final");
  ExpectGolden(averaged.average, "sgd_average.average");
}

TEST_F(OptimizerParityTest, OtherWeightDecay_IsForWhatIsNotDecayed) {
  v1::OptimizerSpec spec = Sgd(0, false, 0.5);
  spec.mutable_sgd()->set_other_weight_decay(0.25);
  const float gradient = 0;
  float decayed = 1, other = 1;
  OptimizerStep(spec, 0.1, 0, true, &gradient, 1, &decayed, {});
  OptimizerStep(spec, 0.1, 0, false, &gradient, 1, &other, {});
  EXPECT_FLOAT_EQ(decayed, 0.95f);
  EXPECT_FLOAT_EQ(other, 0.975f);
}

TEST_F(OptimizerParityTest, Schedules_ArePyTorchs) {
  auto rates = [](const v1::ScheduleSpec& spec) {
    std::vector<float> rates;
    for (uint64_t step = 0; step < 60; ++step) {
      rates.push_back(static_cast<float>(0.1 * ScheduleFactor(spec, step, 5)));
    }
    return rates;
  };
  v1::ScheduleSpec spec;
  spec.mutable_step()->set_every(4);
  spec.mutable_step()->set_factor(0.3);
  ExpectGolden(rates(spec), "rates.step");
  spec.mutable_cosine()->set_epochs(12);
  spec.mutable_cosine()->set_final(0.1);
  ExpectGolden(rates(spec), "rates.cosine");
  spec.set_warmup_epochs(2);
  spec.mutable_cosine()->set_final(0);
  ExpectGolden(rates(spec), "rates.warmup_cosine");
  // Past its end the fall stays where it is.
  EXPECT_NEAR(ScheduleFactor(spec, 600, 5), 0, 1e-12);
  spec.mutable_constant();
  EXPECT_DOUBLE_EQ(ScheduleFactor(spec, 4, 5), 0.5);
  EXPECT_DOUBLE_EQ(ScheduleFactor(spec, 10, 5), 1);
}

TEST_F(OptimizerParityTest, Losses_ArePyTorchs) {
  const std::vector<float> logits = Formula(400, 18, 2.0);
  const std::vector<uint32_t> labels = {0, 1, 2, 2, 1, 1};
  const std::vector<double> weights = {0.5, 1, 3};
  for (const auto& [name, loss] :
       std::vector<std::pair<std::string, Loss>>{{"plain", {}},
                                                 {"smoothed", {0.1, {}}},
                                                 {"weighted", {0, weights}},
                                                 {"both", {0.2, weights}}}) {
    double mass = 0;
    for (uint32_t y : labels) mass += loss.weight(y);
    std::vector<float> gradient(18);
    const PassResult result =
        SoftmaxLoss(loss, logits.data(), labels, 3, static_cast<float>(1 / mass), gradient.data());
    ExpectGolden({static_cast<float>(result.loss / mass)}, "loss." + name);
    ExpectGolden(gradient, absl::StrCat("loss.", name, ".gradient"));
  }
}

}  // namespace
}  // namespace dermis
