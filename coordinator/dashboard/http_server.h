// A small HTTP/1.1 server over libmicrohttpd: TLS or plain text, bounded in connections, memory and
// time, so a slow, silent or greedy client costs one of many connections for half a minute (up to
// five in a large body or an answer) and nothing else.
#ifndef DERMIS_COORDINATOR_DASHBOARD_HTTP_SERVER_H_
#define DERMIS_COORDINATOR_DASHBOARD_HTTP_SERVER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/tls.h"

namespace dermis {

struct HttpRequest {
  std::string method;                          // "GET", "HEAD", "POST", ...
  std::string path;                            // Decoded, without the query.
  std::map<std::string, std::string> query;    // Decoded; of a name that comes twice, the last one.
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::string body;
  std::string client;  // Its address, without the port.

  // "" where it is not there.
  const std::string& Header(const std::string& lower_case_name) const;
  std::optional<std::string> Query(const std::string& name) const;
};

struct HttpResponse {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
  std::string_view fixed;  // Instead of `body`: bytes that outlive the server.
  std::vector<std::pair<std::string, std::string>> headers;
};

class HttpServer {
 public:
  struct Options {
    std::string listen;  // HOST:PORT; port 0: any free one.
    std::optional<Identity>
        tls;  // Absent: plain text. Its CA is not asked for: browsers have no certificate.
    uint32_t connections = 256;
    uint32_t connections_of_one_address = 64;
    uint32_t request_head = 16 << 10;  // Bytes of request line and headers.
    uint32_t request_body = 4 << 10;   // Longer ones are answered 413.
    // How much a request may carry where it is more; asked with the head alone, before the body is read. A response
    // is the answer at once. Absent: none may carry more.
    std::function<std::variant<uint32_t, HttpResponse>(const HttpRequest&)> larger_body = nullptr;
    absl::Duration request_patience =
        absl::Seconds(30);  // A connection completes a request so often, or ends.
    absl::Duration response_patience = absl::Seconds(300);  // A response has been taken by then.
    // Hears, once for each, of requests that are too long or that the library refuses by itself,
    // and of clients that are cut off in a TLS handshake or a request; not of those that leave by
    // themselves, nor of those that are cut off between two requests or before the first, as a
    // browser's spare connections are. `client` is empty where it is not known. On the server's
    // threads.
    std::function<void(const std::string& client, const char* why)> refused = nullptr;
  };
  // Called on the server's threads, two at a time.
  using Handler = std::function<HttpResponse(const HttpRequest&)>;

  // INVALID_ARGUMENT, UNAVAILABLE (the address is taken or not this machine's) say what to do.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(Options options, Handler handler);
  virtual ~HttpServer() = default;  // Ends all connections.
  virtual int port() const = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_HTTP_SERVER_H_
