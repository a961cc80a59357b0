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

namespace dermis {
namespace {

absl::StatusOr<std::string> ReadWord(const std::string& file) {
  std::string word;
  if (std::ifstream(file) >> word) return word;
  return absl::NotFoundError(
      absl::StrCat(file, " cannot be read: it is readable for the user who started the cluster"));
}

// The address alone on standard output, for scripts; the rest on standard error.
absl::Status PrintDashboard(const std::string& directory, bool user) {
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
  // Behind '#', a browser keeps it to itself.
  std::printf("%s/#%s=%s\n", url.c_str(), user ? "user" : "token", token.c_str());
  std::fflush(stdout);
  std::fprintf(stderr, user ? "Whoever has this address may look at everything, and ask the models about images.\n"
                            : "Whoever has this address may look at everything and change nothing.\n");
  if (url.rfind("https:", 0) != 0) return absl::OkStatus();
  const std::string certs = absl::StrCat(directory, "/certs");
  if (const absl::StatusOr<Identity> identity = LoadIdentity(certs, "coordinator"); identity.ok()) {
    ASSIGN_OR_RETURN(const std::string fingerprint, CertificateFingerprint(identity->certificate));
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
  auto user = std::make_shared<bool>(false);
  dashboard->add_flag("--user", *user, "The address for a user, who may also ask about images");
  dashboard->footer("Examples:\n  dermis dashboard\n  dermis dashboard --user");
  dashboard->callback([directory, user, &outcome] { outcome = PrintDashboard(*directory, *user); });
}

}  // namespace dermis
