#include "common/certificates.h"

#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

#include "common/files.h"
#include "common/status_macros.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

constexpr absl::Duration kReadyMadeLife = absl::Hours(3650 * 24);

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* p) const { Free(p); }
};
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509, X509_free>>;
using Request = std::unique_ptr<X509_REQ, Deleter<X509_REQ, X509_REQ_free>>;
using Number = std::unique_ptr<BIGNUM, Deleter<BIGNUM, BN_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Deleter<EVP_MD_CTX, EVP_MD_CTX_free>>;
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

// What an i2d function of OpenSSL writes.
template <typename Write>
std::string ToDer(Write write) {
  unsigned char* data = nullptr;
  const int size = write(&data);
  std::string der(reinterpret_cast<char*>(data), size > 0 ? size : 0);
  OPENSSL_free(data);
  return der;
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

absl::StatusOr<std::string> ReadText(const fs::path& path) {
  absl::StatusOr<std::string> text = ReadFile(path);
  if (text.ok()) return text;
  return absl::NotFoundError(absl::StrCat("certificate file ", text.status().message(),
                                          ": check its permissions, or make new ones with `dermis cluster start`"));
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

// ca = nullptr: a CA that signs itself.
absl::StatusOr<std::string> Issue(const Bearer& bearer, EVP_PKEY* key, const std::string& alternative_names,
                                  X509* ca, EVP_PKEY* ca_key) {
  Certificate certificate(X509_new());
  if (certificate == nullptr) return OpensslError("making a certificate");
  X509_set_version(certificate.get(), 2);
  BIGNUM* number = nullptr;
  BN_hex2bn(&number, bearer.serial.c_str());
  const Number serial(number);
  BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate.get()));
  ASN1_TIME_set(X509_getm_notBefore(certificate.get()), absl::ToTimeT(bearer.validity.from));
  ASN1_TIME_set(X509_getm_notAfter(certificate.get()), absl::ToTimeT(bearer.validity.until));
  X509_set_pubkey(certificate.get(), key);
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  AddName(subject, "O", "dermis");
  AddName(subject, "OU", bearer.role);
  AddName(subject, "CN", bearer.name);
  X509* signer = ca != nullptr ? ca : certificate.get();
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(signer));
  if (ca == nullptr) {
    RETURN_IF_ERROR(AddExtension(certificate.get(), signer, NID_basic_constraints, "critical,CA:TRUE"));
    RETURN_IF_ERROR(AddExtension(certificate.get(), signer, NID_key_usage, "critical,keyCertSign,cRLSign"));
  } else {
    RETURN_IF_ERROR(AddExtension(certificate.get(), signer, NID_basic_constraints, "critical,CA:FALSE"));
    RETURN_IF_ERROR(AddExtension(certificate.get(), signer, NID_subject_alt_name, alternative_names));
  }
  if (!X509_sign(certificate.get(), ca_key != nullptr ? ca_key : key, EVP_sha256())) {
    return OpensslError("signing a certificate");
  }
  return ToPem(certificate.get());
}

struct Issued {
  std::string certificate, key;
};

absl::StatusOr<Issued> IssueReadyMade(const std::string& name, const std::string& role,
                                      const std::string& alternative_names, X509* ca, EVP_PKEY* ca_key) {
  ASSIGN_OR_RETURN(const std::string key, NewKey());
  ASSIGN_OR_RETURN(const std::string serial, NewSerial());
  const absl::Time now = absl::Now();
  ASSIGN_OR_RETURN(const std::string certificate,
                   Issue({role, name, serial, {now - kClockSlack, now + kReadyMadeLife}}, ParseKey(key).get(),
                         alternative_names, ca, ca_key));
  return Issued{certificate, key};
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

// Whether a server may show it that is expected to be called so.
bool IsFor(X509* certificate, const char* name) {
  return certificate != nullptr && X509_check_host(certificate, name, 0, 0, nullptr) == 1;
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

// A signing request whose sender holds its key, which is of our kind.
absl::StatusOr<Request> ParseRequest(std::string_view der) {
  constexpr size_t kMost = 4096;
  const auto* data = reinterpret_cast<const unsigned char*>(der.data());
  Request request(der.size() > kMost ? nullptr : d2i_X509_REQ(nullptr, &data, static_cast<long>(der.size())));
  EVP_PKEY* const key = request == nullptr ? nullptr : X509_REQ_get0_pubkey(request.get());
  char group[32] = {};
  const bool good = key != nullptr && EVP_PKEY_get_group_name(key, group, sizeof group, nullptr) == 1 &&
                    std::string_view(group) == SN_X9_62_prime256v1 && X509_REQ_verify(request.get(), key) == 1;
  ERR_clear_error();
  if (good) return request;
  return absl::InvalidArgumentError("this is not a signing request for a P-256 key that its sender holds");
}

absl::StatusOr<absl::Time> TimeOf(const ASN1_TIME* time) {
  std::tm civil{};
  if (ASN1_TIME_to_tm(time, &civil) != 1) return absl::InvalidArgumentError("is no certificate");
  return absl::FromTM(civil, absl::UTCTimeZone());
}

}  // namespace

absl::Time RenewalDue(const Validity& validity) {
  const absl::Time from = validity.from + kClockSlack, until = validity.until - kClockSlack;
  return from + (until - from) / 3 * 2;
}

absl::Status WriteSecret(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  bool good = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  good = good && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  good = good && rename(temporary.c_str(), path.c_str()) == 0;
  if (good) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path, " cannot be written: ", strerror(errno)));
}

