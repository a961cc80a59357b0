// Perturbation and fit from end to end, by plans that are functions, and once by the real one.
#include "worker/explain/explain.h"

#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/estimators.h"
#include "common/metrics.h"
#include "common/tasks.h"
#include "tests/unit/worker/explain/test_data.h"
#include "tests/unit/worker/plan/model_bytes.h"
#include "worker/explain/composer.h"
#include "worker/explain/lime.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

constexpr uint32_t kHeight = 45, kWidth = 50, kSize = 16;  // Ratios that are not whole.

struct Case {
  ImageData data;
  uint32_t image;
  v1::SuperpixelOutput superpixels;
  Segmentation segmentation;
};

Case MakeCase(uint32_t height = kHeight, uint32_t width = kWidth, uint32_t size = kSize) {
  Case c{TestImageData(3, height, width, size), 1, {}, {}};
  v1::SuperpixelTask task;
  task.set_image(c.image);
  task.mutable_superpixels()->mutable_slic()->set_count(9);
  task.mutable_superpixels()->mutable_slic()->set_compactness(30);
  c.superpixels = *RunSuperpixels(task, *c.data.set);
  c.segmentation = *FromProto(c.superpixels);
  EXPECT_GE(c.segmentation.count, 5u);
  return c;
}

v1::Perturbation Shapley(uint32_t pairs, v1::HiddenValue hidden = v1::HIDDEN_VALUE_TRAINING_MEAN) {
  v1::Perturbation p;
  p.set_image(1);
  p.set_hidden(hidden);
  p.mutable_shapley()->set_permutations(pairs);
  p.set_seed(5);
  return p;
}

v1::Perturbation Lime(uint32_t samples, v1::HiddenValue hidden = v1::HIDDEN_VALUE_SUPERPIXEL_MEAN) {
  v1::Perturbation p = Shapley(1, hidden);
  p.mutable_lime()->set_samples(samples);
  return p;
}

v1::Perturbation Coalitions(v1::Estimator estimator, const Case& c, uint32_t budget) {
  v1::Perturbation p = Shapley(1);
  p.mutable_coalitions()->set_estimator(estimator);
  p.mutable_coalitions()->set_superpixels(c.segmentation.count);
  p.mutable_coalitions()->set_budget(budget);
  return p;
}

v1::Perturbation Occlusion(const Case& c) {
  v1::Perturbation p = Shapley(1);
  p.mutable_occlusion()->set_superpixels(c.segmentation.count);
  return p;
}

v1::Perturbation Partition(uint32_t budget) {
  v1::Perturbation p = Shapley(1);
  p.mutable_partition()->set_budget(budget);
  return p;
}

absl::StatusOr<v1::PerturbOutput> Perturb(const v1::Perturbation& perturbation, uint32_t run,
                                          const Case& c, InferencePlan& plan) {
  v1::PerturbTask task;
  *task.mutable_perturbation() = perturbation;
  task.set_run(run);
  return RunPerturb(task, c.data, c.superpixels, plan);
}

v1::Attribution Explain(const v1::Perturbation& perturbation, const Case& c, InferencePlan& plan,
                        v1::OutputKind kind = v1::OUTPUT_KIND_MARGIN, uint32_t units = 0) {
  v1::FitTask task;
  *task.mutable_perturbation() = perturbation;
  task.set_output(kind);
  task.set_units(units);
  if (perturbation.has_partition()) {
    auto fit = RunPartition(task, c.data, c.superpixels, plan);
    EXPECT_TRUE(fit.ok()) << fit.status();
    return *std::move(fit);
  }
  std::vector<v1::PerturbOutput> runs;
  for (uint32_t run = 0; run < RunsOfUnits(perturbation, units); ++run) {
    auto output = Perturb(perturbation, run, c, plan);
    EXPECT_TRUE(output.ok()) << output.status();
    runs.push_back(*std::move(output));
  }
  auto fit = RunFit(task, c.segmentation.count, runs);
  EXPECT_TRUE(fit.ok()) << fit.status();
  return *std::move(fit);
}

