#include "worker/embedding/image_properties.h"

#include <vector>

#include <gtest/gtest.h>

namespace dermis {
namespace {

TEST(ImageProperties, AreMeansOfLesionAndSkin) {
  // One white pixel of lesion, three black ones of skin.
  const std::vector<uint8_t> rgb = {255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const absl::StatusOr<ImageProperties> found = PropertiesOf(rgb, {255, 0, 0, 0});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->lesion_fraction, 0.25);
  EXPECT_NEAR((*found->lesion_colour)[0], 100, 1e-3);
  EXPECT_NEAR((*found->skin_colour)[0], 0, 1e-9);
  EXPECT_NEAR(found->colour[0], 25, 1e-3);
}

TEST(ImageProperties, BlueIsALowB) {
  const absl::StatusOr<ImageProperties> found =
      PropertiesOf(std::vector<uint8_t>{0, 0, 255}, {});
  ASSERT_TRUE(found.ok());
  // skimage.color.rgb2lab of pure blue.
  EXPECT_NEAR(found->colour[0], 32.2957, 1e-3);
  EXPECT_NEAR(found->colour[1], 79.1875, 2e-2);
  EXPECT_NEAR(found->colour[2], -107.8602, 2e-2);
  EXPECT_FALSE(found->lesion_fraction);
  EXPECT_FALSE(found->lesion_colour);
}

TEST(ImageProperties, HaveNoColour_WhereThereIsNoPixel) {
  const std::vector<uint8_t> rgb(6, 100);
  const absl::StatusOr<ImageProperties> none = PropertiesOf(rgb, {0, 0});
  EXPECT_EQ(none->lesion_fraction, 0);
  EXPECT_FALSE(none->lesion_colour);
  EXPECT_TRUE(none->skin_colour);
  EXPECT_FALSE(PropertiesOf(rgb, {1, 1})->skin_colour);
  EXPECT_FALSE(PropertiesOf(rgb, {1}).ok());
  EXPECT_FALSE(PropertiesOf({}, {}).ok());
}

}  // namespace
}  // namespace dermis
