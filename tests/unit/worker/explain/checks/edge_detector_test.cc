// Adebayo's randomisation from one end to the other: maps of images under trained, noisy and
// randomised weights, compared by the worker, judged by the report. A method that looks at the
// image alone is flagged, one that looks at the weights is not.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/philox.h"
#include "tests/unit/worker/explain/test_data.h"
#include "tools/report/check_summary.h"
#include "tools/report/checks.h"
#include "worker/data/noise.h"
#include "worker/explain/checks/priors.h"
#include "worker/explain/checks/stability.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint32_t kSize = 32, kCells = 8, kImages = 6;

// A layer of one weight a pixel, for each of the two layers.
using Weights = std::vector<std::vector<float>>;
// An attribution method: the map of an image (kSize x kSize x 3) under a model's weights.
using Method = std::function<std::vector<float>(const std::vector<float>& pixels, const Weights&)>;

std::vector<float> Layer(uint64_t draw) {
  std::vector<float> weights;
  for (uint32_t p = 0; p < kSize * kSize; ++p) {
    // One number for each superpixel, or they would cancel in its sum.
    const uint32_t cell = p / kSize / (kSize / kCells) * kCells + p % kSize / (kSize / kCells);
    weights.push_back(ToUnitFloat(PhiloxBlock(draw, Purpose::kTest, 1, 0, cell)[0]) - 0.5f);
  }
  return weights;
}

std::vector<float> Edges(const std::vector<float>& pixels, const Weights&) {
  return EdgeMagnitude(pixels, kSize);
}

// Gradient x input of a linear model whose weights are the product of both layers.
std::vector<float> GradientTimesInput(const std::vector<float>& pixels, const Weights& weights) {
  std::vector<float> map;
  for (size_t p = 0; p < weights[0].size(); ++p) {
    map.push_back(weights[0][p] * weights[1][p] * (pixels[3 * p] + pixels[3 * p + 1] + pixels[3 * p + 2]));
  }
  return map;
}

std::shared_ptr<const v1::Payload> Superpixels() {
  Segmentation grid{kSize, kSize, kCells * kCells, {}};
  for (uint32_t p = 0; p < kSize * kSize; ++p) {
    grid.labels.push_back(p / kSize / (kSize / kCells) * kCells + p % kSize / (kSize / kCells));
  }
  auto payload = std::make_shared<v1::Payload>();
  *payload->mutable_superpixels() = *ToProto(grid);
  return payload;
}

// What the stability task of an image makes of the method's results.
v1::StabilityOutput Judged(const Method& method, uint32_t image, const ImageData& data) {
  v1::StabilityTask task;
  task.set_image(image);
  task.set_seed(1);
  task.set_noise_draws(3);
  task.set_noise_radius(0.02);
  task.add_layers("dense");
  task.add_layers("conv1");
  task.mutable_attribution()->mutable_activations();
  std::vector<std::shared_ptr<const v1::Payload>> results = {Superpixels()};
  const auto add = [&](v1::ImageSource source, const Weights& weights) {
    const auto pixels = EvaluatedPixels(data, source, image);
    ASSERT_TRUE(pixels.ok()) << pixels.status();
    const std::vector<float> map = method(*pixels, weights);
    auto payload = std::make_shared<v1::Payload>();
    v1::LayerMaps& layer = *payload->mutable_activations()->add_layers();
    layer.set_layer("conv1");
    layer.set_height(kSize);
    layer.set_width(kSize);
    layer.mutable_grad_cam()->Assign(map.begin(), map.end());
    results.push_back(std::move(payload));
  };
  const Weights trained = {Layer(1), Layer(2)}, random = {Layer(3), Layer(4)};
  add({}, trained);
  for (uint32_t draw = 0; draw < task.noise_draws(); ++draw) {
    v1::ImageSource noisy;
    noisy.mutable_noise()->set_radius(task.noise_radius());
    noisy.mutable_noise()->set_draw(draw);
    noisy.mutable_noise()->set_seed(task.seed());
    add(noisy, trained);
  }
  add({}, {trained[0], random[1]});  // From the output on.
  add({}, random);
  add({}, {trained[0], random[1]});  // Each alone.
  add({}, {random[0], trained[1]});
  const auto output = RunStability(task, results, data);
  EXPECT_TRUE(output.ok()) << output.status();
  return output.value_or(v1::StabilityOutput());
}

TEST(EdgeDetector, IsFlagged_AndAMethodThatDependsOnTheWeightsIsNot) {
  v1::StudyResults results;
  v1::ExplanationSpec& explanation = *results.mutable_spec()->mutable_explanation();
  explanation.add_methods()->mutable_grad_cam();
  explanation.add_methods()->mutable_hires_cam();
  const std::vector<Method> methods = {Edges, GradientTimesInput};
  const ImageData data = TestImageData(kImages, kSize, kSize, kSize);
  std::vector<v1::Payload> payloads;
  for (uint32_t image = 0; image < kImages; ++image) {
    v1::ExplainedImage& explained = *results.add_explained();
    explained.set_image(image);
    for (int m = 0; m < 2; ++m) {
      v1::CheckResult& check = *explained.add_checks();
      *check.mutable_method() = explanation.methods(m);
      check.mutable_result()->set_task(std::to_string(payloads.size()));
      *payloads.emplace_back().mutable_stability() = Judged(methods[static_cast<size_t>(m)], image, data);
    }
  }
  ReportInputs inputs;
  inputs.fetch_payload = [&](const v1::TaskResult& result) -> absl::StatusOr<v1::Payload> {
    return payloads[std::stoul(result.task())];
  };
  const auto summary = SummariseChecks(results, inputs);
  ASSERT_TRUE(summary.ok()) << summary.status();
  ASSERT_EQ(summary->maps.size(), 2u);
  EXPECT_EQ(summary->maps[0].verdict, Verdict::kFlagged);
  EXPECT_EQ(summary->maps[1].verdict, Verdict::kPassed);
  EXPECT_EQ(summary->stability_images, kImages);
  // Noise moves both, or nothing would be measured against it.
  for (const CheckedMap& map : summary->maps) EXPECT_LT(map.bar_rank.median, 1) << map.title;
  EXPECT_THAT(CheckFlags(*summary),
              ElementsAre(AllOf(HasSubstr("Grad-CAM conv1 does not depend on what the network learned"),
                                HasSubstr("under imperceptible noise"))));
}

}  // namespace
}  // namespace dermis
