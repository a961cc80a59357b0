// Answers whether an image is like those that a model was trained on. The features of the study's
// own images are computed with the first question about a model, and kept in memory for the next
// ones; what a question that was given up had computed of them, too.
#ifndef DERMIS_WORKER_FAMILIARITY_RUNNER_H_
#define DERMIS_WORKER_FAMILIARITY_RUNNER_H_

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/digest.h"
#include "dermis/v1/question.pb.h"
#include "worker/data/image_source.h"
#include "worker/embedding/familiarity.h"
#include "worker/given_images.h"

namespace dermis {

// Thread-safe.
class FamiliarityRunner {
 public:
  static constexpr size_t kKept = 2;  // Models whose spaces are kept.
  // Of more images evenly chosen ones count: a network's pass over a large set would take too long
  // for whoever waits, and the nearest of a part tell as well whether an image is like them (ICML
  // 2022, section 4.2).
  static constexpr size_t kMostTraining = 4096, kMostValidation = 1024;
  static constexpr size_t kMostValues = 64 << 20;  // Of one space.

  struct Inputs {
    // The study's images, without the given one.
    std::function<absl::StatusOr<std::shared_ptr<const ImageData>>(const v1::ImageSource&)> images;
    std::function<absl::StatusOr<std::string>(const Digest&)> blob;
  };
  explicit FamiliarityRunner(Inputs inputs) : inputs_(std::move(inputs)) {}

  // Of the bundle's image. Errors: of the inputs, and those of FeaturesOf; CANCELLED: the bundle was.
  absl::StatusOr<v1::Familiarity> Run(const v1::FamiliarityQuestion& question, GivenBundle& bundle);

 private:
  struct Entry {
    Digest key;
    absl::Mutex mutex;  // Held while it is computed: others that want it wait for it here.
    std::vector<uint32_t> training, validation ABSL_GUARDED_BY(mutex);  // Those that count.
    FeatureSpace space ABSL_GUARDED_BY(mutex);
    std::shared_ptr<const FeatureSpace> whole ABSL_GUARDED_BY(mutex);
  };
  absl::StatusOr<std::shared_ptr<const FeatureSpace>> SpaceOf(
      const v1::FamiliarityQuestion& question, const std::string& weights, const ImageData& data,
      const GivenBundle& bundle);

  const Inputs inputs_;
  absl::Mutex mutex_;
  std::list<std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);  // Last used first.
};

}  // namespace dermis

#endif  // DERMIS_WORKER_FAMILIARITY_RUNNER_H_
