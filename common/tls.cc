#include "common/tls.h"

#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "grpcpp/create_channel.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

constexpr long kValidDays = 3650;
constexpr int kMaxMessageBytes = 64 << 20;

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* p) const { Free(p); }
};
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509, X509_free>>;
struct BioFree {
  void operator()(BIO* bio) const { BIO_free_all(bio); }
};
using Bio = std::unique_ptr<BIO, BioFree>;

absl::Status OpensslError(std::string_view what) {
  char text[256];
  ERR_error_string_n(ERR_get_error(), text, sizeof text);
  return absl::InternalError(absl::StrCat(std::string(what), ": ", text));
}

std::string Text(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, size);
}

std::string ToPem(X509* certificate) {
  Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), certificate);
  return Text(bio.get());
}

std::string ToPem(EVP_PKEY* key) {
  Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  return Text(bio.get());
}

Certificate ParseCertificate(std::string_view pem) {
  Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return Certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}

Key ParseKey(std::string_view pem) {
  Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return Key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
}

// A file that only its owner reads, there whole or not at all.
absl::Status WriteSecret(const fs::path& path, const std::string& text) {
  const fs::path temporary = path.string() + ".new";
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  bool good = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  good = good && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  good = good && rename(temporary.c_str(), path.c_str()) == 0;
  if (good) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path.string(), " cannot be written: ", strerror(errno)));
}

absl::StatusOr<std::string> ReadText(const fs::path& path) {
  std::ifstream in(path);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) {
    return absl::NotFoundError(absl::StrCat("certificate file ", path.string(), " cannot be read (",
                                            strerror(errno),
                                            "): check its permissions, or make new ones with `dermis cluster start`"));
  }
  return std::move(text).str();
}

void AddName(X509_NAME* name, const char* field, const std::string& value) {
  X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(value.data()),
                             static_cast<int>(value.size()), -1, 0);
}

absl::Status AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  if (extension == nullptr) return OpensslError(absl::StrCat("certificate extension ", value));
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  return absl::OkStatus();
}

struct Issued {
  std::string certificate, key;
};

// issuer = nullptr: a CA that signs itself.
absl::StatusOr<Issued> Issue(const std::string& name, const std::string& role,
                             const std::string& alternative_names, X509* issuer, EVP_PKEY* issuer_key) {
  Key key(EVP_EC_gen("P-256"));
  Certificate certificate(X509_new());
  if (key == nullptr || certificate == nullptr) return OpensslError("making a key");
  X509_set_version(certificate.get(), 2);
  uint64_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial >> 1);
  // A day back: clocks of other hosts may be behind.
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -24 * 3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), kValidDays * 24 * 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  AddName(subject, "O", "dermis");
  AddName(subject, "OU", role);
  AddName(subject, "CN", name);
  X509* signer = issuer != nullptr ? issuer : certificate.get();
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(signer));
  if (issuer == nullptr) {
    RETURN_IF_ERROR(AddExtension(certificate.get(), signer, NID_basic_constraints, "critical,CA:TRUE"));
    RETURN_IF_ERROR(AddExtension(certificate.get(), signer, NID_key_usage, "critical,keyCertSign,cRLSign"));
  } else {
    RETURN_IF_ERROR(AddExtension(certificate.get(), signer, NID_basic_constraints, "critical,CA:FALSE"));
    RETURN_IF_ERROR(AddExtension(certificate.get(), signer, NID_subject_alt_name, alternative_names));
  }
  if (!X509_sign(certificate.get(), issuer_key != nullptr ? issuer_key : key.get(), EVP_sha256())) {
    return OpensslError("signing a certificate");
  }
  return Issued{ToPem(certificate.get()), ToPem(key.get())};
}

std::string AlternativeNames(const std::vector<std::string>& hosts) {
  std::string names = "DNS:dermis,DNS:localhost,IP:127.0.0.1,IP:::1";
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) == 0 && host[0] != '\0') absl::StrAppend(&names, ",DNS:", host);
  for (const std::string& extra : hosts) {
    const bool is_ip = extra.find_first_not_of("0123456789.") == std::string::npos;
    absl::StrAppend(&names, is_ip ? ",IP:" : ",DNS:", extra);
  }
  return names;
}

// Signed by this CA, its key matching, and not expired.
bool IsValid(const std::string& certificate_pem, const std::string& key_pem, X509* ca) {
  const Certificate certificate = ParseCertificate(certificate_pem);
  const Key key = ParseKey(key_pem);
  return certificate != nullptr && key != nullptr &&
         X509_check_private_key(certificate.get(), key.get()) == 1 &&
         X509_verify(certificate.get(), X509_get0_pubkey(ca)) == 1 &&
         X509_cmp_current_time(X509_get0_notAfter(certificate.get())) > 0;
}

std::string SubjectField(X509* certificate, int nid) {
  char text[256] = {};
  const int size = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), nid, text, sizeof text);
  return size > 0 ? std::string(text, size) : "";
}

}  // namespace

bool IsLoopback(std::string_view address) {
  return address.starts_with("127.") || address.starts_with("localhost:") || address.starts_with("[::1]:");
}

