#include "worker/explain/checks/stability.h"

#include <memory>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/checks.h"
#include "tests/unit/worker/explain/test_data.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

using Result = std::shared_ptr<const v1::Payload>;

// Four columns of an 8 x 8 picture.
Result Superpixels() {
  Segmentation segmentation{8, 8, 4, {}};
  for (int p = 0; p < 64; ++p) segmentation.labels.push_back(static_cast<uint32_t>(p % 8 / 2));
  auto payload = std::make_shared<v1::Payload>();
  *payload->mutable_superpixels() = *ToProto(segmentation);
  return payload;
}

Result Fit(const std::vector<double>& values) {
  auto payload = std::make_shared<v1::Payload>();
  payload->mutable_fit()->set_count(static_cast<uint32_t>(values.size()));
  payload->mutable_fit()->mutable_values()->Assign(values.begin(), values.end());
  return payload;
}

v1::StabilityTask Task() {
  v1::StabilityTask task;
  task.set_noise_draws(2);
  task.set_noise_radius(0.02);
  task.set_seeds(2);
  task.add_layers("dense");
  task.add_layers("conv1");
  task.set_second_hidden(v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
  task.set_seed(1);
  return task;
}

TEST(Stability, EachVariantIsComparedInItsPlace) {
  v1::StabilityTask task = Task();
  task.mutable_attribution()->mutable_fit();
  // Rank correlations with the first by hand: 1 - 6 sum d^2 / 60.
  const std::vector<Result> results = {
      Superpixels(),         Fit({1, 2, 3, 4}),
      Fit({1, 2, 3, 5}),     Fit({2, 1, 3, 4}),  // Noise: 1, .8.
      Fit({1, 3, 2, 4}),     Fit({4, 3, 2, 1}),  // Seeds: .8, -1; of each other: -.8.
      Fit({2, 3, 4, 1}),     Fit({0, 0, 0, 0}),  // Cascade: -.2, not defined.
      Fit({2, 3, 4, 1}),     Fit({1, 4, 3, 2}),  // Each alone: -.2, .2.
      Fit({-4, -3, -2, -1}),                     // Hidden otherwise: 1, of absolute values -1.
  };
  const auto output = RunStability(task, results, TestImageData(1, 8, 8, 8));
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->maps_size(), 1);
  const v1::Stability& map = output->maps(0);
  ASSERT_EQ(map.noise_size(), 2);
  EXPECT_DOUBLE_EQ(map.noise(0).rank(), 1);
  EXPECT_DOUBLE_EQ(map.noise(1).rank(), 0.8);
  // |(0, 0, 0, 1)| and |(1, -1, 0, 0)| over |(1, 2, 3, 4)|.
  EXPECT_DOUBLE_EQ(map.max_sensitivity(), std::sqrt(2.0 / 30));
  ASSERT_EQ(map.seeds_size(), 3);
  EXPECT_DOUBLE_EQ(map.seeds(0).rank(), 0.8);
  EXPECT_DOUBLE_EQ(map.seeds(1).rank(), -1);
  EXPECT_DOUBLE_EQ(map.seeds(2).rank(), -0.8);
  ASSERT_EQ(map.cascading_size(), 2);
  EXPECT_DOUBLE_EQ(map.cascading(0).rank(), -0.2);
  EXPECT_FALSE(map.cascading(1).has_rank());
  ASSERT_EQ(map.independent_size(), 2);
  EXPECT_DOUBLE_EQ(map.independent(1).rank(), 0.2);
  EXPECT_DOUBLE_EQ(map.second_hidden().rank(), 1);
  EXPECT_DOUBLE_EQ(map.second_hidden().absolute_rank(), -1);
}

TEST(Stability, AnEdgeDetector_IsTheSameForAnyWeights_ButNotForANoisyImage) {
  v1::StabilityTask task = Task();
  task.mutable_priors()->set_random_orders(1);
  task.set_noise_radius(0.2);
  const auto output = RunStability(task, {Superpixels()}, TestImageData(1, 8, 8, 8));
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->maps_size(), 3);
  const v1::Stability& edges = output->maps(2);
  EXPECT_EQ(edges.map(), "edges");
  for (const auto* list : {&edges.cascading(), &edges.independent()}) {
    ASSERT_EQ(list->size(), 2);
    for (const v1::Similarity& similarity : *list) EXPECT_EQ(similarity.rank(), 1);
  }
  EXPECT_GT(edges.max_sensitivity(), 0);
  EXPECT_EQ(edges.seeds_size(), 0);
  // The centre is where it was.
  EXPECT_EQ(output->maps(1).max_sensitivity(), 0);
}

TEST(Stability, ResultsThatDoNotFit_AreAnError) {
  v1::StabilityTask task = Task();
  task.mutable_attribution()->mutable_fit();
  const ImageData data = TestImageData(1, 8, 8, 8);
  EXPECT_EQ(RunStability(task, {Superpixels(), Fit({1, 2, 3, 4})}, data).status().code(),
            absl::StatusCode::kInvalidArgument);
  std::vector<Result> results(11, Fit({1, 2, 3}));
  results[0] = Superpixels();
  EXPECT_EQ(RunStability(task, results, data).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace dermis
