// Preloaded (LD_PRELOAD), a machine's wall clock that is DERMIS_SKEW_SECONDS ahead of the true
// time: what reads it is moved, and what waits until a time by it is moved back. Clocks that count
// from the machine's start are right.
//
// Not Debian's libfaketime (0.9.10): it knows nothing of futexes, by which Abseil waits until a
// wall time. A wait of a second would take a day and a second where the clock is ahead, and none at
// all where it is behind.
#include <atomic>
#include <cstdarg>
#include <cstdlib>

#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

namespace {

time_t Skew() {
  static const time_t skew = [] {
    const char* text = std::getenv("DERMIS_SKEW_SECONDS");
    return text == nullptr ? 0 : static_cast<time_t>(std::atoll(text));
  }();
  return skew;
}

// The C library's own. No guarded static: a guard that is waited for calls syscall.
template <typename Function>
Function* TheReal(std::atomic<Function*>& known, const char* name) {
  Function* real = known.load(std::memory_order_relaxed);
  if (real == nullptr) {
    real = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
    known.store(real, std::memory_order_relaxed);
  }
  return real;
}
constinit std::atomic<int (*)(clockid_t, timespec*)> real_clock_gettime = nullptr;
constinit std::atomic<long (*)(long, ...)> real_syscall = nullptr;

timespec Back(timespec wall) {
  wall.tv_sec -= Skew();
  return wall;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const int result = TheReal(real_clock_gettime, "clock_gettime")(clock, time);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    time->tv_sec += Skew();
  }
  return result;
}

time_t time(time_t* there) noexcept {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (there != nullptr) *there = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(timeval* there, void*) noexcept {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  *there = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           const timespec* until) {
  // Which clock is the condition's own secret; but no machine runs for thirty years.
  if (until->tv_sec < 1'000'000'000) {
    return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, until);
  }
  const timespec moved = Back(*until);
  return pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, &moved);
}

long syscall(long number, ...) noexcept {
  long a[6];
  va_list arguments;
  va_start(arguments, number);
  for (long& argument : a) argument = va_arg(arguments, long);
  va_end(arguments);
  timespec moved;
  if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME) != 0 && a[3] != 0) {
    moved = Back(*reinterpret_cast<const timespec*>(a[3]));
    a[3] = reinterpret_cast<long>(&moved);
  }
  return TheReal(real_syscall, "syscall")(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

}  // extern "C"
