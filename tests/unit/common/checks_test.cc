#include "common/checks.h"

#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/spec_yaml.h"
#include "common/tasks.h"

namespace dermis {
namespace {

constexpr char kClass[] = "test/1";

v1::TaskSpec Fit() {
  v1::TaskSpec task;
  v1::Perturbation& perturbation = *task.mutable_fit()->mutable_perturbation();
  perturbation.mutable_images()->set_size(32);
  perturbation.set_image(3);
  perturbation.mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  perturbation.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  perturbation.mutable_lime()->set_samples(260);
  perturbation.set_seed(4);
  return MakeTask(task, kClass);
}

v1::TaskSpec Activations() {
  v1::TaskSpec task;
  task.mutable_activations()->mutable_images()->set_size(32);
  task.mutable_activations()->mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  return MakeTask(task, kClass);
}

v1::TaskSpec StabilityOf(const v1::TaskSpec& attribution) {
  v1::TaskSpec task;
  v1::StabilityTask& stability = *task.mutable_stability();
  stability.mutable_images()->set_size(32);
  stability.set_noise_draws(3);
  stability.set_noise_radius(0.02);
  stability.set_seed(4);
  for (const std::string& layer : RandomisableLayers(v1::MODEL_KIND_SEED_CNN)) {
    stability.add_layers(layer);
  }
  if (attribution.has_fit()) stability.set_seeds(2);
  stability.set_second_hidden(SecondHidden(attribution, v1::HIDDEN_VALUE_UNSPECIFIED));
  *stability.mutable_attribution() = attribution;
  return MakeTask(task, kClass);
}

TEST(Variants, DifferFromTheAttributionInOneThingEach) {
  const v1::TaskSpec fit = Fit();
  const Variants variants = VariantsOf(StabilityOf(fit).stability(), kClass);
  ASSERT_EQ(variants.noise.size(), 3u);
  ASSERT_EQ(variants.seeds.size(), 2u);
  ASSERT_EQ(variants.cascading.size(), 7u);
  ASSERT_EQ(variants.independent.size(), 7u);
  ASSERT_TRUE(variants.second_hidden);

  const auto back = [&](v1::TaskSpec variant, auto&& undo) {
    undo(*variant.mutable_fit()->mutable_perturbation());
    return *TaskDigest(variant) == *TaskDigest(fit);
  };
  for (const v1::TaskSpec& variant : variants.noise) {
    EXPECT_TRUE(back(variant, [](auto& p) { p.mutable_images()->clear_noise(); }));
  }
  for (const v1::TaskSpec& variant : variants.seeds) {
    EXPECT_TRUE(back(variant, [](auto& p) { p.set_seed(4); }));
  }
  for (const auto* list : {&variants.cascading, &variants.independent}) {
    for (const v1::TaskSpec& variant : *list) {
      EXPECT_TRUE(back(variant, [](auto& p) { p.mutable_model()->clear_randomised(); }));
    }
  }
  EXPECT_TRUE(
      back(*variants.second_hidden, [](auto& p) { p.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN); }));
  EXPECT_EQ(variants.second_hidden->fit().perturbation().hidden(),
            v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
}

TEST(Variants, CascadeRandomisesFromTheOutputOn_AndEndsWithAllLayers) {
  const Variants variants = VariantsOf(StabilityOf(Fit()).stability(), kClass);
  const auto layers = [](const v1::TaskSpec& task) {
    const auto& names = task.fit().perturbation().model().randomised().layers();
    return std::vector<std::string>(names.begin(), names.end());
  };
  EXPECT_EQ(layers(variants.cascading[0]), (std::vector<std::string>{"dense"}));
  EXPECT_EQ(layers(variants.cascading[1]), (std::vector<std::string>{"dense", "conv6"}));
  EXPECT_EQ(layers(variants.cascading[6]), RandomisableLayers(v1::MODEL_KIND_SEED_CNN));
  EXPECT_EQ(layers(variants.independent[6]), (std::vector<std::string>{"conv1"}));
  // The cascade's first step is the same task as the output layer alone.
  EXPECT_EQ(*TaskDigest(variants.cascading[0]), *TaskDigest(variants.independent[0]));
}

TEST(Variants, OfMapsOfLayers_LeaveTheActivationsOut_AndHaveNoSeeds) {
  const v1::TaskSpec own = Activations();
  EXPECT_FALSE(DrawsAtRandom(own));
  const Variants variants = VariantsOf(StabilityOf(own).stability(), kClass);
  EXPECT_TRUE(variants.seeds.empty());
  EXPECT_FALSE(variants.second_hidden);
  for (const v1::TaskSpec& variant : variants.noise) {
    EXPECT_TRUE(variant.activations().cams_only());
  }
}

TEST(Needs, OfAFit_AreItsSuperpixelsAndRuns) {
  const std::vector<v1::TaskSpec> needs = NeedsOf(Fit());
  ASSERT_EQ(needs.size(), 3u);
  EXPECT_TRUE(needs[0].has_superpixels());
  EXPECT_EQ(needs[2].perturb().run(), 1u);
}

TEST(Needs, OfStability_AreTheAttributionAndItsVariants_InOrder) {
  const v1::TaskSpec task = StabilityOf(Fit());
  const std::vector<v1::TaskSpec> needs = NeedsOf(task);
  ASSERT_EQ(needs.size(), 2u + 3 + 2 + 7 + 7 + 1);
  EXPECT_TRUE(needs[0].has_superpixels());
  EXPECT_EQ(*TaskDigest(needs[1]), *TaskDigest(task.stability().attribution()));
  EXPECT_EQ(needs[2].fit().perturbation().images().noise().draw(), 0u);
  EXPECT_EQ(needs[4].fit().perturbation().images().noise().draw(), 2u);
  EXPECT_EQ(needs[5].fit().perturbation().seed(), 5u);
  EXPECT_EQ(needs[7].fit().perturbation().model().randomised().layers_size(), 1);
  EXPECT_EQ(needs[13].fit().perturbation().model().randomised().layers_size(), 7);
  std::set<Digest> different;
  for (const v1::TaskSpec& need : needs) different.insert(*TaskDigest(need));
  EXPECT_EQ(different.size(), needs.size() - 1);  // cascading[0] = independent[0].
}

TEST(SecondHidden, IsNeverTheMethodsOwn) {
  v1::TaskSpec fit = Fit();
  EXPECT_EQ(SecondHidden(fit, v1::HIDDEN_VALUE_TRAINING_MEAN), v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
  fit.mutable_fit()->mutable_perturbation()->set_hidden(v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
  EXPECT_EQ(SecondHidden(fit, v1::HIDDEN_VALUE_UNSPECIFIED), v1::HIDDEN_VALUE_TRAINING_MEAN);
  EXPECT_EQ(SecondHidden(fit, v1::HIDDEN_VALUE_TRAINING_MEAN), v1::HIDDEN_VALUE_TRAINING_MEAN);
  EXPECT_EQ(SecondHidden(Activations(), v1::HIDDEN_VALUE_TRAINING_MEAN),
            v1::HIDDEN_VALUE_UNSPECIFIED);
}

absl::StatusOr<v1::StudySpec> Resolved(const std::string& explanation) {
  auto spec = ParseStudyYaml("name: a\nimages: {set: s}\n" + explanation, "test.yaml");
  if (!spec.ok()) return spec.status();
  return ResolveSpec(*spec);
}

TEST(ChecksSpec, FidelityIsOnAndStabilityOff_WhereNothingIsSaid) {
  const auto spec =
      Resolved("explanation: {methods: [{shapley: {superpixels: {slic: {count: 20}}}}]}\n");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const v1::ChecksSpec& checks = spec->explanation().checks();
  EXPECT_TRUE(checks.fidelity());
  EXPECT_FALSE(checks.has_stability());
  EXPECT_EQ(checks.superpixels().slic().count(), 20u);
  EXPECT_TRUE(AsksForChecks(spec->explanation()));
  EXPECT_EQ(*MessageDigest(*ResolveSpec(*spec)), *MessageDigest(*spec));
}

TEST(ChecksSpec, TheSampleOfStability_WhereItsNumbersAreNotSaid) {
  const auto spec = Resolved("explanation: {checks: {stability: {}}}\n");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const v1::StabilitySpec& stability = spec->explanation().checks().stability();
  EXPECT_EQ(stability.images(), 32u);
  EXPECT_EQ(stability.noise_draws(), 10u);
  EXPECT_EQ(stability.noise_radius(), 0.02);
  EXPECT_EQ(stability.seeds(), 3u);
  EXPECT_TRUE(stability.randomisation());
}

TEST(ChecksSpec, NothingIsChecked_WhereNoMethodIsJudged) {
  EXPECT_FALSE(
      AsksForChecks(Resolved("explanation: {methods: [{activation_maps: {}}]}\n")->explanation()));
  EXPECT_FALSE(
      AsksForChecks(Resolved("explanation: {checks: {fidelity: false}}\n")->explanation()));
}

TEST(ChecksSpec, OutOfRange_IsRefusedByName) {
  const auto spec = Resolved("explanation: {checks: {stability: {noise_radius: 3}}}\n");
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(spec.status().message().find("checks.stability.noise_radius"), std::string::npos)
      << spec.status();
}

TEST(Prices, CountWhatIsRun) {
  const auto spec = Resolved(
      "explanation: {methods: [{lime: {samples: 100, superpixels: {slic: {count: 9}}}}],\n"
      "  checks: {halves: 4, random_orders: 2, stability: {noise_draws: 3, seeds: 2}}}\n");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const CheckPrices prices = PricesOfChecks(spec->explanation(), v1::MODEL_KIND_SEED_CNN, 2);
  // Common superpixels, priors, the method; (2 random + centre + edges + method) x two curves of 10
  // points, f(x) twice, halves and their f(x).
  EXPECT_EQ(prices.fidelity.tasks, 3u);
  EXPECT_EQ(prices.fidelity.inputs, 5u * 20 + 1 + 1 + 5);
  // 3 draws, 2 seeds, 7 + 6 randomised networks, another hidden value: a run and a fit each; the
  // checks themselves.
  EXPECT_EQ(prices.stability.tasks, 19u * 2 + 3);
  EXPECT_EQ(prices.stability.inputs, 19u * 100);
}

}  // namespace
}  // namespace dermis
