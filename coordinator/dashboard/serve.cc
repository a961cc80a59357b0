#include "coordinator/dashboard/serve.h"

#include <cstdint>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include <fcntl.h>
#include <unistd.h>

#include "common/status_macros.h"

namespace dermis {
namespace {

absl::StatusOr<std::string> ReadPart(const BlobStore& store, const Digest& blob, uint64_t offset,
                                     uint64_t size) {
  const int fd = ::open(store.PathOf(blob).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::NotFoundError(absl::StrCat("blob ", blob.short_hex(), " is not stored"));
  std::string bytes(size, '\0');
  const ssize_t got = ::pread(fd, bytes.data(), size, static_cast<off_t>(offset));
  ::close(fd);
  if (got != static_cast<ssize_t>(size)) {
    return absl::DataLossError(absl::StrCat("blob ", blob.short_hex(), " is too short"));
  }
  return bytes;
}

}  // namespace

absl::StatusOr<DashboardParts> ServeDashboard(const DashboardOptions& options, CoreThread& core,
                                              const Journal& journal, const BlobIndex& blobs,
                                              const BlobStore& store, QuestionDesk& desk,
                                              AuditLog& audit) {
  DashboardParts parts;
  ASSIGN_OR_RETURN(SignIn sign_in, SignIn::Open(absl::StrCat(options.store, "/dashboard-token")));
  parts.publisher = std::make_unique<Publisher>(core);
  parts.chronicle = std::make_unique<Chronicle>(absl::StrCat(options.store, "/journal.sqlite"));
  parts.explanations = std::make_unique<ExplanationReader>(
      journal, blobs, [&store](const Digest& blob, uint64_t offset, uint64_t size) {
        return ReadPart(store, blob, offset, size);
      });
  Dashboard::Sources sources;
  sources.snapshot = [publisher = parts.publisher.get()] { return publisher->Latest(); };
  sources.chronicle = parts.chronicle.get();
  sources.explanations = parts.explanations.get();
  ASSIGN_OR_RETURN(SignIn users, SignIn::Open(absl::StrCat(options.store, "/user-token")));
  parts.users = std::make_unique<SignIn>(std::move(users));
  parts.decoder = std::make_unique<Decoder>(options.decoder);
  parts.questions = std::make_unique<QuestionBoard>(desk, *parts.decoder);
  sources.questions = parts.questions.get();
  sources.users = parts.users.get();
  sources.audit = &audit;
  parts.dashboard =
      std::make_unique<Dashboard>(std::move(sources), std::move(sign_in), options.tls.has_value());
  HttpServer::Options server;
  server.listen = options.listen;
  server.tls = options.tls;
  server.larger_body = [dashboard = parts.dashboard.get()](const HttpRequest& request) {
    return dashboard->LargerBody(request);
  };
  server.refused = [dashboard = parts.dashboard.get()](const std::string& client, const char* why) {
    dashboard->Refused(client, why);
  };
  const auto handler = [dashboard = parts.dashboard.get()](const HttpRequest& request) {
    return dashboard->Answer(request);
  };
  // Any free port: the last one, if it still is, so that open pages go on after a restart.
  std::string last;
  std::ifstream(absl::StrCat(options.store, "/dashboard")) >> last;
  if (const size_t colon = last.rfind(':');
      colon != std::string::npos && options.listen.ends_with(":0")) {
    HttpServer::Options again = server;
    again.listen = options.listen.substr(0, options.listen.size() - 2) + last.substr(colon);
    if (auto started = HttpServer::Start(std::move(again), handler); started.ok()) {
      parts.server = *std::move(started);
    }
  }
  if (parts.server == nullptr) {
    ASSIGN_OR_RETURN(parts.server, HttpServer::Start(std::move(server), handler));
  }
  return parts;
}

}  // namespace dermis
