// Superpixels and LIME against the real packages, by the goldens of make_goldens.py.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/digest.h"
#include "tools/ingest/decode.h"
#include "worker/explain/composer.h"
#include "worker/explain/lime.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

std::filesystem::path SourceDir() {
  const char* const dir = std::getenv("DERMIS_SOURCE_DIR");
  return dir != nullptr ? dir : ".";
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::string Golden(const std::string& name) {
  std::string bytes = ReadFile(SourceDir() / "tests/parity/explain/golden" / name);
  EXPECT_FALSE(bytes.empty()) << "no golden " << name;
  return bytes;
}

struct GoldenLabels {
  nlohmann::json header;
  std::vector<uint32_t> labels;
};

GoldenLabels ReadLabels(const std::string& name) {
  const std::string bytes = Golden(name);
  const size_t line = bytes.find('\n');
  GoldenLabels golden{nlohmann::json::parse(bytes.substr(0, line)), {}};
  for (size_t i = line + 1; i + 1 < bytes.size(); i += 2) {
    golden.labels.push_back(static_cast<uint8_t>(bytes[i]) | static_cast<uint8_t>(bytes[i + 1]) << 8);
  }
  return golden;
}

// Agreement of two partitions, 1 = equal, 0 = as good as chance (Hubert & Arabie 1985).
double AdjustedRandIndex(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
  std::map<std::pair<uint32_t, uint32_t>, double> both;
  std::map<uint32_t, double> left, right;
  for (size_t i = 0; i < a.size(); ++i) {
    ++both[{a[i], b[i]}];
    ++left[a[i]];
    ++right[b[i]];
  }
  const auto pairs = [](const auto& counts) {
    double sum = 0;
    for (const auto& [key, n] : counts) sum += n * (n - 1) / 2;
    return sum;
  };
  const double n = static_cast<double>(a.size());
  const double expected = pairs(left) * pairs(right) / (n * (n - 1) / 2);
  const double most = (pairs(left) + pairs(right)) / 2;
  return (pairs(both) - expected) / (most - expected);
}

// The same integers as drawn() in make_goldens.py.
std::string Drawn(int height, int width) {
  const auto mod = [](int64_t v, int64_t m) { return static_cast<int>(((v % m) + m) % m); };
  std::string rgb;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      int64_t v[3] = {200 - (x * 60) / width + mod(x * y * 7919, 23) - 11,
                      150 + (y * 50) / height + mod((x * 31 + y * 17) * 7907, 19) - 9,
                      120 + ((x + y) * 40) / (height + width) + mod(x * x + 3 * y, 17) - 8};
      if ((x - 50) * (x - 50) + 2 * (y - 30) * (y - 30) < 900) v[0] -= 90, v[1] -= 80, v[2] -= 50;
      if ((x - 30) * (x - 30) + (y - 55) * (y - 55) < 150) v[0] -= 60, v[1] -= 20, v[2] -= 70;
      for (int64_t c : v) rgb.push_back(static_cast<char>(std::clamp<int64_t>(c, 0, 255)));
    }
  }
  return rgb;
}

// Pixels of a golden's image; empty where the ISIC set is not here.
std::string PixelsOf(const std::string& name) {
  if (name == "drawn") return Drawn(80, 100);
  for (const char* folder : {"benign", "malignant"}) {
    const auto path = SourceDir() / "../shared/data/isic" / folder / (name + ".jpg");
    if (!std::filesystem::exists(path)) continue;
    const auto decoded = DecodeImage(ReadFile(path), 224);
    EXPECT_TRUE(decoded.ok()) << decoded.status();
    std::string middle;
    for (int y = 56; y < 168; ++y) middle += decoded->substr((y * 224 + 56) * 3, 112 * 3);
    return middle;
  }
  return "";
}

class SuperpixelParity : public testing::TestWithParam<const char*> {
 protected:
  // False (and skipped) where the image is not here. Other pixels than the golden's are an error.
  bool Load(const nlohmann::json& header) {
    pixels_ = PixelsOf(GetParam());
    if (pixels_.empty()) return false;
    EXPECT_EQ(Sha256Of(pixels_).hex(), header["pixels"]) << GetParam() << ": decoded otherwise than for the golden";
    return true;
  }
  const uint8_t* rgb() const { return reinterpret_cast<const uint8_t*>(pixels_.data()); }
  std::string pixels_;
};

