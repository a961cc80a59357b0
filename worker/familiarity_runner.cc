#include "worker/familiarity_runner.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/types/span.h"

#include "common/status_macros.h"
#include "worker/models/features.h"

namespace dermis {
namespace {

// At most `most` of them, evenly spaced.
std::vector<uint32_t> Thinned(const std::vector<uint32_t>& images, size_t most) {
  if (images.size() <= most) return images;
  std::vector<uint32_t> thinned;
  for (size_t k = 0; k < most; ++k) thinned.push_back(images[k * images.size() / most]);
  return thinned;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const FeatureSpace>> FamiliarityRunner::SpaceOf(
    const v1::FamiliarityQuestion& question, const std::string& weights, const ImageData& data) {
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
  if (entry->space != nullptr) return entry->space;
  ASSIGN_OR_RETURN(Features validation,
                   FeaturesOf(question.model(), weights, data, data.split.validation));
  std::vector<uint32_t> images = data.split.training;
  if (validation.count > 0) images = Thinned(images, kMostValues / validation.count);
  ASSIGN_OR_RETURN(Features training, FeaturesOf(question.model(), weights, data, images));
  ASSIGN_OR_RETURN(FeatureSpace space,
                   MakeFeatureSpace(std::move(images), training.count, std::move(training.values),
                                    std::move(validation.values), question.neighbours()));
  entry->space = std::make_shared<const FeatureSpace>(std::move(space));
  return entry->space;
}

absl::StatusOr<v1::Familiarity> FamiliarityRunner::Run(const v1::FamiliarityQuestion& question,
                                                       GivenBundle& bundle) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const ImageData> data, inputs_.images(question.images()));
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(question.model().weights()));
  ASSIGN_OR_RETURN(const std::string weights, inputs_.blob(digest));
  ASSIGN_OR_RETURN(const auto space, SpaceOf(question, weights, *data));
  ASSIGN_OR_RETURN(const std::shared_ptr<const ImageData> with,
                   bundle.Images(data, question.images()));
  ASSIGN_OR_RETURN(Features features,
                   FeaturesOf(question.model(), weights, *with, with->split.test));
  return FamiliarityOf(*space, std::move(features.values), question.neighbours(),
                       question.nearest());
}

}  // namespace dermis
