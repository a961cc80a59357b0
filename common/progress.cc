#include "common/progress.h"

#include <utility>

namespace dermis {
namespace {

thread_local std::atomic<uint64_t>* current = nullptr;

}  // namespace

ProgressScope::ProgressScope(std::atomic<uint64_t>* counter)
    : outer_(std::exchange(current, counter)) {}
ProgressScope::~ProgressScope() { current = outer_; }

void NoteProgress() {
  if (current != nullptr) ++*current;
}

}  // namespace dermis
