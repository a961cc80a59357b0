// Who works on what: a pure function of a snapshot.
#ifndef DERMIS_COORDINATOR_SCHEDULER_H_
#define DERMIS_COORDINATOR_SCHEDULER_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace dermis {

struct Cluster {
  struct Worker {
    std::string name;
    std::string numerics_class;
    bool free = false;
    bool suspect = false;  // Quarantined: used only where no other worker of its class is there.
  };
  struct Trial {  // Of one recipe.
    size_t study = 0;
    uint32_t shards = 1;     // V.
    bool waiting = false;    // May start now (its last gang is gone, no back-off).
    bool alone = false;      // W = 1 only: it has lost several workers.
    bool may_yield = false;  // Runs, has been left alone long enough, was not told to yield yet.
    bool had_turn = false;   // And has worked long enough, for what its start took, to make way for another study.
    uint32_t world = 0;      // W while it runs.
    std::set<std::string> avoid;  // Workers that just failed it; used where there is no other.
    bool other_busy = false;      // There is another, that is not listed.
  };
  struct Study {
    std::string numerics_class;
    double used = 0;             // Worker-seconds over priority, so far.
    double priority = 1;         // What it gets beside another is in this proportion.
    uint64_t waiting_units = 0;  // May start now.
    double unit_seconds = 0.1;   // Estimate of one; at least a microsecond.
    uint32_t workers = 0;        // Working on it now.
    bool starved = false;        // Has waited too long with work at hand and no worker.
  };
  std::vector<Worker> workers;  // Those that are free at least. Of the others it is enough to know
  size_t busy = 0;              // how many there are, and which
  std::set<std::string> sound_busy;  // numerics classes have one that is not suspect.
  std::vector<Study> studies;
  std::vector<Trial> trials;  // Those that run are needed for `yields` alone.
  size_t running = 0;         // That are not listed.
  double bundle_seconds = 1.0;  // Work that a bundle holds; up to thrice that for a long queue that is alone.
  uint32_t max_bundle = 256;
};

struct Plan {
  struct Gang {
    size_t trial;
    std::vector<size_t> workers;
  };
  struct Bundle {
    size_t study;
    size_t worker;
    uint32_t units;  // At most so many.
  };
  std::vector<Gang> gangs;
  std::vector<Bundle> bundles;
  std::vector<size_t> yields;  // Trials whose gang shall stop at the next step.
  uint64_t looks = 0;          // Workers, studies and trials that were looked at.
};

// Starved studies first, then those that used least for their priority. More trials first (W = 1); what is left over
// goes to a larger W, only where ceil(V / W) falls. A gang grows by yielding when workers would
// idle otherwise; a starved study makes the largest holder yield. Each free worker is used at most
// once. Costs what is free and what waits, not what runs.
Plan Schedule(const Cluster& cluster);

// The smallest W <= limit with the least ceil(V / W).
uint32_t BestWorld(uint32_t shards, uint32_t limit);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SCHEDULER_H_
