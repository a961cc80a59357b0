// Signs of life from within a long computation: a worker without any for some time is taken for stuck.
#ifndef DERMIS_COMMON_PROGRESS_H_
#define DERMIS_COMMON_PROGRESS_H_

#include <atomic>
#include <cstdint>

namespace dermis {

// While it lives, NoteProgress on this thread counts in `counter`. They nest: the innermost counts.
class ProgressScope {
 public:
  explicit ProgressScope(std::atomic<uint64_t>* counter);
  ~ProgressScope();
  ProgressScope(const ProgressScope&) = delete;
  ProgressScope& operator=(const ProgressScope&) = delete;

 private:
  std::atomic<uint64_t>* const outer_;
};

// One more piece of work, of seconds at most, is done. Nothing where no scope is.
void NoteProgress();

}  // namespace dermis

#endif  // DERMIS_COMMON_PROGRESS_H_