TEST_P(SuperpixelParity, Slic_IsThatOfSkimage) {
  for (const char* count : {"-50", "-30"}) {
    const GoldenLabels golden = ReadLabels(std::string("slic-") + GetParam() + count);
    if (!Load(golden.header)) GTEST_SKIP() << "no ISIC set beside the checkout: " << GetParam();
    const Segmentation ours = Slic(rgb(), golden.header["height"], golden.header["width"],
                                   {golden.header["count"], golden.header["compactness"],
                                    golden.header["sigma"]});
    EXPECT_GE(AdjustedRandIndex(ours.labels, golden.labels), 0.99) << GetParam() << count;
    EXPECT_EQ(ours.count, *std::max_element(golden.labels.begin(), golden.labels.end()) + 1);
  }
}

TEST_P(SuperpixelParity, Quickshift_IsThatOfSkimage_ButForItsNoise) {
  const GoldenLabels golden = ReadLabels(std::string("quickshift-") + GetParam());
  if (!Load(golden.header)) GTEST_SKIP() << "no ISIC set beside the checkout: " << GetParam();
  const Segmentation ours = Quickshift(rgb(), golden.header["height"], golden.header["width"],
                                       {golden.header["kernel_size"], golden.header["max_dist"],
                                        golden.header["ratio"]});
  EXPECT_GE(AdjustedRandIndex(ours.labels, golden.labels), 0.99) << GetParam();
}

INSTANTIATE_TEST_SUITE_P(Images, SuperpixelParity,
                         testing::Values("drawn", "ISIC_0000012", "ISIC_0000013"));

TEST(LimeParity, Coefficients_AreThoseOfThePackage_FromTheSameMasksAndOutputs) {
  for (const char* name : {"small", "usual", "wide"}) {
    const auto golden = nlohmann::json::parse(Golden(std::string("lime-") + name + ".json"));
    std::vector<Mask> masks;
    for (const std::string row : golden["masks"]) {
      Mask mask;
      for (char bit : row) mask.push_back(bit == '1');
      masks.push_back(mask);
    }
    const auto outputs = golden["outputs"].get<std::vector<double>>();
    const auto expected = golden["coefficients"].get<std::vector<double>>();
    const LimeFit fit = FitLime(masks, outputs);
    double largest = 0;
    for (double value : expected) largest = std::max(largest, std::abs(value));
    ASSERT_GT(largest, 0.01) << name;  // Nothing would be compared otherwise.
    ASSERT_EQ(fit.coefficients.size(), expected.size());
    for (size_t k = 0; k < expected.size(); ++k) {
      EXPECT_NEAR(fit.coefficients[k], expected[k], 1e-6 * largest) << name << ", feature " << k;
    }
    EXPECT_NEAR(fit.intercept, golden["intercept"].get<double>(), 1e-6 * largest) << name;
    EXPECT_NEAR(fit.r_squared, golden["score"].get<double>(), 1e-9) << name;
  }
}

// A whole explain_instance of the package with its default options, against the steps of ours.
class WholeLime : public testing::Test {
 protected:
  void SetUp() override {
    golden_ = nlohmann::json::parse(Golden("lime-image.json"));
    side_ = golden_["side"];
    pixels_ = Drawn(side_, side_);
    segmentation_ = {side_, side_, 0, golden_["labels"].get<std::vector<uint32_t>>()};
    segmentation_.count =
        *std::max_element(segmentation_.labels.begin(), segmentation_.labels.end()) + 1;
    for (const std::string row : golden_["masks"]) {
      Mask& mask = masks_.emplace_back();
      for (char bit : row) mask.push_back(bit == '1');
    }
  }
  const uint8_t* rgb() const { return reinterpret_cast<const uint8_t*>(pixels_.data()); }

