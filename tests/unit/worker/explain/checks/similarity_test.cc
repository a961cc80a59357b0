#include "worker/explain/checks/similarity.h"

#include <vector>

#include <gtest/gtest.h>

namespace dermis {
namespace {

// 16 x 16 in four columns.
Segmentation FourColumns() {
  Segmentation segmentation{16, 16, 4, {}};
  for (int p = 0; p < 256; ++p) segmentation.labels.push_back(static_cast<uint32_t>(p % 16 / 4));
  return segmentation;
}

TEST(StructuralSimilarity, IsOneForEqualPictures_AndNotDefinedBelowAWindow) {
  std::vector<float> picture(64);
  for (size_t p = 0; p < picture.size(); ++p) picture[p] = static_cast<float>(p % 5) / 5;
  EXPECT_DOUBLE_EQ(*StructuralSimilarity(picture, picture, 8, 8), 1);
  EXPECT_FALSE(StructuralSimilarity(picture, picture, 4, 16));
}

TEST(StructuralSimilarity, OfFlatPictures_ByHand) {
  // No variance: (2 a b + C1) / (a^2 + b^2 + C1), C1 = 1e-4.
  const std::vector<float> a(49, 0.5f), b(49, 0.25f);
  EXPECT_NEAR(*StructuralSimilarity(a, b, 7, 7), (0.25 + 1e-4) / (0.3125 + 1e-4), 1e-12);
}

TEST(Similarity, OfAMapWithItself_IsOne) {
  const std::vector<double> map = {0.3, -2, 1, 0.1};
  const v1::Similarity similarity = SimilarityOf(map, map, FourColumns());
  EXPECT_DOUBLE_EQ(similarity.rank(), 1);
  EXPECT_DOUBLE_EQ(similarity.absolute_rank(), 1);
  EXPECT_DOUBLE_EQ(similarity.ssim(), 1);
}

TEST(Similarity, OfOppositeMaps_DiffersInSignsAlone) {
  const v1::Similarity similarity =
      SimilarityOf({0.3, -2.0, 1.0, 0.1}, {-0.3, 2.0, -1.0, -0.1}, FourColumns());
  EXPECT_DOUBLE_EQ(similarity.rank(), -1);
  EXPECT_DOUBLE_EQ(similarity.absolute_rank(), 1);
  EXPECT_DOUBLE_EQ(similarity.ssim(), 1);
}

TEST(Similarity, DoesNotSeeTheScale) {
  const v1::Similarity similarity =
      SimilarityOf({0.3, -2.0, 1.0, 0.1}, {30.0, -200.0, 100.0, 10.0}, FourColumns());
  EXPECT_DOUBLE_EQ(similarity.rank(), 1);
  EXPECT_NEAR(similarity.ssim(), 1, 1e-12);
}

TEST(Similarity, WithAMapThatDoesNotVary_IsAbsent) {
  const v1::Similarity similarity =
      SimilarityOf({0.3, -2.0, 1.0, 0.1}, {0.0, 0.0, 0.0, 0.0}, FourColumns());
  EXPECT_FALSE(similarity.has_rank());
  EXPECT_FALSE(similarity.has_absolute_rank());
  EXPECT_FALSE(similarity.has_ssim());
}

TEST(RelativeChange, ByHand) {
  EXPECT_DOUBLE_EQ(*RelativeChange({3.0, 4.0}, {3.0, 3.0}), 0.2);
  EXPECT_FALSE(RelativeChange({0.0, 0.0}, {1.0, 1.0}));
}

}  // namespace
}  // namespace dermis