std::vector<float> EvaluatedInput(const Case& c) {
  const Normalisation normalisation = NormalisationOf(c.data);
  std::vector<float> input;
  for (size_t i = 0; i < size_t{c.data.size} * c.data.size * 3; ++i) {
    input.push_back(normalisation(static_cast<float>(c.data.image(c.image)[i])));
  }
  return input;
}

HiddenColors ColorsOf(const Case& c, v1::HiddenValue hidden) {
  if (hidden == v1::HIDDEN_VALUE_SUPERPIXEL_MEAN) {
    return SuperpixelMeans(reinterpret_cast<const uint8_t*>(c.data.set->Pixels(c.image)->data()),
                           c.segmentation);
  }
  return HiddenColors(c.segmentation.count, c.data.channel_mean);
}

// The composition said another way: hide at display size, resize with AreaResize, and give back the
// quantisation's residual in proportion to what is shown.
std::vector<double> ComposedByResize(const Case& c, const HiddenColors& colors,
                                     const std::vector<uint8_t>& mask) {
  const auto* rgb = reinterpret_cast<const uint8_t*>(c.data.set->Pixels(c.image)->data());
  const size_t pixels = c.segmentation.labels.size();
  std::vector<float> masked(pixels * 3), image(pixels * 3), shown(pixels * 3);
  for (size_t i = 0; i < pixels; ++i) {
    const uint32_t k = c.segmentation.labels[i];
    for (int ch = 0; ch < 3; ++ch) {
      image[3 * i + ch] = rgb[3 * i + ch];
      masked[3 * i + ch] = mask[k] ? rgb[3 * i + ch] : static_cast<float>(colors[k][ch]);
      shown[3 * i + ch] = mask[k];
    }
  }
  const int size = static_cast<int>(c.data.size);
  const auto resize = [&](const std::vector<float>& in) {
    std::vector<float> out(size_t(size) * size * 3);
    AreaResize(in.data(), c.segmentation.height, c.segmentation.width, 3, out.data(), size, size);
    return out;
  };
  const auto m = resize(masked), x = resize(image), s = resize(shown);
  std::vector<double> input(m.size());
  for (size_t i = 0; i < m.size(); ++i) {
    const double value = m[i] + s[i] * (c.data.image(c.image)[i] - double{x[i]});
    input[i] = (value - c.data.mean) / (c.data.deviation + 1e-7);
  }
  return input;
}

TEST(Composition, EqualsResizingTheHiddenImage_ForAnyMask) {
  for (const auto& [height, width, size] :
       {std::array<uint32_t, 3>{kHeight, kWidth, kSize}, {64, 64, 32}, {24, 24, 24}}) {
    const Case c = MakeCase(height, width, size);
    for (v1::HiddenValue hidden :
         {v1::HIDDEN_VALUE_TRAINING_MEAN, v1::HIDDEN_VALUE_SUPERPIXEL_MEAN}) {
      const HiddenColors colors = ColorsOf(c, hidden);
      FunctionPlan plan(c.data.size, [](const auto&) { return std::pair(0.0, 0.0); });
      const v1::Perturbation perturbation = Shapley(2, hidden);
      ASSERT_TRUE(Perturb(perturbation, 0, c, plan).ok());
      const auto masks = MasksOfRun(perturbation, 0, c.segmentation.count);
      ASSERT_EQ(plan.inputs.size(), masks.size());
      for (size_t r = 0; r < masks.size(); ++r) {
        const auto expected = ComposedByResize(c, colors, masks[r]);
        for (size_t i = 0; i < expected.size(); ++i) {
          ASSERT_NEAR(plan.inputs[r][i], expected[i], 2e-5) << "mask " << r << ", value " << i;
        }
      }
    }
  }
}

