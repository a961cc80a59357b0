#include "worker/models/deep_lift.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <torch/types.h>

#include "common/philox.h"
#include "worker/models/model.h"
#include "worker/models/network.h"
#include "worker/models/ops.h"

namespace dermis {
namespace {

using testing::HasSubstr;

// U(-2, 2).
torch::Tensor Draw(uint64_t seed, std::vector<int64_t> shape) {
  torch::Tensor t = torch::empty(shape);
  for (int64_t i = 0; i < t.numel(); ++i) {
    t.data_ptr<float>()[i] =
        4 * ToUnitFloat(PhiloxBlock(seed, Purpose::kTest, 0, 0, static_cast<uint32_t>(i))[0]) - 2;
  }
  return t;
}

Model RandomModel(v1::ModelKind kind, uint32_t size, v1::Stem stem = v1::STEM_UNSPECIFIED) {
  Model model;
  model.layout = *LayoutOf(kind, size, 2, stem);
  model.pixel_mean = 120;
  model.pixel_deviation = 50;
  InitializeModel(3, model);
  return model;
}

// |f(x) - f(r) - sum m (x - r)| over the larger of the change and a hundredth of sum |m (x - r)|:
// the largest of all references.
double Residual(const DeepLift::Network& network, const torch::Tensor& x, const torch::Tensor& r) {
  auto lift = DeepLift::Make(network, r);
  EXPECT_TRUE(lift.ok()) << lift.status();
  if (!lift.ok()) return INFINITY;
  const torch::Tensor of_x = (*lift)->Explain(x), of_r = (*lift)->reference_logits();
  const torch::Tensor last = torch::zeros_like(of_r);
  last.select(1, last.size(1) - 1).fill_(1);
  const torch::Tensor phi =
      ((*lift)->Multipliers(last).to(torch::kDouble) * (x - r).to(torch::kDouble)).flatten(1);
  double largest = 0;
  for (int64_t n = 0; n < r.size(0); ++n) {
    const double change =
        of_x[0][-1].item<double>() - static_cast<double>(of_r[n][-1].item<double>());
    const double scale = std::max(std::abs(change), 0.01 * phi[n].abs().sum().item<double>());
    largest = std::max(largest, std::abs(change - phi[n].sum().item<double>()) / scale);
  }
  return largest;
}

DeepLift::Network NetworkOf(const Model& model) {
  return [&model](const torch::Tensor& input) { return GraphOf(model, input).logits; };
}

TEST(DeepLiftTest, AddsUp_ForEveryNetworkAndReference) {
  const Model seed = RandomModel(v1::MODEL_KIND_SEED_CNN, 16);
  EXPECT_LE(Residual(NetworkOf(seed), Draw(1, {1, 3, 16, 16}), Draw(2, {5, 3, 16, 16})), 1e-5);
  const Model small = RandomModel(v1::MODEL_KIND_RESNET18, 16, v1::STEM_SMALL);
  EXPECT_LE(Residual(NetworkOf(small), Draw(1, {1, 3, 16, 16}), Draw(2, {3, 3, 16, 16})), 1e-4);
  // The stem's pool overlaps.
  const Model imagenet = RandomModel(v1::MODEL_KIND_RESNET50, 64, v1::STEM_IMAGENET);
  EXPECT_LE(Residual(NetworkOf(imagenet), Draw(1, {1, 3, 64, 64}), Draw(2, {2, 3, 64, 64})), 1e-4);
}

TEST(DeepLiftTest, OfALinearNetwork_IsItsWeight) {
  const torch::Tensor weight = Draw(7, {2, 3 * 8 * 8});
  const auto network = [&](const torch::Tensor& x) {
    return torch::linear(x.contiguous().flatten(1), weight, torch::ones({2}));
  };
  auto lift = DeepLift::Make(network, Draw(2, {3, 3, 8, 8}));
  ASSERT_TRUE(lift.ok()) << lift.status();
  (*lift)->Explain(Draw(1, {1, 3, 8, 8}));
  const torch::Tensor last = torch::tensor({0.0f, 1.0f}).expand({3, 2}).contiguous();
  const torch::Tensor m = (*lift)->Multipliers(last).contiguous();
  for (int64_t n = 0; n < 3; ++n) EXPECT_TRUE(torch::equal(m[n].flatten(), weight[1]));
}

// State is kept by call, not by module.
TEST(DeepLiftTest, AddsUp_WhereAnOperationIsUsedTwice) {
  const torch::Tensor kernel = Draw(8, {3, 3, 3, 3}) * 0.3, weight = Draw(9, {2, 3});
  const auto network = [&](const torch::Tensor& x) {
    torch::Tensor y = x;
    for (int twice = 0; twice < 2; ++twice) {
      y = y + Activate(Activation::kRelu, torch::conv2d(y, kernel, {}, 1, 1));
    }
    return torch::linear(MaxPool({3, 2, 1}, y).mean({2, 3}), weight);
  };
  EXPECT_LE(Residual(network, Draw(1, {1, 3, 8, 8}), Draw(2, {4, 3, 8, 8})), 1e-5);
}

TEST(DeepLiftTest, AnOperationWithoutARule_IsNamed) {
  const auto status_of = [](DeepLift::Network network) {
    return std::string(
        DeepLift::Make(std::move(network), Draw(1, {2, 3, 4, 4})).status().message());
  };
  EXPECT_THAT(status_of([](const torch::Tensor& x) {
                return torch::sigmoid(x).mean({2, 3});
              }),
              HasSubstr("without a rule, SigmoidBackward0"));
  EXPECT_THAT(status_of([](const torch::Tensor& x) {
                return torch::relu(x).mean({2, 3});
              }),
              HasSubstr("without a rule, ReluBackward0"));
  EXPECT_THAT(status_of([](const torch::Tensor& x) {
                return (x * x).mean({2, 3});
              }),
              HasSubstr("MulBackward0 of several inputs"));
}

TEST(DeepLiftTest, OneGraphServesManyImages) {
  const Model model = RandomModel(v1::MODEL_KIND_SEED_CNN, 16);
  auto lift = DeepLift::Make(NetworkOf(model), Draw(2, {4, 3, 16, 16}));
  ASSERT_TRUE(lift.ok()) << lift.status();
  const torch::Tensor last = torch::tensor({0.0f, 1.0f}).expand({4, 2}).contiguous();
  const auto explain = [&](uint64_t seed) {
    (*lift)->Explain(Draw(seed, {1, 3, 16, 16}));
    return (*lift)->Multipliers(last);
  };
  const torch::Tensor first = explain(10), other = explain(11), again = explain(10);
  EXPECT_TRUE(torch::equal(first, again));
  EXPECT_FALSE(torch::equal(first, other));
  EXPECT_GT((*lift)->bytes(), 4u * 16 * 16 * 32 * 2 * 4);
}

}  // namespace
}  // namespace dermis
