// Rank correlation and structural similarity against SciPy and scikit-image, by the golden of
// make_check_goldens.py.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/rank.h"
#include "worker/explain/checks/similarity.h"

namespace dermis {
namespace {

TEST(ChecksParity, RankCorrelationAndStructuralSimilarity_EqualScipyAndSkimage) {
  const char* const source = std::getenv("DERMIS_SOURCE_DIR");
  std::ifstream file(std::filesystem::path(source != nullptr ? source : ".") /
                     "tests/parity/explain/golden/checks.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  ASSERT_EQ(golden["cases"].size(), 12u);
  for (const auto& one : golden["cases"]) {
    SCOPED_TRACE(one["name"].get<std::string>());
    const std::vector<float> a = one["a"], b = one["b"];
    const auto ssim = StructuralSimilarity(a, b, one["height"], one["width"]);
    ASSERT_TRUE(ssim);
    // Rounding alone: skimage carries its window's sum along, ours is summed anew.
    EXPECT_NEAR(*ssim, one["ssim"].get<double>(), 1e-10);
    const auto spearman =
        Spearman(std::vector<double>(a.begin(), a.end()), std::vector<double>(b.begin(), b.end()));
    ASSERT_TRUE(spearman);
    EXPECT_NEAR(*spearman, one["spearman"].get<double>(), 1e-12);
  }
}

}  // namespace
}  // namespace dermis