TEST(Composition, AllShown_IsTheEvaluatedInputBitForBit_InEveryMethod) {
  const Case c = MakeCase();
  const std::vector<float> expected = EvaluatedInput(c);
  for (v1::HiddenValue hidden :
       {v1::HIDDEN_VALUE_TRAINING_MEAN, v1::HIDDEN_VALUE_SUPERPIXEL_MEAN}) {
    for (const v1::Perturbation& perturbation : {Lime(10, hidden), Shapley(1, hidden)}) {
      FunctionPlan plan(kSize, [](const auto&) { return std::pair(0.0, 0.0); });
      ASSERT_TRUE(Perturb(perturbation, 0, c, plan).ok());
      EXPECT_EQ(std::memcmp(plan.inputs[0].data(), expected.data(), expected.size() * 4), 0);
    }
  }
}

// What each superpixel of a linear model is due: sum of w (x - b).
struct LinearModel {
  explicit LinearModel(const Case& c) : weights(EvaluatedInput(c).size()) {
    for (uint32_t i = 0; i < weights.size(); ++i) {
      weights[i] = ToUnitFloat(PhiloxBlock(3, Purpose::kTest, 0, 0, i)[0]) - 0.4;
    }
    const HiddenColors colors = ColorsOf(c, v1::HIDDEN_VALUE_TRAINING_MEAN);
    const std::vector<uint8_t> all(c.segmentation.count, 1);
    const auto full = ComposedByResize(c, colors, all);
    for (uint32_t k = 0; k < c.segmentation.count; ++k) {
      std::vector<uint8_t> mask = all;
      mask[k] = 0;
      const auto without = ComposedByResize(c, colors, mask);
      double value = 0;
      for (size_t i = 0; i < weights.size(); ++i) value += weights[i] * (full[i] - without[i]);
      due.push_back(value);
      scale = std::max(scale, std::abs(value));
    }
  }
  FunctionPlan Plan() const {
    return FunctionPlan(kSize, [this](const std::vector<float>& x) {
      double sum = 0;
      for (size_t i = 0; i < weights.size(); ++i) sum += weights[i] * x[i];
      return std::pair(-0.25 * sum, 0.75 * sum);  // Margin: sum.
    });
  }
  std::vector<double> weights, due;
  double scale = 0;
};

TEST(Explain, LinearModel_IsExplainedExactly_ByEveryEstimator) {
  const Case c = MakeCase();
  const LinearModel model(c);
  for (const v1::Perturbation& perturbation :
       {Shapley(3), Coalitions(v1::ESTIMATOR_EXACT, c, 0), Coalitions(v1::ESTIMATOR_KERNEL, c, 300),
        Coalitions(v1::ESTIMATOR_LEVERAGE, c, 200), Occlusion(c), Partition(3000)}) {
    FunctionPlan plan = model.Plan();
    const v1::Attribution fit = Explain(perturbation, c, plan);
    ASSERT_EQ(static_cast<size_t>(fit.values_size()), model.due.size());
    ASSERT_EQ(fit.standard_errors_size(), fit.values_size());
    for (uint32_t k = 0; k < c.segmentation.count; ++k) {
      EXPECT_NEAR(fit.values(static_cast<int>(k)), model.due[k], 1e-4 * model.scale)
          << perturbation.ShortDebugString();
      EXPECT_LT(fit.standard_errors(static_cast<int>(k)), 1e-4 * model.scale);  // Logits are float.
    }
    EXPECT_NEAR(fit.additivity_residual(), 0, 1e-9);
    EXPECT_EQ(fit.evaluations(), plan.inputs.size());
  }
}

