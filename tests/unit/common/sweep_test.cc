#include "common/sweep.h"

#include <cmath>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/spec_yaml.h"

namespace dermis {
namespace {

absl::StatusOr<v1::StudySpec> Spec(const std::string& sweep, const std::string& training = "") {
  const auto spec = ParseStudyYaml(
      absl::StrCat("name: a\nimages: {set: s}\ntraining: {", training, "}\nsweep: {", sweep, "}\n"),
      "a.yaml");
  if (!spec.ok()) return spec.status();
  return ResolveSpec(*spec);
}

constexpr char kTwoAxes[] =
    "axes: [{key: training.optimizer.sgd.learning_rate, values: [0.1, 0.01]}, "
    "{key: training.model, values: [seed_cnn, resnet18, resnet34]}]";

TEST(SweepTest, Grid_IsEveryCombination_TheLastAxisFastest) {
  const auto spec = Spec(kTwoAxes);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(TrialCount(spec->sweep(), EpochsOf(*spec)), 6u);
  std::set<std::string> seen;
  for (uint32_t t = 0; t < 6; ++t) {
    const Settings settings = SettingsOf(spec->sweep(), spec->seed(), t);
    EXPECT_EQ(settings[0].second, t < 3 ? "0.1" : "0.01");
    EXPECT_EQ(settings[1].second, t % 3 == 0 ? "seed_cnn" : t % 3 == 1 ? "resnet18" : "resnet34");
    seen.insert(Describe(settings));
  }
  EXPECT_EQ(seen.size(), 6u);
}

TEST(SweepTest, Trial_IsItsSettingsWithDefaultsThatFitThem) {
  const auto spec = Spec(kTwoAxes);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto seed_cnn = TrialSpec(*spec, 3), resnet = TrialSpec(*spec, 1);
  ASSERT_TRUE(seed_cnn.ok() && resnet.ok());
  EXPECT_EQ(seed_cnn->training().optimizer().sgd().learning_rate(), 0.01);
  EXPECT_TRUE(seed_cnn->training().dropout());
  EXPECT_EQ(seed_cnn->training().stem(), v1::STEM_UNSPECIFIED);
  EXPECT_FALSE(resnet->training().dropout());
  EXPECT_EQ(resnet->training().stem(), v1::STEM_SMALL);
  EXPECT_EQ(resnet->training().optimizer().sgd().momentum(), 0.9);
  EXPECT_FALSE(resnet->has_sweep());
}

TEST(SweepTest, WordsOfAChoice_AreValuesToo) {
  const auto spec = Spec("axes: [{key: training.optimizer, values: [sgd, adamw, rmsprop]}]");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(TrialSpec(*spec, 0)->training().optimizer().has_sgd());
  EXPECT_TRUE(TrialSpec(*spec, 1)->training().optimizer().has_adamw());
  EXPECT_TRUE(TrialSpec(*spec, 2)->training().optimizer().has_rmsprop());
}

TEST(SweepTest, Random_StaysInItsRanges_AndMoreTrialsBeginWithTheSame) {
  const std::string axes =
      "axes: [{key: training.optimizer.sgd.learning_rate, range: {low: 1e-4, high: 1, log: true}}, "
      "{key: training.epochs, range: {low: 5, high: 7, whole: true}}], ";
  const auto few = Spec(absl::StrCat(axes, "random: {trials: 50}"));
  const auto many = Spec(absl::StrCat(axes, "random: {trials: 400}"));
  ASSERT_TRUE(few.ok() && many.ok()) << few.status() << many.status();
  int below = 0;
  std::set<std::string> epochs;
  for (uint32_t t = 0; t < 400; ++t) {
    const Settings settings = SettingsOf(many->sweep(), many->seed(), t);
    if (t < 50) {
      EXPECT_EQ(settings, SettingsOf(few->sweep(), few->seed(), t));
    }
    double rate = 0;
    ASSERT_TRUE(absl::SimpleAtod(settings[0].second, &rate));
    EXPECT_GE(rate, 1e-4);
    EXPECT_LE(rate, 1);
    below += rate < 1e-2;
    epochs.insert(settings[1].second);
  }
  EXPECT_NEAR(below, 200, 45);  // Half of the logarithmic range; 4.5 standard deviations.
  EXPECT_EQ(epochs, (std::set<std::string>{"5", "6", "7"}));
}

TEST(SweepTest, RoundedDraws_StayInTheirRange) {
  const auto spec = Spec(
      "axes: [{key: training.ema_decay, range: {low: 0.9999951, high: 0.9999989}}], random: "
      "{trials: "
      "50}");
  ASSERT_TRUE(spec.ok()) << spec.status();
}

// An axis more must not draw the others anew.
TEST(SweepTest, Random_DrawsDependOnTheKeyAlone) {
  const auto one = Spec("axes: [{key: training.clip_norm, range: {low: 1, high: 2}}], random: {}");
  const auto two = Spec(
      "axes: [{key: training.label_smoothing, range: {low: 0, high: 0.2}}, "
      "{key: training.clip_norm, range: {low: 1, high: 2}}], random: {}");
  ASSERT_TRUE(one.ok() && two.ok()) << one.status() << two.status();
  for (uint32_t t = 0; t < 20; ++t) {
    EXPECT_EQ(SettingsOf(one->sweep(), 1, t)[0], SettingsOf(two->sweep(), 1, t)[1]);
  }
}

TEST(SweepTest, HalvingsRungs_AreAsGivenOrByTheFactor) {
  const std::string axis =
      "axes: [{key: training.clip_norm, range: {low: 1, high: 2}}], random: {trials: 27}, ";
  const auto given = Spec(axis + "halving: {rungs: [2, 10, 500]}", "epochs: 81");
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_EQ(BracketsOf(given->sweep(), 81)[0].rungs, (std::vector<uint32_t>{2, 10}));
  const auto own = Spec(axis + "halving: {}", "epochs: 81");
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(BracketsOf(own->sweep(), 81)[0].rungs, (std::vector<uint32_t>{3, 9, 27}));
}

// Table 1 of Li et al. 2018: R = 81, factor 3.
TEST(SweepTest, Hyperband_HasThePapersBrackets) {
  const auto spec = Spec(
      "axes: [{key: training.clip_norm, range: {low: 1, high: 2}}], hyperband: {}", "epochs: 81");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const std::vector<Bracket> brackets = BracketsOf(spec->sweep(), 81);
  ASSERT_EQ(brackets.size(), 5u);
  const std::vector<uint32_t> counts = {81, 34, 15, 8, 5};
  const std::vector<uint32_t> first_rung = {1, 3, 9, 27, 81};
  uint32_t first = 0;
  for (size_t b = 0; b < 5; ++b) {
    EXPECT_EQ(brackets[b].count, counts[b]);
    EXPECT_EQ(brackets[b].first, first);
    EXPECT_EQ(brackets[b].rungs.size(), 4 - b);
    if (b < 4) {
      EXPECT_EQ(brackets[b].rungs[0], first_rung[b]);
    }
    first += brackets[b].count;
  }
  EXPECT_EQ(TrialCount(spec->sweep(), 81), first);
}

TEST(SweepTest, WhatCannotRun_IsRefusedWithItsKey) {
  const auto refused = [](const std::string& sweep, const std::string& part) {
    const auto spec = Spec(sweep);
    EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument) << sweep;
    EXPECT_NE(spec.status().message().find(part), std::string::npos) << spec.status();
  };
  refused("seeds: 1", "sweep.axes");
  refused("seeds: 3, halving: {}", "sweep.axes");
  refused("seeds: 3, random: {}", "sweep.axes");
  refused("axes: [{key: name, values: [a]}]", "training");
  refused("axes: [{key: training.epoch, values: [1]}]", "did you mean 'epochs'");
  refused("axes: [{key: training.epochs, values: [1, x]}]", "whole number");
  refused("axes: [{key: training.epochs, values: [1, 1]}]", "twice");
  refused("axes: [{key: training.epochs}]", "needs values");
  refused("axes: [{key: training.clip_norm, range: {low: 1, high: 2}}]", "random search");
  refused("axes: [{key: training.epochs, values: [1, 2]}], halving: {}", "training.epochs");
  refused("axes: [{key: training.batch_size, values: [16, 7]}]", "trial 1");
  refused(
      "axes: [{key: training.optimizer, values: [sgd, adamw]}, "
      "{key: training.optimizer.sgd.momentum, values: [0.5, 0.9]}]",
      "within it");
  refused(
      "axes: [{key: training.optimizer.adamw.beta1, values: [0.5, 0.9]}, "
      "{key: training.optimizer.sgd.momentum, values: [0.5, 0.9]}]",
      "excludes 'adamw'");
  refused("axes: [{key: training.init.file, values: [a, b]}]", "a study for each file");
  refused("axes: [{key: training.class_weights, values: [1]}]", "is a list");
  refused(
      "axes: [{key: training.clip_norm, range: {low: 1, high: 2}}], random: {trials: 90000}, "
      "seeds: 2",
      "180000 trainings");
  refused("axes: [{key: training.clip_norm, values: [1]}], hyperband: {}, grid: {}", "random");
  refused("axes: [{key: training.clip_norm, range: {low: 1, high: 2}}], random: {trials: 1000000}",
          "100000");
}

TEST(SweepTest, SeedsAlone_AreOneTrial_OfTheStudyAsItIs) {
  const auto spec = Spec("seeds: 5");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(TrialsOf(*spec), 1u);
  EXPECT_TRUE(SettingsOf(spec->sweep(), spec->seed(), 0).empty());
  EXPECT_EQ(BracketsOf(spec->sweep(), 9).size(), 1u);
  v1::StudySpec plain = *spec;
  plain.clear_sweep();
  EXPECT_EQ(TrialSpec(*spec, 0)->SerializeAsString(), ResolveSpec(plain)->SerializeAsString());
  const auto again = ParseStudyYaml(ToYaml(*spec), "again.yaml");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ResolveSpec(*again)->SerializeAsString(), spec->SerializeAsString());
  EXPECT_TRUE(Spec("folds: 3").ok());
}

TEST(SweepTest, ASweepReadsBackFromItsYaml) {
  const auto spec = Spec(absl::StrCat(kTwoAxes, ", halving: {rungs: [2, 5]}, seeds: 3, folds: 4"));
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto again = ParseStudyYaml(ToYaml(*spec), "again.yaml");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ResolveSpec(*again)->SerializeAsString(), spec->SerializeAsString());
}

}  // namespace
}  // namespace dermis
