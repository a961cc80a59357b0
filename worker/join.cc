#include "worker/join.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/client_context.h"

#include "common/blob_client.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/tls.h"
#include "dermis/v1/join.grpc.pb.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

constexpr absl::Duration kCallPatience = absl::Seconds(10);

struct BioFree {
  void operator()(BIO* bio) const { BIO_free_all(bio); }
};
using Bio = std::unique_ptr<BIO, BioFree>;
struct ContextFree {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

std::string ToPem(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), certificate);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, size);
}

absl::Status MakeFolder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) fs::permissions(folder, fs::perms::owner_all, error);
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the folder ", folder, " of this worker's key cannot be made: ", error.message(), ". Name another with --certs"));
}

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kCallPatience));
  context.set_wait_for_ready(true);
}

// Whether the token in the file is for a cluster with another CA than the identity's: one that was set up anew, say.
bool IsOfAnotherCluster(const std::string& join, const Identity& there) {
  if (join.empty() || join == "-") return false;  // Standard input is read once, and only where it is needed.
  const absl::StatusOr<JoinToken> token = ReadJoinToken(join);
  const absl::StatusOr<Digest> ca = PublicKeyHash(there.ca_certificate);
  return token.ok() && (!ca.ok() || *ca != token->ca_key);
}

}  // namespace

absl::StatusOr<std::string> FetchCa(const std::string& address, const Digest& ca_key, absl::Duration patience) {
  ERR_clear_error();
  const std::unique_ptr<SSL_CTX, ContextFree> context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  // Whom to trust is what is asked here: by the hash, below.
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof kHttp2);
  const Bio bio(BIO_new_ssl_connect(context.get()));
  SSL* ssl = nullptr;
  BIO_get_ssl(bio.get(), &ssl);
  SSL_set_tlsext_host_name(ssl, "dermis");
  BIO_set_conn_hostname(bio.get(), address.c_str());
  if (BIO_do_connect_retry(bio.get(), static_cast<int>(absl::ToInt64Seconds(patience)), 20) != 1) {
    const unsigned long code = ERR_peek_last_error();
    const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
    ERR_clear_error();
    return absl::UnavailableError(
        absl::StrCat("no coordinator answers at ", address, ": ", reason == nullptr ? "no TLS within the time" : reason));
  }
  STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(ssl);
  X509* ca = nullptr;
  for (int i = 0; chain != nullptr && i < sk_X509_num(chain); ++i) {
    X509* const certificate = sk_X509_value(chain, i);
    const absl::StatusOr<Digest> hash = PublicKeyHash(ToPem(certificate));
    if (hash.ok() && *hash == ca_key) ca = certificate;
  }
  X509* const shown = chain == nullptr || sk_X509_num(chain) == 0 ? nullptr : sk_X509_value(chain, 0);
  if (ca == nullptr || X509_verify(shown, X509_get0_pubkey(ca)) != 1 ||
      X509_check_host(shown, kCoordinatorName, 0, 0, nullptr) != 1) {
    ERR_clear_error();
    return absl::UnauthenticatedError(absl::StrCat(
        "who answers at ", address, " is not of the cluster that the token is for: its certificate is another CA's, or no coordinator's. It is another "
        "cluster's coordinator, or somebody stands in between; nothing was sent to it. Compare the address, or make a new token"));
  }
  return ToPem(ca);
}

absl::Status Join(const JoinToken& token, const std::string& certs, const std::string& name) {
  RETURN_IF_ERROR(CheckWorkerName(name));
  RETURN_IF_ERROR(MakeFolder(certs));
  ASSIGN_OR_RETURN(const std::string ca, FetchCa(token.address, token.ca_key, absl::Seconds(5)));
  const fs::path folder = certs;
  // A key without a certificate is of a try whose answer did not come.
  std::string key = fs::exists(folder / "worker.crt") ? "" : ReadFile(folder / "worker.key").value_or("");
  absl::StatusOr<std::string> request = MakeSigningRequest(key);
  if (!request.ok()) {
    ASSIGN_OR_RETURN(key, NewKey());
    request = MakeSigningRequest(key);
    RETURN_IF_ERROR(request.status());
    std::error_code ignored;
    fs::remove(folder / "worker.crt", ignored);
    RETURN_IF_ERROR(WriteSecret(folder / "worker.key", key));
  }
  const auto stub = v1::Join::NewStub(MakeChannel(token.address, StrangerCredentials(ca), kCoordinatorName));
  v1::SignRequest sign;
  sign.set_token(token.id);
  sign.set_secret(token.secret);
  sign.set_name(name);
  sign.set_request(*request);
  v1::SignResponse response;
  grpc::ClientContext context;
  SetDeadline(context);
  RETURN_IF_ERROR(ToAbsl(stub->Sign(&context, sign, &response), absl::StrCat("joining at ", token.address)));
  RETURN_IF_ERROR(BearerOf(response.certificate()).status());
  RETURN_IF_ERROR(WriteSecret(folder / "ca.crt", ca));
  RETURN_IF_ERROR(WriteSecret(folder / "coordinator", absl::StrCat(token.address, "\n")));
  return WriteSecret(folder / "worker.crt", response.certificate());
}