  nlohmann::json golden_;
  int side_ = 0;
  std::string pixels_;
  Segmentation segmentation_;
  std::vector<Mask> masks_;
};

// The package's fudged_image, by the colour of each superpixel. Of bytes the package cuts the means
// to bytes, which we do not.
TEST_F(WholeLime, MeanColours_AreThoseOfTheFudgedImage_AndWithoutItsTruncationOfBytes) {
  const HiddenColors ours = SuperpixelMeans(rgb(), segmentation_);
  ASSERT_EQ(ours.size(), golden_["colors_of_numbers"].size());
  ASSERT_EQ(ours.size(), golden_["colors_of_bytes"].size());
  size_t cut = 0;
  for (size_t k = 0; k < ours.size(); ++k) {
    for (size_t c = 0; c < 3; ++c) {
      EXPECT_NEAR(ours[k][c], golden_["colors_of_numbers"][k][c].get<double>(), 1e-10);
      const int byte = golden_["colors_of_bytes"][k][c];
      EXPECT_EQ(std::floor(ours[k][c] + 1e-10), byte);
      cut += ours[k][c] - byte > 0.25;
    }
  }
  EXPECT_GT(cut, ours.size());  // Or the two would be the same.
}

// As classifier() in make_goldens.py, of inputs that are normalised by 120 and 50.
double MarginOf(const std::vector<float>& input, int side) {
  double place = 0, texture = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(input.size()); ++i) {
    const int64_t y = i / 3 / side, x = i / 3 % side;
    place += input[static_cast<size_t>(i)] *
             (static_cast<double>((x / 16 + 2 * (y / 16)) % 5 - 2) / 2000);
    texture += input[static_cast<size_t>(i)] * (static_cast<double>(i * 7919 % 101 - 50) / 5000);
  }
  return 2 * std::tanh(place) + 0.5 * texture;
}

TEST_F(WholeLime, MaskedImages_HaveTheOutputsOfThePackages) {
  const std::vector<float> evaluated(rgb(), rgb() + pixels_.size());
  const Composer composer(rgb(), segmentation_, SuperpixelMeans(rgb(), segmentation_),
                          evaluated.data(), static_cast<uint32_t>(side_), {120, 1.0 / 50});
  std::vector<float> input(pixels_.size());
  const auto margins = golden_["margin"]["outputs"].get<std::vector<double>>();
  const auto probabilities = golden_["probability"]["outputs"].get<std::vector<double>>();
  ASSERT_EQ(masks_.size(), margins.size());
  for (size_t r = 0; r < masks_.size(); ++r) {
    composer.Compose(masks_[r], input.data());
    const double margin = MarginOf(input, side_);
    EXPECT_NEAR(margin, margins[r], 1e-5) << "mask " << r;  // Inputs are floats.
    EXPECT_NEAR(1 / (1 + std::exp(-margin)), probabilities[r], 1e-5) << "mask " << r;
  }
}

TEST_F(WholeLime, WithTheDefaultOptions_CoefficientsOfAProbabilityAreThePackages) {
  ASSERT_EQ(masks_.size(), 1000u);  // The package's default, as ours.
  for (const char* output : {"probability", "margin"}) {
    const nlohmann::json& expected = golden_[output];
    const auto coefficients = expected["coefficients"].get<std::vector<double>>();
    const LimeFit fit =
        FitLime(masks_, expected["outputs"].get<std::vector<double>>(), LimeOptions());
    double largest = 0;
    for (double value : coefficients) largest = std::max(largest, std::abs(value));
    ASSERT_GT(largest, 0.01) << output;
    ASSERT_EQ(fit.coefficients.size(), coefficients.size());
    for (size_t k = 0; k < coefficients.size(); ++k) {
      EXPECT_NEAR(fit.coefficients[k], coefficients[k], 1e-6 * largest)
          << output << ", superpixel " << k;
    }
    EXPECT_NEAR(fit.intercept, expected["intercept"].get<double>(), 1e-6 * largest) << output;
    EXPECT_NEAR(fit.r_squared, expected["score"].get<double>(), 1e-9) << output;
  }
}

}  // namespace
}  // namespace dermis
