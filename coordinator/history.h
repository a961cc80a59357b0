// What happened to a study, told from rows of the journal.
#ifndef DERMIS_COORDINATOR_HISTORY_H_
#define DERMIS_COORDINATOR_HISTORY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "coordinator/journal.h"
#include "coordinator/studies.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

// Those of `rows` that concern the study, since it was first submitted; next_row is the last of
// them. NOT_FOUND. For the core thread; cheap for a few hundred rows.
absl::StatusOr<v1::HistoryResponse> ViewHistory(const Studies& studies, const std::string& id,
                                                const std::vector<Journal::Row>& rows);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_HISTORY_H_