absl::StatusOr<std::string> NewKey() {
  const Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpensslError("making a key");
  return ToPem(key.get());
}

absl::StatusOr<std::string> NewSerial() {
  const Number number(BN_new());
  // The top bit set, so that all are equally long; below 2^127, so that none needs a byte for its sign.
  if (BN_rand(number.get(), 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1) return OpensslError("a serial number");
  char* const text = BN_bn2hex(number.get());
  std::string serial = absl::AsciiStrToLower(text);
  OPENSSL_free(text);
  return serial;
}

absl::StatusOr<std::string> MakeSigningRequest(const std::string& key_pem) {
  const Key key = ParseKey(key_pem);
  const Request request(X509_REQ_new());
  if (key == nullptr || request == nullptr) return absl::InvalidArgumentError("this is not a private key");
  X509_REQ_set_pubkey(request.get(), key.get());
  if (X509_REQ_sign(request.get(), key.get(), EVP_sha256()) == 0) return OpensslError("a signing request");
  return ToDer([&](unsigned char** data) { return i2d_X509_REQ(request.get(), data); });
}

absl::StatusOr<Digest> CheckSigningRequest(std::string_view request) {
  ASSIGN_OR_RETURN(const Request parsed, ParseRequest(request));
  return Sha256Of(ToDer([&](unsigned char** data) {
    return i2d_PUBKEY(X509_REQ_get0_pubkey(parsed.get()), data);
  }));
}

absl::StatusOr<Digest> PublicKeyHash(std::string_view certificate_pem) {
  const Certificate certificate = ParseCertificate(certificate_pem);
  if (certificate == nullptr) return absl::InvalidArgumentError("this is not a certificate");
  return Sha256Of(ToDer([&](unsigned char** data) {
    return i2d_PUBKEY(X509_get0_pubkey(certificate.get()), data);
  }));
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
    ASSIGN_OR_RETURN(const Issued ca, IssueReadyMade("dermis-ca", "ca", "", nullptr, nullptr));
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
  for (const char* role : {"coordinator", "worker", "user", "admin"}) {
    const fs::path certificate = folder / absl::StrCat(role, ".crt");
    const fs::path key = folder / absl::StrCat(role, ".key");
    if (fs::exists(certificate) && fs::exists(key)) {
      ASSIGN_OR_RETURN(const std::string certificate_pem, ReadText(certificate));
      ASSIGN_OR_RETURN(const std::string key_pem, ReadText(key));
      // Older versions did not set the coordinator's apart.
      const bool named = std::string_view(role) != "coordinator" ||
                         IsFor(ParseCertificate(certificate_pem).get(), kCoordinatorName);
      if (IsValid(certificate_pem, key_pem, ca.get()) && named) continue;
    }
    ASSIGN_OR_RETURN(const Issued issued,
                     IssueReadyMade(role, role,
                                    AlternativeNames(hosts) + (std::string_view(role) == "coordinator"
                                                                   ? absl::StrCat(",DNS:", kCoordinatorName)
                                                                   : ""),
                                    ca.get(), ca_key.get()));
    RETURN_IF_ERROR(WriteSecret(key, issued.key));
    RETURN_IF_ERROR(WriteSecret(certificate, issued.certificate));
  }
  return absl::OkStatus();
}

absl::StatusOr<Identity> LoadIdentity(const std::string& directory, const std::string& name) {
  const fs::path folder = directory;
  Identity identity;
  ASSIGN_OR_RETURN(identity.ca_certificate, ReadText(folder / "ca.crt"));
  ASSIGN_OR_RETURN(identity.certificate, ReadText(folder / absl::StrCat(name, ".crt")));
  ASSIGN_OR_RETURN(identity.key, ReadText(folder / absl::StrCat(name, ".key")));
  const Certificate ca = ParseCertificate(identity.ca_certificate);
  if (ca == nullptr || !IsValid(identity.certificate, identity.key, ca.get())) {
    return absl::UnauthenticatedError(absl::StrCat(
        (folder / absl::StrCat(name, ".crt")).string(),
        " is damaged, expired, or not of this cluster's CA: make new ones with `dermis cluster start`"));
  }
  if (name == "coordinator" && !IsFor(ParseCertificate(identity.certificate).get(), kCoordinatorName)) {
    return absl::UnauthenticatedError(
        absl::StrCat((folder / "coordinator.crt").string(), " was made by an older version, and workers would not take it for a "
                     "coordinator's: make a new one with `dermis cluster init`"));
  }
  return identity;
}

absl::StatusOr<Bearer> BearerOf(std::string_view certificate_pem) {
  const Certificate certificate = ParseCertificate(certificate_pem);
  if (certificate == nullptr) return absl::InvalidArgumentError("is no certificate");
  Bearer bearer;
  bearer.role = SubjectField(certificate.get(), NID_organizationalUnitName);
  bearer.name = SubjectField(certificate.get(), NID_commonName);
  const Number serial(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate.get()), nullptr));
  char* const text = serial == nullptr ? nullptr : BN_bn2hex(serial.get());
  if (text == nullptr) return absl::InvalidArgumentError("is a certificate without a number");
  bearer.serial = absl::AsciiStrToLower(text);
  OPENSSL_free(text);
  bearer.serial.erase(0, std::min(bearer.serial.find_first_not_of('0'), bearer.serial.size() - 1));
  ASSIGN_OR_RETURN(bearer.validity.from, TimeOf(X509_get0_notBefore(certificate.get())));
  ASSIGN_OR_RETURN(bearer.validity.until, TimeOf(X509_get0_notAfter(certificate.get())));
  return bearer;
}

