#include "worker/cuda/device.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/clock.h"
#include "common/status_macros.h"

namespace dermis {

void PausePolling(uint64_t polls) {
  if (polls < 1000) {
    std::this_thread::yield();
  } else {
    absl::SleepFor(absl::Microseconds(polls < 3000 ? 50 : 1000));
  }
}

absl::Status AwaitIdle(Device& device, absl::Duration patience) {
  const absl::Duration deadline = Clock::Real().Now() + patience;
  for (uint64_t polls = 0;; ++polls) {
    ASSIGN_OR_RETURN(const bool idle, device.Idle());
    if (idle) return absl::OkStatus();
    if (Clock::Real().Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat(device.name(), " is still at work after ", absl::FormatDuration(patience)));
    }
    PausePolling(polls);
  }
}

absl::StatusOr<float*> DeviceBuffer::Floats(uint64_t count) {
  if (count > floats_) {
    device_->Free(memory_);
    memory_ = nullptr;
    floats_ = 0;
    ASSIGN_OR_RETURN(memory_, device_->Allocate(count * sizeof(float)));
    floats_ = count;
  }
  return static_cast<float*>(memory_);
}

}  // namespace dermis
