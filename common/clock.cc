#include "common/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace dermis {
namespace {

class RealClock : public Clock {
 public:
  absl::Duration Now() const override {
    return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
  }
  uint64_t UnixMillis() const override {
    return static_cast<uint64_t>(absl::ToUnixMillis(absl::Now()));
  }
};

}  // namespace

Clock& Clock::Real() {
  static RealClock* const clock = new RealClock;  // Never destroyed: threads may outlive main.
  return *clock;
}

}  // namespace dermis
