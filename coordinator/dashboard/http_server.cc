#include "coordinator/dashboard/http_server.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include <gnutls/gnutls.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr unsigned kThreads = 2;
constexpr int kLargeAtOnce = 8;
constexpr absl::Duration kLook = absl::Milliseconds(500);

// What Options::refused is told.
constexpr char kTooLong[] = "a request that is too long";
constexpr char kNotTaken[] = "a request that is none, or whose head is too long";
constexpr char kSlowHandshake[] = "cut off: its TLS handshake was not over in time";
constexpr char kSlowRequest[] = "cut off: a request was not over in time";

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};

absl::StatusOr<Address> Resolve(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("'", listen, "' is not HOST:PORT"));
  }
  std::string host = listen.substr(0, colon);
  if (host.size() > 1 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                listen.substr(colon + 1).c_str(), &hints, &found);
  if (error != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", listen, "' cannot be listened on: ", gai_strerror(error)));
  }
  Address address;
  std::memcpy(&address.bytes, found->ai_addr, found->ai_addrlen);
  address.size = found->ai_addrlen;
  freeaddrinfo(found);
  return address;
}

// Also who will say no more: the library keeps its connection, where that was within a request.
bool HasLeft(int socket) {
  char byte;
  const ssize_t got = recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK);
}

std::string ClientOf(MHD_Connection* connection) {
  const MHD_ConnectionInfo* info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  char name[NI_MAXHOST] = "?";
  if (info != nullptr && info->client_addr != nullptr) {
    const socklen_t size =
        info->client_addr->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    getnameinfo(info->client_addr, size, name, sizeof name, nullptr, 0, NI_NUMERICHOST);
  }
  return name;
}

// Bytes that have come over the connection and were read.
uint64_t BytesRead(int socket) {
  tcp_info info{};
  socklen_t size = sizeof info;
  int unread = 0;
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
      ioctl(socket, FIONREAD, &unread) != 0) {
    return 0;
  }
  // The second number may be of a moment later.
  return info.tcpi_bytes_received -
         std::min<uint64_t>(info.tcpi_bytes_received, static_cast<uint64_t>(unread));
}

class MicroServer : public HttpServer {
 public:
  MicroServer(Options options, Handler handler)
      : options_(std::move(options)), handler_(std::move(handler)) {}

  ~MicroServer() override {
    if (daemon_ != nullptr) MHD_stop_daemon(daemon_);
    {
      absl::MutexLock lock(&mutex_);
      stopped_ = true;
    }
    if (reaper_.joinable()) reaper_.join();
  }

