// A study as the dashboard sees it, without a core behind it.
#ifndef DERMIS_TESTS_UNIT_COORDINATOR_DASHBOARD_FAKE_SWEEP_H_
#define DERMIS_TESTS_UNIT_COORDINATOR_DASHBOARD_FAKE_SWEEP_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/sweep.h"
#include "coordinator/dashboard/snapshot.h"
#include "tests/simulation/fakes.h"

namespace dermis {

// Random trials over a rate and a flag, each trained for two epochs; trial t's loss after the last
// one is `loss(t)`.
template <typename Loss>
std::shared_ptr<StudySnapshot> FakeSweep(uint32_t trials, Loss loss) {
  const auto spec = FakeSpec(
      "a", 2, 0,
      absl::StrCat(
          "sweep: {axes: [{key: training.clip_norm, range: {low: 0.001, high: 10, log: true}}, "
          "{key: training.augment, values: [true, false]}], random: {trials: ",
          trials, "}}\n"));
  auto study = std::make_shared<StudySnapshot>();
  study->version = 7;
  study->settings = std::make_shared<TrialSettings>(*spec);
  study->status.set_id("a");
  study->status.set_phase(v1::StudyStatus::RUNNING);
  for (uint32_t t = 0; t < trials; ++t) {
    TrialRow row;
    row.score = loss(t);
    row.epochs = 2;
    auto curve = std::make_shared<Curve>();
    curve->points.push_back({1, 1, .5f, 9, .5f, .01f});
    curve->points.push_back({2, 1, .5f, static_cast<float>(row.score), .6f, .01f});
    curve->least_loss = static_cast<float>(row.score);
    study->curves.push_back(std::move(curve));
    study->trials.push_back(row);
  }
  return study;
}

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_COORDINATOR_DASHBOARD_FAKE_SWEEP_H_
