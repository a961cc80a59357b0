#include "tools/report/report.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/metrics.h"
#include "common/resize.h"
#include "common/split.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/report/picture.h"
#include "tools/report/plot.h"
#include "tools/report/waterfall.h"
#include "worker/training/augmentation.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Render(const FakeStudy& study) {
  auto html = RenderReport(study.results, study.Inputs());
  EXPECT_TRUE(html.ok()) << html.status();
  return html.ok() ? *html : "";
}

size_t Count(const std::string& text, const std::string& word) {
  size_t count = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

TEST(ReportTest, Numbers_AreThoseOfTheStoredLogits) {
  const FakeStudy study(200, 32, 2);
  std::vector<double> p;
  std::vector<uint32_t> y;
  for (int i = 0; i < study.results.test_images_size(); ++i) {
    p.push_back(Softmax({study.results.test_logits().data() + 2 * i, 2}).back());
    y.push_back(study.images->manifest().images(study.results.test_images(i)).label());
  }
  const Evaluation e = Evaluate(p, y);
  const std::string html = Render(study);
  std::string row = "This study</th>";
  for (double v : {e.accuracy, e.precision, e.fpr_of_all, e.fnr_of_all, e.fpr_of_class, e.fnr_of_class,
                   e.sensitivity, e.specificity, e.roc_area, e.average_precision}) {
    row += absl::StrFormat("<td>%.3f</td>", v);
  }
  EXPECT_THAT(html, HasSubstr(row));
  EXPECT_THAT(html, HasSubstr(absl::StrFormat(">%d</text><text class=\"what\" text-anchor=\"middle\"", e.false_negative)));
  EXPECT_THAT(html, HasSubstr(absl::StrFormat("%d false negatives, %d false positives", e.false_negative, e.false_positive)));
  EXPECT_THAT(html, HasSubstr("<td>0.872</td><td>0.764</td><td>0.080</td><td>0.071</td>"));   // The seed's.
}

TEST(ReportTest, Provenance_NamesDigestsEpochsAndTheRemainder) {
  const FakeStudy study(200, 32, 1);
  const std::string html = Render(study);
  EXPECT_THAT(html, HasSubstr(Sha256Of("set").hex()));
  EXPECT_THAT(html, HasSubstr(Sha256Of("weights").hex()));
  EXPECT_THAT(html, HasSubstr("38 of at most 60; best epoch 30"));
  EXPECT_THAT(html, HasSubstr("training steps are always full"));
  EXPECT_THAT(html, HasSubstr("cpu/avx512_core_amx"));
  EXPECT_THAT(html, HasSubstr("early_stopping:"));
}

TEST(ReportTest, ModelCard_NamesVersionsSeedsAndHours) {
  FakeStudy study(200, 32, 1);
  study.results.set_numerics_class(
      "cuda/NVIDIA_H100/sm_90x132/cuda-13.0/cudnn-9.19.0/avx512_core_amx/torch-2.11.0/"
      "onednn-3.10.2/dnnl-2.6.3/"
      "gcc-12.2.0/glibc-2.36/5c5cbccb65aa7d63/0123456789abcdef");
  EXPECT_THAT(Render(study), HasSubstr("Dermis 0.1.0, CUDA 13.0, cuDNN 9.19.0, LibTorch 2.11.0, "
                                       "its oneDNN 3.10.2, oneDNN of the "
                                       "inference plans 2.6.3, GCC 12.2.0, glibc 2.36</dd>"));
  EXPECT_THAT(Render(study), HasSubstr("<dt>seed</dt><dd>1</dd>"));
  EXPECT_THAT(Render(study), HasSubstr("<dt>computing</dt><dd>nothing yet</dd>"));
  for (const uint64_t seed : {4, 5, 6}) study.results.add_seeds()->set_seed(seed);
  EXPECT_THAT(Render(study),
              HasSubstr("<dt>seeds</dt><dd>4; beside it, of the same setting, 5, 6</dd>"));
  v1::StudyStatus& status = *study.results.mutable_status();
  for (int k = 0; k < 2; ++k) status.add_stages()->set_computed(30);
  status.set_used_hours(2.54);
  EXPECT_THAT(Render(study), HasSubstr("<dd>2.5 hours of one worker, for 60 tasks</dd>"));
  status.set_used_hours(.05);
  status.mutable_stages(0)->set_reused(7);
  EXPECT_THAT(Render(study),
              HasSubstr("<dd>3.0 minutes of one worker, for 60 tasks; 7 were there already, and "
                        "their hours are not counted</dd>"));
}

TEST(ReportTest, NamesFromOutside_AreEscaped) {
  FakeStudy study(60, 32, 1);
  auto& manifest = const_cast<v1::ImageSetManifest&>(study.images->manifest());
  const std::string evil = "<script>alert('x')</script>\"&";
  manifest.set_name(evil);
  manifest.set_classes(1, evil);
  manifest.mutable_images(study.results.explained(0).image())->set_name(evil);
  study.results.mutable_explained(0)->set_why(evil);
  study.results.set_numerics_class(evil);
  study.results.mutable_spec()->set_name(evil);
  study.results.mutable_status()->set_id(evil);
  const std::string html = Render(study);
  EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
  EXPECT_EQ(Count(html, "<script"), 1u) << "the page's own";
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"));
}

TEST(ReportTest, IsSelfContained_AndHasAltTexts_AndUniqueIds) {
  const std::string html = Render(FakeStudy(120, 48, 3));
  EXPECT_THAT(html, Not(HasSubstr("http:")));
  EXPECT_THAT(html, Not(HasSubstr("https:")));
  EXPECT_THAT(html, Not(HasSubstr(" src=\"http")));
  EXPECT_THAT(html, Not(HasSubstr("@import")));
  EXPECT_THAT(html, Not(HasSubstr("fetch(")));
  EXPECT_THAT(html, Not(HasSubstr("url(data")));
  size_t pictures = 0;
  for (size_t at = html.find("<img "); at != std::string::npos; at = html.find("<img ", at + 1)) {
    const std::string tag = html.substr(at, html.find('>', at) - at);
    EXPECT_THAT(tag, testing::ContainsRegex(" alt=\"[^\"]+\"")) << tag.substr(0, 100);
    ++pictures;
  }
  EXPECT_GT(pictures, 30u);
  EXPECT_EQ(Count(html, "role=\"img\""), Count(html, "role=\"img\" aria-label=\""));
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(Count(html, absl::StrFormat("id=\"picture%d\"", i)), 1u);
    EXPECT_EQ(Count(html, absl::StrFormat("id=\"case%d\"", i)), 1u);
  }
  EXPECT_EQ(html, Render(FakeStudy(120, 48, 3))) << "a report is deterministic";
}

