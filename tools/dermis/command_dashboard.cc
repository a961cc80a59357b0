#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "common/tls.h"
#include "tools/dermis/client.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/output.h"

namespace dermis {
namespace {

absl::StatusOr<std::string> ReadWord(const std::string& file) {
  std::string word;
  if (std::ifstream(file) >> word) return word;
  return absl::NotFoundError(
      absl::StrCat(file, " cannot be read: it is readable for the user who started the cluster"));
}

// The address alone on standard output, for scripts; the rest on standard error.
absl::Status PrintDashboard(const std::string& directory, bool user, const std::string& format) {
  // Says what to do where nothing runs.
  RETURN_IF_ERROR(Client::Connect(directory).status());
  const std::string url = DashboardUrl(directory);
  if (url.empty()) {
    return absl::FailedPreconditionError(
        "this cluster serves no dashboard: start it with `dermis cluster start --dashboard "
        "HOST:PORT`");
  }
  ASSIGN_OR_RETURN(const std::string token,
                   ReadWord(absl::StrCat(directory, user ? "/store/user-token" : "/store/dashboard-token")));
  const std::string certs = absl::StrCat(directory, "/certs");
  std::string fingerprint;
  if (url.starts_with("https:")) {
    if (const absl::StatusOr<Identity> identity = LoadIdentity(certs, "coordinator"); identity.ok()) {
      ASSIGN_OR_RETURN(fingerprint, CertificateFingerprint(identity->certificate));
    }
  }
  // Behind '#', a browser keeps it to itself.
  const std::string signs_in = absl::StrCat(url, "/#", user ? "user" : "token", "=", token);
  if (format == "json") {
    PrintJson({{"address", signs_in}, {"sha256", fingerprint.empty() ? Json(nullptr) : Json(fingerprint)}});
    return absl::OkStatus();
  }
  std::printf("%s\n", signs_in.c_str());
  std::fflush(stdout);
  std::fprintf(stderr, user ? "Whoever has this address may look at everything, and ask the models about images.\n"
                            : "Whoever has this address may look at everything and change nothing.\n");
  if (!fingerprint.empty()) {
    std::fprintf(stderr,
                 "The browser does not know the cluster's own certificate. Import %s/ca.crt, or "
                 "compare SHA-256:\n%s\n",
                 certs.c_str(), fingerprint.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

std::string DashboardUrl(const std::string& cluster_directory) {
  std::string url;
  std::ifstream(absl::StrCat(cluster_directory, "/store/dashboard")) >> url;
  return url;
}

void AddDashboardCommand(CLI::App& app, absl::Status& outcome) {
  auto* dashboard = app.add_subcommand(
      "dashboard", "Print the dashboard's address, with the token that signs in");
  auto directory = std::make_shared<std::string>();
  AddClusterOption(*dashboard, *directory);
  auto format = std::make_shared<std::string>();
  AddOutputOption(*dashboard, *format);
  auto user = std::make_shared<bool>(false);
  dashboard->add_flag("--user", *user, "The address for a user, who may also ask about images");
  dashboard->footer("Examples:\n  dermis dashboard\n  dermis dashboard --user");
  dashboard->callback([directory, user, format, &outcome] { outcome = PrintDashboard(*directory, *user, *format); });
}

}  // namespace dermis
