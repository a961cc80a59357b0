// The dashboard and all that it is made of, as the coordinator runs it.
#ifndef DERMIS_COORDINATOR_DASHBOARD_SERVE_H_
#define DERMIS_COORDINATOR_DASHBOARD_SERVE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "common/blob_store.h"
#include "common/tls.h"
#include "coordinator/audit_log.h"
#include "coordinator/blob_index.h"
#include "coordinator/core_thread.h"
#include "coordinator/dashboard/dashboard.h"
#include "coordinator/dashboard/decoder.h"
#include "coordinator/dashboard/http_server.h"
#include "coordinator/dashboard/question_board.h"
#include "coordinator/journal.h"
#include "coordinator/services/question_desk.h"

namespace dermis {

// What serves the dashboard, together; ends in the order that it must.
struct DashboardParts {
  std::unique_ptr<Publisher> publisher;
  std::unique_ptr<Chronicle> chronicle;
  std::unique_ptr<ExplanationReader> explanations;
  std::unique_ptr<SignIn> users;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<QuestionBoard> questions;
  std::unique_ptr<Dashboard> dashboard;
  std::unique_ptr<HttpServer> server;
};

struct DashboardOptions {
  std::string listen;           // HOST:PORT
  std::optional<Identity> tls;  // Absent: plain text.
  std::string store;            // The coordinator's folder: the journal's file and the tokens.
  std::string decoder;          // The path of dermis-decode.
};

// All that is given outlives the parts. Errors of HttpServer::Start.
absl::StatusOr<DashboardParts> ServeDashboard(const DashboardOptions& options, CoreThread& core,
                                              const Journal& journal, const BlobIndex& blobs,
                                              const BlobStore& store, QuestionDesk& desk,
                                              AuditLog& audit);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_SERVE_H_