TEST(ReportTest, FirstScreen_SaysHowGoodItIs_AndWhatSpeaksAgainstIt_BeforeAnythingElse) {
  FakeStudy study(200, 32, 1);
  const Split split = *MakeSplit(study.images->manifest(), study.results.spec().images().split(), 1);
  for (const uint32_t image : split.validation) {
    study.results.add_validation_images(image);
    const float margin = study.images->manifest().images(static_cast<int>(image)).label() ? 1.f : -1.f;
    study.results.add_validation_logits(-margin + 0.1f * static_cast<float>(image % 7));
    study.results.add_validation_logits(margin);
  }
  const std::string html = Render(study);
  const std::string first = html.substr(0, html.find("<section"));
  EXPECT_THAT(first, testing::ContainsRegex("Of 100 malignant images the network finds <b>[0-9]+</b> \\([0-9]+ – [0-9]+\\)"));
  EXPECT_THAT(first, HasSubstr("Not for clinical use"));
  EXPECT_THAT(first, HasSubstr("Spread over training seeds not available: one training."));
  EXPECT_THAT(html, HasSubstr("Spread over training seeds not available: one training.</p>"));
  EXPECT_THAT(first, HasSubstr("set does not say which lesion or patient"));

  // Of a sweep with several seeds it is there, beside the intervals of the one model.
  study.results.mutable_spec()->mutable_sweep()->set_seeds(3);
  for (int k = 0; k < 3; ++k) {
    v1::SeedResult& seed = *study.results.add_seeds();
    seed.set_seed(static_cast<uint64_t>(1 + k));
    *seed.mutable_test_logits() = study.results.test_logits();
    *seed.mutable_validation_logits() = study.results.validation_logits();
    // Each has some wrong that the others have right.
    for (int i = 2 * k; i + 1 < seed.test_logits_size(); i += 14) {
      if (k > 0)
        std::swap(*seed.mutable_test_logits()->Mutable(i),
                  *seed.mutable_test_logits()->Mutable(i + 1));
    }
  }
  study.results.mutable_test_use()->set_models(3);
  study.results.mutable_test_use()->set_evaluations(1);
  study.results.mutable_test_use()->set_studies(1);
  const std::string seeds = Render(study);
  const std::string screen = seeds.substr(0, seeds.find("<section"));
  EXPECT_THAT(screen, HasSubstr("trained with 3 seeds: area under ROC <b>0."));
  EXPECT_THAT(screen, testing::ContainsRegex(" · 3 seeds 0\\.[0-9]+ ± 0\\.[0-9]+</small>"));
  EXPECT_THAT(
      screen,
      testing::ContainsRegex(
          "The mean of their scores reaches an area of <b>[01]\\.[0-9]+</b> \\([01]\\.[0-9]+ – "));
  EXPECT_THAT(screen, HasSubstr("1 model (3 trainings: those of one setting with other seeds are "
                                "one model) was evaluated on "
                                "images of this test split, in 1 study of this cluster."));
  EXPECT_THAT(screen, Not(HasSubstr("not available: one training")));
  EXPECT_THAT(seeds, HasSubstr("<small>seeds 0."));
  EXPECT_THAT(seeds, HasSubstr("<th>range</th>"));
}

