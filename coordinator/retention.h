// Which training states are kept. A state's row and metrics stay for ever; its blobs (weights,
// optimiser) are large, and only few of them are ever read again.
#ifndef DERMIS_COORDINATOR_RETENTION_H_
#define DERMIS_COORDINATOR_RETENTION_H_

#include <cstdint>
#include <set>
#include <vector>

namespace dermis {

// Steps of a recipe's states whose blobs may go. steps: ascending, of those that have them. Kept
// are the pinned ones, the last two (from which training goes on), and of the others the first and
// each that is at least twice as far as the one kept before it: a study that trains the recipe for
// fewer epochs repeats at most half of its steps.
std::vector<uint64_t> SupersededSteps(const std::vector<uint64_t>& steps,
                                      const std::set<uint64_t>& pinned);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_RETENTION_H_
