#include "tools/dermis/command_join.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include <unistd.h>

#include "common/blob_client.h"
#include "common/certificates.h"
#include "common/clock.h"
#include "common/files.h"
#include "common/join_token.h"
#include "common/status_macros.h"
#include "dermis/v1/join.grpc.pb.h"
#include "tools/dermis/client.h"
#include "tools/dermis/connect.h"
#include "tools/dermis/output.h"
#include "tools/dermis/written_file.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kUserLife = absl::Hours(3650 * 24);  // As the ready-made certificates'.

struct JoinOptions {
  std::string directory, format;
  std::string ttl, group, address;
  WrittenFile file;
  uint32_t uses = 1;
  std::string what;  // To revoke.
  std::string whole;  // A file with the token that is to be revoked.
  bool dry_run = false;
};

// Empty where it cannot be read: what it is given to says so.
std::string TextOf(const fs::path& path) { return ReadFile(path.string()).value_or(""); }

absl::StatusOr<uint64_t> SecondsOf(const std::string& text) {
  int days = 0;
  absl::Duration duration;
  if (absl::EndsWith(text, "d") && absl::SimpleAtoi(text.substr(0, text.size() - 1), &days)) {
    duration = absl::Hours(24) * days;
  } else if (!absl::ParseDuration(text, &duration)) {
    duration = absl::ZeroDuration();
  }
  if (duration < absl::Seconds(1) || duration == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(absl::StrCat("--ttl ", text, " is no time: 30m, 1h or 7d, say"));
  }
  return static_cast<uint64_t>(absl::ToInt64Seconds(duration));
}

// Where workers of other machines reach a coordinator that was told to listen there, and that this machine reaches at `local`.
std::string PublicAddress(const std::string& listen, const std::string& local) {
  const std::string host = listen.substr(0, listen.rfind(':'));
  std::string port = listen.substr(listen.rfind(':') + 1);
  if (port == "0") port = local.substr(local.rfind(':') + 1);
  if (host != "0.0.0.0" && host != "[::]" && !host.empty()) return absl::StrCat(host, ":", port);
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return absl::StrCat(name, ":", port);
}

absl::Status Create(const JoinOptions& options) {
  ASSIGN_OR_RETURN(const auto channel, ConnectToCluster(options.directory));
  JoinToken token;
  token.secret = RandomBytes(kSecretBytes);
  ASSIGN_OR_RETURN(token.ca_key, PublicKeyHash(TextOf(fs::path(options.directory) / "certs" / "ca.crt")));
  v1::CreateTokenRequest request;
  request.set_secret_hash(Sha256Of(token.secret).bytes());
  request.set_group(options.group);
  if (options.group.empty()) request.set_uses(options.uses);
  if (!options.ttl.empty() || options.group.empty()) {
    ASSIGN_OR_RETURN(const uint64_t seconds, SecondsOf(options.ttl.empty() ? "1h" : options.ttl));
    request.set_ttl_s(seconds);
  }
  grpc::ClientContext context;
  SetDeadline(context);
  v1::CreateTokenResponse response;
  RETURN_IF_ERROR(ToAbsl(v1::Join::NewStub(channel)->CreateToken(&context, request, &response), "making a token"));
  token.id = response.token().id();
  token.address = options.address.empty()
                      ? PublicAddress(response.listen(), TextOf(fs::path(options.directory) / "store" / "address"))
                      : options.address;
  token.address.erase(token.address.find_last_not_of(" \n") + 1);
  const std::string text = FormatJoinToken(token);
  RETURN_IF_ERROR(ParseJoinToken(text).status());  // An --address that is none.
  const std::string lives = response.token().expires_unix_s() == 0
                                ? "until it is revoked"
                                : absl::StrCat("until ", TimeText(response.token().expires_unix_s() * 1000), " UTC");
  std::fprintf(stderr, "Token %s for workers that reach the coordinator at %s, good %s%s. It is shown this once.\n",
               token.id.c_str(), token.address.c_str(), lives.c_str(),
               options.group.empty() ? absl::StrCat(", for ", options.uses, options.uses == 1 ? " worker" : " workers").c_str()
                                     : "");
  const std::string& path = options.file.path;
  if (!path.empty()) RETURN_IF_ERROR(WriteSecret(path, text + "\n"));
  if (options.file.json) {
    PrintJson({{"id", token.id},
               {"address", token.address},
               {"expires_unix_s", response.token().expires_unix_s()},
               {"file", path.empty() ? Json() : Json(path)},
               {"token", path.empty() ? Json(text) : Json()}});
  } else if (path.empty()) {
    std::printf("%s\n", text.c_str());
  }
  return absl::OkStatus();
}

