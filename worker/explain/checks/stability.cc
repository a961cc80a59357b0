#include "worker/explain/checks/stability.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "worker/data/noise.h"
#include "worker/explain/checks/maps.h"
#include "worker/explain/checks/priors.h"
#include "worker/explain/checks/similarity.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

using Maps = std::vector<SuperpixelMap>;

// An attribution's maps and those of its variants, in the order of VariantsOf.
struct Compared {
  Maps base;
  std::vector<Maps> noise, seeds, cascading, independent;
  std::optional<Maps> second_hidden;
};

v1::Stability JudgeMap(const Compared& compared, size_t k, const Segmentation& segmentation) {
  const std::vector<double>& base = compared.base[k].values;
  v1::Stability out;
  out.set_map(compared.base[k].name);
  const auto compare = [&](const std::vector<double>& a, const Maps& b) {
    return SimilarityOf(a, b[k].values, segmentation);
  };
  for (const Maps& noisy : compared.noise) {
    *out.add_noise() = compare(base, noisy);
    if (const auto change = RelativeChange(base, noisy[k].values)) {
      out.set_max_sensitivity(std::max(out.max_sensitivity(), *change));
    }
  }
  for (size_t i = 0; i < compared.seeds.size(); ++i) {
    *out.add_seeds() = compare(base, compared.seeds[i]);
    for (size_t j = 0; j < i; ++j) {
      *out.add_seeds() = compare(compared.seeds[j][k].values, compared.seeds[i]);
    }
  }
  for (const Maps& maps : compared.cascading) *out.add_cascading() = compare(base, maps);
  for (const Maps& maps : compared.independent) *out.add_independent() = compare(base, maps);
  if (compared.second_hidden) {
    *out.mutable_second_hidden() = compare(base, *compared.second_hidden);
  }
  return out;
}

// What has not seen the model is the same under any weights, and draws from no seed of its own.
absl::StatusOr<Compared> ComparePriors(const v1::StabilityTask& task,
                                       const Segmentation& segmentation, const ImageData& data) {
  Compared compared;
  v1::ImageSource source = task.images();
  const auto maps_now = [&]() -> absl::StatusOr<Maps> {
    ASSIGN_OR_RETURN(const std::vector<float> pixels, EvaluatedPixels(data, source, task.image()));
    return PriorMaps(pixels, data.size, segmentation, task.seed(), task.image());
  };
  ASSIGN_OR_RETURN(compared.base, maps_now());
  for (uint32_t draw = 0; draw < task.noise_draws(); ++draw) {
    source.mutable_noise()->set_radius(task.noise_radius());
    source.mutable_noise()->set_draw(draw);
    source.mutable_noise()->set_seed(task.seed());
    ASSIGN_OR_RETURN(Maps noisy, maps_now());
    compared.noise.push_back(std::move(noisy));
  }
  compared.cascading.assign(static_cast<size_t>(task.layers_size()), compared.base);
  compared.independent = compared.cascading;
  return compared;
}

absl::StatusOr<Compared> CompareVariants(
    const v1::StabilityTask& task, const std::vector<std::shared_ptr<const v1::Payload>>& results,
    const Segmentation& segmentation) {
  const auto layers = static_cast<size_t>(task.layers_size());
  const bool hides = task.second_hidden() != v1::HIDDEN_VALUE_UNSPECIFIED;
  const size_t needed =
      2 + size_t{task.noise_draws()} + task.seeds() + 2 * layers + (hides ? 1 : 0);
  if (results.size() != needed) {
    return absl::InvalidArgumentError(absl::StrCat("stability of image ", task.image(), " needs ",
                                                   needed, " results, not ", results.size()));
  }
  Compared compared;
  std::vector<Maps> all;
  for (size_t i = 1; i < results.size(); ++i) {
    ASSIGN_OR_RETURN(Maps maps, MapsOf(*results[i], &segmentation, segmentation));
    if (!all.empty() && maps.size() != all[0].size()) {
      return absl::InvalidArgumentError(absl::StrCat("stability of image ", task.image(),
                                                     ": an attribution has ", all[0].size(),
                                                     " maps, a variant has ", maps.size()));
    }
    all.push_back(std::move(maps));
  }
  auto next = std::make_move_iterator(all.begin());
  const auto take = [&](size_t count, std::vector<Maps>& to) {
    to.assign(next, next + static_cast<std::ptrdiff_t>(count));
    next += static_cast<std::ptrdiff_t>(count);
  };
  compared.base = *next++;
  take(task.noise_draws(), compared.noise);
  take(task.seeds(), compared.seeds);
  take(layers, compared.cascading);
  take(layers, compared.independent);
  if (hides) compared.second_hidden = *next;
  return compared;
}

}  // namespace

absl::StatusOr<v1::StabilityOutput> RunStability(
    const v1::StabilityTask& task, const std::vector<std::shared_ptr<const v1::Payload>>& results,
    const ImageData& data) {
  if (results.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("stability of image ", task.image(), ": no superpixels"));
  }
  ASSIGN_OR_RETURN(const Segmentation segmentation, FromProto(results[0]->superpixels()));
  Compared compared;
  if (task.has_priors()) {
    ASSIGN_OR_RETURN(compared, ComparePriors(task, segmentation, data));
  } else {
    ASSIGN_OR_RETURN(compared, CompareVariants(task, results, segmentation));
  }
  v1::StabilityOutput output;
  for (size_t k = 0; k < compared.base.size(); ++k) {
    *output.add_maps() = JudgeMap(compared, k, segmentation);
  }
  return output;
}

}  // namespace dermis