void ForgetCertificate(const std::string& certs) {
  const absl::StatusOr<Identity> there = LoadIdentity(certs, "worker");
  if (!there.ok()) return;
  const absl::StatusOr<Bearer> bearer = BearerOf(there->certificate);
  std::error_code ignored;
  if (bearer.ok() && !bearer->ready_made()) fs::remove(fs::path(certs) / "worker.crt", ignored);
}

absl::Status EnsureJoined(const std::string& join, const std::string& certs, const std::string& name,
                          const std::function<bool()>& wait) {
  if (const absl::StatusOr<Identity> there = LoadIdentity(certs, "worker"); there.ok() && !IsOfAnotherCluster(join, *there)) {
    ASSIGN_OR_RETURN(const Bearer bearer, BearerOf(there->certificate));
    if (bearer.name == name || bearer.ready_made()) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("the certificate in ", certs, " is worker ", bearer.name, "'s, this one is ",
                                                      name, ": give each worker its own --certs"));
  }
  ASSIGN_OR_RETURN(const JoinToken token, ReadJoinToken(join));
  for (bool said = false;; said = true) {
    const absl::Status status = Join(token, certs, name);
    if (status.ok()) {
      DERMIS_LOG(kInfo, "joined the cluster of ", token.address, " as ", name, "; key and certificate are in ", certs);
      return status;
    }
    if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) return status;
    if (!said) DERMIS_LOG(kWarning, "cannot join yet; tried again until it can: ", status.message());
    if (!wait()) return absl::CancelledError("told to stop before it has joined");
  }
}

std::string NotedCoordinator(const std::string& certs) {
  std::string address;
  std::ifstream(fs::path(certs) / "coordinator") >> address;
  return address;
}

absl::Status RenewCertificate(const std::shared_ptr<grpc::Channel>& channel, const std::string& certs) {
  ASSIGN_OR_RETURN(const Identity identity, LoadIdentity(certs, "worker"));
  v1::RenewRequest request;
  ASSIGN_OR_RETURN(*request.mutable_request(), MakeSigningRequest(identity.key));
  v1::SignResponse response;
  grpc::ClientContext context;
  SetDeadline(context);
  RETURN_IF_ERROR(ToAbsl(v1::Join::NewStub(channel)->Renew(&context, request, &response), "renewing the certificate"));
  RETURN_IF_ERROR(BearerOf(response.certificate()).status());
  return WriteSecret(certs + "/worker.crt", response.certificate());
}

void KeepCertificateFresh(const RenewalOptions& options) {
  while (true) {
    const absl::StatusOr<Identity> identity = LoadIdentity(options.certs, "worker");
    const absl::StatusOr<Bearer> bearer = identity.ok() ? BearerOf(identity->certificate) : identity.status();
    if (bearer.ok() && bearer->ready_made()) return;
    if (bearer.ok() && absl::Now() >= RenewalDue(bearer->validity)) {
      absl::Status status = RenewCertificate(options.channel(), options.certs);
      if (status.ok()) {
        const absl::StatusOr<Identity> fresh = LoadIdentity(options.certs, "worker");
        status = fresh.status();
        if (fresh.ok()) {
          DERMIS_LOG(kInfo, "the certificate was renewed");
          options.renewed(*fresh);
        }
      }
      if (!status.ok()) {
        DERMIS_LOG(kWarning, status.message(), "; tried again. The certificate runs out at ",
                   absl::FormatTime("%Y-%m-%d %H:%M", bearer->validity.until, absl::UTCTimeZone()),
                   " UTC; after that only a new token helps (dermis-worker --join)");
      }
    }
    absl::SleepFor(options.pause);
  }
}

}  // namespace dermis
