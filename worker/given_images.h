// A question about an image, as a worker has it: in memory, for as long as the bundle that brought
// it runs, and nowhere else.
#ifndef DERMIS_WORKER_GIVEN_IMAGES_H_
#define DERMIS_WORKER_GIVEN_IMAGES_H_

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/digest.h"
#include "dermis/v1/question.pb.h"
#include "worker/data/given.h"

namespace dermis {

// What one bundle brought. Thread-safe.
class GivenBundle {
 public:
  // `cancelled` outlives this: nobody waits for its tasks any more once it is set.
  GivenBundle(const v1::Given& given, const std::atomic<bool>* cancelled);

  // While one lives, this thread's task is one of the bundle. Not nested.
  class Scope {
   public:
    explicit Scope(GivenBundle* bundle) { current_ = bundle; }
    ~Scope() { current_ = nullptr; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };
  // Null: this thread's task is an ordinary one.
  static GivenBundle* Current() { return current_; }

  // `data` (of `source`) and `set` with the image (data/given.h).
  absl::StatusOr<std::shared_ptr<const ImageData>> Images(
      const std::shared_ptr<const ImageData>& data, const v1::ImageSource& source);
  absl::StatusOr<std::shared_ptr<ImageSet>> Set(const std::shared_ptr<ImageSet>& set);
  bool cancelled() const { return *cancelled_; }
  // Null: the bundle did not bring it.
  std::shared_ptr<const v1::Payload> Result(const Digest& task) const;

 private:
  static inline thread_local GivenBundle* current_ = nullptr;

  const std::shared_ptr<const std::string> pixels_;
  const std::atomic<bool>* const cancelled_;
  std::map<Digest, std::shared_ptr<const v1::Payload>> results_;
  absl::Mutex mutex_;
  // A manifest may be long, and all tasks of a bundle look at the same images.
  Digest source_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const ImageData> data_ ABSL_GUARDED_BY(mutex_);
  std::pair<std::shared_ptr<ImageSet>, std::shared_ptr<ImageSet>> sets_
      ABSL_GUARDED_BY(mutex_);  // Without and with the image.
};

}  // namespace dermis

#endif  // DERMIS_WORKER_GIVEN_IMAGES_H_
