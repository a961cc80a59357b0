#include "coordinator/services/access.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "grpcpp/security/auth_metadata_processor.h"

#include "common/tls.h"

namespace dermis {
namespace {

enum Who : unsigned { kAdmin = 1, kUser = 2, kWorker = 4, kAnyone = 8, kPeople = kAdmin | kUser };

struct Rule {
  std::string_view method;
  unsigned who;
  bool changes = false;
};

constexpr Rule kRules[] = {
    {"Audit/Head", kPeople},
    {"Audit/Read", kAdmin},
    {"Studies/Submit", kPeople, true},
    {"Studies/Watch", kPeople},
    {"Studies/List", kPeople},
    {"Studies/Cancel", kPeople, true},
    {"Studies/Retry", kPeople, true},
    {"Studies/Results", kPeople},
    {"Studies/ClusterStatus", kPeople},
    {"Studies/Adjust", kPeople, true},
    {"Studies/Delete", kPeople, true},
    {"Studies/History", kPeople},
    {"Questions/Explain", kPeople},  // Changes nothing: who looked at which image is in no log.
    {"Studies/Trials", kPeople},
    {"Cluster/Attend", kWorker},
    {"Cluster/CompleteTasks", kWorker},
    {"Cluster/FetchResults", kWorker},
    {"Blobs/Has", kPeople | kWorker},
    {"Blobs/Put", kPeople | kWorker},
    {"Blobs/Get", kPeople | kWorker},
    {"Blobs/Holding", kWorker},
    {"Join/Sign", kAnyone, true},  // Its service asks for a token.
    {"Join/Renew", kWorker, true},
    {"Join/CreateToken", kAdmin, true},
    {"Join/List", kAdmin},
    {"Join/RevokeToken", kAdmin, true},
    {"Join/Revoke", kAdmin, true},
    {"Studies/Quarantine", kAdmin, true},
    {"Studies/Release", kAdmin, true},
};

Rule RuleOf(std::string_view method) {
  for (const Rule& rule : kRules) {
    if (rule.method == method) return rule;
  }
  return {method, 0};
}
unsigned WhoMay(std::string_view method) { return RuleOf(method).who; }

constexpr size_t kMostKnown = 4096;

}  // namespace

bool Allowed(std::string_view role, std::string_view method) {
  const unsigned who = WhoMay(method);
  return (role == "admin" && (who & kAdmin) != 0) || (role == "user" && (who & kUser) != 0) ||
         (role == "worker" && (who & kWorker) != 0);
}

bool NeedsNoCertificate(std::string_view method) { return WhoMay(method) == kAnyone; }

bool Changes(std::string_view method) { return RuleOf(method).changes; }

std::string_view MethodOf(std::string_view path) {
  constexpr std::string_view kOurs = "/dermis.v1.";
  return path.starts_with(kOurs) ? path.substr(kOurs.size()) : std::string_view();
}

absl::StatusOr<Bearer> Access::BearerOfPeer(const grpc::AuthContext& peer) const {
  const auto pem = peer.FindPropertyValues("x509_pem_cert");
  if (pem.empty()) return PeerBearer(peer);  // Says what is wrong.
  const std::string text(pem[0].data(), pem[0].size());
  {
    absl::MutexLock lock(&mutex_);
    if (const auto known = known_.find(text); known != known_.end()) return known->second;
  }
  absl::StatusOr<Bearer> bearer = PeerBearer(peer);
  if (bearer.ok()) {
    absl::MutexLock lock(&mutex_);
    if (known_.size() >= kMostKnown) known_.clear();
    known_[text] = *bearer;
  }
  return bearer;
}

grpc::Status Access::CheckBearer(const Bearer& bearer) const {
  if (bearer.validity.until <= absl::FromUnixMillis(static_cast<int64_t>(clock_.UnixMillis()))) {
    return {grpc::StatusCode::UNAUTHENTICATED,
            absl::StrCat("the certificate of ", bearer.name, " (", bearer.serial, ") has expired: a worker joins again "
                         "with a token, others get a new one from `dermis cluster init`")};
  }
  absl::MutexLock lock(&mutex_);
  if (!revoked_.contains(bearer.serial)) return grpc::Status::OK;
  return {grpc::StatusCode::UNAUTHENTICATED,
          absl::StrCat("the certificate of ", bearer.name, " (", bearer.serial,
                       ") was revoked: ask whoever runs the cluster for a token or another certificate")};
}

grpc::Status Access::CheckPeer(const grpc::AuthContext* peer, std::string_view method) const {
  if (insecure_ || NeedsNoCertificate(method)) return grpc::Status::OK;
  if (peer == nullptr) return {grpc::StatusCode::UNAUTHENTICATED, "no certificate was shown"};
  const absl::StatusOr<Bearer> bearer = BearerOfPeer(*peer);
  if (!bearer.ok()) return ToGrpc(bearer.status());
  if (grpc::Status status = CheckBearer(*bearer); !status.ok()) return status;
  if (method.empty() || Allowed(bearer->role, method)) return grpc::Status::OK;
  std::string text = absl::StrCat("a certificate of role '", bearer->role, "' may not call ", std::string(method));
  if (bearer->role == "user" && WhoMay(method) == kAdmin) {
    absl::StrAppend(&text, ": that is for admin.crt, which `dermis cluster init` makes for the cluster's owner");
  }
  return {grpc::StatusCode::PERMISSION_DENIED, text};
}

grpc::Status Access::Check(const grpc::ServerContextBase& context, std::string_view method) const {
  return CheckPeer(context.auth_context().get(), method);
}

grpc::Status Access::CheckPath(const grpc::AuthContext& peer, std::string_view path) const {
  const std::string_view method = MethodOf(path);
  const grpc::Status status = CheckPeer(&peer, method);
  if (!status.ok() && refused_ != nullptr) {
    const Bearer bearer = BearerOfPeer(peer).value_or(Bearer());
    // What no rule names is the caller's own text.
    refused_({bearer.name, bearer.role}, WhoMay(method) == 0 ? "an unknown call" : method, status);
  }
  return status;
}

Access::StillGood Access::WhileOpen(const grpc::ServerContextBase& context) const {
  return [this, bearer = Who(context)] {
    return bearer.serial.empty() ? grpc::Status::OK : CheckBearer(bearer);
  };
}

Bearer Access::Who(const grpc::ServerContextBase& context) const {
  const auto peer = context.auth_context();
  if (insecure_ || peer == nullptr) return {};
  return BearerOfPeer(*peer).value_or(Bearer());
}

std::string Access::User(const grpc::ServerContextBase& context) const {
  return insecure_ ? "local" : Who(context).name;
}

AuditCaller Access::Caller(const grpc::ServerContextBase& context) const {
  if (insecure_) return {"local", ""};
  const Bearer bearer = Who(context);
  if (!bearer.name.empty()) return {bearer.name, bearer.role};
  const std::string address = context.peer();
  return {address.substr(0, address.rfind(':')), ""};
}

void Access::Revoke(const std::string& serial) {
  absl::MutexLock lock(&mutex_);
  revoked_.insert(serial);
}

namespace {

class Gate : public grpc::AuthMetadataProcessor {
 public:
  explicit Gate(const Access& access) : access_(access) {}
  bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context, OutputMetadata*,
                       OutputMetadata*) override {
    const auto path = metadata.find(":path");
    if (path == metadata.end()) return {grpc::StatusCode::UNAUTHENTICATED, "a call without a path"};
    return access_.CheckPath(*context, {path->second.data(), path->second.size()});
  }

 private:
  const Access& access_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> GuardedServerCredentials(const Identity& identity, const Access& access) {
  std::shared_ptr<grpc::ServerCredentials> credentials = OpenTlsServerCredentials(identity);
  credentials->SetAuthMetadataProcessor(std::make_shared<Gate>(access));
  return credentials;
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.raw_code()), std::string(status.message())};
}

}  // namespace dermis
