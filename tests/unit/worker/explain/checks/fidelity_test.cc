#include "worker/explain/checks/fidelity.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/checks.h"
#include "common/lesion_tasks.h"
#include "common/metrics.h"
#include "common/model_methods.h"
#include "common/spec_yaml.h"
#include "tests/unit/worker/explain/test_data.h"
#include "worker/explain/checks/priors.h"
#include "worker/explain/masked_model.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

constexpr uint32_t kSize = 32;
constexpr int kDisplay = 64;

// side x side squares.
Segmentation Squares(int side) {
  Segmentation segmentation{kDisplay, kDisplay, static_cast<uint32_t>(side * side), {}};
  for (int y = 0; y < kDisplay; ++y) {
    for (int x = 0; x < kDisplay; ++x) {
      segmentation.labels.push_back(
          static_cast<uint32_t>(y * side / kDisplay * side + x * side / kDisplay));
    }
  }
  return segmentation;
}

double LinearWeight(size_t i) {
  return std::sin(static_cast<double>(i / 3 % 17) + static_cast<double>(i) / 900) / 50;
}

// A linear model: each input counts with a weight of its own, plus an offset.
FunctionPlan Linear(double offset) {
  return FunctionPlan(kSize, [offset](const std::vector<float>& input) {
    double margin = offset;
    for (size_t i = 0; i < input.size(); ++i) {
      margin += input[i] * LinearWeight(i);
    }
    return std::pair(-margin / 2, margin / 2);
  });
}

class FidelityTest : public testing::Test {
 protected:
  FidelityTest() {
    common_ = *ToProto(Squares(4));
    task_.set_image(0);
    task_.set_output(v1::OUTPUT_KIND_MARGIN);
    task_.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
    task_.set_blur(0.1);
    task_.set_halves(16);
    task_.set_seed(2);
  }

  // f without single superpixels, from f(x): what a linear model's exact attribution is.
  std::vector<double> Exact(FunctionPlan& plan, const Segmentation& segmentation,
                            v1::HiddenValue hidden) {
    const MaskedImage masked =
        *MaskedImageOf(v1::ImageSource(), 0, hidden, v1::Hiding(), segmentation, data_, plan);
    std::vector<Mask> masks = {Mask(segmentation.count, 1)};
    for (uint32_t k = 0; k < segmentation.count; ++k) {
      masks.push_back(masks[0]);
      masks.back()[k] = 0;
    }
    std::vector<float> logits(2 * masks.size());
    EXPECT_TRUE(RunMasks(masks, masked, plan, logits.data()).ok());
    std::vector<double> values;
    for (uint32_t k = 1; k < masks.size(); ++k) {
      values.push_back((logits[1] - logits[0]) - (logits[2 * k + 1] - logits[2 * k]));
    }
    return values;
  }

  v1::FidelityOutput Judge(const v1::Payload* attribution, const v1::SuperpixelOutput* own,
                           FunctionPlan& plan) {
    FidelityInputs inputs{&common_, attribution, own};
    const auto output = RunFidelity(task_, inputs, data_, plan, &evaluations_);
    EXPECT_TRUE(output.ok()) << output.status();
    return output.ok() ? *output : v1::FidelityOutput();
  }

  // The judgement of a fit on the common superpixels.
  v1::Fidelity JudgeFit(const std::vector<double>& values, FunctionPlan& plan) {
    task_.mutable_attribution()->mutable_fit()->mutable_perturbation()->set_hidden(task_.hidden());
    v1::Payload payload;
    payload.mutable_fit()->mutable_values()->Assign(values.begin(), values.end());
    return Judge(&payload, &common_, plan).maps(0);
  }

  static double Sum(const google::protobuf::RepeatedField<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0);
  }

  ImageData data_ = TestImageData(1, kDisplay, kDisplay, kSize);
  v1::SuperpixelOutput common_;
  v1::FidelityTask task_;
  uint64_t evaluations_ = 0;
};