TEST(ReportTest, Flow_CountsEveryImageOnce_AndSaysWhatWasLeftOut) {
  FakeStudy study(200, 32, 1);
  auto& manifest = const_cast<v1::ImageSetManifest&>(study.images->manifest());
  v1::LeftOutFiles& files = *manifest.add_left_out();
  files.set_reason("no picture that can be decoded");
  files.set_files(3);
  const std::string html = Render(study);
  const Split split = *MakeSplit(manifest, study.results.spec().images().split(), 1);
  EXPECT_THAT(html, HasSubstr(absl::StrFormat("Flow of the images: 203 received, 3 left out, %d for training, %d for validation, %d for test",
                                              split.training.size(), split.validation.size(), split.test.size())));
  EXPECT_THAT(html, HasSubstr(">3: no picture that can be decoded<"));
}

TEST(ReportTest, EveryCase_CanBeFilteredByOutcomeConfidenceAndMethod) {
  const FakeStudy study(120, 48, 3);
  const std::string html = Render(study);
  EXPECT_EQ(Count(html, "<article class=\"case\""), 3u);
  EXPECT_EQ(Count(html, " data-cell=\""), 3u);
  EXPECT_EQ(Count(html, " data-confidence=\"0."), 3u);
  EXPECT_EQ(Count(html, "<div class=\"of-method\" data-method=\"LIME · SLIC\">"), 3u);
  EXPECT_EQ(Count(html, "<div class=\"of-method\" data-method=\"Activation maps\">"), 3u);
}

TEST(ReportTest, ModelCard_HasTheSeedsTable2) {
  const FakeStudy study(60, 32, 0);
  const std::string html = Render(study);
  // What Keras counts for the seed paper's network: 292,898 parameters, 896 of them running statistics.
  EXPECT_THAT(html, HasSubstr("292898 parameters: 292002 are trained, 896 are running statistics"));
  EXPECT_THAT(html, HasSubstr("intended use"));
}

TEST(ReportTest, Size_StaysBelowHalfAMegabyteAnImage) {
  const std::string html = Render(FakeStudy(60, 224, 3));
  const size_t begin = html.find("<article"), end = html.rfind("</article>");
  ASSERT_NE(begin, std::string::npos);
  EXPECT_LT((end - begin) / 3, 512u << 10);
  EXPECT_LT(html.size(), 5u << 20);
}

