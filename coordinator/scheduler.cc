#include "coordinator/scheduler.h"

#include <algorithm>
#include <cmath>
#include <list>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>

namespace dermis {
namespace {

// Between two bundles a worker waits for the coordinator's disk (1 to 4 % of a second). Where nobody
// else wants the workers, bundles are up to so much longer, as long as each worker has at least so
// many more to come: the end must not find one with much and others with nothing.
constexpr double kLonger = 3;
constexpr double kToCome = 10;

uint32_t Rounds(uint32_t shards, uint32_t world) { return (shards + world - 1) / world; }

}  // namespace

uint32_t BestWorld(uint32_t shards, uint32_t limit) {
  limit = std::clamp<uint32_t>(limit, 1, std::max<uint32_t>(shards, 1));
  uint32_t world = limit;
  while (world > 1 && Rounds(shards, world - 1) == Rounds(shards, limit)) --world;
  return world;
}

Plan Schedule(const Cluster& cluster) {
  const bool alone =
      cluster.studies.size() == 1 && cluster.trials.empty() && cluster.running == 0;
  Plan plan;
  std::set<std::string> sound_classes = cluster.sound_busy;
  for (const Cluster::Worker& worker : cluster.workers) {
    if (!worker.suspect) sound_classes.insert(worker.numerics_class);
  }
  // By class, in order. Whoever is taken goes.
  std::map<std::string_view, std::set<size_t>> free;
  for (size_t w = 0; w < cluster.workers.size(); ++w) {
    const Cluster::Worker& worker = cluster.workers[w];
    if (worker.free && !(worker.suspect && sound_classes.contains(worker.numerics_class))) {
      free[worker.numerics_class].insert(free[worker.numerics_class].end(), w);
    }
  }
  plan.looks += cluster.workers.size() + cluster.studies.size() + cluster.trials.size();
  const auto free_for = [&](size_t study) -> std::set<size_t>& {
    return free[cluster.studies[study].numerics_class];
  };
  // A worker for the trial: one that did not just fail it, unless its class has no other at all.
  const auto pick = [&](const Cluster::Trial& trial) -> std::optional<size_t> {
    const std::set<size_t>& usable = free_for(trial.study);
    bool other_exists = trial.other_busy;
    if (!trial.avoid.empty() && !other_exists) {
      plan.looks += cluster.workers.size();
      for (const Cluster::Worker& worker : cluster.workers) {
        other_exists |= worker.numerics_class == cluster.studies[trial.study].numerics_class &&
                        !worker.suspect && !trial.avoid.contains(worker.name);
      }
    }
    for (size_t w : usable) {
      ++plan.looks;
      if (!(other_exists && trial.avoid.contains(cluster.workers[w].name))) return w;
    }
    return std::nullopt;
  };
  // Of those that are free for the trial, the first `most`.
  const auto spare_for = [&](const Cluster::Trial& trial, uint32_t most) {
    std::vector<size_t> spare;
    for (size_t w : free_for(trial.study)) {
      if (spare.size() >= most) break;
      ++plan.looks;
      if (!trial.avoid.contains(cluster.workers[w].name)) spare.push_back(w);
    }
    return spare;
  };

  struct Share {
    double used, priority;
    uint64_t units;
    uint32_t workers;
    std::list<size_t> trials;  // That wait.
  };
  std::vector<Share> shares;
  for (const Cluster::Study& study : cluster.studies) {
    shares.push_back({study.used, study.priority, study.waiting_units, study.workers, {}});
  }
  for (size_t t = 0; t < cluster.trials.size(); ++t) {
    if (cluster.trials[t].waiting) shares[cluster.trials[t].study].trials.push_back(t);
  }

  // One worker at a time to the study that is first in turn and has something for it. Who can be
  // given nothing now will not be later: workers and units only get fewer.
  using Turn = std::tuple<bool, double, size_t>;
  const auto turn_of = [&](size_t s) {
    const bool hungry = cluster.studies[s].starved && shares[s].workers == 0;
    return Turn(!hungry, shares[s].used, s);
  };
  std::set<Turn> turns;
  for (size_t s = 0; s < shares.size(); ++s) turns.insert(turn_of(s));
  const auto grant = [&](size_t s) {
    Share& share = shares[s];
    std::set<size_t>& usable = free_for(s);
    if (usable.empty()) return false;
    for (auto t = share.trials.begin(); t != share.trials.end(); ++t) {
      const std::optional<size_t> w = pick(cluster.trials[*t]);
      if (!w) continue;
      usable.erase(*w);
      plan.gangs.push_back({*t, {*w}});
      share.trials.erase(t);
      // A segment's worth: what it holds it keeps for long.
      share.used += 30.0 / share.priority;
      ++share.workers;
      return true;
    }
    if (share.units == 0) return false;
    const double seconds = std::max(cluster.studies[s].unit_seconds, 1e-6);
    double bundle_seconds = cluster.bundle_seconds;
    if (alone) {
      const double each = seconds * static_cast<double>(share.units) /
                          static_cast<double>(cluster.workers.size() + cluster.busy);
      bundle_seconds = std::clamp(each / kToCome, bundle_seconds, kLonger * bundle_seconds);
    }
    uint64_t units =
        static_cast<uint64_t>(std::clamp(std::floor(bundle_seconds / seconds), 1.0,
                                         static_cast<double>(cluster.max_bundle)));
    // The end of a queue is shared out, so that all finish together.
    units = std::min<uint64_t>(units, (share.units + usable.size() - 1) / usable.size());
    units = std::min(units, share.units);
    plan.bundles.push_back({s, *usable.begin(), static_cast<uint32_t>(units)});
    usable.erase(usable.begin());
    share.units -= units;
    share.used += static_cast<double>(units) * seconds / share.priority;
    ++share.workers;
    return true;
  };
  while (!turns.empty()) {
    const size_t s = std::get<2>(*turns.begin());
    turns.erase(turns.begin());
    ++plan.looks;
    if (grant(s)) turns.insert(turn_of(s));
  }

  // Left-over workers enlarge the gangs that start now.
  for (Plan::Gang& gang : plan.gangs) {
    const Cluster::Trial& trial = cluster.trials[gang.trial];
    if (trial.alone) continue;
    const std::vector<size_t> spare = spare_for(trial, trial.shards);
    const uint32_t world = BestWorld(trial.shards, 1 + static_cast<uint32_t>(spare.size()));
    for (uint32_t i = 1; i < world; ++i) {
      gang.workers.push_back(spare[i - 1]);
      free_for(trial.study).erase(spare[i - 1]);
    }
  }

  // Workers that would idle: a running gang of their class re-forms with them, one a round.
  for (size_t t = 0; t < cluster.trials.size(); ++t) {
    const Cluster::Trial& trial = cluster.trials[t];
    if (!trial.may_yield || trial.alone || trial.world == 0) continue;
    const uint32_t spare = static_cast<uint32_t>(spare_for(trial, trial.shards).size());
    if (spare == 0) continue;
    const uint32_t world = BestWorld(trial.shards, trial.world + spare);
    if (Rounds(trial.shards, world) < Rounds(trial.shards, trial.world)) {
      plan.yields.push_back(t);
      break;
    }
  }

  // A starved study takes from the study that holds most, by the largest of its gangs.
  for (size_t s = 0; s < cluster.studies.size(); ++s) {
    if (!cluster.studies[s].starved || shares[s].workers > 0) continue;
    size_t victim = cluster.trials.size();
    for (size_t t = 0; t < cluster.trials.size(); ++t) {
      const Cluster::Trial& trial = cluster.trials[t];
      if (!trial.may_yield || !trial.had_turn || trial.study == s ||
          cluster.studies[trial.study].numerics_class != cluster.studies[s].numerics_class) {
        continue;
      }
      const auto size = [&](size_t i) {
        return std::tuple(cluster.studies[cluster.trials[i].study].workers,
                          cluster.trials[i].world);
      };
      if (victim == cluster.trials.size() || size(t) > size(victim)) victim = t;
    }
    if (victim == cluster.trials.size()) continue;
    if (std::find(plan.yields.begin(), plan.yields.end(), victim) == plan.yields.end()) {
      plan.yields.push_back(victim);
    }
    break;  // One a round: its workers may serve several.
  }
  return plan;
}

}  // namespace dermis
