#include "worker/given_images.h"

#include <utility>

#include "common/status_macros.h"

namespace dermis {

GivenBundle::GivenBundle(const v1::Given& given, const std::atomic<bool>* cancelled)
    : pixels_(std::make_shared<const std::string>(given.pixels())), cancelled_(cancelled) {
  for (const v1::GivenResult& result : given.results()) {
    const absl::StatusOr<Digest> task = Digest::FromBytes(result.task());
    auto payload = std::make_shared<v1::Payload>();
    // Its task will miss it.
    if (!task.ok() || !payload->ParseFromString(result.payload())) continue;
    results_[*task] = std::move(payload);
  }
}

absl::StatusOr<std::shared_ptr<const ImageData>> GivenBundle::Images(
    const std::shared_ptr<const ImageData>& data, const v1::ImageSource& source) {
  ASSIGN_OR_RETURN(const Digest key, MessageDigest(source));
  absl::MutexLock lock(&mutex_);
  if (data_ == nullptr || source_ != key) {
    ASSIGN_OR_RETURN(data_, WithGiven(data, pixels_));
    source_ = key;
  }
  return data_;
}

absl::StatusOr<std::shared_ptr<ImageSet>> GivenBundle::Set(const std::shared_ptr<ImageSet>& set) {
  absl::MutexLock lock(&mutex_);
  if (sets_.first != set) {
    ASSIGN_OR_RETURN(sets_.second, WithGiven(set, pixels_));
    sets_.first = set;
  }
  return sets_.second;
}

std::shared_ptr<const v1::Payload> GivenBundle::Result(const Digest& task) const {
  const auto it = results_.find(task);
  return it == results_.end() ? nullptr : it->second;
}

}  // namespace dermis
