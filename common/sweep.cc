#include "common/sweep.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/digest.h"
#include "common/philox.h"
#include "common/spec_yaml.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

absl::Status Wrong(const std::string& key, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("'sweep.", key, "' ", why));
}

absl::Status CheckAxis(const std::string& at, bool random, const v1::AxisSpec& axis) {
  if (axis.key() != "images.size" && !absl::StartsWith(axis.key(), "training.")) {
    return Wrong(at + ".key", absl::StrCat("is '", axis.key(),
                                           "'; images.size and what lies under training can vary"));
  }
  if (absl::StartsWith(axis.key(), "training.init") &&
      axis.key() != "training.init.frozen_before") {
    return Wrong(at + ".key", "cannot be training.init: make a study for each file");
  }
  if (axis.has_range() == (axis.values_size() > 0)) {
    return Wrong(at, absl::StrCat("(", axis.key(), ") needs values, or a range"));
  }
  std::set<std::string> values(axis.values().begin(), axis.values().end());
  if (values.size() != static_cast<size_t>(axis.values_size())) {
    return Wrong(at + ".values", "has a value twice");
  }
  if (!axis.has_range()) return absl::OkStatus();
  const v1::RangeSpec& range = axis.range();
  if (!random) return Wrong(at + ".range", "is for random search; a grid needs values");
  if (!range.has_low() || !range.has_high() || !(range.low() < range.high())) {
    return Wrong(at + ".range", "needs low and a higher high");
  }
  if (range.log() && range.low() <= 0) return Wrong(at + ".range.low", "must be above 0 with log");
  return absl::OkStatus();
}

bool Varies(const v1::SweepSpec& sweep, const std::string& key) {
  return std::any_of(sweep.axes().begin(), sweep.axes().end(),
                     [&](const v1::AxisSpec& axis) { return axis.key() == key; });
}

// One setting, trained more than once.
absl::Status CheckWithoutAxes(const v1::SweepSpec& sweep) {
  if (sweep.has_random() || sweep.has_halving() || sweep.has_hyperband()) {
    return Wrong("axes", "is empty, but there is a search or a stopping: say what varies");
  }
  if (sweep.seeds() > 1 || sweep.folds() > 1) return absl::OkStatus();
  return Wrong("axes", "is empty: say what varies, or give seeds (or folds) of 2 or more");
}

absl::Status ResolveStopping(v1::SweepSpec& sweep) {
  if ((sweep.has_halving() || sweep.has_hyperband()) && Varies(sweep, "training.epochs")) {
    return Wrong("axes", "cannot vary training.epochs where trials are stopped early");
  }
  if (sweep.has_hyperband()) {
    v1::HyperbandSpec& hyperband = *sweep.mutable_hyperband();
    if (!hyperband.has_min_epochs()) hyperband.set_min_epochs(1);
    if (!hyperband.has_factor()) hyperband.set_factor(3);
    if (hyperband.min_epochs() == 0) return Wrong("hyperband.min_epochs", "must be 1 or more");
    if (hyperband.factor() < 2) return Wrong("hyperband.factor", "must be 2 or more");
    if (!sweep.has_random()) return Wrong("hyperband", "draws its trials: say random");
    if (sweep.random().has_trials()) {
      return Wrong("random.trials", "follows from hyperband: leave it out");
    }
    return absl::OkStatus();
  }
  if (!sweep.has_halving()) return absl::OkStatus();
  v1::HalvingSpec& halving = *sweep.mutable_halving();
  if (!halving.has_factor()) halving.set_factor(3);
  if (halving.factor() < 2) return Wrong("halving.factor", "must be 2 or more");
  uint32_t last = 0;
  for (uint32_t rung : halving.rungs()) {
    if (rung <= last) return Wrong("halving.rungs", "must ascend, from 1");
    last = rung;
  }
  return absl::OkStatus();
}

