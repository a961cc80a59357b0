#include "tools/report/judged.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/tools/report/fake_judged.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr JudgeOptions kQuick{100, 99, 1};

// "malignant" holds a "nan" of its own.
std::string WithoutClass(const std::string& html) {
  return absl::StrReplaceAll(html, {{"malignant", ""}});
}

TEST(Judged, ShowsEveryPart_InWords) {
  const FakeJudged fake = MakeFakeJudged(600, 1, false, kQuick);
  const std::string html = RenderJudged(fake.view, fake.manifest);
  for (const char* part :
       {"Table 1", "Operating points", "Calibration", "decision curve", "Subgroups",
        "Over training seeds", "Comparisons", "Leak check", "of 100 malignant images",
        "No image stands in two parts", "Seed network − Random forest", "DeLong", "mid-p"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  EXPECT_THAT(WithoutClass(html), Not(HasSubstr("nan")));
  EXPECT_THAT(html, Not(HasSubstr("not a number")));
  EXPECT_THAT(html, Not(HasSubstr("inf<")));
  EXPECT_EQ(html, RenderJudged(fake.view, fake.manifest));
}

// What stands between tags, a space for each run of them.
std::string TextOf(absl::string_view html) {
  std::string text;
  bool tag = false;
  for (const char c : html) {
    if (c == '<') tag = true;
    if (!tag) text += c;
    if (c == '>') {
      tag = false;
      text += ' ';
    }
  }
  absl::RemoveExtraAsciiWhitespace(&text);
  return text;
}

// The texts of <th> and <td> from one tag to the other.
std::vector<std::string> Cells(absl::string_view html) {
  std::vector<std::string> cells;
  for (size_t at = 0; (at = html.find("<t", at)) != absl::string_view::npos; ++at) {
    if (html.substr(at + 2, 1) != "h" && html.substr(at + 2, 1) != "d") continue;
    if (html.substr(at, 6) == "<thead") continue;
    const size_t end = std::min(html.find("</th>", at), html.find("</td>", at));
    cells.push_back(TextOf(html.substr(at, end - at)));
  }
  return cells;
}

// The first table after `heading`: its head, and its row whose name begins so.
struct FoundRow {
  std::vector<std::string> head, cells;
};
FoundRow RowOf(const std::string& html, const std::string& heading, const std::string& name) {
  const size_t head = html.find("<thead>", html.find(heading)), body = html.find("<tbody>", head);
  const size_t row = html.find("<th scope=\"row\">" + name, body);
  EXPECT_NE(row, std::string::npos) << heading << ": " << name;
  if (row == std::string::npos) return {};
  EXPECT_LT(row, html.find("</table>", head)) << heading << ": " << name;
  return {Cells(absl::string_view(html).substr(head, body - head)),
          Cells(absl::string_view(html).substr(row, html.find("</tr>", row) - row))};
}

// No two alike.
Estimate Of(double value) { return {value, {value - .004, value + .003}}; }

TEST(Judged, TableOne_HasEachNumberUnderItsHeading) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  EvaluationReport& model = fake.view.models[0];
  model.name = "Network";
  for (TableOneRow* row : {&model.at_half, &model.at_chosen}) {
    double value = row == &model.at_half ? .1 : .3;
    row->threshold = row == &model.at_half ? .5 : .375;
    for (Estimate* e : {&row->accuracy, &row->fpr_of_all, &row->fnr_of_all, &row->fpr_of_class,
                        &row->fnr_of_class, &row->precision, &row->recall, &row->f1,
                        &row->average_precision, &row->area, &row->specificity}) {
      *e = Of(value += .01);
    }
  }
  model.accuracy = {{.6, .7}, .65, .6, .7, .071};
  model.accuracy_chosen = {{.5, .6}, .55, .5, .6, .072};
  model.area = {{.8, .9}, .85, .8, .9, .073};
  const std::string html = RenderJudged(fake.view, fake.manifest);
  const FoundRow half = RowOf(html, "<h3>Table 1", "Network<small>at 0.500<"),
                 chosen = RowOf(html, "<h3>Table 1", "Network<small>at 0.375, chosen<");
  EXPECT_THAT(half.head, ElementsAre("classifier", "accuracy", "of all test images", "of the class",
                                     "precision", "recall", "F1", "average precision", "ROC area",
                                     "FPR", "FNR", "FPR", "FNR"));
  EXPECT_THAT(half.cells,
              ElementsAre("Network at 0.500", "0.110 0.106 … 0.113 seeds 0.650 ± 0.071",
                          "0.120 0.116 … 0.123", "0.130 0.126 … 0.133", "0.140 0.136 … 0.143",
                          "0.150 0.146 … 0.153", "0.160 0.156 … 0.163", "0.170 0.166 … 0.173",
                          "0.180 0.176 … 0.183", "0.190 0.186 … 0.193",
                          "0.200 0.196 … 0.203 seeds 0.850 ± 0.073"));
  EXPECT_THAT(chosen.cells,
              ElementsAre("Network at 0.375, chosen", "0.310 0.306 … 0.313 seeds 0.550 ± 0.072",
                          "0.320 0.316 … 0.323", "0.330 0.326 … 0.333", "0.340 0.336 … 0.343",
                          "0.350 0.346 … 0.353", "0.360 0.356 … 0.363", "0.370 0.366 … 0.373",
                          "0.380 0.376 … 0.383", "–", "–"));
}

TEST(Judged, OperatingPoints_HaveEachNumberUnderItsHeading) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  for (OperatingPoint& point : fake.view.models[0].operating_points) {
    if (point.rule != ThresholdRule::kSensitivity90) continue;
    point.threshold = .41;
    point.validation = {9, 3, 2, 1};  // Of ten found nine, of five left alone three.
    double value = .5;
    for (Estimate* e : {&point.sensitivity, &point.specificity, &point.accuracy, &point.precision,
                        &point.negative_predictive_value}) {
      *e = Of(value += .01);
    }
  }
  const FoundRow row =
      RowOf(RenderJudged(fake.view, fake.manifest), "<h3>Operating points", "90 % sensitivity");
  EXPECT_THAT(row.head, ElementsAre("chosen for", "threshold", "on validation", "achieved on test",
                                    "sensitivity", "specificity", "sensitivity", "specificity",
                                    "accuracy", "precision", "negative predictive value"));
  EXPECT_THAT(row.cells,
              ElementsAre("90 % sensitivity", "0.410", "0.900", "0.600", "0.510 0.506 … 0.513",
                          "0.520 0.516 … 0.523", "0.530 0.526 … 0.533", "0.540 0.536 … 0.543",
                          "0.550 0.546 … 0.553"));
}