std::string StateOf(const v1::JoinToken& token, uint64_t now) {
  if (token.revoked()) return "revoked";
  if (token.expires_unix_s() > 0 && token.expires_unix_s() <= now) return "expired";
  if (token.uses() > 0 && token.used() >= token.uses()) return "used up";
  return "good";
}

std::string StateOf(const v1::IssuedCertificate& certificate, uint64_t now) {
  return certificate.revoked() ? "revoked" : certificate.until_unix_s() <= now ? "expired" : "good";
}

absl::Status List(const JoinOptions& options) {
  ASSIGN_OR_RETURN(const auto channel, ConnectToCluster(options.directory));
  grpc::ClientContext context;
  SetDeadline(context);
  v1::ListJoinsResponse response;
  RETURN_IF_ERROR(ToAbsl(v1::Join::NewStub(channel)->List(&context, {}, &response), "join tokens"));
  const uint64_t now = Clock::Real().UnixMillis() / 1000;
  if (options.format == "json") {
    Json tokens = Json::array(), certificates = Json::array();
    for (const v1::JoinToken& token : response.tokens()) {
      tokens.push_back({{"token", token.id()},
                        {"state", StateOf(token, now)},
                        {"group", token.group()},
                        {"uses", token.uses()},
                        {"used", token.used()},
                        {"created_unix_s", token.created_unix_s()},
                        {"expires_unix_s", token.expires_unix_s()},
                        {"user", token.user()}});
    }
    for (const v1::IssuedCertificate& certificate : response.certificates()) {
      certificates.push_back({{"name", certificate.name()},
                              {"serial", certificate.serial()},
                              {"state", StateOf(certificate, now)},
                              {"token", certificate.token()},
                              {"issued_unix_s", certificate.issued_unix_s()},
                              {"until_unix_s", certificate.until_unix_s()}});
    }
    PrintJson({{"tokens", tokens}, {"certificates", certificates}});
    return absl::OkStatus();
  }
  std::map<std::string, std::vector<const v1::IssuedCertificate*>> issued;
  for (const v1::IssuedCertificate& certificate : response.certificates()) {
    issued[certificate.token()].push_back(&certificate);
  }
  for (const v1::JoinToken& token : response.tokens()) {
    std::printf("%s  %-8s %s  used %u%s  %s\n", token.id().c_str(), StateOf(token, now).c_str(),
                token.expires_unix_s() == 0 ? "no end" : absl::StrCat("until ", TimeText(token.expires_unix_s() * 1000)).c_str(),
                token.used(), token.uses() > 0 ? absl::StrCat(" of ", token.uses()).c_str() : "",
                token.group().empty() ? "" : absl::StrCat("group ", token.group()).c_str());
    for (const v1::IssuedCertificate* certificate : issued[token.id()]) {
      std::printf("    %-24s %-8s until %s  %s\n", certificate->name().c_str(), StateOf(*certificate, now).c_str(),
                  TimeText(certificate->until_unix_s() * 1000).c_str(), certificate->serial().c_str());
    }
  }
  if (response.tokens().empty()) std::printf("no tokens; `dermis cluster token create` makes one\n");
  return absl::OkStatus();
}

absl::Status Print(const JoinOptions& options, const v1::RevokeResponse& response) {
  if (options.format == "json") {
    PrintJson(
        {{"dry_run", options.dry_run},
         {"tokens", std::vector<std::string>(response.tokens().begin(), response.tokens().end())},
         {"serials",
          std::vector<std::string>(response.serials().begin(), response.serials().end())}});
    return absl::OkStatus();
  }
  const char* const is = options.dry_run ? "would be" : "is";
  for (const std::string& token : response.tokens())
    std::printf("token %s %s revoked\n", token.c_str(), is);
  for (const std::string& serial : response.serials())
    std::printf("certificate %s %s revoked\n", serial.c_str(), is);
  if (response.tokens_size() + response.serials_size() == 0) std::printf("it was revoked already\n");
  return absl::OkStatus();
}