  absl::Status Listen() {
    ASSIGN_OR_RETURN(const Address address, Resolve(options_.listen));
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG;
    if (address.bytes.ss_family == AF_INET6) flags |= MHD_USE_IPv6;
    std::vector<MHD_OptionItem> more;
    if (options_.tls) {
      flags |= MHD_USE_TLS;
      more.push_back({MHD_OPTION_HTTPS_MEM_KEY, 0, options_.tls->key.data()});
      more.push_back({MHD_OPTION_HTTPS_MEM_CERT, 0, options_.tls->certificate.data()});
      static char priorities[] = "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
      more.push_back({MHD_OPTION_HTTPS_PRIORITIES, 0, priorities});
    }
    more.push_back({MHD_OPTION_END, 0, nullptr});
    daemon_ = MHD_start_daemon(
        flags, 0, nullptr, nullptr, &MicroServer::OnRequest, this, MHD_OPTION_EXTERNAL_LOGGER,
        &MicroServer::OnLog, this, MHD_OPTION_SOCK_ADDR,
        reinterpret_cast<const sockaddr*>(&address.bytes), MHD_OPTION_THREAD_POOL_SIZE, kThreads,
        MHD_OPTION_CONNECTION_LIMIT, options_.connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        options_.connections_of_one_address,
        // Later than Reap, which knows whether a request was begun.
        MHD_OPTION_CONNECTION_TIMEOUT,
        static_cast<unsigned>(absl::ToInt64Seconds(options_.request_patience + absl::Seconds(30))),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, static_cast<size_t>(options_.request_head),
        MHD_OPTION_NOTIFY_COMPLETED, &MicroServer::OnCompleted, this, MHD_OPTION_NOTIFY_CONNECTION,
        &MicroServer::OnConnection, this, MHD_OPTION_ARRAY, more.data(), MHD_OPTION_END);
    if (daemon_ == nullptr) {
      return absl::UnavailableError(absl::StrCat("cannot listen on ", options_.listen,
                                                 ": the port is in use, or the address is not this "
                                                 "machine's, or the certificate cannot be used"));
    }
    const MHD_DaemonInfo* info = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_BIND_PORT);
    port_ = info == nullptr ? 0 : info->port;
    reaper_ = std::thread([this] { Reap(); });
    return absl::OkStatus();
  }

  int port() const override { return port_; }

 private:
  // One of the few larger bodies that may be in memory at once.
  class Large {
   public:
    ~Large() {
      if (count_ != nullptr) --*count_;
    }
    bool Begin(std::atomic<int>& count) {
      count_ = &count;
      return ++count <= kLargeAtOnce;
    }

   private:
    std::atomic<int>* count_ = nullptr;
  };
  struct Pending {
    HttpRequest request;
    Large large;
    uint32_t body_limit = 0;
    bool answered = false;
  };
  struct Connection {
    int socket = -1;
    std::string client;
    gnutls_session_t tls = nullptr;
    absl::Duration until;
    // What had been read of it before the request that it is at. None: its handshake is not over.
    std::optional<uint64_t> before;
    bool told = false;  // `refused`, of this request.
  };

  static MHD_Result AddHeader(void* request, MHD_ValueKind, const char* name, const char* value) {
    static_cast<HttpRequest*>(request)->headers[absl::AsciiStrToLower(name)] =
        value == nullptr ? "" : value;
    return MHD_YES;
  }
  static MHD_Result AddQuery(void* request, MHD_ValueKind, const char* name, const char* value) {
    static_cast<HttpRequest*>(request)->query[name] = value == nullptr ? "" : value;
    return MHD_YES;
  }

  static MHD_Result OnRequest(void* self, MHD_Connection* connection, const char* url,
                              const char* method, const char*, const char* upload,
                              size_t* upload_size, void** context) {
    return static_cast<MicroServer*>(self)->Request(connection, url, method, upload, upload_size,
                                                    context);
  }

  MHD_Result Request(MHD_Connection* connection, const char* url, const char* method,
                     const char* upload, size_t* upload_size, void** context) {
    auto* pending = static_cast<Pending*>(*context);
    if (pending == nullptr) {
      // Taken back in OnCompleted.
      pending = new Pending;
      *context = pending;
      pending->request.method = method;
      pending->request.path = url;
      pending->request.client = ClientOf(connection);
      MHD_get_connection_values(connection, MHD_HEADER_KIND, &AddHeader, &pending->request);
      MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, &AddQuery, &pending->request);
      pending->body_limit = options_.request_body;
      if (options_.larger_body != nullptr) {
        auto larger = options_.larger_body(pending->request);
        if (auto* const answer = std::get_if<HttpResponse>(&larger)) {
          answer->headers.emplace_back("Connection", "close");  // Its body is not read.
          return Answer(connection, *pending, std::move(*answer));
        }
        const uint32_t limit = std::get<uint32_t>(larger);
        if (limit > pending->body_limit) {
          if (!pending->large.Begin(large_)) {
            HttpResponse busy;
            busy.status = 503;
            busy.body = "others send large bodies now: try again in a moment\n";
            busy.headers.emplace_back("Connection", "close");
            return Answer(connection, *pending, std::move(busy));
          }
          pending->body_limit = limit;
          Extend(connection, options_.response_patience);  // A slow line takes its time.
        }
      }
      uint64_t length = 0;
      const std::string& stated = pending->request.Header("content-length");
      if (!stated.empty() &&
          (!absl::SimpleAtoi(stated, &length) || length > pending->body_limit)) {
        return TooLarge(connection, *pending);
      }
      return MHD_YES;
    }
    if (*upload_size > 0) {
      if (!pending->answered &&
          pending->request.body.size() + *upload_size > pending->body_limit) {
        Refuse(connection, kTooLong);
        return MHD_NO;  // It did not say how long it would be: the connection ends.
      }
      if (!pending->answered) pending->request.body.append(upload, *upload_size);
      *upload_size = 0;
      return MHD_YES;
    }
    if (pending->answered) return MHD_YES;
    HttpResponse response;
    try {
      response = handler_(pending->request);
    } catch (const std::exception& error) {
      DERMIS_LOG(kError, "dashboard: ", error.what());
      response.status = 500;
      response.body = "an error of the dashboard; the coordinator's log has it\n";
    }
    return Answer(connection, *pending, std::move(response));
  }

  MHD_Result TooLarge(MHD_Connection* connection, Pending& pending) {
    Refuse(connection, kTooLong);
    HttpResponse response;
    response.status = 413;
    response.body = absl::StrCat("requests carry at most ", pending.body_limit, " bytes\n");
    response.headers.emplace_back("Connection", "close");
    return Answer(connection, pending, std::move(response));
  }

  MHD_Result Answer(MHD_Connection* connection, Pending& pending, HttpResponse response) {
    pending.answered = true;
    Extend(connection, options_.response_patience);
    MHD_Response* raw;
    if (!response.fixed.empty()) {
      raw = MHD_create_response_from_buffer(
          response.fixed.size(), const_cast<char*>(response.fixed.data()), MHD_RESPMEM_PERSISTENT);
    } else {
      auto* body = new std::string(std::move(response.body));
      raw = MHD_create_response_from_buffer_with_free_callback_cls(
          body->size(), body->data(), [](void* kept) { delete static_cast<std::string*>(kept); },
          body);
      if (raw == nullptr) delete body;
    }
    if (raw == nullptr) return MHD_NO;
    MHD_add_response_header(raw, MHD_HTTP_HEADER_CONTENT_TYPE, response.type.c_str());
    for (const auto& [name, value] : response.headers) {
      MHD_add_response_header(raw, name.c_str(), value.c_str());
    }
    const MHD_Result queued =
        MHD_queue_response(connection, static_cast<unsigned>(response.status), raw);
    MHD_destroy_response(raw);
    return queued;
  }

  static void OnCompleted(void* self, MHD_Connection* connection, void** context,
                          MHD_RequestTerminationCode code) {
    auto& server = *static_cast<MicroServer*>(self);
    if (code == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED) server.Refuse(connection, kSlowRequest);
    {
      absl::MutexLock lock(&server.mutex_);
      if (const auto it = server.open_.find(connection); it != server.open_.end()) {
        it->second.until = Clock::Real().Now() + server.options_.request_patience;
        BeginRequest(it->second);
      }
    }
    delete static_cast<Pending*>(*context);
    *context = nullptr;
  }

  static void OnConnection(void* self, MHD_Connection* connection, void**,
                           MHD_ConnectionNotificationCode code) {
    auto& server = *static_cast<MicroServer*>(self);
    absl::MutexLock lock(&server.mutex_);
    // Closed: the socket is closed after this call, so what stands in the map is always open.
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
      server.open_.erase(connection);
      return;
    }
    const MHD_ConnectionInfo* info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info == nullptr) return;
    Connection& open = server.open_[connection];
    open.socket = info->connect_fd;
    open.client = ClientOf(connection);
    open.until = Clock::Real().Now() + server.options_.request_patience;
    if (!server.options_.tls) {
      open.before = 0;
      return;
    }
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (info == nullptr) return;
    open.tls = static_cast<gnutls_session_t>(info->tls_session);
    // The library has no use for this pointer: it keeps no sessions.
    gnutls_db_set_ptr(open.tls, self);
    gnutls_handshake_set_hook_function(open.tls, GNUTLS_HANDSHAKE_FINISHED, GNUTLS_HOOK_POST,
                                       &MicroServer::OnHandshake);
  }

  // The client's last word of its handshake has come, or the server's goes.
  static int OnHandshake(gnutls_session_t tls, unsigned, unsigned, unsigned incoming,
                         const gnutls_datum_t*) {
    if (incoming != 0) {
      auto& server = *static_cast<MicroServer*>(gnutls_db_get_ptr(tls));
      absl::MutexLock lock(&server.mutex_);
      for (auto& [connection, open] : server.open_) {
        if (open.tls == tls) BeginRequest(open);
      }
    }
    return 0;
  }

  // What comes from now on is of the next request.
  static void BeginRequest(Connection& open) {
    open.before = BytesRead(open.socket);
    open.told = false;
  }

  void Refuse(MHD_Connection* connection, const char* why) {
    std::string client;
    {
      absl::MutexLock lock(&mutex_);
      const auto it = open_.find(connection);
      if (it == open_.end() || std::exchange(it->second.told, true)) return;
      client = it->second.client;
    }
    Tell(client, why);
  }
  void Tell(const std::string& client, const char* why) const {
    if (options_.refused != nullptr) options_.refused(client, why);
  }

  // Nothing that a client says is written to the log; the library's words are for debugging. They
  // are all that it says of requests that it refuses by itself.
  static void OnLog(void* self, const char* format, va_list arguments) {
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    DERMIS_LOG(kDebug, "dashboard: ", absl::StripAsciiWhitespace(text));
    if (absl::StartsWith(text, "Error processing request")) {
      static_cast<MicroServer*>(self)->Tell("", kNotTaken);
    }
  }

  void Extend(MHD_Connection* connection, absl::Duration patience) {
    absl::MutexLock lock(&mutex_);
    if (auto it = open_.find(connection); it != open_.end()) {
      it->second.until = Clock::Real().Now() + patience;
    }
  }

  // The library ends connections that are silent for long; one that dribbles is not.
  void Reap() {
    for (;;) {
      std::vector<std::pair<std::string, const char*>> slow;
      {
        absl::MutexLock lock(&mutex_);
        if (mutex_.AwaitWithTimeout(absl::Condition(&stopped_), kLook)) return;
        const absl::Duration now = Clock::Real().Now();
        for (auto& [connection, open] : open_) {
          if (open.until >= now) continue;
          const bool begun = !open.before || BytesRead(open.socket) > *open.before;
          if (begun && !HasLeft(open.socket) && !std::exchange(open.told, true)) {
            slow.emplace_back(open.client, open.before ? kSlowRequest : kSlowHandshake);
          }
          shutdown(open.socket, SHUT_RDWR);
        }
      }
      for (const auto& [client, why] : slow) Tell(client, why);
    }
  }

  Options options_;
  const Handler handler_;
  std::atomic<int> large_ = 0;
  MHD_Daemon* daemon_ = nullptr;
  int port_ = 0;
  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<MHD_Connection*, Connection> open_ ABSL_GUARDED_BY(mutex_);
  std::thread reaper_;
};

}  // namespace

const std::string& HttpRequest::Header(const std::string& lower_case_name) const {
  static const std::string none;
  const auto it = headers.find(lower_case_name);
  return it == headers.end() ? none : it->second;
}

std::optional<std::string> HttpRequest::Query(const std::string& name) const {
  const auto it = query.find(name);
  if (it == query.end()) return std::nullopt;
  return it->second;
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(Options options, Handler handler) {
  auto server = std::make_unique<MicroServer>(std::move(options), std::move(handler));
  RETURN_IF_ERROR(server->Listen());
  return server;
}

}  // namespace dermis