TEST(OrderOf, FollowsTheSign_TiesToTheLowerIndex) {
  EXPECT_EQ(OrderOf({1.0, 3.0, 3.0, -2.0}, 1), (std::vector<uint32_t>{1, 2, 0, 3}));
  EXPECT_EQ(OrderOf({1.0, 3.0, 3.0, -2.0}, -1), (std::vector<uint32_t>{3, 0, 1, 2}));
}

TEST(CurveMasks, TakeOneSuperpixelAStep) {
  EXPECT_EQ(DeletionMasks({2, 0, 1}),
            (std::vector<Mask>{{1, 1, 1}, {1, 1, 0}, {0, 1, 0}, {0, 0, 0}}));
  EXPECT_EQ(InsertionMasks({2, 0, 1}),
            (std::vector<Mask>{{0, 0, 0}, {0, 0, 1}, {1, 0, 1}, {1, 1, 1}}));
}

TEST_F(FidelityTest, OfALinearModelsExactAttribution_IsPerfect) {
  FunctionPlan plan = Linear(20);
  const std::vector<double> values = Exact(plan, Squares(4), v1::HIDDEN_VALUE_TRAINING_MEAN);
  const v1::Fidelity map = JudgeFit(values, plan);
  // Each step of deletion takes away what the map says, the most first.
  std::vector<double> sorted = values;
  std::sort(sorted.rbegin(), sorted.rend());
  ASSERT_EQ(map.deletion().margin_size(), 17);
  double expected = map.deletion().margin(0);
  ASSERT_GT(expected, 0);
  for (int k = 0; k < 16; ++k) {
    expected -= sorted[static_cast<size_t>(k)];
    EXPECT_NEAR(map.deletion().margin(k + 1), expected,
                1e-3);  // Logits of about 20 in float, 17 of them.
  }
  EXPECT_EQ(map.infidelity_kind(), v1::INFIDELITY_KIND_HALVES);
  ASSERT_TRUE(map.has_infidelity());
  EXPECT_LT(map.infidelity(), 1e-6);
  EXPECT_EQ(evaluations_, 1u + 17 + 17 + 16 + 1);
}

TEST_F(FidelityTest, AllShown_IsTheEvaluatedImage_InBothCurves) {
  FunctionPlan plan = Linear(20);
  const v1::Fidelity map = JudgeFit(std::vector<double>(16, 1.0), plan);
  EXPECT_EQ(map.insertion().margin(16), map.deletion().margin(0));
  EXPECT_NE(map.insertion().margin(0), map.deletion().margin(16));  // Blurred, not hidden.
  for (int k = 0; k <= 16; ++k) {
    EXPECT_NEAR(map.deletion().probability(k), 1 / (1 + std::exp(-map.deletion().margin(k))), 1e-6);
  }
}

TEST_F(FidelityTest, TowardsTheNegativeClass_WhereThatIsPredicted) {
  FunctionPlan plan = Linear(-20);
  const std::vector<double> values = Exact(plan, Squares(4), v1::HIDDEN_VALUE_TRAINING_MEAN);
  const v1::Fidelity map = JudgeFit(values, plan);
  EXPECT_GT(map.deletion().margin(0), 0);  // Of the predicted class.
  // What speaks most for the negative class goes first.
  EXPECT_NEAR(map.deletion().margin(0) - map.deletion().margin(1),
              -*std::min_element(values.begin(), values.end()), 1e-3);
  EXPECT_NEAR(map.values(3), values[3], 0);  // Still towards the positive class.
}

TEST_F(FidelityTest, OfAnOppositeMap_IsWorse) {
  FunctionPlan plan = Linear(20);
  std::vector<double> values = Exact(plan, Squares(4), v1::HIDDEN_VALUE_TRAINING_MEAN);
  const v1::Fidelity right = JudgeFit(values, plan);
  for (double& value : values) value = -value;
  const v1::Fidelity wrong = JudgeFit(values, plan);
  EXPECT_LT(Sum(right.deletion().margin()), Sum(wrong.deletion().margin()));
  EXPECT_GT(wrong.infidelity(), 1);
}

