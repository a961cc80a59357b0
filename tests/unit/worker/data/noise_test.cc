#include "worker/data/noise.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/worker/explain/test_data.h"

namespace dermis {
namespace {

v1::ImageSource Noisy(double radius, uint32_t draw) {
  v1::ImageSource source;
  source.mutable_noise()->set_radius(radius);
  source.mutable_noise()->set_draw(draw);
  source.mutable_noise()->set_seed(3);
  return source;
}

TEST(EvaluatedPixels, WithoutNoise_AreTheImagesBytes) {
  const ImageData data = TestImageData(2, 64, 64, 32);
  const auto pixels = EvaluatedPixels(data, v1::ImageSource(), 1);
  ASSERT_TRUE(pixels.ok()) << pixels.status();
  ASSERT_EQ(pixels->size(), data.image_bytes());
  EXPECT_TRUE(std::equal(pixels->begin(), pixels->end(), data.image(1)));
}

TEST(EvaluatedPixels, Noise_IsUniformWithinItsRadius) {
  const ImageData data = TestImageData(1, 64, 64, 32);
  const auto pixels = EvaluatedPixels(data, Noisy(0.02, 0), 0);
  ASSERT_TRUE(pixels.ok()) << pixels.status();
  double sum = 0, squares = 0, largest = 0;
  for (size_t i = 0; i < pixels->size(); ++i) {
    const double noise = (*pixels)[i] - data.image(0)[i];
    sum += noise;
    squares += noise * noise;
    largest = std::max(largest, std::abs(noise));
  }
  const double n = static_cast<double>(pixels->size()), radius = 0.02 * 255;
  EXPECT_LE(largest, radius + 1e-4);  // A pixel's float keeps about 1e-5.
  EXPECT_GT(largest, 0.99 * radius);
  // Four standard errors of a mean and of a variance of uniform numbers.
  EXPECT_NEAR(sum / n, 0, 4 * radius / std::sqrt(3 * n));
  EXPECT_NEAR(squares / n, radius * radius / 3, 4 * radius * radius * std::sqrt(4 / 45.0 / n));
}

TEST(EvaluatedPixels, EachDrawAndImage_HasItsOwnNoise) {
  const ImageData data = TestImageData(2, 64, 64, 32);
  const auto noise = [&](uint32_t draw, uint32_t image) {
    std::vector<float> pixels = *EvaluatedPixels(data, Noisy(0.02, draw), image);
    for (size_t i = 0; i < pixels.size(); ++i) pixels[i] -= data.image(image)[i];
    return pixels;
  };
  EXPECT_EQ(noise(0, 0), noise(0, 0));
  EXPECT_NE(noise(0, 0), noise(1, 0));
  EXPECT_NE(noise(0, 0), noise(0, 1));
}

TEST(EvaluatedPixels, RadiusOutOfRange_IsAnError) {
  const ImageData data = TestImageData(1, 64, 64, 32);
  for (const double radius : {0.0, -0.1, 1.5}) {
    EXPECT_EQ(EvaluatedPixels(data, Noisy(radius, 0), 0).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace dermis
