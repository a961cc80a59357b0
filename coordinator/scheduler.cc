#include "coordinator/scheduler.h"

#include <algorithm>
#include <cmath>
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
  const bool alone = cluster.studies.size() == 1 && cluster.trials.empty();
  Plan plan;
  std::set<std::string> sound_classes;
  for (const Cluster::Worker& worker : cluster.workers) {
    if (!worker.suspect) sound_classes.insert(worker.numerics_class);
  }
  std::vector<bool> free(cluster.workers.size());
  for (size_t w = 0; w < cluster.workers.size(); ++w) {
    const Cluster::Worker& worker = cluster.workers[w];
    free[w] = worker.free && !(worker.suspect && sound_classes.contains(worker.numerics_class));
  }
  const auto usable = [&](size_t w, size_t study) {
    return free[w] && cluster.workers[w].numerics_class == cluster.studies[study].numerics_class;
  };
  // A worker for the trial: one that did not just fail it, unless its class has no other at all.
  const auto pick = [&](const Cluster::Trial& trial) -> size_t {
    bool other_exists = false;
    for (const Cluster::Worker& worker : cluster.workers) {
      if (worker.numerics_class == cluster.studies[trial.study].numerics_class && !worker.suspect &&
          !trial.avoid.contains(worker.name)) {
        other_exists = true;
      }
    }
    for (size_t w = 0; w < free.size(); ++w) {
      if (usable(w, trial.study) &&
          !(other_exists && trial.avoid.contains(cluster.workers[w].name))) {
        return w;
      }
    }
    return free.size();
  };

  struct Share {
    double used, priority;
    uint64_t units;
    uint32_t workers;
  };
  std::vector<Share> shares;
  for (const Cluster::Study& study : cluster.studies) {
    shares.push_back({study.used, study.priority, study.waiting_units, study.workers});
  }
  std::vector<bool> started(cluster.trials.size());

  // One worker at a time to the study that is first in turn and has something for it.
  for (;;) {
    std::vector<size_t> order(cluster.studies.size());
    for (size_t s = 0; s < order.size(); ++s) order[s] = s;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const bool hungry_a = cluster.studies[a].starved && shares[a].workers == 0;
      const bool hungry_b = cluster.studies[b].starved && shares[b].workers == 0;
      return std::tuple(!hungry_a, shares[a].used) < std::tuple(!hungry_b, shares[b].used);
    });
    bool granted = false;
    for (size_t s : order) {
      for (size_t t = 0; t < cluster.trials.size() && !granted; ++t) {
        const Cluster::Trial& trial = cluster.trials[t];
        if (trial.study != s || !trial.waiting || started[t]) continue;
        const size_t w = pick(trial);
        if (w == free.size()) continue;
        free[w] = false;
        started[t] = true;
        plan.gangs.push_back({t, {w}});
        // A segment's worth: what it holds it keeps for long.
        shares[s].used += 30.0 / shares[s].priority;
        ++shares[s].workers;
        granted = true;
      }
      if (granted) break;
      if (shares[s].units == 0) continue;
      size_t w = 0, candidates = 0;
      for (size_t i = free.size(); i-- > 0;) {
        if (usable(i, s)) {
          w = i;
          ++candidates;
        }
      }
      if (candidates == 0) continue;
      const double seconds = std::max(cluster.studies[s].unit_seconds, 1e-6);
      double bundle_seconds = cluster.bundle_seconds;
      if (alone) {
        const double each = seconds * static_cast<double>(shares[s].units) /
                            static_cast<double>(cluster.workers.size());
        bundle_seconds = std::clamp(each / kToCome, bundle_seconds, kLonger * bundle_seconds);
      }
      uint64_t units =
          static_cast<uint64_t>(std::clamp(std::floor(bundle_seconds / seconds), 1.0,
                                           static_cast<double>(cluster.max_bundle)));
      // The end of a queue is shared out, so that all finish together.
      units = std::min(units, (shares[s].units + candidates - 1) / candidates);
      units = std::min(units, shares[s].units);
      free[w] = false;
      plan.bundles.push_back({s, w, static_cast<uint32_t>(units)});
      shares[s].units -= units;
      shares[s].used += static_cast<double>(units) * seconds / shares[s].priority;
      ++shares[s].workers;
      granted = true;
      break;
    }
    if (!granted) break;
  }

  // Left-over workers enlarge the gangs that start now.
  for (Plan::Gang& gang : plan.gangs) {
    const Cluster::Trial& trial = cluster.trials[gang.trial];
    if (trial.alone) continue;
    std::vector<size_t> spare;
    for (size_t w = 0; w < free.size(); ++w) {
      if (usable(w, trial.study) && !trial.avoid.contains(cluster.workers[w].name)) {
        spare.push_back(w);
      }
    }
    const uint32_t world = BestWorld(trial.shards, 1 + static_cast<uint32_t>(spare.size()));
    for (uint32_t i = 1; i < world; ++i) {
      gang.workers.push_back(spare[i - 1]);
      free[spare[i - 1]] = false;
    }
  }

  // Workers that would idle: a running gang of their class re-forms with them, one a round.
  for (size_t t = 0; t < cluster.trials.size(); ++t) {
    const Cluster::Trial& trial = cluster.trials[t];
    if (!trial.may_yield || trial.alone || trial.world == 0) continue;
    uint32_t spare = 0;
    for (size_t w = 0; w < free.size(); ++w) {
      if (usable(w, trial.study) && !trial.avoid.contains(cluster.workers[w].name)) ++spare;
    }
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
