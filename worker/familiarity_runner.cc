#include "worker/familiarity_runner.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/types/span.h"

#include "common/progress.h"
#include "common/status_macros.h"
#include "worker/models/features.h"

namespace dermis {
namespace {

constexpr size_t kAtOnce = 16;  // Images between two looks at whether anybody still waits.

// At most `most` of them, evenly spaced.
std::vector<uint32_t> Thinned(const std::vector<uint32_t>& images, size_t most) {
  if (images.size() <= most) return images;
  std::vector<uint32_t> thinned;
  for (size_t k = 0; k < most; ++k) thinned.push_back(images[k * images.size() / most]);
  return thinned;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const FeatureSpace>> FamiliarityRunner::SpaceOf(
    const v1::FamiliarityQuestion& question, const std::string& weights, const ImageData& data,
    const GivenBundle& bundle) {
  ASSIGN_OR_RETURN(const Digest key, MessageDigest(question));
  std::shared_ptr<Entry> entry;
  {
    absl::MutexLock lock(&mutex_);
    const auto at = std::find_if(entries_.begin(), entries_.end(),
                                 [&](const auto& e) { return e->key == key; });
    if (at != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, at);
    } else {
      entries_.push_front(std::make_shared<Entry>());
      entries_.front()->key = key;
      if (entries_.size() > kKept) entries_.pop_back();
    }
    entry = entries_.front();
  }
  absl::MutexLock lock(&entry->mutex);
  if (entry->whole != nullptr) return entry->whole;
  // Calls `add` for each of the images from the `done`-th on.
  const auto each = [&](const std::vector<uint32_t>& images, size_t done,
                        const auto& add) -> absl::Status {
    while (done < images.size()) {
      if (bundle.cancelled()) return absl::CancelledError("nobody waits for it any more");
      const auto some = absl::MakeConstSpan(images).subspan(done, kAtOnce);
      ASSIGN_OR_RETURN(const Features features, FeaturesOf(question.model(), weights, data, some));
      for (size_t k = 0; k < some.size(); ++k) {
        const auto begin = features.values.begin() + static_cast<std::ptrdiff_t>(k * features.count);
        RETURN_IF_ERROR(add(some[k], std::vector<float>(begin, begin + features.count)));
      }
      done += some.size();
    }
    return absl::OkStatus();
  };
  FeatureSpace& space = entry->space;
  if (entry->training.empty()) {
    ASSIGN_OR_RETURN(const Features first,
                     FeaturesOf(question.model(), weights, data,
                                absl::MakeConstSpan(data.split.training).subspan(0, 1)));
    if (first.count == 0) return absl::InvalidArgumentError("no training image, or no features");
    entry->training = Thinned(data.split.training,
                              std::clamp<size_t>(kMostValues / first.count, 1, kMostTraining));
    entry->validation = Thinned(data.split.validation, kMostValidation);
  }
  RETURN_IF_ERROR(each(entry->training, space.images.size(),
                       [&](uint32_t image, std::vector<float> features) {
                         return AddTraining(image, std::move(features), space);
                       }));
  RETURN_IF_ERROR(each(entry->validation, space.validation.size(),
                       [&](uint32_t, std::vector<float> features) {
                         NoteProgress();
                         return AddValidation(std::move(features), question.neighbours(), space);
                       }));
  entry->whole = std::make_shared<const FeatureSpace>(std::move(space));
  return entry->whole;
}

absl::StatusOr<v1::Familiarity> FamiliarityRunner::Run(const v1::FamiliarityQuestion& question,
                                                       GivenBundle& bundle) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const ImageData> data, inputs_.images(question.images()));
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(question.model().weights()));
  ASSIGN_OR_RETURN(const std::string weights, inputs_.blob(digest));
  ASSIGN_OR_RETURN(const auto space, SpaceOf(question, weights, *data, bundle));
  ASSIGN_OR_RETURN(const std::shared_ptr<const ImageData> with,
                   bundle.Images(data, question.images()));
  ASSIGN_OR_RETURN(Features features,
                   FeaturesOf(question.model(), weights, *with, with->split.test));
  return FamiliarityOf(*space, std::move(features.values), question.neighbours(),
                       question.nearest());
}

}  // namespace dermis