TEST(ReportTest, AugmentedSamples_AreWhatTheNetworkSaw) {
  FakeStudy study(120, 64, 0);
  v1::AugmentationSpec& augmentation = *study.results.mutable_spec()->mutable_training()->mutable_augmentation();
  augmentation.set_hue(0.2);
  augmentation.mutable_crop()->set_min_area(0.4);
  const std::string html = Render(study);
  EXPECT_THAT(html, HasSubstr("rotation ±15°, shifts ±10 %, horizontal flip, crop to 40 – 100 % of the area"));
  EXPECT_THAT(html, HasSubstr("hue ±72°"));
  EXPECT_EQ(Count(html, "<img class=\"sample\""), 4u * 6u);

  const v1::StudySpec& spec = study.results.spec();
  const uint32_t image = MakeSplit(study.images->manifest(), spec.images().split(), spec.seed())->training[0];
  std::vector<uint8_t> input(32 * 32 * 3);
  AreaResizeBytes(reinterpret_cast<const uint8_t*>(study.images->Pixels(image)->data()), 64, 64, 3, input.data(), 32, 32);
  EXPECT_THAT(html, HasSubstr(PngUri({32, 32, 3, input})));
  std::vector<float> seen(input.size());
  for (uint32_t epoch = 1; epoch <= 5; ++epoch) {
    AugmentImage(input.data(), 32, DrawAugmentation(RangesOf(augmentation), spec.seed(), epoch, image, 32), {0, 1},
                 seen.data());
    Raster raster{32, 32, 3, {}};
    for (float v : seen) raster.data.push_back(static_cast<uint8_t>(std::lround(v)));
    EXPECT_THAT(html, HasSubstr(PngUri(raster))) << epoch;
  }
}

TEST(ReportTest, WithoutAugmentation_NothingIsShownButThat) {
  FakeStudy study(60, 32, 0);
  study.results.mutable_spec()->mutable_training()->set_augment(false);
  const std::string html = Render(study);
  EXPECT_THAT(html, HasSubstr("No augmentation"));
  EXPECT_EQ(Count(html, "class=\"sample\""), 0u);
  // A set that is too small for the model: the rest of the report stands.
  EXPECT_THAT(Render(FakeStudy(60, 16, 0)), HasSubstr("Augmented samples cannot be shown: "));
}

TEST(ReportTest, LayerWithoutPositiveEvidence_IsLabelled) {
  EXPECT_THAT(Render(FakeStudy(60, 32, 1)), HasSubstr("no positive evidence</text>"));   // conv2 of the fake.
}

TEST(ReportTest, Baselines_StandBeneathTheNetwork_ByTheirOwnPredictionAndTheirOwnOutput) {
  FakeStudy study(60, 64, 2);
  study.AddBaseline("random forest", 32, v1::OUTPUT_KIND_PROBABILITY);
  study.AddBaseline("logistic regression", 16, v1::OUTPUT_KIND_MARGIN);
  // The forest contradicts the network on the first image.
  const v1::ExplainedImage& first = study.results.explained(0);
  for (int i = 0; i < study.results.test_images_size(); ++i) {
    if (study.results.test_images(i) != first.image()) continue;
    const bool malignant = study.results.test_logits(2 * i + 1) > study.results.test_logits(2 * i);
    study.results.mutable_baselines(0)->set_test_logits(2 * i + 1, malignant ? -1 : 1);
    study.results.mutable_baselines(1)->set_test_logits(2 * i + 1, malignant ? 1 : -1);
  }
  const std::string html = *RenderReport(study.results, study.Inputs());
  const auto from = html.find("id=\"case1\""), to = html.find("</article>", from);
  const std::string article = html.substr(from, to - from);
  const auto forest = article.find("<h4>Random forest, 32 px"),
             regression = article.find("<h4>Logistic regression, 16 px");
  ASSERT_NE(forest, std::string::npos);
  ASSERT_NE(regression, std::string::npos);
  const std::string of_forest = article.substr(forest, regression - forest),
                    of_network = article.substr(0, forest);
  const std::string says = of_network.find("predicted malignant") != std::string::npos
                               ? "predicts benign"
                               : "predicts malignant";
  EXPECT_THAT(of_forest, AllOf(HasSubstr(says), HasSubstr("probability of malignant"),
                               HasSubstr("Its f is the probability of malignant.")));
  EXPECT_THAT(article.substr(regression),
              Not(AnyOf(HasSubstr(says), HasSubstr("Its f is the probability"))));
  // Each method is there once a model: the reader's choice of a method holds for all of them.
  for (const char* row :
       {"<tr data-method=\"LIME · SLIC\"", "<tr data-method=\"Shapley · quickshift\""}) {
    EXPECT_EQ(Count(article, row), 3u) << row;
  }
  EXPECT_THAT(html, HasSubstr("a forest’s is the probability"));
  // One that is not there yet is said to be missing, and the others are shown.
  study.payloads.erase(first.baselines(0).results(0).result().task());
  EXPECT_THAT(*RenderReport(study.results, study.Inputs()), HasSubstr("no such payload"));
}

