// Who may look: whoever knows the cluster's dashboard token. Programs send it with each request;
// browsers once, for a cookie that is good for twelve hours and is made of the token, so that a
// restart does not sign anyone out and a new token signs everyone out.
#ifndef DERMIS_COORDINATOR_DASHBOARD_SIGN_IN_H_
#define DERMIS_COORDINATOR_DASHBOARD_SIGN_IN_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace dermis {

inline constexpr absl::Duration kSignedInFor = absl::Hours(12);

// Immutable. Nothing here writes the token anywhere but into its file.
class SignIn {
 public:
  // The token in `file` (mode 0600), made where it is absent, damaged, or was readable for others.
  static absl::StatusOr<SignIn> Open(const std::string& file);

  // In constant time, whatever is said.
  bool IsToken(std::string_view said) const;
  std::string CookieValue(absl::Time now) const;
  // Eight digits that name the token and do not give it away.
  std::string Fingerprint() const { return Signature("fingerprint").substr(0, 8); }
  bool IsCookieValue(std::string_view said, absl::Time now) const;

 private:
  explicit SignIn(std::string token) : token_(std::move(token)) {}
  std::string Signature(const std::string& expiry) const;
  const std::string token_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_SIGN_IN_H_
