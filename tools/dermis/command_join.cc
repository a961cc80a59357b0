#include "tools/dermis/command_join.h"

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

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

namespace dermis {
namespace {

namespace fs = std::filesystem;

struct JoinOptions {
  std::string directory, format;
  std::string ttl, group, address, file;
  uint32_t uses = 1;
  std::string what;  // To revoke.
  std::string whole;  // A file with the token that is to be revoked.
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
  if (!options.file.empty()) return WriteSecret(options.file, text + "\n");
  std::printf("%s\n", text.c_str());
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
    PrintJson({{"tokens", std::vector<std::string>(response.tokens().begin(), response.tokens().end())},
               {"serials", std::vector<std::string>(response.serials().begin(), response.serials().end())}});
    return absl::OkStatus();
  }
  for (const std::string& token : response.tokens()) std::printf("token %s is revoked\n", token.c_str());
  for (const std::string& serial : response.serials()) std::printf("certificate %s is revoked\n", serial.c_str());
  if (response.tokens_size() + response.serials_size() == 0) std::printf("it was revoked already\n");
  return absl::OkStatus();
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
  grpc::ClientContext context;
  SetDeadline(context);
  v1::RevokeResponse response;
  RETURN_IF_ERROR(ToAbsl(v1::Join::NewStub(channel)->RevokeToken(&context, request, &response), "revoking a token"));
  return Print(options, response);
}

absl::Status Revoke(const JoinOptions& options) {
  ASSIGN_OR_RETURN(const auto channel, ConnectToCluster(options.directory));
  v1::RevokeRequest request;
  request.set_certificate(options.what);
  // A ready-made certificate is known here and not to the coordinator.
  if (options.what == "worker" || options.what == "user" || options.what == "admin") {
    ASSIGN_OR_RETURN(const Bearer bearer,
                     BearerOf(TextOf(fs::path(options.directory) / "certs" / absl::StrCat(options.what, ".crt"))));
    request.set_certificate(bearer.serial);
  }
  grpc::ClientContext context;
  SetDeadline(context);
  v1::RevokeResponse response;
  RETURN_IF_ERROR(ToAbsl(v1::Join::NewStub(channel)->Revoke(&context, request, &response), "revoking a certificate"));
  return Print(options, response);
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
  create->add_option("-o,--output", options->file, "Write it to this file, readable for you alone, instead");
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
  revoke->add_option("certificate", options->what, "A worker's name (all its certificates), or a serial number; user, worker or "
                                                   "admin: the ready-made one of that role")
      ->required();
  revoke->footer("Examples:\n  dermis cluster revoke gpu1-0\n  dermis cluster revoke 6d0c52c1f0a54e2d9f2e7c6f3f1b8a44");
  revoke->callback([options, &outcome] { outcome = Revoke(*options); });
}

}  // namespace dermis
