// What is right and wrong with this machine and its cluster, and what to do about it.
#ifndef DERMIS_TOOLS_DERMIS_DOCTOR_H_
#define DERMIS_TOOLS_DERMIS_DOCTOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "dermis/v1/studies.pb.h"

namespace dermis {

struct Check {
  enum State { kOk, kWarning, kBad };
  std::string name;
  State state = kOk;
  std::string detail;
  std::string next;  // What to do; empty where nothing is to be done.
};

// --- The judgements, pure.
// `pem`: a certificate file's text. Warns a month before it ends.
Check CheckCertificate(const std::string& file, const std::string& pem, absl::Time now);
Check CheckClock(absl::Time here, absl::Time coordinator);
Check CheckDisk(const std::string& directory, uint64_t free_bytes);
Check CheckMemory(uint64_t available_bytes);
// `driver`: the GPUs that it shows (CountGpusOfDriver); `library`: libdermis_cuda.so is beside the program.
Check CheckGpus(const absl::StatusOr<int>& driver, bool library);
// Workers, their numerics classes, alarms, the coordinator's disk and version.
std::vector<Check> CheckCluster(const v1::ClusterStatusResponse& status);
std::vector<Check> CheckStudies(const v1::ListResponse& studies);

// All of them, of this machine and of the cluster in `directory`.
std::vector<Check> Examine(const std::string& directory);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_DOCTOR_H_
