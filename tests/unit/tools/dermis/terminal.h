// What commands write to a terminal, and what they find in their environment.
#ifndef DERMIS_TESTS_UNIT_TOOLS_DERMIS_TERMINAL_H_
#define DERMIS_TESTS_UNIT_TOOLS_DERMIS_TERMINAL_H_

#include <cstdio>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <unistd.h>

namespace dermis {

// A terminal that is not this process' own, 100 characters wide; what is written to it can be heard.
class Terminal {
 public:
  Terminal() {
    const winsize size{24, 100, 0, 0};
    EXPECT_EQ(openpty(&heard_, &spoken_, nullptr, nullptr, &size), 0);
    stream_ = fdopen(dup(spoken_), "w");
  }
  ~Terminal() {
    fclose(stream_);
    close(spoken_);
    close(heard_);
  }
  FILE* stream() { return stream_; }
  int fd() const { return spoken_; }
  std::string Heard() {
    fflush(stream_);
    std::string text;
    char piece[4096];
    pollfd ready{heard_, POLLIN, 0};
    while (poll(&ready, 1, 0) > 0) {
      const ssize_t size = read(heard_, piece, sizeof piece);
      if (size <= 0) break;
      text.append(piece, static_cast<size_t>(size));
    }
    return text;
  }

 private:
  int heard_ = -1, spoken_ = -1;
  FILE* stream_ = nullptr;
};

// An environment variable for as long as it lives; null: there is none.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name), before_(getenv(name) == nullptr ? "" : getenv(name)),
                                                  was_(getenv(name) != nullptr) {
    Set(value);
  }
  ~Variable() { Set(was_ ? before_.c_str() : nullptr); }

 private:
  void Set(const char* value) { value == nullptr ? unsetenv(name_) : setenv(name_, value, 1); }
  const char* const name_;
  const std::string before_;
  const bool was_;
};

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_TOOLS_DERMIS_TERMINAL_H_
