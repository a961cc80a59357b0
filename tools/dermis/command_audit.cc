#include "tools/dermis/command_audit.h"

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/audit.h"
#include "common/certificates.h"
#include "common/files.h"
#include "common/status_macros.h"
#include "dermis/v1/audit.grpc.pb.h"
#include "tools/dermis/client.h"
#include "tools/dermis/connect.h"
#include "tools/dermis/output.h"

namespace dermis {
namespace {

struct AuditOptions {
  std::string cluster, format, file, head, signature;
};

absl::StatusOr<std::unique_ptr<v1::Audit::Stub>> Connect(const std::string& cluster) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, ConnectToCluster(cluster));
  return v1::Audit::NewStub(channel);
}

absl::StatusOr<std::string> ReadLog(v1::Audit::Stub& audit) {
  std::string log;
  for (;;) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::AuditReadRequest request;
    request.set_offset(log.size());
    v1::AuditReadResponse response;
    RETURN_IF_ERROR(ToAbsl(audit.Read(&context, request, &response), "reading the audit log"));
    if (response.lines().empty()) return log;
    log += response.lines();
  }
}

absl::StatusOr<v1::SignedAuditHead> ReadHead(v1::Audit::Stub& audit) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::SignedAuditHead head;
  RETURN_IF_ERROR(ToAbsl(audit.Head(&context, {}, &head), "the audit log's head"));
  return head;
}

std::string Text(const AuditHead& head) { return absl::StrCat(head.entries, ":", head.last.hex()); }

absl::StatusOr<AuditHead> ParseHead(const std::string& text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  AuditHead head;
  const absl::StatusOr<Digest> last = Digest::FromHex(parts.second);
  if (!absl::SimpleAtoi(parts.first, &head.entries) || !last.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--head ", text, " is none: it is what a report prints, a number, a colon and 64 digits"));
  }
  head.last = *last;
  return head;
}

absl::Status Show(const AuditOptions& options) {
  ASSIGN_OR_RETURN(const auto audit, Connect(options.cluster));
  ASSIGN_OR_RETURN(const std::string log, ReadLog(*audit));
  if (options.format == "json") {
    std::printf("%s", log.c_str());
    return absl::OkStatus();
  }
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(log, '\n', absl::SkipEmpty()))) {
    const Json entry = Json::parse(line, nullptr, false);
    if (!entry.is_object()) return absl::DataLossError("the audit log holds a line that is none");
    const auto field = [&](const char* name) { return entry.value(name, std::string()); };
    const bool fine = field("outcome") == "OK";
    const std::string who = field("role").empty() || field("role") == field("who")
                                ? field("who")
                                : absl::StrCat(field("who"), " (", field("role"), ")");
    const uint64_t times = entry.value("times", uint64_t{1});
    std::printf(
        "%s  %-16s %-18s %s%s%s\n", field("time").c_str(), who.c_str(), field("call").c_str(),
        field("what").c_str(),
        fine ? "" : Paint(Color::kRed, absl::StrCat("  refused: ", field("outcome"))).c_str(),
        times > 1 ? absl::StrCat("  (", times, " times)").c_str() : "");
  }
  return absl::OkStatus();
}

// Whether the cluster's coordinator signed the head, by the certificate that it has now or the one
// in the cluster's folder.
absl::Status CheckHeadSignature(const AuditOptions& options, const AuditHead& head,
                                std::string certificate) {
  std::string signature;
  if (!absl::Base64Unescape(options.signature, &signature)) {
    return absl::InvalidArgumentError(
        "--signature is none: it is what a report prints behind the head, in base64");
  }
  const std::string certs = absl::StrCat(options.cluster, "/certs/");
  if (certificate.empty()) {
    ASSIGN_OR_RETURN(certificate, ReadFile(certs + "coordinator.crt"));
  }
  ASSIGN_OR_RETURN(const std::string ca, ReadFile(certs + "ca.crt"));
  const absl::Status good = CheckSignature(ca, certificate, AuditStatement(head), signature);
  if (good.ok()) return good;
  const absl::StatusOr<std::string> print = CertificateFingerprint(certificate);
  return absl::DataLossError(absl::StrCat(
      "the signature of head ", options.head, " is not by the certificate ", print.value_or("?"),
      ": ", good.message(),
      ". A report names the certificate that it was signed with: where that is another one, the "
      "coordinator has had a new one since"));
}

