#include "tools/report/checks.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/tools/report/fake_checks.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/report/check_summary.h"

namespace dermis {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

// A study of Shapley values alone; checks are added by hand.
struct Checked {
  explicit Checked(uint32_t images) {
    v1::MethodSpec& method = *results.mutable_spec()->mutable_explanation()->add_methods();
    method.mutable_shapley()->mutable_superpixels()->mutable_slic();
    for (uint32_t i = 0; i < images; ++i) results.add_explained()->set_image(i);
  }
  const v1::MethodSpec& method() const { return results.spec().explanation().methods(0); }

  v1::Payload& Add(int image, const v1::MethodSpec* method) {
    v1::CheckResult& check = *results.mutable_explained(image)->add_checks();
    if (method != nullptr) *check.mutable_method() = *method;
    check.mutable_result()->set_task(std::to_string(payloads.size()));
    return payloads.emplace_back();
  }
  // A map whose deletion curve falls straight from `from`, and whose insertion rises to it. Two
  // superpixels.
  static void Curves(double from, const std::vector<double>& values, const std::string& name,
                     v1::Payload& payload) {
    v1::Fidelity& map = *payload.mutable_fidelity()->add_maps();
    map.set_map(name);
    map.mutable_values()->Assign(values.begin(), values.end());
    const int steps = static_cast<int>(values.size());
    for (int k = 0; k <= steps; ++k) {
      for (auto [curve, height] : {std::pair(map.mutable_deletion(), 1 - 1.0 * k / steps),
                                   std::pair(map.mutable_insertion(), -1.0 + 1.0 * k / steps)}) {
        curve->add_margin(from * height);
        curve->add_probability(0.5 + 0.1 * from * height);
      }
    }
  }
  static void Ranks(double random, std::vector<double> seeds, std::vector<double> noise,
                    v1::Payload& payload, const std::string& name = "") {
    v1::Stability& map = *payload.mutable_stability()->add_maps();
    map.set_map(name);
    const auto add = [](double rank, v1::Similarity* to) {
      to->set_rank(rank);
      to->set_absolute_rank(rank);
    };
    for (double rank : seeds) add(rank, map.add_seeds());
    for (double rank : noise) add(rank, map.add_noise());
    add(0.9, map.add_cascading());
    add(random, map.add_cascading());
  }
  v1::Payload& AddResult(int image, const v1::MethodSpec& method) {
    v1::MethodResult& result = *results.mutable_explained(image)->add_results();
    *result.mutable_method() = method;
    result.mutable_result()->set_task(std::to_string(payloads.size()));
    return payloads.emplace_back();
  }
  CheckSummary Summary() const {
    ReportInputs inputs;
    inputs.fetch_payload = [&](const v1::TaskResult& result) -> absl::StatusOr<v1::Payload> {
      return payloads[std::stoul(result.task())];
    };
    auto summary = SummariseChecks(results, inputs);
    EXPECT_TRUE(summary.ok()) << summary.status();
    return summary.ok() ? *std::move(summary) : CheckSummary();
  }

