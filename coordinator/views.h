// What people are shown: pure functions of the core's state, for the core thread.
#ifndef DERMIS_COORDINATOR_VIEWS_H_
#define DERMIS_COORDINATOR_VIEWS_H_

#include <string>

#include "absl/status/statusor.h"

#include "coordinator/fleet.h"
#include "coordinator/studies.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

// NOT_FOUND names the studies there are.
absl::StatusOr<v1::StudyStatus> ViewStudy(const Studies& studies, const Fleet& fleet,
                                          const std::string& id);
// In the order of their first submission.
v1::ListResponse ViewStudies(const Studies& studies, const Fleet& fleet);
// Reads payloads: as long as a study has explanations.
absl::StatusOr<v1::StudyResults> ViewResults(const Studies& studies, const Fleet& fleet,
                                             const Batch& batch, const std::string& id);
// At most a few hundred trials and 50,000 epochs at once. NOT_FOUND.
absl::StatusOr<v1::TrialsResponse> ViewTrialHistories(const Studies& studies, const v1::TrialsRequest& request);
// Workers and what they do.
v1::ClusterStatusResponse ViewCluster(const Studies& studies, const Fleet& fleet,
                                      const BlobIndex& blobs);
v1::QuarantinedWorker ViewQuarantined(const std::string& name, const QuarantineRecord& record);

// What a failed task of the study does, for people.
std::string DescribeFailed(const Study& study, const Digest& task);

// Canonical text of the durable state and all that is folded from it, for tests of replay.
std::string DumpStudies(const Studies& studies);
// Who waits for what, for people who look for the reason why nothing runs.
std::string DescribeWork(const Studies& studies, const Fleet& fleet);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_VIEWS_H_
