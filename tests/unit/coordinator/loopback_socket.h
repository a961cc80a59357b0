// A client that says what no library would.
#ifndef DERMIS_TESTS_UNIT_COORDINATOR_LOOPBACK_SOCKET_H_
#define DERMIS_TESTS_UNIT_COORDINATOR_LOOPBACK_SOCKET_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

namespace dermis {

class Socket {
 public:
  explicit Socket(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }
  // False: the other side has closed.
  bool Say(const std::string& text) {
    return connected_ &&
           send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  // What comes until the other side closes, or `enough` is there, or the patience ends.
  std::string Hear(absl::Duration patience, const std::string& enough = "\x01") {
    std::string text;
    const absl::Duration until = Clock::Real().Now() + patience;
    while (text.find(enough) == std::string::npos) {
      pollfd ready{fd_, POLLIN, 0};
      const int64_t left = absl::ToInt64Milliseconds(until - Clock::Real().Now());
      if (left <= 0 || poll(&ready, 1, static_cast<int>(left)) <= 0) break;
      char piece[4096];
      const ssize_t size = recv(fd_, piece, sizeof piece, 0);
      if (size <= 0) {
        closed_ = true;
        break;
      }
      text.append(piece, static_cast<size_t>(size));
    }
    return text;
  }
  bool closed() const { return closed_; }

 private:
  const int fd_;
  bool connected_ = false, closed_ = false;
};

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_COORDINATOR_LOOPBACK_SOCKET_H_