  v1::StudyResults results;
  std::vector<v1::Payload> payloads;
};

TEST(CheckSummary, AreasAndComparisons_ByHand) {
  Checked checked(2);
  for (int image : {0, 1}) {
    v1::Payload& priors = checked.Add(image, nullptr);
    Checked::Curves(2, {1, 2, 3}, "random", priors);
    Checked::Curves(4, {3, 2, 1}, "centre", priors);
    Checked::Curves(image == 0 ? 0 : 2, {1, 3, 2}, "edges", priors);
    // The smaller its start, the lower is the curve of deletion and the higher that of insertion.
    Checked::Curves(image == 0 ? 1 : 3, {3, 2, 1}, "", checked.Add(image, &checked.method()));
  }
  const CheckSummary summary = checked.Summary();
  ASSERT_EQ(summary.maps.size(), 4u);
  EXPECT_EQ(summary.fidelity_images, 2u);
  const CheckedMap& map = summary.maps[0];
  EXPECT_EQ(map.title, "Shapley · SLIC");
  EXPECT_FALSE(map.prior);
  // Areas .5 and 1.5; their quartiles.
  EXPECT_DOUBLE_EQ(map.deletion_margin.median, 1);
  EXPECT_DOUBLE_EQ(map.deletion_margin.low, 0.75);
  EXPECT_DOUBLE_EQ(map.deletion_margin.high, 1.25);
  EXPECT_DOUBLE_EQ(map.insertion_margin.median, -1);
  EXPECT_DOUBLE_EQ(map.deletion_probability.median, 0.5 + 0.1);
  EXPECT_EQ(map.deletion_against[0].better, 1u);  // Than random: 1 < 2, 3 > 2.
  EXPECT_EQ(map.deletion_against[1].better, 2u);  // Than the centre.
  EXPECT_EQ(map.deletion_against[2].better, 0u);  // Than edges.
  EXPECT_EQ(map.insertion_against[0].better, 1u);
  EXPECT_EQ(map.insertion_against[0].images, 2u);
  // The mean curve begins at the mean of 1 and 3 and falls straight.
  EXPECT_DOUBLE_EQ(map.deletion.margin[0], 2);
  EXPECT_NEAR(map.deletion.margin[25], 1, 1e-12);
  // Agreement: with the centre prior exactly, against the random order.
  EXPECT_DOUBLE_EQ(summary.agreement[0][2].median, 1);
  EXPECT_DOUBLE_EQ(summary.agreement[0][1].median, -1);
  EXPECT_DOUBLE_EQ(summary.agreement[0][3].median, -0.5);
}

// Two images, Shapley values and LIME; their row of each table, cell by cell.
TEST(CheckSummary, WhatAttributionsSayOfThemselves_ByHand_AndItsCellsInTheReport) {
  Checked checked(2);
  checked.results.mutable_spec()->mutable_explanation()->add_methods()->mutable_lime();
  const v1::MethodSpec shapley = checked.method(),
                       lime = checked.results.spec().explanation().methods(1);
  for (int image : {0, 1}) {
    v1::Payload& fidelity = checked.Add(image, &shapley);
    Checked::Curves(1, {1, 2}, "", fidelity);
    fidelity.mutable_fidelity()->mutable_maps(0)->set_infidelity(image == 0 ? 0.2 : 0.4);
    fidelity.mutable_fidelity()->mutable_maps(0)->set_infidelity_kind(v1::INFIDELITY_KIND_HALVES);
    v1::Payload& fitted = checked.Add(image, &lime);
    Checked::Curves(1, {1, 2}, "", fitted);
    fitted.mutable_fidelity()->mutable_maps(0)->set_infidelity(0.3);
    fitted.mutable_fidelity()->mutable_maps(0)->set_infidelity_kind(v1::INFIDELITY_KIND_FITTED);
    v1::Payload& stability = checked.Add(image, &shapley);
    Checked::Ranks(0.5, {0.75}, {0.875}, stability);
    v1::Stability& stable = *stability.mutable_stability()->mutable_maps(0);
    stable.set_max_sensitivity(image == 0 ? 0.25 : 0.75);
    stable.mutable_second_hidden()->set_rank(image == 0 ? 0.5 : 0.25);
    // The residual over f(x) - f(hidden) = 2; over a hundredth of the values where that is more.
    v1::Attribution& fit = *checked.AddResult(image, shapley).mutable_fit();
    fit.set_full(image == 0 ? 3 : 1);
    fit.set_hidden(1);
    fit.add_values(image == 0 ? 1.5 : 25);
    fit.add_values(image == 0 ? 0.5 : -25);
    fit.set_additivity_residual(image == 0 ? -0.2 : 0.1);
    checked.AddResult(image, lime).mutable_fit()->set_r_squared(image == 0 ? 0.5 : 0.75);
  }
  const CheckSummary summary = checked.Summary();
  ASSERT_EQ(summary.maps.size(), 2u);
  const CheckedMap &values = summary.maps[0], &fit = summary.maps[1];
  EXPECT_DOUBLE_EQ(values.infidelity.median, 0.3);
  EXPECT_DOUBLE_EQ(values.infidelity.low, 0.25);
  EXPECT_DOUBLE_EQ(values.residual.median, (0.2 / 2 + 0.1 / (0.01 * 50)) / 2);
  EXPECT_EQ(values.r_squared.images, 0u);
  EXPECT_DOUBLE_EQ(values.max_sensitivity.median, 0.5);
  EXPECT_DOUBLE_EQ(values.second_hidden_rank.median, 0.375);
  EXPECT_DOUBLE_EQ(fit.r_squared.median, 0.625);
  EXPECT_DOUBLE_EQ(fit.r_squared.low, 0.5625);
  EXPECT_EQ(fit.residual.images, 0u);
  EXPECT_EQ(fit.max_sensitivity.images, 0u);

  const std::string html = RenderChecks(summary, checked.results.spec().explanation());
  // What stands over the last three columns of the one table, and the first four of the other.
  EXPECT_THAT(html,
              AllOf(HasSubstr("infidelity ↓</th><th rowspan=\"2\">additivity residual</th><th "
                              "rowspan=\"2\">R²</th></tr>"),
                    HasSubstr("max-sensitivity ↓</th>"),
                    HasSubstr("<th>under noise</th><th>over seeds</th><th>hidden "
                              "otherwise</th><th>signed</th>")));
  EXPECT_THAT(html,
              HasSubstr("<td>0.30<small>0.25 … 0.35</small></td>"
                        "<td>2e-01<small>… 2e-01</small></td><td class=\"none\">–</td></tr>"));
  EXPECT_THAT(html,
              HasSubstr("<td>0.30<sup>†</sup><small>0.30 … 0.30</small></td>"
                        "<td class=\"none\">–</td><td>0.62<small>0.56 … 0.69</small></td></tr>"));
  EXPECT_THAT(html, HasSubstr("<th scope=\"row\">Shapley · SLIC</th>"
                              "<td>0.50<small>0.38 … 0.62</small></td>"
                              "<td>0.88<small>0.88 … 0.88</small></td>"
                              "<td>0.75<small>0.75 … 0.75</small></td>"
                              "<td>0.38<small>0.31 … 0.44</small></td>"));
}

TEST(CheckSummary, OfMasksRunInBf16_NoAdditivityResidualIsGiven) {
  Checked checked(1);
  Checked::Curves(1, {1, 2}, "", checked.Add(0, &checked.method()));
  v1::Attribution& fit = *checked.AddResult(0, checked.method()).mutable_fit();
  fit.add_values(1);
  fit.set_full(2);
  fit.set_additivity_residual(1);
  v1::MethodResult& result = *checked.results.mutable_explained(0)->mutable_results(0);
  const auto html = [&](v1::Precision precision) {
    result.mutable_task()->mutable_fit()->mutable_perturbation()->set_precision(precision);
    return RenderChecks(checked.Summary(), checked.results.spec().explanation());
  };
  EXPECT_THAT(html(v1::PRECISION_BF16), HasSubstr("<td class=\"none\">not available: bf16</td>"));
  EXPECT_THAT(html(v1::PRECISION_FP32),
              AllOf(HasSubstr("<td>5e-01<small>… 5e-01</small></td>"), Not(HasSubstr("bf16"))));
}

TEST(CheckSummary, MethodsThatHideByOtherValues_AreNotCompared_AndTheReportSaysSo) {
  Checked checked(1);
  v1::ExplanationSpec& explanation = *checked.results.mutable_spec()->mutable_explanation();
  explanation.mutable_methods(0)->mutable_shapley()->set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  explanation.add_methods()->mutable_lime()->set_hidden(v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
  explanation.add_methods()->mutable_occlusion()->set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  explanation.add_methods()->mutable_grad_cam();
  for (const v1::MethodSpec& method : explanation.methods()) {
    Checked::Curves(1, {1, 2, 3}, "", checked.Add(0, &method));
  }
  const CheckSummary summary = checked.Summary();
  ASSERT_EQ(summary.maps.size(), 4u);
  EXPECT_EQ(summary.agreement[0][1].images, 0u);  // Shapley, LIME.
  EXPECT_EQ(summary.agreement[1][2].images, 0u);
  EXPECT_EQ(summary.agreement[0][2].images, 1u);  // Shapley, occlusion: the same value.
  EXPECT_EQ(summary.agreement[1][3].images, 1u);  // Grad-CAM hides nothing.
  EXPECT_THAT(RenderChecks(summary, explanation),
              AllOf(HasSubstr("against the mean colour of what is hidden"), HasSubstr("≠:")));
}

TEST(CheckSummary, BackgroundSetsOfOtherSizes_AreOtherReferences) {
  Checked checked(1);
  v1::ExplanationSpec& explanation = *checked.results.mutable_spec()->mutable_explanation();
  explanation.mutable_methods(0)->mutable_shapley()->set_hidden(v1::HIDDEN_VALUE_BACKGROUND);
  explanation.add_methods()->mutable_deep_shap();
  explanation.add_methods()->mutable_expected_gradients();
  for (const v1::MethodSpec& method : explanation.methods()) {
    Checked::Curves(1, {1, 2, 3}, "", checked.Add(0, &method));
  }
  explanation.mutable_hiding()->set_background_per_class(5);
  CheckSummary summary = checked.Summary();  // 50 of each class where the study names no number.
  ASSERT_EQ(summary.maps.size(), 3u);
  EXPECT_EQ(summary.agreement[0][1].images, 0u);  // Shapley, DeepSHAP.
  EXPECT_EQ(summary.agreement[0][2].images, 0u);
  EXPECT_EQ(summary.agreement[1][2].images, 1u);  // DeepSHAP, expected gradients: one set.
  EXPECT_THAT(RenderChecks(summary, explanation),
              HasSubstr("against training images, 5 of each class; against training images, 50 of each class"));

  explanation.mutable_background()->set_per_class(5);
  summary = checked.Summary();
  EXPECT_EQ(summary.agreement[0][1].images, 1u);
  EXPECT_EQ(summary.agreement[0][2].images, 1u);
  EXPECT_THAT(RenderChecks(summary, explanation), Not(HasSubstr("≠:")));
}

TEST(CheckSummary, AMethodThatForgetsWithTheWeights_Passes) {
  Checked checked(5);
  for (int image = 0; image < 5; ++image) {
    Checked::Ranks(0.2, {0.8, 0.9}, {0.99}, checked.Add(image, &checked.method()));
  }
  const CheckSummary summary = checked.Summary();
  EXPECT_EQ(summary.maps[0].verdict, Verdict::kPassed);
  EXPECT_FALSE(summary.maps[0].bar_is_noise);
  EXPECT_DOUBLE_EQ(summary.maps[0].bar_rank.median, 0.85);
  EXPECT_TRUE(CheckFlags(summary).empty());
}

TEST(CheckSummary, AMethodThatIsAsAlikeUnderRandomWeightsAsOverSeeds_IsFlagged) {
  Checked checked(5);
  for (int image = 0; image < 5; ++image) {
    Checked::Ranks(image == 0 ? 0.9 : 0.7, {0.8}, {0.99}, checked.Add(image, &checked.method()));
  }
  // Lower in 4 of 5 images: that may be chance.
  const CheckSummary summary = checked.Summary();
  EXPECT_EQ(summary.maps[0].verdict, Verdict::kFlagged);
  EXPECT_THAT(
      CheckFlags(summary),
      Contains(AllOf(HasSubstr("Shapley · SLIC does not depend on what the network learned"),
                     HasSubstr("between seeds"))));
}

TEST(CheckSummary, AnEdgeDetector_IsFlagged_ThoughItHasNoSeeds) {
  Checked checked(5);
  for (int image = 0; image < 5; ++image) {
    // The same for any weights; nearly the same under noise.
    Checked::Ranks(1, {}, {0.97, 0.98}, checked.Add(image, &checked.method()));
  }
  const CheckSummary summary = checked.Summary();
  EXPECT_TRUE(summary.maps[0].bar_is_noise);
  EXPECT_EQ(summary.maps[0].verdict, Verdict::kFlagged);
  EXPECT_THAT(CheckFlags(summary), Contains(HasSubstr("under imperceptible noise")));
}

TEST(CheckSummary, FewImages_ProveNothing_ButMayShowThatNothingChanges) {
  Checked good(4), edges(1);
  for (int image = 0; image < 4; ++image)
    Checked::Ranks(0, {0.9}, {0.9}, good.Add(image, &good.method()));
  EXPECT_EQ(good.Summary().maps[0].verdict, Verdict::kTooFewImages);
  Checked::Ranks(1, {}, {0.9}, edges.Add(0, &edges.method()));
  EXPECT_EQ(edges.Summary().maps[0].verdict, Verdict::kFlagged);
}

TEST(CheckSummary, MapsThatDoNotVaryUnderRandomWeights_HaveNothingInCommonWithTheTrainedOnes) {
  Checked checked(5);
  for (int image = 0; image < 5; ++image) {
    v1::Payload& payload = checked.Add(image, &checked.method());
    Checked::Ranks(0, {0.5}, {0.9}, payload);
    payload.mutable_stability()->mutable_maps(0)->mutable_cascading(1)->Clear();
  }
  EXPECT_EQ(checked.Summary().maps[0].verdict, Verdict::kPassed);
}

TEST(CheckSummary, ChecksThatAreNotThereYet_AreCounted) {
  Checked checked(1);
  checked.results.mutable_explained(0)->add_checks();
  const CheckSummary summary = checked.Summary();
  EXPECT_EQ(summary.pending, 1u);
  EXPECT_THAT(RenderChecks(summary, checked.results.spec().explanation()),
              HasSubstr("1 check is not there yet"));
}

TEST(CheckFlags, AnOrderThatIsNoBetterThanEdges_IsNamed) {
  Checked checked(6);
  for (int image = 0; image < 6; ++image) {
    v1::Payload& priors = checked.Add(image, nullptr);
    Checked::Curves(4, {1, 2}, "random", priors);
    Checked::Curves(4, {1, 2}, "centre", priors);
    Checked::Curves(image < 3 ? 1 : 3, {1, 2}, "edges", priors);
    Checked::Curves(2, {1, 2}, "", checked.Add(image, &checked.method()));
  }
  const std::vector<std::string> flags = CheckFlags(checked.Summary());
  ASSERT_EQ(flags.size(), 1u);
  EXPECT_THAT(flags[0],
              AllOf(HasSubstr("not shown to order superpixels better than strength of edges"),
                    HasSubstr("better in deletion on 3"), Not(HasSubstr("random"))));
}

TEST(ChecksReport, SaysHowToAskForTheSecondHiddenValue_WhereNobodyDid) {
  Checked checked(1);
  Checked::Curves(1, {1, 2}, "", checked.Add(0, &checked.method()));
  v1::ExplanationSpec spec = checked.results.spec().explanation();
  const auto asks = HasSubstr("under a second hidden value");
  EXPECT_THAT(RenderChecks(checked.Summary(), spec),
              AllOf(asks, HasSubstr("explanation: {checks: {stability: {}}}")));
  // Asked for, and not there yet.
  spec.mutable_checks()->mutable_stability();
  EXPECT_THAT(RenderChecks(checked.Summary(), spec), Not(asks));
}

TEST(ChecksReport, ShowsMethodsBesidePriors_AndFlagsInWords) {
  FakeStudy study(400, 64, 12);
  AddFakeChecks(study);
  const auto summary = SummariseChecks(study.results, study.Inputs());
  ASSERT_TRUE(summary.ok()) << summary.status();
  const std::string html = RenderChecks(*summary, study.results.spec().explanation());
  for (const char* name :
       {"random order", "centre prior", "edge magnitude", "Grad-CAM conv6", "LIME · SLIC"}) {
    EXPECT_THAT(html, HasSubstr(absl::StrCat("<th scope=\"row\">", name, "</th>"))) << name;
  }
  EXPECT_THAT(html, HasSubstr("Grad-CAM conv1 does not depend on what the network learned"));
  EXPECT_THAT(html, HasSubstr("Deletion: mean probability of the predicted class"));
  EXPECT_THAT(html, Not(HasSubstr("nan")));
  const auto report = RenderReport(study.results, study.Inputs());
  ASSERT_TRUE(report.ok()) << report.status();
  // Not by a matcher: it would print the whole report.
  EXPECT_NE(report->find("<section id=\"checks\">"), std::string::npos);
}

}  // namespace
}  // namespace dermis
