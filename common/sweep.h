// A sweep's trials: which settings each has, and in which brackets and rungs they compete. Pure,
// and the same wherever it is computed; a wider grid, or more random trials, has the old ones in
// it.
#ifndef DERMIS_COMMON_SWEEP_H_
#define DERMIS_COMMON_SWEEP_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

inline constexpr uint64_t kMostTrials = 100'000;

// A key and its value, as a study file spells them.
using Settings = std::vector<std::pair<std::string, std::string>>;

// Trials [first, first + count) that compete. After rungs[k] epochs the best ceil(n / factor) of
// the n that are left go on; who is left after the last trains to its end.
struct Bracket {
  uint32_t first = 0, count = 0;
  std::vector<uint32_t> rungs;  // Ascending.
  uint32_t factor = 3;
};

// `sweep` resolved, except where said.
// INVALID_ARGUMENT: nothing that makes more than one training, a key twice, too many trials, a range in a grid, ...
absl::Status ResolveSweep(v1::SweepSpec& sweep);
// How many trials there are. epochs: the longest that a trial of the study may train.
uint64_t TrialCount(const v1::SweepSpec& sweep, uint32_t epochs);
std::vector<Bracket> BracketsOf(const v1::SweepSpec& sweep, uint32_t epochs);
Settings SettingsOf(const v1::SweepSpec& sweep, uint64_t seed, uint32_t trial);

// 1 without a sweep.
uint32_t TrialsOf(const v1::StudySpec& spec);

// The study of one trial alone: its settings in place, resolved, no sweep. spec: as given, or
// resolved. A study without a sweep has one trial, itself.
absl::StatusOr<v1::StudySpec> TrialSpec(const v1::StudySpec& spec, uint32_t trial);

// TrialSpec of each trial, in order. Ends with the first error, `visit`'s or its own.
absl::Status ForEachTrial(const v1::StudySpec& spec,
                          const std::function<absl::Status(uint32_t, const v1::StudySpec&)>& visit);

// "momentum" of training.optimizer.sgd.momentum.
std::string ShortKey(const std::string& key);
// "momentum=0.9, model=resnet18"; where two keys end alike, whole.
std::string Describe(const Settings& settings);

}  // namespace dermis

#endif  // DERMIS_COMMON_SWEEP_H_
