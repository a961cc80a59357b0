// What happened to a study, told from rows of the journal.
#ifndef DERMIS_COORDINATOR_HISTORY_H_
#define DERMIS_COORDINATOR_HISTORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "coordinator/journal.h"
#include "coordinator/studies.h"
#include "dermis/v1/studies.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// Those of `rows` that concern the study, since it was first submitted; next_row is the last of
// them. NOT_FOUND. For the core thread; cheap for a few hundred rows.
absl::StatusOr<v1::HistoryResponse> ViewHistory(const Studies& studies, const std::string& id,
                                                const std::vector<Journal::Row>& rows);

// When it began, for display: by its worker's clock, unless that is so wrong that the attempt would
// have ended after its result was stored, or an hour before; then by when that was, at the
// coordinator's.
uint64_t StartOf(const v1::Attempt& attempt, uint64_t stored_unix_ms);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_HISTORY_H_
