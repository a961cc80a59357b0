// Which errors say something about a task, and which only about this worker at this time.
#ifndef DERMIS_WORKER_UNAVAILABILITY_H_
#define DERMIS_WORKER_UNAVAILABILITY_H_

#include "absl/status/status.h"

namespace dermis {

// True for the errors that say nothing about the task: try elsewhere, or later.
inline bool IsUnavailability(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
      return true;
    default:
      return false;
  }
}

}  // namespace dermis

#endif  // DERMIS_WORKER_UNAVAILABILITY_H_