// What would be revoked, by what the coordinator lists: all of a token or group, or the
// certificates of a name.
absl::Status TryRevoking(const std::shared_ptr<grpc::Channel>& channel, const JoinOptions& options,
                         const std::string& token, const std::string& certificate) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::ListJoinsResponse joins;
  RETURN_IF_ERROR(ToAbsl(v1::Join::NewStub(channel)->List(&context, {}, &joins), "join tokens"));
  v1::RevokeResponse would;
  std::set<std::string> tokens;
  for (const v1::JoinToken& known : joins.tokens()) {
    if (token.empty() || (known.id() != token && known.group() != token)) continue;
    tokens.insert(known.id());
    if (!known.revoked()) would.add_tokens(known.id());
  }
  bool found = !tokens.empty();
  for (const v1::IssuedCertificate& known : joins.certificates()) {
    if (!tokens.contains(known.token()) && known.name() != certificate &&
        known.serial() != certificate)
      continue;
    found = true;
    if (!known.revoked()) would.add_serials(known.serial());
  }
  if (!found && !token.empty()) {
    return absl::NotFoundError(absl::StrCat("no token or group is called ", token,
                                            "; `dermis cluster token list` shows them"));
  }
  if (!found && certificate.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    return absl::NotFoundError(absl::StrCat("no worker called ", certificate,
                                            " has joined, and a serial number it is not either; "
                                            "`dermis cluster token list` shows who has"));
  }
  if (!found)
    would.add_serials(certificate);  // Not made by a token: the coordinator does not list those.
  return Print(options, would);
}

absl::Status RevokeToken(const JoinOptions& options) {
  v1::RevokeTokenRequest request;
  request.set_token(options.what);
  if (!options.whole.empty()) {
    // Of a whole token its number will do: the secret stays here.
    ASSIGN_OR_RETURN(const JoinToken whole, ReadJoinToken(options.whole));
    request.set_token(whole.id);
  } else if (WithoutJoinToken(options.what) != options.what) {
    const absl::StatusOr<JoinToken> whole = ParseJoinToken(options.what);
    return WithExitCode(
        absl::InvalidArgumentError(absl::StrCat(
            "a whole token is a secret, and others of this machine see command lines: nothing was revoked. Give its number, `dermis "
            "cluster token revoke ",
            whole.ok() ? whole->id : "NUMBER", "`, or the token in a file or on standard input, `--token FILE` or `--token -`")),
        kUsage);
  }
  ASSIGN_OR_RETURN(const auto channel, ConnectToCluster(options.directory));
  if (options.dry_run) return TryRevoking(channel, options, request.token(), "");
  grpc::ClientContext context;
  SetDeadline(context);
  v1::RevokeResponse response;
  RETURN_IF_ERROR(ToAbsl(v1::Join::NewStub(channel)->RevokeToken(&context, request, &response), "revoking a token"));
  return Print(options, response);
}

// It is a file's name, too.
bool IsUserName(const std::string& name) {
  return CheckWorkerName(name).ok() && name.find('/') == std::string::npos && name[0] != '.';
}

// The certificate of a user that was made here.
fs::path UserRecord(const std::string& directory, const std::string& name) {
  return fs::path(directory) / "certs" / "users" / absl::StrCat(name, ".crt");
}