// LIME's weighted ridge of outputs that are linear in the masks has a closed form: with what is due
// d, the masks' weighted covariance A and the penalty a, (A + a I) c = A d.
TEST(Explain, LinearModel_IsWhatLimeFinds_ButForItsPenalty) {
  const Case c = MakeCase();
  const LinearModel model(c);
  const uint32_t n = c.segmentation.count;
  const v1::Perturbation perturbation = Lime(500, v1::HIDDEN_VALUE_TRAINING_MEAN);
  FunctionPlan plan = model.Plan();
  std::vector<v1::PerturbOutput> runs;
  std::vector<Mask> masks;
  for (uint32_t run = 0; run < RunCount(perturbation); ++run) {
    runs.push_back(*Perturb(perturbation, run, c, plan));
    for (Mask& mask : MasksOfRun(perturbation, run, n)) masks.push_back(std::move(mask));
  }
  std::vector<double> weights, mean(n, 0.0);
  double all = 0;
  for (const Mask& mask : masks) {
    weights.push_back(LimeWeight(std::accumulate(mask.begin(), mask.end(), 0u), n));
    all += weights.back();
    for (uint32_t k = 0; k < n; ++k) mean[k] += weights.back() * mask[k];
  }
  for (double& m : mean) m /= all;
  v1::FitTask task;
  *task.mutable_perturbation() = perturbation;
  task.set_output(v1::OUTPUT_KIND_MARGIN);
  for (const double penalty : {1.0, 1e-9}) {
    task.mutable_lime()->set_alpha(penalty);
    const v1::Attribution fit = *RunFit(task, n, runs);
    std::vector<double> left(n, 0.0);  // A (d - c)
    for (size_t r = 0; r < masks.size(); ++r) {
      double off = 0;
      for (uint32_t k = 0; k < n; ++k) {
        off += (masks[r][k] - mean[k]) * (model.due[k] - fit.values(static_cast<int>(k)));
      }
      for (uint32_t k = 0; k < n; ++k) left[k] += weights[r] * (masks[r][k] - mean[k]) * off;
    }
    for (uint32_t k = 0; k < n; ++k) {
      const double value = fit.values(static_cast<int>(k));
      EXPECT_NEAR(left[k] / all, penalty * value / all, 1e-5 * model.scale);
      if (penalty < 1) {
        EXPECT_NEAR(value, model.due[k], 1e-4 * model.scale);
      }
    }
    EXPECT_GT(fit.r_squared(), 0.99);
  }
}

// A mask that shows superpixel k shows each other one with probability p.
TEST(Explain, LinearModel_IsWhatRiseFinds_WithinItsError) {
  const Case c = MakeCase();
  const LinearModel model(c);
  const double all = std::accumulate(model.due.begin(), model.due.end(), 0.0);
  for (const double p : {0.5, 0.2}) {
    v1::Perturbation perturbation = Shapley(1);
    perturbation.mutable_rise()->set_samples(3000);
    perturbation.mutable_rise()->set_probability(p);
    FunctionPlan plan = model.Plan();
    const v1::Attribution fit = Explain(perturbation, c, plan);
    const double hidden = fit.full() - all;
    int beyond = 0;
    for (uint32_t k = 0; k < c.segmentation.count; ++k) {
      const double expected = hidden + model.due[k] + p * (all - model.due[k]);
      const double off = std::abs(fit.values(static_cast<int>(k)) - expected);
      EXPECT_LE(off, 5 * fit.standard_errors(static_cast<int>(k)));
      beyond += off > 2 * fit.standard_errors(static_cast<int>(k));
    }
    EXPECT_LE(beyond, 2);
  }
}

