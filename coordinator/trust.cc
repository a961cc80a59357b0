#include "coordinator/trust.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "common/join_token.h"

namespace dermis {
namespace {

constexpr uint64_t kMostTtl = 366ull * 24 * 3600;
constexpr uint32_t kMostUses = 100'000;

bool IsSerial(const std::string& text) {
  return text.size() >= 8 && text.size() <= 40 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

}  // namespace

void Trust::Apply(const v1::TokenCreated& created) {
  Token& token = tokens_[created.token().id()];
  token.token = created.token();
  token.secret_hash = Digest::FromBytes(created.secret_hash()).value_or(Digest());
}

void Trust::Apply(const v1::CertificateIssued& issued) {
  const v1::IssuedCertificate& certificate = issued.certificate();
  const Digest key = Digest::FromBytes(issued.key()).value_or(Digest());
  std::set<std::string>& serials = names_[certificate.name()];
  bool same_key = issued.renewed();
  for (auto it = serials.begin(); it != serials.end();) {
    const Certificate& old = certificates_.at(*it);
    same_key |= old.key == key && old.certificate.token() == certificate.token();
    // What has run out is of no use to anybody: a fleet that renews for years does not fill the memory.
    if (old.certificate.until_unix_s() < certificate.issued_unix_s()) {
      certificates_.erase(*it);
      it = serials.erase(it);
    } else {
      ++it;
    }
  }
  serials.insert(certificate.serial());
  certificates_[certificate.serial()] = {certificate, key};
  if (auto token = tokens_.find(certificate.token()); token != tokens_.end() && !same_key) {
    token->second.token.set_used(token->second.token.used() + 1);
  }
}

void Trust::Apply(const v1::JoinRevoked& revoked) {
  for (const std::string& id : revoked.tokens()) {
    if (auto it = tokens_.find(id); it != tokens_.end()) it->second.token.set_revoked(true);
  }
  for (const std::string& serial : revoked.serials()) {
    revoked_.insert(serial);
    if (auto it = certificates_.find(serial); it != certificates_.end()) {
      it->second.certificate.set_revoked(true);
    }
  }
}

absl::StatusOr<v1::TokenCreated> Trust::Create(const v1::CreateTokenRequest& request, const std::string& id,
                                               const std::string& user, uint64_t unix_s) const {
  if (request.secret_hash().size() != Digest::kSize) {
    return absl::InvalidArgumentError("a token needs the SHA-256 of its secret");
  }
  const bool group = !request.group().empty();
  if (group && !CheckWorkerName(request.group()).ok()) {
    return absl::InvalidArgumentError("a group is called by 1 to 64 letters, digits, '.', '_' and '-'");
  }
  // What is neither counted nor ends by itself must at least be found again.
  if (!group && (request.ttl_s() == 0 || request.uses() == 0)) {
    return absl::InvalidArgumentError("a token without a group needs a time to live and a number of uses");
  }
  if (request.ttl_s() > kMostTtl || request.uses() > kMostUses) {
    return absl::InvalidArgumentError(absl::StrCat("a token lives for at most 366 days and serves at most ", kMostUses,
                                                   " times; a group token has no such end"));
  }
  for (const auto& [other, token] : tokens_) {
    if (other == id || (group && token.token.group() == request.group() && !token.token.revoked())) {
      return absl::AlreadyExistsError(
          absl::StrCat("there is a token of the group ", request.group(), " (", other,
                       "): `dermis cluster token revoke ", other, "` ends it, or name another group"));
    }
  }
  v1::TokenCreated created;
  created.set_secret_hash(request.secret_hash());
  v1::JoinToken& token = *created.mutable_token();
  token.set_id(id);
  token.set_group(request.group());
  token.set_created_unix_s(unix_s);
  if (request.ttl_s() > 0) token.set_expires_unix_s(unix_s + request.ttl_s());
  token.set_uses(request.uses());
  token.set_user(user);
  return created;
}

absl::Status Trust::Admit(std::string_view secret, const v1::CertificateIssued& issued, uint64_t unix_s) const {
  const auto found = tokens_.find(issued.certificate().token());
  // An unknown number costs the same time as a wrong secret.
  const bool good = IsSecret(secret, found == tokens_.end() ? Digest() : found->second.secret_hash);
  if (!good || found == tokens_.end()) {
    return absl::UnauthenticatedError(
        "this token is not known here: ask for another (dermis cluster token create)");
  }
  const v1::JoinToken& token = found->second.token;
  const auto refused = [&](std::string_view why) {
    return absl::PermissionDeniedError(absl::StrCat("token ", token.id(), " ", std::string(why),
                                                    ": ask for another (dermis cluster token create)"));
  };
  if (token.revoked()) return refused("was revoked");
  if (token.expires_unix_s() > 0 && unix_s >= token.expires_unix_s()) return refused("has expired");
  if (token.uses() > 0 && token.used() >= token.uses()) {
    // An answer may be lost on its way: whoever asks again with the same key is the same worker.
    const auto serials = names_.find(issued.certificate().name());
    const bool again =
        serials != names_.end() &&
        std::any_of(serials->second.begin(), serials->second.end(), [&](const std::string& serial) {
          const Certificate& known = certificates_.at(serial);
          return !revoked_.contains(serial) && known.certificate.token() == token.id() && known.key.bytes() == issued.key();
        });
    if (!again) return refused(absl::StrCat("is used up (", token.uses(), token.uses() == 1 ? " use)" : " uses)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::CertificateIssued> Trust::Renew(const std::string& serial,
                                                   v1::CertificateIssued issued) const {
  const auto found = certificates_.find(serial);
  if (found == certificates_.end() || revoked_.contains(serial)) {
    return absl::PermissionDeniedError(
        absl::StrCat("certificate ", serial, found == certificates_.end() ? " did not come from a join token" : " was revoked",
                     ": it is not renewed; join with a token (dermis cluster token create)"));
  }
  issued.mutable_certificate()->set_name(found->second.certificate.name());
  issued.mutable_certificate()->set_token(found->second.certificate.token());
  issued.set_renewed(true);
  return issued;
}

absl::StatusOr<v1::JoinRevoked> Trust::RevokeToken(const std::string& token, const std::string& user) const {
  v1::JoinRevoked revoked;
  revoked.set_user(user);
  bool known = false;
  std::set<std::string> tokens;
  for (const auto& [id, entry] : tokens_) {
    if (token.empty() || (id != token && entry.token.group() != token)) continue;
    known = true;
    tokens.insert(id);
    if (!entry.token.revoked()) revoked.add_tokens(id);
  }
  if (!known) {
    return absl::NotFoundError(
        absl::StrCat("no token or group is called ", token, "; `dermis cluster token list` shows them"));
  }
  for (const auto& [serial, entry] : certificates_) {
    if (tokens.contains(entry.certificate.token()) && !revoked_.contains(serial)) revoked.add_serials(serial);
  }
  return revoked;
}

absl::StatusOr<v1::JoinRevoked> Trust::Revoke(const std::string& certificate, const std::string& user) const {
  v1::JoinRevoked revoked;
  revoked.set_user(user);
  if (const auto named = names_.find(certificate); named != names_.end()) {
    for (const std::string& serial : named->second) {
      if (!revoked_.contains(serial)) revoked.add_serials(serial);
    }
    return revoked;
  }
  const std::string serial = absl::AsciiStrToLower(certificate);
  if (!IsSerial(serial)) {
    return absl::NotFoundError(
        absl::StrCat("no worker called ", certificate, " has joined, and a serial number it is not either; "
                     "`dermis cluster token list` shows who has"));
  }
  if (!revoked_.contains(serial)) revoked.add_serials(serial);
  return revoked;
}

std::optional<Trust::Joined> Trust::JoinedAs(const std::string& name) const {
  const auto serials = names_.find(name);
  if (serials == names_.end()) return std::nullopt;
  std::optional<Joined> joined;
  for (const std::string& serial : serials->second) {
    const v1::IssuedCertificate& certificate = certificates_.at(serial).certificate;
    if (certificate.revoked() || (joined.has_value() && joined->issued_unix_s > certificate.issued_unix_s())) continue;
    const auto token = tokens_.find(certificate.token());
    const bool group = token != tokens_.end() && !token->second.token.group().empty();
    joined = Joined{group ? token->second.token.group() : certificate.token(), certificate.issued_unix_s()};
  }
  return joined;
}

v1::ListJoinsResponse Trust::View() const {
  v1::ListJoinsResponse view;
  std::vector<const Token*> tokens;
  for (const auto& [id, token] : tokens_) tokens.push_back(&token);
  std::stable_sort(tokens.begin(), tokens.end(), [](const Token* a, const Token* b) {
    return a->token.created_unix_s() < b->token.created_unix_s();
  });
  for (const Token* token : tokens) *view.add_tokens() = token->token;
  for (const auto& [name, serials] : names_) {
    for (const std::string& serial : serials) *view.add_certificates() = certificates_.at(serial).certificate;
  }
  return view;
}

std::string Trust::Dump() const {
  std::string out;
  for (const auto& [id, token] : tokens_) {
    absl::StrAppend(&out, "token ", id, " ", token.token.group(), " ", token.token.expires_unix_s(), " ",
                    token.token.uses(), " ", token.token.used(), " ", token.token.revoked(), "\n");
  }
  for (const auto& [serial, entry] : certificates_) {
    absl::StrAppend(&out, "certificate ", serial, " ", entry.certificate.name(), " ", entry.certificate.token(), " ",
                    entry.certificate.until_unix_s(), "\n");
  }
  for (const std::string& serial : revoked_) absl::StrAppend(&out, "revoked ", serial, "\n");
  return out;
}

}  // namespace dermis