absl::Status Revoke(const JoinOptions& options) {
  ASSIGN_OR_RETURN(const auto channel, ConnectToCluster(options.directory));
  v1::RevokeRequest request;
  request.set_certificate(options.what);
  // A ready-made certificate, and a named user's, is known here and not to the coordinator.
  const fs::path certs = fs::path(options.directory) / "certs";
  const bool ready_made =
      options.what == "worker" || options.what == "user" || options.what == "admin";
  const fs::path here = ready_made ? certs / absl::StrCat(options.what, ".crt")
                                   : UserRecord(options.directory, options.what);
  const bool known_here = ready_made || (IsUserName(options.what) && fs::exists(here));
  if (known_here) {
    ASSIGN_OR_RETURN(const Bearer bearer, BearerOf(TextOf(here)));
    request.set_certificate(bearer.serial);
  }
  if (options.dry_run) return TryRevoking(channel, options, "", request.certificate());
  grpc::ClientContext context;
  SetDeadline(context);
  v1::RevokeResponse response;
  RETURN_IF_ERROR(ToAbsl(v1::Join::NewStub(channel)->Revoke(&context, request, &response), "revoking a certificate"));
  if (known_here) {
    // In the way of another one: `dermis cluster init` and `dermis cluster user` leave alone what
    // is there.
    std::error_code ignored;
    fs::remove(here, ignored);
    if (ready_made) fs::remove(certs / absl::StrCat(options.what, ".key"), ignored);
  }
  return Print(options, response);
}