TEST(Judged, Calibration_HasEachNumberUnderItsHeading_BeforeAndAfter) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  EvaluationReport& model = fake.view.models[0];
  for (Calibration* c : {&model.before, &model.after}) {
    const double more = c == &model.before ? 0 : .1;
    c->brier = Of(.11 + more);
    c->slope = {1.22 + more, {1.2 + more, 1.25 + more}};
    c->intercept = {-.33 - more, {-.4 - more, -.3 - more}};
    c->in_the_large = {.44 + more, {.4 + more, .5 + more}};
    c->error = .055 + more;
    c->log_loss = .666 + more;
  }
  const std::string html = RenderJudged(fake.view, fake.manifest);
  const FoundRow before = RowOf(html, "<h3>Calibration", "as it is"),
                 after = RowOf(html, "<h3>Calibration", "after temperature");
  EXPECT_THAT(before.head,
              ElementsAre("", "Brier score ↓", "slope (1 is right)", "intercept (0 is right)",
                          "intercept at slope 1", "expected calibration error ↓", "log loss ↓"));
  EXPECT_THAT(before.cells,
              ElementsAre("as it is", "0.110 0.106 … 0.113", "1.22 1.20 … 1.25",
                          "−0.33 −0.40 … −0.30", "+0.44 +0.40 … +0.50", "0.055", "0.666"));
  EXPECT_THAT(after.cells,
              ElementsAre("after temperature", "0.210 0.206 … 0.213", "1.32 1.30 … 1.35",
                          "−0.43 −0.50 … −0.40", "+0.54 +0.50 … +0.60", "0.155", "0.766"));
}

