// What the dashboard reads of a request: path, query, headers, body. Whatever comes, it is
// answered; only who shows a token or a cookie sees anything, and no answer holds a token.
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "common/log.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/requests.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using dermis::Require;
  dermis::SetLogLevel(static_cast<dermis::LogLevel>(4));  // Not a word.
  static const dermis::FuzzedDashboard dashboard;
  const dermis::HttpRequest request =
      dermis::RequestOf({reinterpret_cast<const char*>(data), size});
  const dermis::HttpResponse response = dashboard.Take(request);
  static const std::set<int> known = {200, 202, 204, 304, 400, 401, 404, 405, 413, 429, 500, 503};
  Require(known.contains(response.status), "a status that the dashboard gives");
  const std::string& authorization = request.Header("authorization");
  const bool user = absl::EndsWith(authorization, dashboard.UsersToken());
  const bool good = user || absl::EndsWith(authorization, dashboard.Token()) ||
                    absl::StrContains(request.Header("cookie"), dashboard.Cookie());
  if (response.status == 200) {
    Require(good || (!absl::StartsWith(request.path, "/api/") && request.path != "/metrics"),
            "strangers see no study");
    Require(request.method != "POST" && request.method != "PUT", "only what reads is answered so");
  }
  Require(response.status != 202 || user, "only users ask");
  Require(
      !absl::StrContains(absl::StrCat("/", request.path, "/"), "/../") || response.status >= 400,
      "no path leads up");
  if (response.type == "application/json" && !response.body.empty()) {
    Require(nlohmann::json::accept(response.body), "JSON is JSON");
  }
  for (const std::string& token : {dashboard.Token(), dashboard.UsersToken()}) {
    // What was asked for may be said again.
    if (absl::StrContains(request.path, token)) continue;
    bool asked = false;
    for (const auto& [name, value] : request.query) asked |= absl::StrContains(value, token);
    if (asked) continue;
    Require(!absl::StrContains(response.body, token), "no answer holds a token");
    for (const auto& [name, value] : response.headers)
      Require(!absl::StrContains(value, token), "no header holds a token");
  }
  return 0;
}