TEST(Explain, APrefixOfTheUnits_IsTheFitOfFewerMasks) {
  const Case c = MakeCase();
  FunctionPlan plan(kSize, [](const std::vector<float>& x) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += std::sin(static_cast<double>(i)) * x[i];
    return std::pair(0.0, std::tanh(sum));
  });
  const uint32_t pair = 2 * (c.segmentation.count - 1);
  const auto prefix = [&](const v1::Perturbation& perturbation, uint32_t units) {
    return Explain(perturbation, c, plan, v1::OUTPUT_KIND_MARGIN, units);
  };
  const auto same = [](const v1::Attribution& a, const v1::Attribution& b) {
    EXPECT_EQ(a.SerializeAsString(), b.SerializeAsString());
  };
  same(prefix(Shapley(40), 16), Explain(Shapley(16), c, plan));
  EXPECT_EQ(prefix(Shapley(40), 16).evaluations(), 2 + 16 * pair);
  same(prefix(Lime(600), 64), Explain(Lime(64), c, plan));
  // Leverage pairs are a sequence: the budget only ends it.
  same(prefix(Coalitions(v1::ESTIMATOR_LEVERAGE, c, 402), 100),
       Explain(Coalitions(v1::ESTIMATOR_LEVERAGE, c, 202), c, plan));
}

TEST(Explain, PartitionByTheRealPlan_AddsUp_WithoutAnErrorWhereItIsCutOff) {
  const Case c = MakeCase();
  const auto plan = *MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, ModelBytes(MakeTestModel(1, kSize, 2)),
                                       kSize, v1::PRECISION_FP32);
  const v1::Attribution fit = Explain(Partition(40), c, *plan);
  EXPECT_TRUE(fit.standard_errors().empty());
  EXPECT_LE(fit.evaluations(), 40u);
  EXPECT_EQ(fit.estimator(), v1::ESTIMATOR_PARTITION);
  EXPECT_LT(std::abs(fit.additivity_residual()), 1e-12);
  EXPECT_EQ(fit.full(), Explain(Shapley(2), c, *plan).full());
}

TEST(Explain, ExactOfTooManySuperpixels_IsRefused_WithWhatToDo) {
  v1::Perturbation perturbation;
  perturbation.mutable_coalitions()->set_estimator(v1::ESTIMATOR_EXACT);
  perturbation.mutable_coalitions()->set_superpixels(20);
  v1::FitTask task;
  *task.mutable_perturbation() = perturbation;
  const auto fit = RunFit(task, 20, {});
  EXPECT_EQ(fit.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(fit.status().message().find("estimator: auto"), std::string::npos) << fit.status();
  // Masks made for another cut of the image.
  EXPECT_EQ(RunFit(task, 9, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Explain, SuperpixelThatTheModelDoesNotSee_GetsNothing) {
  const Case c = MakeCase(32, 32, 32);  // No resize: a superpixel's pixels are its own.
  FunctionPlan plan(32, [&](const std::vector<float>& x) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      if (c.segmentation.labels[i / 3] != 2) sum += std::sin(i + x[i]);
    }
    return std::pair(0.0, sum * sum);
  });
  const v1::Attribution fit = Explain(Shapley(4), c, plan);
  EXPECT_EQ(fit.values(2), 0);
  EXPECT_NE(fit.values(1), 0);
  double sum = 0;
  for (double v : fit.values()) sum += v;
  EXPECT_NEAR(sum, fit.full() - fit.hidden(), 1e-9 * std::abs(fit.full()));
}

TEST(Explain, OneSuperpixel_CarriesTheWholeDifference) {
  Case c = MakeCase();
  c.segmentation = {static_cast<int>(kHeight), static_cast<int>(kWidth), 1,
                    std::vector<uint32_t>(size_t{kHeight} * kWidth, 0)};
  c.superpixels = *ToProto(c.segmentation);
  FunctionPlan plan(kSize, [](const auto& x) { return std::pair(0.0, double{x[7]}); });
  const v1::Attribution fit = Explain(Shapley(3), c, plan);
  EXPECT_EQ(fit.values(0), fit.full() - fit.hidden());
  EXPECT_EQ(fit.evaluations(), 2u);
}

TEST(Explain, RunsInAnyOrderOnAnyPlan_GiveTheSameBits) {
  const Case c = MakeCase();
  const std::string model = ModelBytes(MakeTestModel(1, kSize, 2));
  const auto make = [&] {
    return *MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, model, kSize, v1::PRECISION_FP32);
  };
  for (const v1::Perturbation& perturbation :
       {Lime(600), Shapley(6), Coalitions(v1::ESTIMATOR_LEVERAGE, c, 600),
        Coalitions(v1::ESTIMATOR_KERNEL, c, 600)}) {
    const uint32_t runs = RunCount(perturbation);
    ASSERT_GE(runs, 2u);
    const auto first = make();
    std::vector<std::string> forward(runs), backward(runs);
    for (uint32_t run = 0; run < runs; ++run) {
      forward[run] = Perturb(perturbation, run, c, *first)->SerializeAsString();
    }
    const auto second = make();
    for (uint32_t run = runs; run-- > 0;) {
      backward[run] = Perturb(perturbation, run, c, *second)->SerializeAsString();
    }
    EXPECT_EQ(forward, backward);

    // Rows of the runs are those of one long batch: what a mask gives does not depend on its run.
    const auto fit = Explain(perturbation, c, *first);
    EXPECT_EQ(fit.SerializeAsString(), Explain(perturbation, c, *second).SerializeAsString());
  }
}

