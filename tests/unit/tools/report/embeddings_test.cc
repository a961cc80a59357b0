// The report's sections on baselines and embeddings.
#include "tools/report/embeddings.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/baselines.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/report/baselines.h"
#include "tools/report/picture.h"

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

TEST(EmbeddingPlots, AreColouredByLabel_AndThoseOfFeaturesMarkTheTestImages) {
  FakeStudy study(60, 32, 1);
  AddFakeEmbeddings(study);
  const auto plots = EmbeddingPlots(study.results, study.Inputs());
  ASSERT_TRUE(plots.ok()) << plots.status();
  ASSERT_EQ(plots->size(), 4u);
  const auto& tested = study.results.test_images();
  const auto is_test = [&](uint32_t image) {
    return std::find(tested.begin(), tested.end(), image) != tested.end();
  };
  for (const EmbeddingPlot& plot : *plots) {
    ASSERT_EQ(plot.images.size(), 60u);
    ASSERT_EQ(plot.scatter.positive.size(), 60u);
    ASSERT_EQ(plot.scatter.marked.size(), plot.features ? 60u : 0u);
    for (size_t i = 0; i < plot.images.size(); ++i) {
      const uint32_t image = plot.images[i];
      EXPECT_EQ(plot.scatter.positive[i],
                study.images->manifest().images(static_cast<int>(image)).label() == 1);
      EXPECT_EQ(plot.parts[i] == 2, is_test(image)) << image;
      if (plot.features) {
        EXPECT_EQ(plot.scatter.marked[i], is_test(image)) << image;
      }
    }
  }
  EXPECT_FALSE(plots->front().features);
  EXPECT_TRUE(plots->back().features);
}

// The "d" of the path of exactly this class; empty without one.
std::string PathOf(const std::string& svg, const std::string& style) {
  const std::string begin = "<path class=\"" + style + "\" d=\"";
  const size_t at = svg.find(begin);
  if (at == std::string::npos) return "";
  return svg.substr(at + begin.size(), svg.find('"', at + begin.size()) - at - begin.size());
}

TEST(Scatter, DrawsEachPointInItsClassesColour_FaintWhereItIsNotMarked) {
  Scatter scatter;
  // From left to right, a different number of each style.
  for (int i = 0; i < 10; ++i) {
    scatter.points.push_back(static_cast<float>(i));
    scatter.points.push_back(0);
    scatter.positive.push_back(i >= 1 && i < 6);           // 1 .. 5
    scatter.marked.push_back(i < 1 || (i >= 3 && i < 8));  // 0, 3 .. 7
  }
  const auto places = [](const std::string& path) {
    std::vector<double> x;
    for (const absl::string_view point : absl::StrSplit(path, 'M', absl::SkipEmpty())) {
      x.push_back(std::strtod(std::string(point).c_str(), nullptr));
    }
    return x;
  };
  const auto all = [&] {
    Scatter plain = scatter;
    plain.marked.clear();
    plain.positive.assign(10, false);
    return places(PathOf(ScatterSvg(plain), "points few"));
  }();
  ASSERT_EQ(all.size(), 10u);
  ASSERT_TRUE(std::is_sorted(all.begin(), all.end()));
  const std::string svg = ScatterSvg(scatter);
  const auto due = [&](std::initializer_list<size_t> which) {
    std::vector<double> x;
    for (const size_t i : which) x.push_back(all[i]);
    return x;
  };
  EXPECT_EQ(places(PathOf(svg, "points few")), due({0, 6, 7}));
  EXPECT_EQ(places(PathOf(svg, "points b few")), due({3, 4, 5}));
  EXPECT_EQ(places(PathOf(svg, "points faint few")), due({8, 9}));
  EXPECT_EQ(places(PathOf(svg, "points b faint few")), due({1, 2}));
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

// The page's picture of a baseline of 3 x 3 pixels.
std::string BaselinePage(bool regression, const std::vector<float>& importance) {
  FakeStudy study(60, 32, 1);
  v1::BaselineResult& baseline = *study.results.add_baselines();
  baseline.set_size(3);
  v1::BaselineTask& task = *baseline.add_points()->mutable_task();
  if (regression) {
    task.mutable_logistic()->set_penalty(v1::PENALTY_L2);
    task.mutable_logistic()->set_c(1);
  } else {
    task.mutable_forest()->set_trees(5);
  }
  baseline.set_chosen(0);
  v1::Payload payload;
  payload.mutable_baseline()->mutable_importance()->Add(importance.begin(), importance.end());
  *baseline.mutable_fit() = study.Store(payload);
  return RenderBaselines(study.results, study.Inputs());
}

TEST(BaselinesSection, MapsShowEachPixelWhereItLies_BySignOrByShare) {
  // Of channels that are summed: the second pixel of the first row, the first of the last.
  std::vector<float> importance(27, 0);
  importance[3 * 1 + 0] = .5f;
  importance[3 * 1 + 2] = 1.5f;
  importance[3 * 6 + 1] = -1;
  const auto picture = [](const Colour& none, const Colour& second, const Colour& seventh) {
    Raster raster{3, 3, 3, {}};
    for (int p = 0; p < 9; ++p) {
      const Colour& colour = p == 1 ? second : p == 6 ? seventh : none;
      raster.data.insert(raster.data.end(), colour.begin(), colour.end());
    }
    return PngUri(raster);
  };
  const Colour red = {255, 0, 81}, half_blue = {128, 197, 253};
  EXPECT_THAT(BaselinePage(true, importance), HasSubstr(picture({255, 255, 255}, red, half_blue)));
  importance[3 * 6 + 1] = 1;  // A share is not negative.
  EXPECT_THAT(BaselinePage(false, importance),
              HasSubstr(picture(Viridis(0), Viridis(1), Viridis(.5))));
}

}  // namespace
}  // namespace dermis