std::string Draw(const v1::RangeSpec& range, double u) {
  double low = range.low(), high = range.high() + (range.whole() ? 1 : 0);
  const double value = range.log() ? std::exp(std::log(low) + u * (std::log(high) - std::log(low)))
                                   : low + u * (high - low);
  if (range.whole()) return absl::StrFormat("%.0f", std::min(std::floor(value), range.high()));
  std::string text = absl::StrFormat("%.4g", value);
  double rounded = 0;
  // Rounding must not leave the range.
  if (!absl::SimpleAtod(text, &rounded) || rounded < range.low() || rounded > range.high()) {
    text = absl::StrFormat("%.17g", value);
  }
  return text;
}

// The hash of a key: a draw depends on what it is for, not on which axes stand before.
uint32_t HashOf(const std::string& key) {
  const std::string bytes = Sha256Of(key).bytes();
  uint32_t hash = 0;
  for (int i = 0; i < 4; ++i)
    hash = hash << 8 | static_cast<uint8_t>(bytes[static_cast<size_t>(i)]);
  return hash;
}

}  // namespace

absl::Status ResolveSweep(v1::SweepSpec& sweep) {
  if (sweep.axes().empty()) RETURN_IF_ERROR(CheckWithoutAxes(sweep));
  if (sweep.search_case() == v1::SweepSpec::SEARCH_NOT_SET) {
    if (sweep.has_hyperband()) {
      sweep.mutable_random();
    } else {
      sweep.mutable_grid();
    }
  }
  std::set<std::string> keys;
  for (int i = 0; i < sweep.axes_size(); ++i) {
    const v1::AxisSpec& axis = sweep.axes(i);
    RETURN_IF_ERROR(CheckAxis(absl::StrCat("axes[", i, "]"), sweep.has_random(), axis));
    if (!keys.insert(axis.key()).second) {
      return Wrong("axes", absl::StrCat("has ", axis.key(), " twice"));
    }
  }
  for (const std::string& key : keys) {
    for (const std::string& other : keys) {
      if (absl::StartsWith(other, key + ".")) {
        return Wrong("axes", absl::StrCat("has ", key, " and, within it, ", other));
      }
    }
  }
  if (!sweep.has_seeds()) sweep.set_seeds(1);
  if (sweep.seeds() == 0 || sweep.seeds() > 1000) return Wrong("seeds", "must be from 1 to 1000");
  if (sweep.has_folds() && (sweep.folds() < 2 || sweep.folds() > 100)) {
    return Wrong("folds", "must be from 2 to 100");
  }
  RETURN_IF_ERROR(ResolveStopping(sweep));
  if (sweep.has_random() && !sweep.has_hyperband() && !sweep.random().has_trials()) {
    sweep.mutable_random()->set_trials(20);
  }
  return absl::OkStatus();
}

uint64_t TrialCount(const v1::SweepSpec& sweep, uint32_t epochs) {
  if (sweep.has_hyperband()) {
    uint64_t count = 0;
    for (const Bracket& bracket : BracketsOf(sweep, epochs)) count += bracket.count;
    return count;
  }
  if (sweep.has_random()) return sweep.random().trials();
  uint64_t count = 1;
  for (const v1::AxisSpec& axis : sweep.axes()) {  // Without one: 1.
    count *= static_cast<uint64_t>(axis.values_size());
    if (count > kMostTrials) return count;  // Enough is known; and it cannot overflow.
  }
  return count;
}