absl::Status Verify(const AuditOptions& options) {
  std::string log, signer, certificate;
  AuditHead head;
  if (!options.file.empty()) {
    ASSIGN_OR_RETURN(log, ReadFile(options.file));
    if (const absl::Status status = FollowAudit(log, head); !status.ok()) {
      return absl::DataLossError(absl::StrCat(options.file, ": ", status.message()));
    }
  } else {
    ASSIGN_OR_RETURN(const auto audit, Connect(options.cluster));
    ASSIGN_OR_RETURN(const v1::SignedAuditHead signed_head, ReadHead(*audit));
    head.entries = signed_head.entries();
    ASSIGN_OR_RETURN(head.last, Digest::FromBytes(signed_head.last()));
    ASSIGN_OR_RETURN(log, ReadLog(*audit));
    RETURN_IF_ERROR(HoldsAudit(log, head));
    if (!signed_head.signature().empty()) {
      ASSIGN_OR_RETURN(const std::string ca,
                       ReadFile(absl::StrCat(options.cluster, "/certs/ca.crt")));
      RETURN_IF_ERROR(CheckSignature(ca, signed_head.certificate(), AuditStatement(head),
                                     signed_head.signature()));
      ASSIGN_OR_RETURN(signer, CertificateFingerprint(signed_head.certificate()));
      certificate = signed_head.certificate();
    }
  }
  if (!options.head.empty()) {
    ASSIGN_OR_RETURN(const AuditHead then, ParseHead(options.head));
    RETURN_IF_ERROR(HoldsAudit(log, then));
    if (!options.signature.empty()) RETURN_IF_ERROR(CheckHeadSignature(options, then, certificate));
  }
  if (options.format == "json") {
    PrintJson({{"entries", head.entries}, {"head", Text(head)}, {"signer", signer}});
    return absl::OkStatus();
  }
  std::printf("%llu lines, each follows the one before it\nhead %s\n",
              static_cast<unsigned long long>(head.entries), Text(head).c_str());
  if (!signer.empty()) std::printf("signed by the coordinator, certificate %s\n", signer.c_str());
  if (!options.head.empty()) std::printf("it holds what it held at %s\n", options.head.c_str());
  if (!options.signature.empty()) std::printf("which the coordinator signed\n");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> AuditText(const std::string& cluster_directory) {
  ASSIGN_OR_RETURN(const auto audit, Connect(cluster_directory));
  ASSIGN_OR_RETURN(const v1::SignedAuditHead head, ReadHead(*audit));
  ASSIGN_OR_RETURN(const Digest last, Digest::FromBytes(head.last()));
  const std::string text = Text({head.entries(), last});
  if (head.signature().empty()) return absl::StrCat(text, ", not signed (--insecure)");
  ASSIGN_OR_RETURN(const std::string signer, CertificateFingerprint(head.certificate()));
  return absl::StrCat(text, ", signature ", absl::Base64Escape(head.signature()), ", certificate ",
                      signer);
}

void AddAuditCommands(CLI::App& app, absl::Status& outcome) {
  auto options = std::make_shared<AuditOptions>();
  CLI::App* audit =
      app.add_subcommand("audit", "Who did what on this cluster, and who was refused what");
  audit->require_subcommand(1);
  audit->footer("Examples:\n  dermis audit show\n  dermis audit verify");
  CLI::App* show = audit->add_subcommand(
      "show", "Print the audit log (needs the owner's certificate, admin.crt)");
  CLI::App* verify = audit->add_subcommand(
      "verify",
      "Prove that no line of the audit log was changed, taken out or put in; 1 where one was");
  for (CLI::App* command : {show, verify}) {
    AddClusterOption(*command, options->cluster);
    AddOutputOption(*command, options->format);
  }
  verify->add_option("file", options->file,
                     "A copy of the log (STORE/audit.jsonl) instead of the coordinator's");
  auto* const head =
      verify->add_option("--head", options->head,
                         "Prove, too, that the log holds what it held when a report printed this");
  verify
      ->add_option("--signature", options->signature,
                   "And that the coordinator signed that head: what the report prints behind it")
      ->needs(head);
  show->footer(
      "Examples:\n  dermis audit show\n  dermis audit show -o json | jq 'select(.outcome != "
      "\"OK\")'");
  verify->footer(
      "Examples:\n  dermis audit verify\n  dermis audit verify audit.jsonl --head 12:5f3a...");
  show->callback([options, &outcome] { outcome = Show(*options); });
  verify->callback([options, &outcome] { outcome = Verify(*options); });
}

}  // namespace dermis