absl::Status MakeClusterCertificates(const std::string& directory,
                                     const std::vector<std::string>& hosts) {
  const fs::path folder = directory;
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) fs::permissions(folder, fs::perms::owner_all, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat(directory, " cannot be made: ", error.message()));
  }
  if (!fs::exists(folder / "ca.crt") || !fs::exists(folder / "ca.key")) {
    ASSIGN_OR_RETURN(const Issued ca, Issue("dermis-ca", "ca", "", nullptr, nullptr));
    RETURN_IF_ERROR(WriteSecret(folder / "ca.key", ca.key));
    RETURN_IF_ERROR(WriteSecret(folder / "ca.crt", ca.certificate));
  }
  ASSIGN_OR_RETURN(const std::string ca_pem, ReadText(folder / "ca.crt"));
  ASSIGN_OR_RETURN(const std::string ca_key_pem, ReadText(folder / "ca.key"));
  const Certificate ca = ParseCertificate(ca_pem);
  const Key ca_key = ParseKey(ca_key_pem);
  if (ca == nullptr || ca_key == nullptr) {
    return absl::DataLossError(absl::StrCat(directory, "/ca.crt or ca.key is damaged: remove the folder ",
                                            directory, " and start the cluster again"));
  }
  for (const char* role : {"coordinator", "worker", "user"}) {
    const fs::path certificate = folder / absl::StrCat(role, ".crt");
    const fs::path key = folder / absl::StrCat(role, ".key");
    if (fs::exists(certificate) && fs::exists(key)) {
      ASSIGN_OR_RETURN(const std::string certificate_pem, ReadText(certificate));
      ASSIGN_OR_RETURN(const std::string key_pem, ReadText(key));
      if (IsValid(certificate_pem, key_pem, ca.get())) continue;
    }
    ASSIGN_OR_RETURN(const Issued issued,
                     Issue(role, role, AlternativeNames(hosts), ca.get(), ca_key.get()));
    RETURN_IF_ERROR(WriteSecret(key, issued.key));
    RETURN_IF_ERROR(WriteSecret(certificate, issued.certificate));
  }
  return absl::OkStatus();
}

absl::StatusOr<Identity> LoadIdentity(const std::string& directory, const std::string& role) {
  const fs::path folder = directory;
  Identity identity;
  ASSIGN_OR_RETURN(identity.ca_certificate, ReadText(folder / "ca.crt"));
  ASSIGN_OR_RETURN(identity.certificate, ReadText(folder / absl::StrCat(role, ".crt")));
  ASSIGN_OR_RETURN(identity.key, ReadText(folder / absl::StrCat(role, ".key")));
  const Certificate ca = ParseCertificate(identity.ca_certificate);
  if (ca == nullptr || !IsValid(identity.certificate, identity.key, ca.get())) {
    return absl::UnauthenticatedError(absl::StrCat(
        (folder / absl::StrCat(role, ".crt")).string(),
        " is damaged, expired, or not of this cluster's CA: make new ones with `dermis cluster start`"));
  }
  return identity;
}

absl::StatusOr<Validity> ValidityOf(const std::string& certificate_pem) {
  const Certificate certificate = ParseCertificate(certificate_pem);
  std::tm from{}, until{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notBefore(certificate.get()), &from) != 1 ||
      ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &until) != 1) {
    return absl::InvalidArgumentError("is no certificate");
  }
  return Validity{absl::FromTM(from, absl::UTCTimeZone()), absl::FromTM(until, absl::UTCTimeZone())};
}

absl::StatusOr<std::string> CertificateFingerprint(const std::string& certificate) {
  const Certificate parsed = ParseCertificate(certificate);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (parsed == nullptr || X509_digest(parsed.get(), EVP_sha256(), digest, &size) != 1) {
    return absl::InvalidArgumentError("this is not a certificate");
  }
  std::string out;
  for (unsigned i = 0; i < size; ++i) absl::StrAppendFormat(&out, "%s%02X", i == 0 ? "" : ":", digest[i]);
  return out;
}

std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const Identity& identity) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = identity.ca_certificate;
  options.pem_private_key = identity.key;
  options.pem_cert_chain = identity.certificate;
  return grpc::SslCredentials(options);
}

std::shared_ptr<grpc::ServerCredentials> MutualTlsServerCredentials(const Identity& identity) {
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = identity.ca_certificate;
  options.pem_key_cert_pairs.push_back({identity.key, identity.certificate});
  return grpc::SslServerCredentials(options);
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           std::shared_ptr<grpc::ChannelCredentials> credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("dermis");
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A restarted coordinator is found again within a second, not after gRPC's default of up to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // This one is also how long an attempt may take. A client that waits between calls polls rarely, so a
  // TLS handshake needs several of its calls to get through.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  // Channels of one process to one address must not share a connection: a dead one would be dead for all.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  return grpc::CreateCustomChannel(address, std::move(credentials), arguments);
}

namespace {
Certificate PeerCertificate(const grpc::AuthContext& context) {
  const auto pem = context.FindPropertyValues("x509_pem_cert");
  if (pem.empty() || !context.IsPeerAuthenticated()) return nullptr;
  return ParseCertificate(std::string_view(pem[0].data(), pem[0].size()));
}
}  // namespace

absl::StatusOr<std::string> PeerRole(const grpc::AuthContext& context) {
  const Certificate certificate = PeerCertificate(context);
  if (certificate == nullptr) return absl::UnauthenticatedError("the caller showed no valid certificate");
  return SubjectField(certificate.get(), NID_organizationalUnitName);
}

std::string PeerName(const grpc::AuthContext& context) {
  const Certificate certificate = PeerCertificate(context);
  return certificate == nullptr ? "" : SubjectField(certificate.get(), NID_commonName);
}

}  // namespace dermis