TEST(Explain, Methods_ShareTheEndPoint) {
  const Case c = MakeCase();
  const auto plan = *MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, ModelBytes(MakeTestModel(1, kSize, 2)),
                                       kSize, v1::PRECISION_FP32);
  const auto lime = Explain(Lime(60), c, *plan), shapley = Explain(Shapley(2), c, *plan);
  EXPECT_EQ(lime.full(), shapley.full());
  EXPECT_GT(lime.r_squared(), 0);
  EXPECT_EQ(lime.evaluations(), 60u);
  EXPECT_EQ(lime.standard_errors_size(), lime.values_size());
}

TEST(RunPerturb, WhatDoesNotFit_IsRefused) {
  const Case c = MakeCase();
  FunctionPlan plan(kSize, [](const auto&) { return std::pair(0.0, 0.0); });
  FunctionPlan other(8, [](const auto&) { return std::pair(0.0, 0.0); });
  EXPECT_FALSE(Perturb(Shapley(2), 1, c, plan).ok());                      // No such run.
  EXPECT_FALSE(Perturb(Shapley(2), 0, c, other).ok());                     // A model of another size.
  EXPECT_FALSE(Perturb(Shapley(0), 0, c, plan).ok());                      // No masks.
  EXPECT_FALSE(Perturb(Shapley(2, v1::HIDDEN_VALUE_UNSPECIFIED), 0, c, plan).ok());
  v1::Perturbation absent = Shapley(2);
  absent.set_image(3);
  EXPECT_FALSE(Perturb(absent, 0, c, plan).ok());
  Case wrong = c;
  wrong.superpixels.set_count(1);
  EXPECT_FALSE(Perturb(Shapley(2), 0, wrong, plan).ok());
}

TEST(RunFit, IncompleteOrInfiniteRuns_AreRefused) {
  const Case c = MakeCase();
  FunctionPlan plan(kSize, [](const auto&) { return std::pair(0.0, 1.0); });
  v1::FitTask task;
  *task.mutable_perturbation() = Shapley(4);
  task.set_output(v1::OUTPUT_KIND_MARGIN);
  std::vector<v1::PerturbOutput> runs = {*Perturb(Shapley(4), 0, c, plan)};
  EXPECT_FALSE(RunFit(task, c.segmentation.count, runs).ok());
  runs.push_back(*Perturb(Shapley(4), 1, c, plan));
  EXPECT_TRUE(RunFit(task, c.segmentation.count, runs).ok());
  EXPECT_FALSE(RunFit(task, c.segmentation.count + 1, runs).ok());
  runs[1].set_logits(3, INFINITY);
  const auto refused = RunFit(task, c.segmentation.count, runs);
  EXPECT_NE(refused.status().ToString().find("run 1, mask 1"), std::string::npos);
}

}  // namespace
}  // namespace dermis