TEST_F(FidelityTest, AMapWithoutUnits_IsJudgedAfterItsBestMultiple) {
  FunctionPlan plan = Linear(20);
  const std::vector<double> values = Exact(plan, Squares(4), v1::HIDDEN_VALUE_TRAINING_MEAN);
  // As a map of the picture's size: a third of the value, spread over the square's 16 x 16 pixels.
  v1::Payload payload;
  v1::LayerMaps& layer = *payload.mutable_activations()->add_layers();
  layer.set_layer("conv1");
  layer.set_height(kDisplay);
  layer.set_width(kDisplay);
  for (const uint32_t label : Squares(4).labels) {
    layer.add_grad_cam(static_cast<float>(values[label] / 256 / 3));
  }
  const v1::Fidelity map = Judge(&payload, nullptr, plan).maps(0);
  EXPECT_EQ(map.map(), "conv1");
  EXPECT_EQ(map.infidelity_kind(), v1::INFIDELITY_KIND_FITTED);
  EXPECT_NEAR(map.scale(), 3, 1e-3);
  EXPECT_LT(map.infidelity(), 1e-6);
}

TEST_F(FidelityTest, TheGradientOfALinearModel_IsPerfect_AsPublished) {
  FunctionPlan plan = Linear(20);
  v1::Payload payload;
  v1::PixelAttribution& gradient = *payload.mutable_gradient();
  gradient.set_height(kSize);
  gradient.set_width(kSize);
  gradient.set_channels(3);
  // df / d pixel from 0 to 1; inputs are (255 pixel - mean) / deviation.
  for (size_t i = 0; i < kSize * kSize * 3; ++i) {
    gradient.add_values(static_cast<float>(LinearWeight(i) * 255 / (data_.deviation + 1e-7)));
  }
  const v1::Fidelity right = Judge(&payload, nullptr, plan).maps(0);
  EXPECT_EQ(right.infidelity_kind(), v1::INFIDELITY_KIND_GRADIENT);
  EXPECT_LT(right.infidelity(), 1e-6);
  EXPECT_EQ(evaluations_, 1u + 17 + 17 + 16 + 1);
  // Without the map the squared error is that of the output's change: uniform noise of variance
  // .1^2 / 3 an input.
  double variance = 0;
  for (float& value : *gradient.mutable_values()) {
    variance += value * value * 0.01 / 3;
    value = 0;
  }
  const double none = Judge(&payload, nullptr, plan).maps(0).infidelity();
  // 16 squares of normal numbers: their mean is within a factor of 2.5 with p > .999.
  EXPECT_GT(none, variance / 2.5);
  EXPECT_LT(none, variance * 2.5);
}