TEST(Judged, Subgroups_HaveEachNumberUnderItsHeading) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  Subgroup row;
  row.column = "clinic";
  row.value = "Vienna";
  row.n = 71;
  row.positives = 32;
  row.lesions = 63;
  row.accuracy = {Of(.81), -.051, .01, .021};
  row.sensitivity = {Of(.82), .062, .01, .002};
  row.specificity = {Of(.83), .5, std::nan(""), std::nan("")};  // Too few to test.
  row.area = {Of(.84), -.073, .01, .999};
  fake.view.models[0].subgroups = {row};
  const std::string html = RenderJudged(fake.view, fake.manifest);
  const FoundRow found = RowOf(html, "All numbers of the subgroups", "Vienna");
  EXPECT_THAT(html, HasSubstr("<b>clinic</b></th></tr><tr><th scope=\"row\">Vienna"));
  EXPECT_THAT(found.head, ElementsAre("subgroup", "images", "positive", "lesions", "accuracy",
                                      "sensitivity", "specificity", "ROC area"));
  EXPECT_THAT(found.cells,
              ElementsAre("Vienna", "71", "32", "63", "0.810 0.806 … 0.813 −0.05, p = 0.021",
                          "0.820 0.816 … 0.823 +0.06, p = 0.002", "0.830 0.826 … 0.833",
                          "0.840 0.836 … 0.843 −0.07, p = 0.999"));
}

TEST(Judged, SaysWhyThereIsNoTest_AndNamesWhatLeaks) {
  const FakeJudged fake = MakeFakeJudged(600, 2, true, kQuick);
  const std::string html = RenderJudged(fake.view, fake.manifest);
  EXPECT_THAT(html, HasSubstr("lesions have more than one test image"));
  EXPECT_THAT(html, HasSubstr("near-duplicate"));
  EXPECT_THAT(html, HasSubstr("the same pixels"));
  EXPECT_THAT(html, HasSubstr("ISIC_1000009.jpg"));
  EXPECT_THAT(WithoutClass(html), Not(HasSubstr("nan")));
}

TEST(Judged, EscapesNames) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  fake.view.models[0].name = fake.view.comparisons[0].first = "<b>&";
  fake.view.models[0].positive = "<i>";
  fake.view.models[0].subgroups[0].value = "<u>";
  const std::string html = RenderJudged(fake.view, fake.manifest);
  for (const char* raw : {"<b>&", "<i>", "<u>"}) EXPECT_THAT(html, Not(HasSubstr(raw)));
}

TEST(Judged, IsNothing_WhereNothingWasJudged) {
  EXPECT_EQ(RenderJudged({}, {}), "");
  JudgedView view;
  view.leaks = LeakReport{};
  view.leaks->not_looked_for = "there are no fingerprints of the images";
  EXPECT_THAT(RenderJudged(view, {}), HasSubstr("were not looked for"));
}

TEST(Judged, WithoutARule_ClaimsNothingOfValidationImages) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  fake.view.models.resize(1);
  fake.view.comparisons.clear();
  EvaluationReport& model = fake.view.models[0];
  model.rule_unknown = true;
  model.runs = 1;
  model.validation_images = 0;
  model.operating_points.clear();
  const std::string html = RenderJudged(fake.view, fake.manifest);
  EXPECT_THAT(html, HasSubstr("At a threshold of .5, of 100 "));
  EXPECT_THAT(html, HasSubstr("no temperature is known"));
  EXPECT_THAT(html, HasSubstr("Not available: the validation images that would choose"));
  for (const char* claim : {"validation images chose", "validation-chosen", "after temperature",
                            "fitted on the validation", "(Youden)"}) {
    EXPECT_THAT(html, Not(HasSubstr(claim)));
  }
  EXPECT_THAT(WithoutClass(html), Not(HasSubstr("nan")));
}

TEST(Judged, BearsNumbersThatAreNotThere) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EvaluationReport& model = fake.view.models[0];
  for (Estimate* e : {&model.at_half.precision, &model.before.slope, &model.after.slope,
                      &model.operating_points[0].precision}) {
    *e = {nan, {nan, nan}};
  }
  model.operating_points[3].threshold = std::numeric_limits<double>::infinity();
  model.temperature.at_bound = true;
  model.subgroups.clear();
  const std::string html = RenderJudged(fake.view, fake.manifest);
  EXPECT_THAT(WithoutClass(html), Not(HasSubstr("nan")));
  EXPECT_THAT(html, HasSubstr("nobody"));
  EXPECT_THAT(html, HasSubstr("at its bound"));
  EXPECT_THAT(html, HasSubstr("nothing of its images"));
}

TEST(Judged, DrawsSubgroups_WhereAllAreRight) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  EvaluationReport& model = fake.view.models[0];
  model.at_chosen.recall = {1, {1, 1}};
  ASSERT_FALSE(model.subgroups.empty());
  for (Subgroup& row : model.subgroups) row.sensitivity.estimate = {1, {1, 1}};
  EXPECT_THAT(WithoutClass(RenderJudged(fake.view, fake.manifest)), Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace dermis
