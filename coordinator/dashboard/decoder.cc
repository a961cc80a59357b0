#include "coordinator/dashboard/decoder.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

namespace dermis {
namespace {

class File {
 public:
  explicit File(int fd = -1) : fd_(fd) {}
  ~File() { Close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return fd_; }
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

// A file in memory that holds these bytes, at its beginning.
absl::Status Fill(int fd, const std::string& bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t wrote = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return absl::ErrnoToStatus(errno, "the picture cannot be handed over");
    done += static_cast<size_t>(wrote);
  }
  if (::lseek(fd, 0, SEEK_SET) != 0)
    return absl::ErrnoToStatus(errno, "the picture cannot be handed over");
  return absl::OkStatus();
}

// What comes until the end, at most `most` bytes; false: the deadline has passed, or more came.
bool ReadAll(int fd, size_t most, absl::Duration until, std::string& out) {
  char piece[65536];
  while (true) {
    const absl::Duration left = until - Clock::Real().Now();
    if (left <= absl::ZeroDuration()) return false;
    pollfd waits{fd, POLLIN, 0};
    if (::poll(&waits, 1,
               static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(left) + 1, 1000))) <= 0)
      continue;
    const ssize_t got = ::read(fd, piece, sizeof piece);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    out.append(piece, static_cast<size_t>(got));
    if (out.size() > most) return false;
  }
}

}  // namespace

absl::StatusOr<std::string> Decoder::Decode(const std::string& file, uint32_t size) {
  // Whoever waits holds one of the server's threads.
  if (!one_.TryLock()) {
    return absl::ResourceExhaustedError("another picture is being decoded: try again in a moment");
  }
  const absl::Cleanup unlock = [this] { one_.Unlock(); };
  return Run(file, size);
}

absl::StatusOr<std::string> Decoder::Run(const std::string& file, uint32_t size) {
  const absl::Duration until = Clock::Real().Now() + patience_;
  File input(::memfd_create("picture", MFD_CLOEXEC));
  int ends[2];
  if (input.get() < 0 || ::pipe2(ends, O_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "no decoder can be started");
  }
  File output(ends[0]), written(ends[1]);
  if (absl::Status status = Fill(input.get(), file); !status.ok()) return status;

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, input.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, written.get(), STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  sigset_t none, usual;  // This process blocks and ignores some signals; the child must not.
  sigemptyset(&none);
  sigemptyset(&usual);
  sigaddset(&usual, SIGPIPE);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::string program = program_, side = absl::StrCat(size);
  char* const arguments[] = {program.data(), side.data(), nullptr};
  char* const environment[] = {nullptr};
  pid_t pid = 0;
  const int error =
      ::posix_spawn(&pid, program_.c_str(), &actions, &attributes, arguments, environment);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("dermis-decode is not beside the coordinator's program: install it there, or "
                     "use dermis explain"));
  }
  written.Close();
  const size_t expected = size_t{size} * size * 3;
  std::string out;
  const bool whole = ReadAll(output.get(), expected, until, out);
  // It may have closed its output and go on.
  int status = 0;
  for (bool told = false; ::waitpid(pid, &status, WNOHANG) == 0;) {
    if (!told && (!whole || Clock::Real().Now() > until)) told = ::kill(pid, SIGKILL) == 0;
    absl::SleepFor(absl::Milliseconds(1));
  }
  if (whole && WIFEXITED(status) && WEXITSTATUS(status) == 0 && out.size() == expected) return out;
  if (whole && WIFEXITED(status) && WEXITSTATUS(status) == 1 && !out.empty() && out.size() < 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("this is no picture that can be taken: ", absl::StripAsciiWhitespace(out)));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    return absl::UnavailableError("dermis-decode cannot be run: are its libraries there?");
  }
  return absl::InvalidArgumentError(
      "this is no picture that can be taken: it takes too much time or memory to decode");
}

}  // namespace dermis