absl::Status AddUser(const JoinOptions& options) {
  const std::string& name = options.what;
  if (!IsUserName(name)) {
    return absl::InvalidArgumentError(
        "a user is called by 1 to 64 letters, digits, '.', '_', '-' and ':', does not begin with "
        "'.', and not as a role is");
  }
  const fs::path record = UserRecord(options.directory, name), folder = options.file.path;
  if (fs::exists(record)) {
    return absl::AlreadyExistsError(
        absl::StrCat("there is a user ", name,
                     " already: choose another name, or `dermis cluster revoke ", name, "` first"));
  }
  if (fs::exists(folder / "certs")) {
    return absl::AlreadyExistsError(
        absl::StrCat(folder.string(), " holds certificates already: name another folder"));
  }
  const fs::path certs = fs::path(options.directory) / "certs";
  const absl::StatusOr<std::unique_ptr<CertificateAuthority>> authority =
      CertificateAuthority::Load(certs);
  if (!authority.ok()) {
    return absl::Status(
        authority.status().code(),
        absl::StrCat(
            authority.status().message(),
            "; users are made where the cluster's ca.key is, on the coordinator's machine"));
  }
  std::string address = options.address;
  if (address.empty()) std::ifstream(fs::path(options.directory) / "store" / "address") >> address;
  if (address.empty()) {
    return absl::FailedPreconditionError(
        "nobody knows yet where the coordinator is: start the cluster first, or give --address "
        "HOST:PORT");
  }
  ASSIGN_OR_RETURN(const std::string key, NewKey());
  ASSIGN_OR_RETURN(const std::string request, MakeSigningRequest(key));
  ASSIGN_OR_RETURN(const std::string serial, NewSerial());
  const absl::Time now = absl::Now();
  ASSIGN_OR_RETURN(
      const std::string certificate,
      (*authority)->Sign(request, {"user", name, serial, {now - kClockSlack, now + kUserLife}}));
  std::error_code error;
  for (const fs::path& made : {folder, folder / "certs", folder / "store", record.parent_path()}) {
    if (!error && fs::create_directories(made, error))
      fs::permissions(made, fs::perms::owner_all, error);
  }
  if (error)
    return absl::UnavailableError(
        absl::StrCat(folder.string(), " cannot be made: ", error.message()));
  RETURN_IF_ERROR(WriteSecret(record, certificate));
  RETURN_IF_ERROR(WriteSecret(folder / "certs" / "ca.crt", (*authority)->certificate()));
  RETURN_IF_ERROR(WriteSecret(folder / "certs" / "user.crt", certificate));
  RETURN_IF_ERROR(WriteSecret(folder / "certs" / "user.key", key));
  RETURN_IF_ERROR(WriteSecret(folder / "store" / "address", address + "\n"));
  if (options.file.json) {
    PrintJson(
        {{"user", name}, {"folder", folder.string()}, {"address", address}, {"serial", serial}});
    return absl::OkStatus();
  }
  std::printf(
      "%s is for user %s, who names it with --cluster on any machine that reaches %s. It holds a "
      "key: give it to nobody else. `dermis cluster revoke %s` ends it\n",
      folder.c_str(), name.c_str(), address.c_str(), name.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddJoinCommands(CLI::App& cluster, absl::Status& outcome) {
  auto options = std::make_shared<JoinOptions>();
  CLI::App* token = cluster.add_subcommand("token", "Tokens by which workers join");
  token->require_subcommand(1);
  token->footer("Examples:\n  dermis cluster token create --uses 2 -o token\n  dermis cluster token list");

  CLI::App* create = token->add_subcommand("create", "Make a token and print it, once, for dermis-worker --join");
  AddClusterOption(*create, options->directory);
  create->add_option("--ttl", options->ttl, "How long it is good: 30m, 1h, 7d (default: 1h; of a group: no end)");
  auto* uses = create->add_option("--uses", options->uses, "How many workers may join by it")
                   ->capture_default_str()
                   ->check(CLI::Range(1, 100'000));
  create->add_option("--group", options->group, "A token for machines that come and go: no limit of uses, revoked by this name")
      ->excludes(uses);
  create->add_option("--address", options->address,
                     "HOST:PORT at which workers reach the coordinator (default: where it listens, or this host's name)");
  AddFileOption(*create, "Write it to this file, readable for you alone, instead",
                FileIs::kOptional, options->file);
  create->footer(R"(Examples:
  dermis cluster token create -o token
  dermis cluster token create --ttl 10m --uses 8 | ssh gpu1 dermis-worker --join - --certs certs --cache cache
  dermis cluster token create --group spot --address head.lab:7433 -o token)");
  create->callback([options, &outcome] { outcome = Create(*options); });

  CLI::App* list = token->add_subcommand("list", "Tokens, and the workers that joined by them");
  AddClusterOption(*list, options->directory);
  AddOutputOption(*list, options->format);
  list->footer("Examples:\n  dermis cluster token list\n  dermis cluster token list -o json");
  list->callback([options, &outcome] { outcome = List(*options); });

  CLI::App* revoke_token = token->add_subcommand("revoke", "End a token, and put out all who joined by it");
  AddClusterOption(*revoke_token, options->directory);
  AddOutputOption(*revoke_token, options->format);
  revoke_token->add_flag("--dry-run", options->dry_run, "Only say what would be revoked");
  auto* const number = revoke_token->add_option("number", options->what, "Its number, or its group");
  revoke_token->add_option("--token", options->whole, "A file with the whole token instead; - is standard input")->excludes(number);
  revoke_token->footer(
      "Examples:\n  dermis cluster token revoke 5f3a09c1\n  dermis cluster token revoke spot\n"
      "  dermis cluster token revoke --token token");
  revoke_token->callback([options, &outcome] {
    if (options->what.empty() && options->whole.empty()) throw CLI::RequiredError("number");
    outcome = RevokeToken(*options);
  });

  CLI::App* revoke = cluster.add_subcommand("revoke", "Put out whoever holds a certificate, now and for good");
  AddClusterOption(*revoke, options->directory);
  AddOutputOption(*revoke, options->format);
  revoke->add_flag("--dry-run", options->dry_run, "Only say what would be revoked");
  revoke
      ->add_option("certificate", options->what,
                   "A worker's name (all its certificates), a user's that `dermis cluster user` "
                   "made, or a serial number; user or worker: "
                   "the ready-made one of that role, and `dermis cluster init` makes another")
      ->required();
  revoke->footer("Examples:\n  dermis cluster revoke gpu1-0\n  dermis cluster revoke 6d0c52c1f0a54e2d9f2e7c6f3f1b8a44");
  revoke->callback([options, &outcome] { outcome = Revoke(*options); });

  CLI::App* user = cluster.add_subcommand(
      "user", "Make a certificate for one user, who then has quotas and audit lines of his own");
  AddClusterOption(*user, options->directory);
  user->add_option("name", options->what, "What the user is called")->required();
  AddFileOption(*user,
                "A folder to make, for the user: certificates, key and the coordinator's address",
                FileIs::kRequired, options->file);
  user->add_option(
      "--address", options->address,
      "HOST:PORT at which the user reaches the coordinator (default: as this machine does)");
  user->footer(
      "Examples:\n  dermis cluster user ann -o ann\n  dermis cluster user ann --address "
      "head.lab:7433 -o ann\n"
      "  dermis cluster user ann -o json --out ann");
  user->callback([options, &outcome] { outcome = AddUser(*options); });
}

}  // namespace dermis
