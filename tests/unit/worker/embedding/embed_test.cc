#include "worker/embedding/embed.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/unit/worker/embedding/test_data.h"

namespace dermis {
namespace {

constexpr uint32_t kImages = 150, kComponents = 6;

// Six directions of falling strength, and a little noise.
ImageData Images() {
  ImageData data;
  data.size = 6;
  data.classes = 2;
  for (uint32_t i = 0; i < kImages; ++i) {
    data.labels.push_back(i % 2);
    data.split.training.push_back(i);
    for (size_t j = 0; j < data.image_bytes(); ++j) {
      double value = 127 + Drawn(3, i, j);
      for (size_t c = 0; c < kComponents; ++c) {
        value += 20 * std::pow(.8, static_cast<double>(c)) * Drawn(1, i, c) * Drawn(2, c, j);
      }
      data.pixels.push_back(static_cast<uint8_t>(std::lround(value)));
    }
  }
  return data;
}

v1::PcaTask Task() {
  v1::PcaTask task;
  task.set_components(kComponents);
  return task;
}

// The largest angle between the spaces that the columns of both scores span, centred as they are.
double LargestAngle(const v1::PcaOutput& a, const v1::PcaOutput& b) {
  const auto basis = [](const v1::PcaOutput& pca) {
    std::vector<std::vector<double>> columns;
    for (uint32_t c = 0; c < kComponents; ++c) {
      std::vector<double> column;
      for (uint32_t i = 0; i < kImages; ++i) {
        column.push_back(pca.scores(static_cast<int>(i * kComponents + c)));
      }
      const double norm =
          std::sqrt(std::inner_product(column.begin(), column.end(), column.begin(), 0.0));
      for (double& value : column) value /= norm;
      columns.push_back(std::move(column));
    }
    return columns;
  };
  // sin of the angle is at most the length of what is left of a unit vector, over all of them.
  double square = 0;
  const auto of = basis(a), in = basis(b);
  for (const auto& column : of) {
    std::vector<double> left = column;
    for (const auto& other : in) {
      const double share = std::inner_product(column.begin(), column.end(), other.begin(), 0.0);
      for (size_t i = 0; i < left.size(); ++i) left[i] -= share * other[i];
    }
    square += std::inner_product(left.begin(), left.end(), left.begin(), 0.0);
  }
  return std::sqrt(square);
}

TEST(RunPca, WithoutProducts_FindsTheSpaceThatProductsGive) {
  const ImageData data = Images();
  std::vector<const uint8_t*> rows;
  for (uint32_t i = 0; i < kImages; ++i) rows.push_back(data.image(i));
  EmbeddedValues products;
  products.pixels = std::make_shared<const Gram>(
      *Gram::FromValues(kImages, GramRows(rows, data.image_bytes(), 0, kImages)));
  const auto exact = RunPca(Task(), data, products), drawn = RunPca(Task(), data, {});
  ASSERT_TRUE(exact.ok() && drawn.ok()) << drawn.status();
  EXPECT_LT(LargestAngle(*drawn, *exact), 1e-4);
  for (int c = 0; c < static_cast<int>(kComponents); ++c) {
    EXPECT_NEAR(drawn->variance(c), exact->variance(c), 1e-6);
  }
  const auto again = RunPca(Task(), data, {});
  EXPECT_EQ(drawn->SerializeAsString(), again->SerializeAsString());
}

TEST(RunPca, WithoutProducts_NeedsAllImagesInMemory) {
  ImageData data = Images();
  data.chunks = std::make_shared<ChunkCache>(std::vector<uint64_t>{}, 0, nullptr);
  EXPECT_EQ(RunPca(Task(), data, {}).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace dermis