absl::StatusOr<Validity> ValidityOf(const std::string& certificate_pem) {
  ASSIGN_OR_RETURN(const Bearer bearer, BearerOf(certificate_pem));
  return bearer.validity;
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

absl::StatusOr<std::string> SignText(std::string_view key_pem, std::string_view text) {
  const Key key = ParseKey(key_pem);
  const DigestContext context(EVP_MD_CTX_new());
  const auto* const bytes = reinterpret_cast<const unsigned char*>(text.data());
  size_t size = 0;
  if (key == nullptr || EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), nullptr, &size, bytes, text.size()) != 1) {
    return OpensslError("signing");
  }
  std::string signature(size, '\0');
  if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes, text.size()) != 1) {
    return OpensslError("signing");
  }
  signature.resize(size);
  return signature;
}

absl::Status CheckSignature(std::string_view ca_pem, std::string_view certificate_pem, std::string_view text,
                            std::string_view signature) {
  const Certificate ca = ParseCertificate(ca_pem), certificate = ParseCertificate(certificate_pem);
  if (ca == nullptr || certificate == nullptr) return absl::InvalidArgumentError("this is not a certificate");
  if (X509_verify(certificate.get(), X509_get0_pubkey(ca.get())) != 1) {
    return absl::InvalidArgumentError("the certificate is not of this cluster's CA");
  }
  const DigestContext context(EVP_MD_CTX_new());
  if (EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, X509_get0_pubkey(certificate.get())) != 1 ||
      EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()), signature.size(),
                       reinterpret_cast<const unsigned char*>(text.data()), text.size()) != 1) {
    return absl::InvalidArgumentError("the signature is not of this text and this certificate");
  }
  return absl::OkStatus();
}

struct CertificateAuthority::Parts {
  std::string pem;
  Certificate certificate;
  Key key;
};

CertificateAuthority::CertificateAuthority(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
CertificateAuthority::~CertificateAuthority() = default;

absl::StatusOr<std::unique_ptr<CertificateAuthority>> CertificateAuthority::Load(const std::string& directory) {
  auto parts = std::make_unique<Parts>();
  ASSIGN_OR_RETURN(parts->pem, ReadText(fs::path(directory) / "ca.crt"));
  ASSIGN_OR_RETURN(const std::string key, ReadText(fs::path(directory) / "ca.key"));
  parts->certificate = ParseCertificate(parts->pem);
  parts->key = ParseKey(key);
  if (parts->certificate == nullptr || parts->key == nullptr ||
      X509_check_private_key(parts->certificate.get(), parts->key.get()) != 1) {
    return absl::DataLossError(absl::StrCat(directory, "/ca.crt and ca.key are damaged, or of two clusters"));
  }
  return std::unique_ptr<CertificateAuthority>(new CertificateAuthority(std::move(parts)));
}

const std::string& CertificateAuthority::certificate() const { return parts_->pem; }

absl::StatusOr<std::string> CertificateAuthority::Sign(std::string_view request, const Bearer& bearer) const {
  ASSIGN_OR_RETURN(const Request parsed, ParseRequest(request));
  return Issue(bearer, X509_REQ_get0_pubkey(parsed.get()), absl::StrCat("DNS:", kPeerName), parts_->certificate.get(),
               parts_->key.get());
}

}  // namespace dermis