std::vector<Bracket> BracketsOf(const v1::SweepSpec& sweep, uint32_t epochs) {
  if (sweep.has_hyperband()) {
    const uint64_t factor = sweep.hyperband().factor();
    uint32_t most = 0;  // Rungs of the first bracket.
    for (uint64_t e = sweep.hyperband().min_epochs() * factor; e <= epochs; e *= factor) ++most;
    std::vector<Bracket> brackets;
    uint32_t first = 0;
    for (uint32_t s = most + 1; s-- > 0;) {
      uint64_t power = 1;
      for (uint32_t k = 0; k < s; ++k) power *= factor;
      Bracket bracket;
      bracket.first = first;
      bracket.count = static_cast<uint32_t>(((most + 1) * power + s) / (s + 1));
      bracket.factor = static_cast<uint32_t>(factor);
      for (; power > 1; power /= factor) {
        bracket.rungs.push_back(static_cast<uint32_t>(epochs / power));
      }
      first += bracket.count;
      brackets.push_back(std::move(bracket));
    }
    return brackets;
  }
  Bracket all;
  all.count = static_cast<uint32_t>(std::min(TrialCount(sweep, epochs), kMostTrials));
  if (sweep.has_halving()) {
    all.factor = sweep.halving().factor();
    for (uint32_t rung : sweep.halving().rungs()) {
      if (rung < epochs) all.rungs.push_back(rung);
    }
    if (sweep.halving().rungs().empty()) {
      uint32_t left = all.count;
      for (uint64_t e = epochs / all.factor; e > 0 && left > 1; e /= all.factor) {
        all.rungs.insert(all.rungs.begin(), static_cast<uint32_t>(e));
        left = (left + all.factor - 1) / all.factor;
      }
    }
  }
  return {all};
}

Settings SettingsOf(const v1::SweepSpec& sweep, uint64_t seed, uint32_t trial) {
  Settings settings;
  if (sweep.has_random()) {
    for (const v1::AxisSpec& axis : sweep.axes()) {
      const auto block = PhiloxBlock(seed, Purpose::kSweep, trial, HashOf(axis.key()), 0);
      const double u = ToUnitDouble(block[0], block[1]);
      settings.emplace_back(
          axis.key(), axis.has_range() ? Draw(axis.range(), u)
                                       : axis.values(static_cast<int>(u * axis.values_size())));
    }
    return settings;
  }
  uint32_t rest = trial;
  for (int i = sweep.axes_size(); i-- > 0;) {
    const v1::AxisSpec& axis = sweep.axes(i);
    const uint32_t values = static_cast<uint32_t>(axis.values_size());
    settings.emplace_back(axis.key(), axis.values(static_cast<int>(rest % values)));
    rest /= values;
  }
  std::reverse(settings.begin(), settings.end());
  return settings;
}

uint32_t TrialsOf(const v1::StudySpec& spec) {
  if (!spec.has_sweep()) return 1;
  return static_cast<uint32_t>(std::min(TrialCount(spec.sweep(), EpochsOf(spec)), kMostTrials + 1));
}

namespace {

// base: `spec` without its sweep, whose values would else be copied for each trial.
absl::StatusOr<v1::StudySpec> TrialOf(const v1::StudySpec& spec, v1::StudySpec base,
                                      uint32_t trial) {
  if (spec.has_sweep()) {
    for (const auto& [key, value] : SettingsOf(spec.sweep(), spec.seed(), trial)) {
      RETURN_IF_ERROR(SetByKey(base, key, value));
    }
  }
  return ResolveSpec(base);
}

v1::StudySpec WithoutSweep(v1::StudySpec spec) {
  spec.clear_sweep();
  return spec;
}

}  // namespace

absl::Status ForEachTrial(
    const v1::StudySpec& spec,
    const std::function<absl::Status(uint32_t, const v1::StudySpec&)>& visit) {
  const v1::StudySpec base = WithoutSweep(spec);
  const uint32_t trials = TrialsOf(spec);
  for (uint32_t trial = 0; trial < trials; ++trial) {
    ASSIGN_OR_RETURN(const v1::StudySpec own, TrialOf(spec, base, trial));
    RETURN_IF_ERROR(visit(trial, own));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::StudySpec> TrialSpec(const v1::StudySpec& spec, uint32_t trial) {
  return TrialOf(spec, WithoutSweep(spec), trial);
}

std::string ShortKey(const std::string& key) { return key.substr(key.rfind('.') + 1); }

std::string Describe(const Settings& settings) {
  std::map<std::string, int> last;  // Last parts of keys, and how many have them.
  for (const auto& [key, value] : settings) ++last[ShortKey(key)];
  return absl::StrJoin(settings, ", ", [&](std::string* out, const auto& setting) {
    const std::string part = ShortKey(setting.first);
    absl::StrAppend(out, last[part] == 1 ? part : setting.first, "=", setting.second);
  });
}

}  // namespace dermis