TEST_F(FidelityTest, AFitOnOtherSuperpixels_IsOrderedOnTheCommonOnes_ButJudgedOnItsOwn) {
  FunctionPlan plan = Linear(20);
  const std::vector<double> values = Exact(plan, Squares(8), v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
  const v1::SuperpixelOutput own = *ToProto(Squares(8));
  task_.mutable_attribution()->mutable_fit()->mutable_perturbation()->set_hidden(
      v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
  v1::Payload payload;
  payload.mutable_fit()->mutable_values()->Assign(values.begin(), values.end());
  const v1::Fidelity map = Judge(&payload, &own, plan).maps(0);
  ASSERT_EQ(map.values_size(), 16);
  EXPECT_NEAR(map.values(0), values[0] + values[1] + values[8] + values[9], 1e-9);
  EXPECT_LT(map.infidelity(), 1e-6);
}

// What RISE comes to with all masks: value k is the mean of f over the masks that show k.
TEST_F(FidelityTest, RiseOfALinearModel_IsPerfect_AfterItsBestScaleAndOffset) {
  FunctionPlan plan = Linear(20);
  constexpr double kShown = 0.25;  // RISE's probability.
  const std::vector<double> shares = Exact(plan, Squares(8), v1::HIDDEN_VALUE_TRAINING_MEAN);
  const double hidden = 3, all = std::accumulate(shares.begin(), shares.end(), 0.0);
  std::vector<double> values;
  for (const double share : shares) values.push_back(hidden + kShown * (all - share) + share);
  v1::Payload payload;
  payload.mutable_fit()->mutable_values()->Assign(values.begin(), values.end());
  const v1::SuperpixelOutput own = *ToProto(Squares(8));
  v1::Perturbation& perturbation =
      *task_.mutable_attribution()->mutable_fit()->mutable_perturbation();
  perturbation.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  perturbation.mutable_rise()->set_probability(kShown);
  const v1::Fidelity map = Judge(&payload, &own, plan).maps(0);
  EXPECT_EQ(map.infidelity_kind(), v1::INFIDELITY_KIND_FITTED);
  EXPECT_LT(map.infidelity(), 1e-6);
  EXPECT_NEAR(map.scale(), 1 / (1 - kShown), 1e-3);
  // A mean of f stays one on larger superpixels.
  EXPECT_NEAR(map.values(0), (values[0] + values[1] + values[8] + values[9]) / 4, 1e-9);
  // As shares of f the same numbers say nothing: the constant in them counts 32 times.
  perturbation.mutable_lime()->set_samples(100);
  EXPECT_GT(Judge(&payload, &own, plan).maps(0).infidelity(), 1);
}

TEST_F(FidelityTest, Priors_AreOrderedWithoutTheModel_AndTheRandomOneIsAMean) {
  FunctionPlan plan = Linear(20);
  task_.mutable_priors()->set_random_orders(3);
  const v1::FidelityOutput output = Judge(nullptr, nullptr, plan);
  ASSERT_EQ(output.maps_size(), 3);
  EXPECT_EQ(output.maps(0).map(), "random");
  EXPECT_EQ(output.maps(2).map(), "edges");
  const std::vector<double> values = Exact(plan, Squares(4), v1::HIDDEN_VALUE_TRAINING_MEAN);
  const double full = output.maps(0).deletion().margin(0);
  double first = 0;
  for (uint32_t draw = 0; draw < 3; ++draw) first += values[RandomOrder(2, 0, draw, 16)[0]] / 3;
  EXPECT_NEAR(output.maps(0).deletion().margin(1), full - first, 1e-3);
  // No order is better than that of the exact attribution.
  task_.clear_priors();
  const double best = Sum(JudgeFit(values, plan).deletion().margin());
  for (const v1::Fidelity& prior : output.maps()) {
    EXPECT_GT(Sum(prior.deletion().margin()), best) << prior.map();
    EXPECT_FALSE(prior.has_infidelity());
  }
}

TEST_F(FidelityTest, OutputsThatAreNotFinite_AreAnError) {
  FunctionPlan plan(kSize, [](const std::vector<float>&) { return std::pair(0.0, std::nan("")); });
  task_.mutable_priors()->set_random_orders(1);
  FidelityInputs inputs{&common_, nullptr, nullptr};
  EXPECT_EQ(RunFidelity(task_, inputs, data_, plan, &evaluations_).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// Noise belongs to the image: what is hidden shows none of it.
TEST(NoisyComposer, HidesTheNoiseWithTheSuperpixel) {
  const ImageData data = TestImageData(1, kDisplay, kDisplay, kSize);
  const Segmentation segmentation = Squares(4);
  v1::ImageSource noisy;
  noisy.mutable_noise()->set_radius(0.1);
  const FunctionPlan plan(kSize, nullptr);
  const auto compose = [&](const v1::ImageSource& source, const Mask& mask) {
    std::vector<float> input(kSize * kSize * 3);
    MaskedImageOf(source, 0, v1::HIDDEN_VALUE_TRAINING_MEAN, v1::Hiding(), segmentation, data, plan)
        ->composers[0]
        .Compose(mask, input.data());
    return input;
  };
  const Mask all(16, 1), none(16, 0);
  EXPECT_NE(compose(noisy, all), compose(v1::ImageSource(), all));
  const std::vector<float> hidden = compose(noisy, none), clean = compose(v1::ImageSource(), none);
  for (size_t i = 0; i < hidden.size(); ++i) EXPECT_NEAR(hidden[i], clean[i], 1e-5);
}

// A made-up result of the method on 16 superpixels or 32 x 32 pixels.
v1::Payload ResultOf(const v1::MethodSpec& method) {
  v1::Payload payload;
  if (IsPixelMethod(method)) {
    v1::PixelAttribution& pixels = *payload.mutable_gradient();
    pixels.set_height(kSize);
    pixels.set_width(kSize);
    pixels.set_channels(3);
    pixels.mutable_values()->Resize(3 * kSize * kSize, 0.5f);
    if (!method.has_smooth_grad()) pixels.set_reference(1);
  } else if (method.has_lime() || method.has_shapley()) {
    for (int k = 0; k < 16; ++k) payload.mutable_fit()->add_values(k);
  } else {
    for (uint64_t k = 0; k < MapsOf(method, v1::MODEL_KIND_SEED_CNN); ++k) {
      v1::LayerMaps& layer = *payload.mutable_activations()->add_layers();
      layer.set_height(1);
      layer.set_width(1);
      layer.add_cam(1);
      if (!IsLinearCam(CamKindOf(method))) layer.add_cam(0.5);
    }
  }
  return payload;
}

// The other half of what `dermis run --preview` says of checks, its tasks, is preview_test's.
TEST_F(FidelityTest, AsManyInputsAreRun_AsThePreviewPrices_ByEveryKindOfMethod) {
  data_ = TestImageData(5, kDisplay, kDisplay, kSize);
  for (uint32_t i = 0; i < 5; ++i) {
    data_.labels.push_back(i % 2);
    if (i > 0) data_.split.training.push_back(i);
  }
  FunctionPlan plan = Linear(1);
  for (const char* hidden : {"training_mean", "background"}) {
    for (const char* method :
         {"lime: {superpixels: {grid: {rows: 4, columns: 4}}}",
          "shapley: {superpixels: {grid: {rows: 4, columns: 4}}, hidden: background}",
          "deep_shap: {}", "smooth_grad: {}", "grad_cam: {}", "hires_cam: {}",
          "grad_cam_plus_plus: {}"}) {
      const auto parsed = ParseStudyYaml(
          absl::StrCat(
              "name: a\nimages: {set: s}\nexplanation:\n  hiding: {background_per_class: "
              "2}\n  methods: [",
              method, "]\n  checks: {hidden: ", hidden,
              ", halves: 5, random_orders: 3, superpixels: {grid: {rows: 4, columns: 4}}}\n"),
          "a.yaml");
      ASSERT_TRUE(parsed.ok()) << parsed.status();
      const auto spec = ResolveSpec(*parsed);
      ASSERT_TRUE(spec.ok()) << spec.status();
      const v1::ExplanationSpec& explanation = spec->explanation();
      const v1::MethodSpec& resolved = explanation.methods(0);
      task_.set_hidden(explanation.checks().hidden());
      task_.clear_hiding();
      if (auto hiding = HidingOf(explanation, task_.hidden(), 2)) {
        *task_.mutable_hiding() = *std::move(hiding);
      }
      task_.set_halves(explanation.checks().halves());
      task_.mutable_priors()->set_random_orders(explanation.checks().random_orders());
      Judge(nullptr, nullptr, plan);
      const uint64_t priors = evaluations_;
      v1::Perturbation& own = *task_.mutable_attribution()->mutable_fit()->mutable_perturbation();
      own.set_hidden(resolved.has_shapley() ? resolved.shapley().hidden()
                                            : resolved.lime().hidden());
      own.clear_hiding();
      if (auto hiding = HidingOf(explanation, own.hidden(), 2)) {
        *own.mutable_hiding() = *std::move(hiding);
      }
      const v1::Payload result = ResultOf(resolved);
      Judge(&result, result.has_fit() ? &common_ : nullptr, plan);
      EXPECT_EQ(priors + evaluations_,
                PricesOfChecks(explanation, v1::MODEL_KIND_SEED_CNN, 2).fidelity.inputs)
          << method << ", checks hide by " << hidden;
    }
  }
}

}  // namespace
}  // namespace dermis
