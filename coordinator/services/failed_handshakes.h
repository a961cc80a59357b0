// TLS handshakes that fail: an expired certificate, one of another CA, plain text, a client that does not go on. gRPC (1.51)
// verifies and refuses by itself and tells of it in its log alone.
#ifndef DERMIS_COORDINATOR_SERVICES_FAILED_HANDSHAKES_H_
#define DERMIS_COORDINATOR_SERVICES_FAILED_HANDSHAKES_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace dermis {

// Why a server's handshake failed, of a line of gRPC's log; none: it is of something else, or the client left by itself.
std::optional<std::string> FailedHandshake(std::string_view line);

// From now on gRPC's log goes where ours goes (common/log.h: its errors as warnings, the rest as debug lines), but for failed
// handshakes: of these `observer` hears, on gRPC's threads, until it is replaced; strangers do not fill the log by them.
// Process-wide, as gRPC's log is. Null: nobody hears; it is in no call any more when this returns.
void OnFailedHandshake(std::function<void(const std::string& why)> observer);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_FAILED_HANDSHAKES_H_
