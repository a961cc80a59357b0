// Time. Timeouts use the monotonic clock; wall time is for display and decides nothing.
#ifndef DERMIS_COMMON_CLOCK_H_
#define DERMIS_COMMON_CLOCK_H_

#include <cstdint>

#include "absl/time/time.h"

namespace dermis {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Duration Now() const = 0;      // Monotonic, from an arbitrary origin.
  virtual uint64_t UnixMillis() const = 0;     // Wall time, for display only.
  static Clock& Real();                        // Thread-safe.
};

// Stands still until told to move. Not thread-safe.
class FakeClock : public Clock {
 public:
  absl::Duration Now() const override { return now_; }
  uint64_t UnixMillis() const override { return wall_; }
  void Advance(absl::Duration d) { now_ += d; wall_ += absl::ToInt64Milliseconds(d); }
  void JumpWall(int64_t ms) { wall_ += ms; }

 private:
  absl::Duration now_ = absl::Seconds(1000);
  uint64_t wall_ = 1'700'000'000'000;
};

}  // namespace dermis

#endif  // DERMIS_COMMON_CLOCK_H_
