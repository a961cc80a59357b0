#include "worker/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/clock.h"
#include "common/log.h"

namespace dermis {
namespace {

// The last lines of what passes through to standard error.
class Tail {
 public:
  explicit Tail(size_t lines) : limit_(std::max<size_t>(1, lines)) {}
  void Add(const char* data, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      if (data[i] == '\n') {
        lines_.push_back(std::move(line_));
        line_.clear();
        if (lines_.size() > limit_) lines_.pop_front();
      } else if (line_.size() < 2000) {
        line_.push_back(data[i]);
      }
    }
  }
  std::string Text() const {
    std::string text = absl::StrJoin(lines_, "\n    ");
    if (!line_.empty()) absl::StrAppend(&text, "\n    ", line_);
    return text;
  }

 private:
  const size_t limit_;
  std::deque<std::string> lines_;
  std::string line_;
};

pid_t StartChild(const std::vector<std::string>& argv, const sigset_t& old_mask, int* log) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
  std::vector<char*> arguments;
  for (const std::string& a : argv) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);  // The parent died before the line above.
    ::dup2(ends[1], STDERR_FILENO);
    ::sigprocmask(SIG_SETMASK, &old_mask, nullptr);
    ::execv(arguments[0], arguments.data());
    static constexpr char kText[] = "the worker's program cannot be started\n";
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, kText, sizeof(kText) - 1);
    ::_exit(127);
  }
  ::close(ends[1]);
  if (child < 0) {
    ::close(ends[0]);
    return -1;
  }
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  *log = ends[0];
  return child;
}

// Passes on what is there. False at the end of the pipe.
bool Drain(int log, Tail& tail) {
  char buffer[4096];
  while (true) {
    const ssize_t n = ::read(log, buffer, sizeof(buffer));
    if (n > 0) {
      tail.Add(buffer, n);
      [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, buffer, n);
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else {
      return n < 0 && errno == EAGAIN;
    }
  }
}

}  // namespace

std::string DeathCause(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int signal_number = WTERMSIG(wait_status);
    return absl::StrCat("killed by signal ", signal_number, " (", strsignal(signal_number), ")",
                        signal_number == SIGKILL ? ": out of memory, or kill -9" : "");
  }
  return absl::StrCat("exit code ", WEXITSTATUS(wait_status));
}

int Supervise(const std::vector<std::string>& argv, const SupervisorOptions& options) {
  sigset_t signals, old_mask;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, s);
  ::sigprocmask(SIG_BLOCK, &signals, &old_mask);
  const int events = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  const Clock& clock = Clock::Real();
  const auto report = [&](const std::string& text) {
    if (options.report != nullptr) {
      options.report(text);
    } else {
      DERMIS_LOG(kError, text);
    }
  };
  ::unsetenv(kLastEndVariable);
  bool stopping = false;
  absl::Duration backoff = options.first_backoff;
  int code = 0;
  while (true) {
    int log = -1;
    const absl::Duration start = clock.Now();
    const pid_t child = StartChild(argv, old_mask, &log);
    if (child < 0) {
      report(absl::StrCat("the worker cannot be started: ", strerror(errno)));
      code = 1;
      break;
    }
    Tail tail(options.log_lines);
    absl::Duration kill_at = absl::InfiniteDuration();
    int status = 0;
    bool alive = true;
    while (alive) {
      pollfd wait[2] = {{events, POLLIN, 0}, {log, POLLIN, 0}};
      const int64_t left = kill_at == absl::InfiniteDuration()
                               ? 1000
                               : std::max<int64_t>(0, absl::ToInt64Milliseconds(kill_at - clock.Now()));
      ::poll(wait, log >= 0 ? 2 : 1, static_cast<int>(std::min<int64_t>(left, 1000)));
      signalfd_siginfo info;
      while (::read(events, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) continue;
        ::kill(child, SIGTERM);
        if (std::exchange(stopping, true)) continue;
        kill_at = clock.Now() + options.patience;
      }
      if (log >= 0 && !Drain(log, tail)) {
        ::close(log);
        log = -1;
      }
      if (clock.Now() >= kill_at) ::kill(child, SIGKILL);
      alive = ::waitpid(child, &status, WNOHANG) == 0;
    }
    if (log >= 0) {
      Drain(log, tail);
      ::close(log);
    }
    code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (stopping) {
      code = 0;
      break;
    }
    if (code == 0) break;
    if (code == kExitHopeless) {
      report("the worker ended and is not started again: see its last words above");
      break;
    }
    if (clock.Now() - start >= options.healthy) backoff = options.first_backoff;
    report(absl::StrCat("the worker process ", child, " died after ",
                        absl::FormatDuration(absl::Trunc(clock.Now() - start, absl::Milliseconds(1))),
                        ": ", DeathCause(status), "; started again in ", absl::FormatDuration(backoff),
                        ". End of its log:\n    ", tail.Text()));
    constexpr size_t kMostOfLog = 6000;  // Of an environment, and of a message.
    const std::string text = tail.Text();
    ::setenv(kLastEndVariable,
             absl::StrCat(DeathCause(status), ". End of its log:\n",
                          text.size() > kMostOfLog ? text.substr(text.size() - kMostOfLog) : text)
                 .c_str(),
             1);
    pollfd wait = {events, POLLIN, 0};
    const absl::Duration until = clock.Now() + backoff;
    while (!stopping && clock.Now() < until) {
      ::poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(until - clock.Now())) + 1);
      signalfd_siginfo info;
      while (::read(events, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo != SIGCHLD) stopping = true;
      }
    }
    if (stopping) {
      code = 0;
      break;
    }
    backoff = std::min(backoff * 2, options.last_backoff);
  }
  ::close(events);
  ::sigprocmask(SIG_SETMASK, &old_mask, nullptr);
  return code;
}

}  // namespace dermis
