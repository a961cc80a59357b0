// A gang of processes on this machine without a coordinator: for the benchmarks of what ranks do
// together.
#ifndef DERMIS_TOOLS_BENCH_RANKS_H_
#define DERMIS_TOOLS_BENCH_RANKS_H_

#include <cstdint>
#include <memory>

#include "tools/bench/bench.h"
#include "worker/collective/collective.h"
#include "worker/collective/mesh.h"

namespace dermis::bench {

struct RanksOptions {
  uint32_t ranks = 2;
  bool tls = false;  // Makes certificates: JoinRanks wants them with --transport tls.
  bool pin = false;  // Each to a core of its own, of those that this process may use.
};

// Runs this program's argument list anew, once a rank, with what IsRank and JoinRanks look for;
// returns its exit code when all have ended.
int RunRanks(int argc, char** argv, const RanksOptions& options);

bool IsRank(const Arguments& arguments);

// Over Unix sockets and shared memory, as on one host; with --transport tls by mTLS over loopback,
// as between hosts. The mesh outlives its collective; with one rank there is none.
struct Rank {
  std::unique_ptr<PeerMesh> mesh;
  std::unique_ptr<Collective> collective;
};
Rank JoinRanks(const Arguments& arguments, uint32_t logical_shards);

}  // namespace dermis::bench

#endif  // DERMIS_TOOLS_BENCH_RANKS_H_
