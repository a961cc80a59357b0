#include "tests/unit/tools/report/fake_checks.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/checks.h"
#include "common/philox.h"

namespace dermis {
namespace {

constexpr int kSuperpixels = 49;

double Random(uint64_t a, uint64_t b, uint32_t element) {
  return ToUnitFloat(PhiloxBlock(11, Purpose::kTest, a, b, element)[0]);
}

// What each superpixel truly adds to the margin, and how well the map number `quality` (0 .. 1)
// sees it.
std::vector<double> Truth(uint32_t image) {
  std::vector<double> truth(kSuperpixels);
  for (uint32_t k = 0; k < kSuperpixels; ++k) {
    truth[k] = k % 7 > 1 && k % 7 < 5 && k / 7 > 1 && k / 7 < 5 ? 0.9 * Random(image, 1, k)
                                                                : 0.1 * Random(image, 2, k) - 0.05;
  }
  return truth;
}

v1::Fidelity Judged(uint32_t image, uint32_t method, double quality) {
  const std::vector<double> truth = Truth(image);
  v1::Fidelity map;
  std::vector<int> order(kSuperpixels);
  std::iota(order.begin(), order.end(), 0);
  for (uint32_t k = 0; k < kSuperpixels; ++k) {
    map.add_values(quality * truth[k] + (1 - quality) * (Random(image, 10 + method, k) - 0.5));
  }
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return map.values(a) > map.values(b); });
  const double full = std::accumulate(truth.begin(), truth.end(), 0.0);
  double left = full, shown = 0.2 * full;
  for (int k = 0; k <= kSuperpixels; ++k) {
    map.mutable_deletion()->add_margin(left - 1.5);
    map.mutable_deletion()->add_probability(1 / (1 + std::exp(1.5 - left)));
    map.mutable_insertion()->add_margin(shown - 1.5);
    map.mutable_insertion()->add_probability(1 / (1 + std::exp(1.5 - shown)));
    if (k == kSuperpixels) break;
    left -= truth[static_cast<size_t>(order[static_cast<size_t>(k)])];
    shown += 0.8 * truth[static_cast<size_t>(order[static_cast<size_t>(k)])];
  }
  return map;
}

void Set(double rank, v1::Similarity* to) {
  to->set_rank(std::clamp(rank, -1.0, 1.0));
  to->set_absolute_rank(std::clamp(0.7 * rank + 0.2, -1.0, 1.0));
  to->set_ssim(std::clamp(0.8 * rank + 0.15, -1.0, 1.0));
}

// learned: how far it depends on the weights.
v1::Stability Judged(uint32_t image, uint32_t method, double learned, bool seeds) {
  v1::Stability map;
  const auto jitter = [&](uint32_t element) {
    return 0.06 * (Random(image, 30 + method, element) - 0.5);
  };
  for (uint32_t d = 0; d < 10; ++d) Set(0.97 + jitter(d), map.add_noise());
  for (uint32_t s = 0; seeds && s < 6; ++s) Set(0.9 + jitter(20 + s), map.add_seeds());
  for (uint32_t l = 0; l < 7; ++l) {
    Set(1 - learned * (0.4 + 0.09 * l) + (learned > 0 ? jitter(40 + l) : 0), map.add_cascading());
    Set(1 - learned * (0.45 - 0.05 * l) + (learned > 0 ? jitter(50 + l) : 0),
        map.add_independent());
  }
  map.set_max_sensitivity(0.1 + 0.4 * Random(image, 40 + method, 0));
  if (seeds) Set(0.8 + jitter(60), map.mutable_second_hidden());
  return map;
}

}  // namespace

void AddFakeChecks(FakeStudy& study) {
  v1::StabilitySpec& spec =
      *study.results.mutable_spec()->mutable_explanation()->mutable_checks()->mutable_stability();
  spec.set_images(32);
  spec.set_noise_draws(10);
  spec.set_noise_radius(0.02);
  spec.set_seeds(3);
  for (v1::ExplainedImage& explained : *study.results.mutable_explained()) {
    const uint32_t image = explained.image();
    const auto add = [&](const v1::MethodSpec* method, v1::Payload payload) {
      v1::CheckResult& check = *explained.add_checks();
      if (method != nullptr) *check.mutable_method() = *method;
      if (payload.has_stability()) {
        for (const std::string& layer : RandomisableLayers(v1::MODEL_KIND_SEED_CNN)) {
          check.mutable_task()->mutable_stability()->add_layers(layer);
        }
      }
      *check.mutable_result() = study.Store(std::move(payload));
    };
    v1::Payload fidelity, stability;
    for (uint32_t k = 0; k < 3; ++k) {
      v1::Fidelity& map = *fidelity.mutable_fidelity()->add_maps();
      map = Judged(image, k, k == 0 ? 0.0 : k == 1 ? 0.5 : 0.3);
      map.set_map(kPriorNames[k]);
      *stability.mutable_stability()->add_maps() = Judged(image, k, 0, false);
      stability.mutable_stability()->mutable_maps(static_cast<int>(k))->set_map(kPriorNames[k]);
    }
    add(nullptr, fidelity);
    add(nullptr, stability);
    uint32_t number = 3;
    for (const v1::MethodSpec& method : study.results.spec().explanation().methods()) {
      if (!IsJudged(method)) continue;
      fidelity.Clear();
      stability.Clear();
      const uint32_t maps = method.has_grad_cam() ? 6 : 1;
      for (uint32_t l = 1; l <= maps; ++l, ++number) {
        v1::Fidelity& map = *fidelity.mutable_fidelity()->add_maps();
        map = Judged(image, number, maps > 1 ? 0.1 * l : method.has_lime() ? 0.8 : 0.95);
        map.set_infidelity_kind(maps > 1 ? v1::INFIDELITY_KIND_FITTED : v1::INFIDELITY_KIND_HALVES);
        map.set_infidelity(maps > 1 ? 0.5 + 0.3 * Random(image, number, 1)
                                    : 0.1 * Random(image, number, 1));
        v1::Stability& stable = *stability.mutable_stability()->add_maps();
        // The first layer hardly looks at the weights.
        stable = Judged(image, number, maps > 1 ? (l == 1 ? 0.005 : 0.15 * l) : 0.9, maps == 1);
        if (maps > 1) {
          map.set_map(absl::StrCat("conv", l));
          stable.set_map(map.map());
        }
      }
      add(&method, fidelity);
      add(&method, stability);
    }
  }
}

}  // namespace dermis
