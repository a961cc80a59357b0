// KernelSHAP, partition values and LIME's options against the real packages, by the goldens of
// make_estimator_goldens.py: same masks, same outputs.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "worker/explain/estimators/coalitions.h"
#include "worker/explain/estimators/owen.h"
#include "worker/explain/estimators/regression.h"
#include "worker/explain/lime.h"

namespace dermis {
namespace {

nlohmann::json Golden(const std::string& name) {
  const char* const source = std::getenv("DERMIS_SOURCE_DIR");
  std::ifstream in(absl::StrCat(source != nullptr ? source : ".", "/tests/parity/explain/golden/",
                                name, ".json"));
  EXPECT_TRUE(in.good()) << "no golden " << name;
  return nlohmann::json::parse(in);
}

Mask MaskOf(const std::string& row) {
  Mask mask;
  for (char bit : row) mask.push_back(bit == '1');
  return mask;
}

std::vector<Mask> MasksOf(const nlohmann::json& rows) {
  std::vector<Mask> masks;
  for (const std::string row : rows) masks.push_back(MaskOf(row));
  return masks;
}

void ExpectNear(const std::vector<double>& ours, const std::vector<double>& theirs,
                double tolerance, const std::string& what) {
  double largest = 0;
  for (double value : theirs) largest = std::max(largest, std::abs(value));
  ASSERT_GT(largest, 0.01) << what;  // Nothing would be compared otherwise.
  ASSERT_EQ(ours.size(), theirs.size()) << what;
  for (size_t k = 0; k < ours.size(); ++k) {
    EXPECT_NEAR(ours[k], theirs[k], tolerance * largest) << what << ", superpixel " << k;
  }
}

bool Complements(const Mask& a, const Mask& b) {
  for (size_t k = 0; k < a.size(); ++k) {
    if (a[k] == b[k]) return false;
  }
  return true;
}

// The masks that shap drew, as a design of ours: how often each was drawn stands in its weight.
CoalitionDesign DesignOf(const nlohmann::json& golden, const CoalitionDesign& ours) {
  const std::vector<Mask> masks = MasksOf(golden["masks"]);
  const auto weights = golden["weights"].get<std::vector<double>>();
  CoalitionDesign design;
  design.rows = {ours.rows[0], ours.rows[1]};
  design.rows.insert(design.rows.end(), masks.begin(), masks.end());
  design.enumerated = ours.enumerated;
  design.enumerated_sizes = ours.enumerated_sizes;
  double least = INFINITY;
  for (size_t i = ours.enumerated; i < masks.size(); ++i) least = std::min(least, weights[i]);
  for (size_t i = ours.enumerated; i < masks.size();) {
    const bool paired = i + 1 < masks.size() && Complements(masks[i], masks[i + 1]);
    const auto unit = static_cast<uint32_t>(design.units.size());
    design.units.push_back({static_cast<uint32_t>(2 + i), paired});
    const long times = std::lround(weights[i] / least);
    EXPECT_NEAR(weights[i] / least, static_cast<double>(times), 1e-9);
    for (long t = 0; t < times; ++t) design.draws.push_back(unit);
    i += paired ? 2 : 1;
  }
  return design;
}

class KernelParity : public testing::TestWithParam<const char*> {};

TEST_P(KernelParity, Values_AreThoseOfShap_FromTheSameMasksAndOutputs) {
  const nlohmann::json golden = Golden(absl::StrCat("kernel-", GetParam()));
  const CoalitionDesign ours = KernelDesign(1, golden["features"], golden["samples"]);
  const CoalitionDesign design = DesignOf(golden, ours);
  for (int kind = 0; kind < 2; ++kind) {
    const std::string name = kind == 0 ? "margin" : "probability";
    std::vector<double> outputs = {golden["ends"][0][kind], golden["ends"][1][kind]};
    for (double output : golden[name]) outputs.push_back(output);
    ExpectNear(FitKernel(design, outputs, 0).values,
               golden[name + "_values"].get<std::vector<double>>(), 1e-6,
               absl::StrCat(GetParam(), ", ", name));
  }
}

TEST_P(KernelParity, CompleteSizes_AreThoseOfShap_InItsOrder) {
  const nlohmann::json golden = Golden(absl::StrCat("kernel-", GetParam()));
  const std::vector<Mask> theirs = MasksOf(golden["masks"]);
  const CoalitionDesign ours = KernelDesign(1, golden["features"], golden["samples"]);
  // Draws are of other random numbers, but of as many masks and with as many copies of none.
  EXPECT_EQ(ours.rows.size(), theirs.size() + 2);
  ASSERT_LE(ours.enumerated, theirs.size());
  for (size_t i = 0; i < ours.enumerated; ++i) EXPECT_EQ(ours.rows[2 + i], theirs[i]) << i;
  if (ours.enumerated < theirs.size()) {
    // A complete size has one weight: the first draw's is another.
    const auto size = [](const Mask& mask) { return std::count(mask.begin(), mask.end(), 1); };
    const auto next = std::min(size(theirs[ours.enumerated]),
                               static_cast<long>(theirs[0].size()) - size(theirs[ours.enumerated]));
    EXPECT_GT(next, ours.enumerated_sizes);
  }
}

INSTANTIATE_TEST_SUITE_P(Games, KernelParity, testing::Values("all", "even", "odd", "wide"));

TEST(OwenParity, Values_AreThoseOfShapsPartitionExplainer_ItsOutputsReplayed) {
  for (const char* name : {"some", "all"}) {
    const nlohmann::json golden = Golden(absl::StrCat("owen-", name));
    Segmentation pixels{golden["height"], golden["width"], 0, {}};
    pixels.count = static_cast<uint32_t>(pixels.height * pixels.width);
    for (uint32_t k = 0; k < pixels.count; ++k) pixels.labels.push_back(k);
    std::map<std::string, double> seen = golden["outputs"];
    const auto replay = [&](absl::Span<const Mask> masks) -> absl::StatusOr<std::vector<double>> {
      std::vector<double> outputs;
      for (const Mask& mask : masks) {
        std::string row;
        for (uint8_t bit : mask) row += bit ? '1' : '0';
        const auto it = seen.find(row);
        if (it == seen.end()) return absl::NotFoundError(absl::StrCat("shap never ran ", row));
        outputs.push_back(it->second);
      }
      return outputs;
    };
    const auto fit = FitOwen(TreeOf(pixels), golden["evaluations"], replay);
    ASSERT_TRUE(fit.ok()) << name << ": " << fit.status();
    ExpectNear(fit->values, golden["values"].get<std::vector<double>>(), 1e-5, name);
    EXPECT_EQ(fit->complete, std::string(name) == "all");
  }
}

TEST(LimeOptionsParity, Coefficients_AreThoseOfThePackage_OnMarginAndProbability) {
  for (const char* name : {"forward", "highest", "many", "kernel"}) {
    const nlohmann::json golden = Golden(absl::StrCat("lime-options-", name));
    LimeOptions options;
    options.num_features = golden["num_features"];
    options.kernel_width = golden["width"];
    options.alpha = golden["alpha"];
    if (golden["selection"] == "forward_selection") {
      options.selection = v1::FEATURE_SELECTION_FORWARD_SELECTION;
    }
    const std::vector<Mask> masks = MasksOf(golden["masks"]);
    for (const char* kind : {"margin", "probability"}) {
      const nlohmann::json& expected = golden[kind];
      const auto outputs = expected["outputs"].get<std::vector<double>>();
      const LimeFit fit = FitLime(masks, outputs, options);
      ExpectNear(fit.coefficients, expected["coefficients"].get<std::vector<double>>(), 1e-6,
                 absl::StrCat(name, ", ", kind));
      EXPECT_NEAR(fit.r_squared, expected["score"].get<double>(), 1e-9) << name;
      EXPECT_NEAR(fit.intercept, expected["intercept"].get<double>(), 1e-6) << name;
    }
  }
}

}  // namespace
}  // namespace dermis
