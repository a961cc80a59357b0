// The report's sections on baselines and embeddings.
#include "tools/report/embeddings.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/baselines.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/report/baselines.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

// PCA, one t-SNE and their separation of all images: of pixels, and of features.
void AddFakeEmbeddings(FakeStudy& study) {
  ASSERT_TRUE(ResolveEmbeddings(*study.results.mutable_spec()->mutable_embeddings()).ok());
  const int n = study.images->manifest().images_size();
  for (const bool features : {false, true}) {
    v1::PcaTask pca;
    if (features) pca.mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
    pca.mutable_images()->set_size(32);
    v1::Payload payload;
    for (int i = 0; i < n; ++i) {
      payload.mutable_pca()->add_images(static_cast<uint32_t>(i));
      for (int k = 0; k < 3; ++k) payload.mutable_pca()->add_scores(static_cast<float>((i * 7 + k) % 13));
    }
    payload.mutable_pca()->set_components(3);
    for (double share : {.5, .3, .1}) payload.mutable_pca()->add_variance(share);
    v1::SummaryResult* summary = study.results.add_embeddings();
    *summary->mutable_task()->mutable_pca() = pca;
    *summary->mutable_result() = study.Store(payload);

    payload.Clear();
    for (int i = 0; i < n; ++i) {
      payload.mutable_tsne()->add_images(static_cast<uint32_t>(i));
      payload.mutable_tsne()->add_points(static_cast<float>(i % 11));
      payload.mutable_tsne()->add_points(static_cast<float>(i % 17));
    }
    summary = study.results.add_embeddings();
    *summary->mutable_task()->mutable_tsne()->mutable_pca() = pca;
    summary->mutable_task()->mutable_tsne()->set_perplexity(30);
    *summary->mutable_result() = study.Store(payload);

    payload.Clear();
    for (const std::string space : {"raw", "pca", "tsne of raw"}) {
      v1::Separation& separation = *payload.mutable_separation()->add_spaces();
      separation.set_space(space);
      separation.set_area(.75);
      separation.set_low(.7);
      separation.set_high(.8);
      separation.set_images(50);
    }
    v1::Association& association = *payload.mutable_separation()->add_associations();
    association.set_component(1);
    association.set_property("L*");
    association.set_correlation(-.4);
    association.set_low(-.5);
    association.set_high(-.3);
    summary = study.results.add_embeddings();
    *summary->mutable_task()->mutable_separation()->mutable_pca() = pca;
    *summary->mutable_result() = study.Store(payload);
  }
}

std::string Render(const FakeStudy& study) {
  const auto html = RenderEmbeddings(study.results, study.Inputs());
  EXPECT_TRUE(html.ok()) << html.status();
  return html.value_or("");
}

TEST(EmbeddingsSection, ShowsEachPoint_AndEachSpacesSeparation) {
  FakeStudy study(60, 32, 1);
  EXPECT_EQ(Render(study), "");
  AddFakeEmbeddings(study);
  const std::string html = Render(study);
  EXPECT_EQ(Count(html, "<figure class=\"scatter\""), 4u);
  EXPECT_EQ(Count(html, "h0M") + Count(html, "h0\"/>"), 4u * (60 + 2))
      << "each image, and two in the legend";
  EXPECT_THAT(html, AllOf(HasSubstr("PC1, 50 % of the variance"), HasSubstr("t-SNE of pixels"),
                          HasSubstr("0.700 – 0.800"), HasSubstr("<b>-0.40</b>")));
  EXPECT_EQ(Count(html, "id=\"scatter-atlas\""), 1u);
  EXPECT_EQ(Count(html, "<script>"), 1u);
  EXPECT_LT(html.find("The images’ pixels"), html.find("What the network makes"));
}

TEST(EmbeddingsSection, NamesFromOutside_DoNotEndTheScript) {
  FakeStudy study(60, 32, 1);
  AddFakeEmbeddings(study);
  auto& manifest = const_cast<v1::ImageSetManifest&>(study.images->manifest());
  manifest.mutable_images(3)->set_name("</script><script>alert(1)</script>");
  manifest.set_classes(1, "</script><b>");
  const std::string html = Render(study);
  EXPECT_EQ(Count(html, "</script>"), 2u) << "the data's and the script's own ends";
  EXPECT_THAT(html, Not(HasSubstr("alert(1)</script>")));
}

TEST(EmbeddingsSection, WhatIsNotThereYetIsSaid) {
  FakeStudy study(60, 32, 1);
  AddFakeEmbeddings(study);
  study.results.mutable_embeddings(1)->clear_result();
  study.results.mutable_embeddings(3)->clear_result();
  const std::string html = Render(study);
  EXPECT_THAT(html, HasSubstr("Some of it is not computed yet"));
  EXPECT_THAT(html, HasSubstr("Not computed yet"));
}

TEST(BaselinesSection, ShowsTheGrid_TheChoice_AndWhereItLooks) {
  FakeStudy study(60, 32, 1);
  EXPECT_EQ(RenderBaselines(study.results, study.Inputs()), "");
  v1::BaselineResult& baseline = *study.results.add_baselines();
  baseline.set_name("logistic regression");
  baseline.set_size(8);
  for (int k = 0; k < 4; ++k) {
    v1::BaselinePoint& point = *baseline.add_points();
    point.mutable_task()->mutable_logistic()->set_penalty(k < 2 ? v1::PENALTY_L1 : v1::PENALTY_L2);
    point.mutable_task()->mutable_logistic()->set_c(k % 2 == 0 ? .1 : 1);
    point.set_mean(.6 + .02 * k);
    for (int fold = 0; fold < 10; ++fold) point.add_accuracy(.6);
  }
  EXPECT_THAT(RenderBaselines(study.results, study.Inputs()), HasSubstr("not through yet"));
  baseline.set_chosen(3);
  baseline.set_on_edge(true);
  v1::Payload payload;
  payload.mutable_baseline()->mutable_importance()->Resize(8 * 8 * 3, .5f);
  *baseline.mutable_fit() = study.Store(payload);
  const std::string html = RenderBaselines(study.results, study.Inputs());
  EXPECT_THAT(html, AllOf(HasSubstr("Taken: <b>l2, C = 1</b>, accuracy 0.660 over 10 folds"),
                          HasSubstr("edge of its grid"), HasSubstr("coefficients of each pixel"),
                          HasSubstr("weaker penalty to the right")));
}

}  // namespace
}  // namespace dermis