// A probability of nearly 1 whatever is hidden: LIME's coefficients are all but 0, the margin's are
// not.
TEST(ReportTest, LimeOfAProbabilityThatHardlyMoves_IsSaid_WithTheMarginsFitBesideIt) {
  FakeStudy study(60, 32, 1);
  v1::MethodResult& lime = *study.results.mutable_explained(0)->mutable_results(0);
  lime.mutable_task()->mutable_fit()->set_output(v1::OUTPUT_KIND_PROBABILITY);
  *lime.mutable_margin() = study.Store(study.payloads.at(lime.result().task()));
  v1::Attribution& fit = *study.payloads.at(lime.result().task()).mutable_fit();
  const std::string note = "no coefficient reaches 0.01: the probability hardly changes";
  const std::string row = "<th scope=\"row\">LIME · SLIC, of the margin</th>";
  const std::string figure = "<b>LIME · SLIC, of the margin</b>";

  fit.set_values(3, .02);  // It does move.
  std::string html = Render(study);
  EXPECT_THAT(html, HasSubstr(row));
  EXPECT_THAT(html, Not(HasSubstr(note)));
  EXPECT_THAT(html, Not(HasSubstr(figure)));

  for (double& value : *fit.mutable_values()) value = 1e-5;
  html = Render(study);
  EXPECT_THAT(html, HasSubstr(note));
  EXPECT_EQ(Count(html, row), 1u);
  EXPECT_EQ(Count(html, figure), 2u) << "its outlines and its signs";

  lime.clear_margin();
  html = Render(study);
  EXPECT_THAT(html, HasSubstr(note));
  EXPECT_THAT(html, Not(HasSubstr("of the margin")));
}

TEST(ReportTest, OfMasksRunInBf16_NoAdditivityResidualIsGiven) {
  FakeStudy study(60, 32, 1);
  const std::string cell = "<td class=\"none\">not available: bf16</td>";
  EXPECT_THAT(Render(study), Not(HasSubstr(cell)));
  size_t shapley = 0;
  for (v1::MethodResult& result : *study.results.mutable_explained(0)->mutable_results()) {
    result.mutable_task()->mutable_fit()->mutable_perturbation()->set_precision(v1::PRECISION_BF16);
    shapley += result.method().has_shapley();
  }
  ASSERT_GT(shapley, 0u);
  EXPECT_EQ(Count(Render(study), cell), shapley) << "LIME has none anyhow";
}

TEST(ReportTest, WhatIsMissing_IsSaid) {
  FakeStudy study(60, 32, 2);
  study.results.mutable_explained(0)->mutable_results(0)->mutable_result()->Clear();
  study.payloads.erase(study.results.explained(1).results(2).result().task());
  std::string html = Render(study);
  EXPECT_THAT(html, HasSubstr("<b>LIME · SLIC</b> is not computed yet"));
  EXPECT_THAT(html, HasSubstr("<b>Shapley · SLIC</b> no such payload"));

  study.results.clear_test_images();
  study.results.clear_test_logits();
  study.results.clear_training();
  html = Render(study);
  EXPECT_THAT(html, HasSubstr("not evaluated yet"));
  EXPECT_THAT(html, HasSubstr("No epoch is completed yet"));
}

TEST(ReportTest, AttributionsThatDoNotFit_AreNamed_NotDrawn) {
  FakeStudy study(60, 32, 1);
  auto& fit = *study.payloads[study.results.explained(0).results(0).result().task()].mutable_fit();
  fit.mutable_values()->Truncate(3);
  EXPECT_THAT(Render(study), HasSubstr("<b>LIME · SLIC</b> attribution, superpixels and picture differ in size"));
  study.results.mutable_explained(0)->set_image(999);
  EXPECT_FALSE(RenderReport(study.results, study.Inputs()).ok());
  study.results.mutable_explained(0)->set_image(0);
  study.results.add_test_logits(0);
  EXPECT_FALSE(RenderReport(study.results, study.Inputs()).ok());
}

