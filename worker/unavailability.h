// Which errors say something about a task, and which only about this worker at this time.
#ifndef DERMIS_WORKER_UNAVAILABILITY_H_
#define DERMIS_WORKER_UNAVAILABILITY_H_

#include <exception>
#include <new>
#include <string>
#include <string_view>

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

// What an exception of a library means: a shortage of memory and a GPU that fails are this worker's, everything else
// is the task's.
inline absl::Status StatusOfException(const std::exception& error) {
  std::string_view what = error.what();
  // LibTorch appends its stack, a page that helps nobody who reads a status.
  what = what.substr(0, what.find("\nException raised from"));
  // LibTorch (c10::Error) and oneDNN (dnnl::error) have words of their own for it.
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
      what.find("allocate memory") != std::string_view::npos ||
      what.find("out of memory") != std::string_view::npos ||
      what.find("out_of_memory") != std::string_view::npos) {
    return absl::ResourceExhaustedError("out of memory: " + std::string(what));
  }
  // A GPU's error says nothing about the task.
  if (what.find("CUDA error") != std::string_view::npos ||
      what.find("cuDNN error") != std::string_view::npos ||
      what.find("CUDNN_STATUS") != std::string_view::npos ||
      what.find("unable to find an engine") != std::string_view::npos) {
    return absl::UnavailableError(std::string(what));
  }
  return absl::InternalError(std::string(what));
}

}  // namespace dermis

#endif  // DERMIS_WORKER_UNAVAILABILITY_H_
