#include "worker/explain/rows.h"

#include <algorithm>
#include <list>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/estimators.h"
#include "common/tasks.h"
#include "worker/explain/estimators/single.h"
#include "worker/explain/explain.h"

namespace dermis {
namespace {

constexpr size_t kDesigns = 8;

// Pairs [first, last) of a Shapley run.
std::pair<uint32_t, uint32_t> PairsOfRun(const v1::Perturbation& perturbation, uint32_t run) {
  const uint64_t all = perturbation.shapley().permutations();
  const uint64_t first = uint64_t{run} * kShapleyRun;
  return {static_cast<uint32_t>(std::min(first, all)),
          static_cast<uint32_t>(std::min(first + kShapleyRun, all))};
}

}  // namespace

absl::Status InvalidExplanation(uint32_t image, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("explanation of image ", image, ": ", why));
}

absl::Status CheckMasks(const v1::Perturbation& perturbation, uint32_t superpixels) {
  const uint32_t image = perturbation.image();
  switch (perturbation.masks_case()) {
    case v1::Perturbation::kLime:
      if (perturbation.lime().samples() > 0) return absl::OkStatus();
      return InvalidExplanation(image, "lime.samples must be at least 1");
    case v1::Perturbation::kShapley:
      if (perturbation.shapley().permutations() > 0) return absl::OkStatus();
      return InvalidExplanation(image, "shapley.permutations must be at least 1");
    case v1::Perturbation::kRise:
      if (perturbation.rise().samples() > 0 && perturbation.rise().probability() > 0 &&
          perturbation.rise().probability() < 1) {
        return absl::OkStatus();
      }
      return InvalidExplanation(image,
                                "rise.samples must be at least 1, its probability between 0 and 1");
    case v1::Perturbation::kOcclusion:
      if (perturbation.occlusion().superpixels() == superpixels) return absl::OkStatus();
      return InvalidExplanation(image,
                                absl::StrCat("masks for ", perturbation.occlusion().superpixels(),
                                             " superpixels, the image has ", superpixels));
    case v1::Perturbation::kCoalitions: {
      const v1::CoalitionMasks& masks = perturbation.coalitions();
      if (masks.superpixels() != superpixels) {
        return InvalidExplanation(image, absl::StrCat("masks for ", masks.superpixels(),
                                                      " superpixels, the image has ", superpixels));
      }
      if (masks.estimator() == v1::ESTIMATOR_EXACT && superpixels > kMostExactSuperpixels) {
        return InvalidExplanation(
            image, absl::StrCat("exact Shapley values of ", superpixels, " superpixels need 2^",
                                superpixels, " masked inputs; at most ", kMostExactSuperpixels,
                                " superpixels are taken: ask for fewer, or for "
                                "`estimator: auto`"));
      }
      if (RowCount(perturbation) > 0) return absl::OkStatus();
      return InvalidExplanation(image,
                                "coalitions are of the estimators exact, kernel or leverage");
    }
    case v1::Perturbation::kPartition:
      return InvalidExplanation(image, "partition has no runs: its fit runs the model itself");
    case v1::Perturbation::MASKS_NOT_SET:
      break;
  }
  return InvalidExplanation(image,
                            "the perturbation has no masks (lime.samples or "
                            "shapley.permutations of at least 1)");
}

std::shared_ptr<const CoalitionDesign> DesignOf(const v1::Perturbation& perturbation) {
  using Key = std::tuple<v1::Estimator, uint64_t, uint32_t, uint32_t>;
  thread_local std::list<std::pair<Key, std::shared_ptr<const CoalitionDesign>>> cache;
  const v1::CoalitionMasks& masks = perturbation.coalitions();
  const Key key{masks.estimator(), perturbation.seed(), masks.superpixels(), masks.budget()};
  for (auto it = cache.begin(); it != cache.end(); ++it) {
    if (it->first != key) continue;
    cache.splice(cache.begin(), cache, it);
    return it->second;
  }
  const uint64_t rows = RowCount(perturbation) - 2;  // The two ends are in every design.
  auto design = std::make_shared<const CoalitionDesign>(
      masks.estimator() == v1::ESTIMATOR_KERNEL
          ? KernelDesign(perturbation.seed(), masks.superpixels(), rows)
          : LeverageDesign(perturbation.seed(), masks.superpixels(), rows / 2));
  cache.emplace_front(key, design);
  if (cache.size() > kDesigns) cache.pop_back();
  return design;
}

std::vector<Mask> MaskRows(const v1::Perturbation& perturbation, uint64_t first, uint64_t last,
                           uint32_t superpixels) {
  std::vector<Mask> masks;
  last = std::min(last, RowCount(perturbation));
  if (perturbation.has_coalitions() &&
      perturbation.coalitions().estimator() != v1::ESTIMATOR_EXACT) {
    const auto design = DesignOf(perturbation);
    for (uint64_t row = first; row < std::min<uint64_t>(last, design->rows.size()); ++row) {
      masks.push_back(design->rows[row]);
    }
    return masks;
  }
  for (uint64_t r = first; r < last; ++r) {
    const auto row = static_cast<uint32_t>(r);
    if (perturbation.has_coalitions()) {
      masks.push_back(ExactMask(row, superpixels));
    } else if (perturbation.has_occlusion()) {
      masks.push_back(OcclusionMask(row, superpixels));
    } else if (row == 0) {
      masks.emplace_back(superpixels, uint8_t{1});
    } else {
      masks.push_back(
          RiseMask(perturbation.seed(), row, superpixels, perturbation.rise().probability()));
    }
  }
  return masks;
}

std::vector<std::vector<uint8_t>> MasksOfRun(const v1::Perturbation& perturbation, uint32_t run,
                                             uint32_t superpixel_count) {
  std::vector<Mask> masks;
  if (perturbation.has_lime()) {
    const uint64_t first = uint64_t{run} * kLimeRun;
    const uint64_t last = std::min<uint64_t>(first + kLimeRun, perturbation.lime().samples());
    for (uint64_t row = first; row < last; ++row) {
      masks.push_back(LimeMask(perturbation.seed(), static_cast<uint32_t>(row), superpixel_count));
    }
    return masks;
  }
  if (!perturbation.has_shapley()) {
    const uint64_t first = uint64_t{run} * kMaskRun;
    return MaskRows(perturbation, first, first + kMaskRun, superpixel_count);
  }
  if (run == 0) {
    masks.emplace_back(superpixel_count, uint8_t{1});
    masks.emplace_back(superpixel_count, uint8_t{0});
  }
  const auto [first, last] = PairsOfRun(perturbation, run);
  for (uint32_t pair = first; pair < last; ++pair) {
    for (Mask& mask : ShapleyPairMasks(ShapleyOrder(perturbation.seed(), pair, superpixel_count))) {
      masks.push_back(std::move(mask));
    }
  }
  return masks;
}

void SetShapley(const std::vector<double>& values, const std::vector<double>& errors, double full,
                double hidden, v1::Attribution& attribution) {
  attribution.mutable_values()->Assign(values.begin(), values.end());
  attribution.mutable_standard_errors()->Assign(errors.begin(), errors.end());
  attribution.set_full(full);
  attribution.set_hidden(hidden);
  double sum = 0;
  for (double value : values) sum += value;
  attribution.set_additivity_residual(full - hidden - sum);
}

}  // namespace dermis