TEST(ReportTest, Scores_HaveARowATestImage_AndReadBackExactly) {
  FakeStudy study(80, 16, 0);
  auto& manifest = const_cast<v1::ImageSetManifest&>(study.images->manifest());
  manifest.mutable_images(study.results.test_images(0))->set_name("a,\"b\"");
  TestFolder folder;
  const std::string path = folder / "scores.csv";
  ASSERT_TRUE(WriteScoresCsv(study.results, manifest, path).ok());
  const std::string csv = FileBytes(path);
  EXPECT_EQ(Count(csv, "\r\n"), static_cast<size_t>(study.results.test_images_size()) + 1);
  EXPECT_THAT(csv, HasSubstr("index,image,label,predicted,probability,margin,logit_benign,logit_malignant\r\n"));
  EXPECT_THAT(csv, HasSubstr(absl::StrFormat("%d,\"a,\"\"b\"\"\",", study.results.test_images(0))));
  const size_t comma = csv.rfind(',');
  EXPECT_EQ(std::stof(csv.substr(comma + 1)), study.results.test_logits(study.results.test_logits_size() - 1));
  EXPECT_EQ(WriteScoresCsv(study.results, manifest, folder / "none/scores.csv").code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(CountFiles(folder.path()), 1);
}

TEST(WaterfallTest, AddsUpFromAllHiddenToTheImage_TheStrongestFirst) {
  v1::Attribution fit;
  fit.set_hidden(-1);
  fit.set_full(1.5);
  for (const double value : {.1, -.5, 3.0, .1, .1, .1, .1, .1, -.6}) fit.add_values(value);
  Scene scene;
  scene.width = scene.height = 3;
  scene.positive = "<malignant>";
  const std::string html = RenderWaterfall(scene, fit, "Shapley");
  // The strongest, then the next ones, then all that is left.
  EXPECT_THAT(html,
              ContainsRegex("all hidden.*−1\\.000.*>1<.*\\+3\\.000.*>2<.*−0\\.600.*>3<.*−0\\.500.*"
                            "2 others.*\\+0\\.200.*the image.*1\\.500"));
  EXPECT_THAT(html, AllOf(HasSubstr("&lt;malignant&gt;"), Not(HasSubstr("<malignant>"))));
  std::vector<int> labels(9);
  std::iota(labels.begin(), labels.end(), 0);
  EXPECT_THAT(WaterfallNumbers(scene, fit, labels), ContainsRegex("x=\"2\" y=\"0\"[^>]*>1<"));
  // Nothing to add up, nothing to show.
  v1::Attribution flat;
  flat.add_values(0);
  EXPECT_EQ(RenderWaterfall(scene, flat, "Shapley"), "");
}

TEST(PictureTest, LargestTowards_TakesOnlyEvidenceForThatSide) {
  const std::vector<double> values = {.1, -.5, .3, 0, .3, -.2};
  EXPECT_THAT(LargestTowards(values, 1, 5), ElementsAre(2, 4, 0));
  EXPECT_THAT(LargestTowards(values, -1, 1), ElementsAre(1));
  EXPECT_THAT(LargestByMagnitude(values, 3), ElementsAre(1, 2, 4));
}

TEST(PictureTest, PixelPercentile_WeighsSuperpixelsByTheirPixels) {
  const std::vector<double> values = {1, -3};
  EXPECT_EQ(PixelPercentile(values, std::vector<int>{0, 0, 0, 1}, 50), 1);
  EXPECT_EQ(PixelPercentile(values, std::vector<int>{0, 1}, 50), 2);   // numpy.percentile([1, 3], 50)
  EXPECT_EQ(PixelPercentile(values, std::vector<int>{0, 1}, 100), 3);
}

TEST(PictureTest, NormaliseCam_FollowsScaleCamImage_AndKnowsNoEvidence) {
  const std::vector<float> cam = {-1, 1, 3};
  EXPECT_THAT(*NormaliseCam(cam, 1), ElementsAre(0, ::testing::FloatNear(1 / 3.f, 1e-6), ::testing::FloatNear(1, 1e-6)));
  EXPECT_THAT(*NormaliseCam(cam, -1), ElementsAre(::testing::FloatNear(1, 1e-6), 0, 0));
  EXPECT_FALSE(NormaliseCam(std::vector<float>{-1, 0}, 1).has_value());
}

TEST(PictureTest, OutlinePath_FollowsPixelEdgesOfTheChosen) {
  const std::vector<int> labels = {-1, -1, -1,   //
                                   -1, 4,  7,    //
                                   -1, -1, -1};
  EXPECT_EQ(OutlinePath(labels, 3, 3), "M1 1h2M1 2h2M1 1v1M2 1v1");
  EXPECT_EQ(OutlinePath(std::vector<int>{-1, -2, -3, -4}, 2, 2), "");
}

TEST(PictureTest, Overlays_ColourBySign) {
  const std::vector<double> values = {2, -1, .5};
  const std::vector<int> labels = {0, 1, 2};
  EXPECT_THAT(ShapleyOverlay(values, labels, 3, 1, 2).data,
              ElementsAre(255, 0, 81, 255, 0, 139, 251, 128, 255, 0, 81, 64));
  EXPECT_THAT(SignOverlay(values, {0, 1}, -1, labels, 3, 1).data,
              ElementsAre(255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 0, 0));
}

TEST(PictureTest, Tiles_KeepEveryChannel) {
  const std::vector<float> maps = {0, 1, 2, 3, 5, 5, 5, 5};   // Two channels of 2 x 2.
  const Raster tiles = Tiles(maps, 2, 2, 2);
  EXPECT_EQ(tiles.width, 5);
  EXPECT_EQ(tiles.height, 2);
  const Colour low = Viridis(0), high = Viridis(1);
  EXPECT_TRUE(std::equal(low.begin(), low.end(), tiles.data.begin()));
  EXPECT_TRUE(std::equal(high.begin(), high.end(), tiles.data.begin() + (5 + 1) * 4));
  EXPECT_EQ(tiles.data[2 * 4 + 3], 0);   // The gap.
  EXPECT_TRUE(std::equal(low.begin(), low.end(), tiles.data.begin() + 3 * 4));   // A constant channel.
}

TEST(PlotTest, Ticks_AreRoundAndInside) {
  EXPECT_THAT(Ticks(0, 1, 5), ElementsAre(0, .2, .4, ::testing::DoubleNear(.6, 1e-12), .8, 1));
  EXPECT_THAT(Ticks(1, 38, 6), ElementsAre(10, 20, 30));
  EXPECT_THAT(Ticks(1, 1, 5), ElementsAre());
}

TEST(PlotTest, NotFinitePoints_BreakTheLine) {
  Plot plot;
  plot.lines = {{"", "a", {{0, 0}, {.5, NAN}, {1, 1}}}};
  const std::string svg = RenderPlot(plot);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_EQ(Count(svg.substr(svg.find("line a")), "M"), 2u);
}

TEST(GivenModelReport, SaysWhereTheModelIsFrom_AndShowsNoTraining) {
  FakeStudy study(16, 64, 2);
  v1::ModelSpec& model = *study.results.mutable_spec()->mutable_model();
  model.set_file("their <net>.onnx");
  model.set_format(v1::MODEL_FORMAT_ONNX);
  model.mutable_input()->set_range(1);
  study.results.clear_training();
  const auto html = RenderReport(study.results, study.Inputs());
  ASSERT_TRUE(html.ok()) << html.status();
  EXPECT_THAT(*html, HasSubstr("nothing was trained"));
  EXPECT_THAT(*html, HasSubstr("their &lt;net&gt;.onnx"));
  EXPECT_THAT(*html, ::testing::Not(HasSubstr("No epoch is completed yet")));
}

TEST(ManyImagesReport, StaysBelow20MB_ShowsSomeOfEachOutcome_AndSaysHowManyThereAre) {
  FakeStudy study(16, 224, 2);
  const v1::ExplainedImage first = study.results.explained(0), second = study.results.explained(1);
  study.results.clear_explained();
  for (int i = 0; i < 200; ++i) {
    v1::ExplainedImage& image = *study.results.add_explained();
    image = i < 190 ? first : second;
    image.set_why(i < 190 ? "true negative" : "false positive");
  }
  const auto html = RenderReport(study.results, study.Inputs());
  ASSERT_TRUE(html.ok()) << html.status();
  EXPECT_LT(html->size(), 20'000'000u);
  EXPECT_GT(html->size(), 15'000'000u);
  EXPECT_THAT(*html, HasSubstr(" of 200 explained images are shown"));
  EXPECT_EQ(Count(*html, "class=\"why\">false positive"), 10u) << "all of the rare outcome";
  EXPECT_GT(Count(*html, "class=\"why\">true negative"), 10u);
}

}  // namespace
}  // namespace dermis
