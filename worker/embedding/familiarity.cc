#include "worker/embedding/familiarity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace dermis {
namespace {

// So many of a hundred validation images may lie beyond the threshold.
constexpr size_t kBeyond = 1, kOf = 100;

// To length 1, in double.
absl::Status Normalise(std::vector<float>& features) {
  double squares = 0;
  for (const float value : features) squares += static_cast<double>(value) * value;
  if (!std::isfinite(squares)) {
    return absl::InvalidArgumentError("familiarity: features are not finite: the model diverged");
  }
  if (squares == 0) return absl::OkStatus();
  const double length = std::sqrt(squares);
  for (float& value : features) value = static_cast<float>(value / length);
  return absl::OkStatus();
}

// Of each row; every sum in the order of the features, for the bits to be the same everywhere.
// Several rows at once: one sum's additions wait for each other.
std::vector<double> SquaredDistances(absl::Span<const float> point, absl::Span<const float> rows) {
  constexpr size_t kAtOnce = 8;
  const size_t features = point.size(), count = rows.size() / features;
  std::vector<double> squares(count, 0.0);
  for (size_t first = 0; first < count; first += kAtOnce) {
    const size_t here = std::min(kAtOnce, count - first);
    std::array<double, kAtOnce> sums{};
    for (size_t k = 0; k < features; ++k) {
      for (size_t r = 0; r < here; ++r) {
        const double difference =
            static_cast<double>(point[k]) - rows[(first + r) * features + k];
        sums[r] += difference * difference;
      }
    }
    std::copy_n(sums.begin(), here, squares.begin() + static_cast<std::ptrdiff_t>(first));
  }
  return squares;
}

// Training images by their distance from `point`, the nearest first; the first `count` are in
// order.
std::vector<std::pair<double, size_t>> Nearest(absl::Span<const float> point,
                                               absl::Span<const float> rows, size_t count) {
  const std::vector<double> squares = SquaredDistances(point, rows);
  std::vector<std::pair<double, size_t>> found;
  for (size_t i = 0; i < squares.size(); ++i) found.emplace_back(std::sqrt(squares[i]), i);
  const auto middle = found.begin() + static_cast<std::ptrdiff_t>(std::min(count, found.size()));
  std::partial_sort(found.begin(), middle, found.end());
  return found;
}

absl::Status CheckPoint(const FeatureSpace& space, size_t features, uint32_t neighbours) {
  if (!space.images.empty() && features == space.features && neighbours > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("familiarity: ", features, " features in a space of ", space.features, " with ",
                   space.images.size(), " images, ", neighbours, " neighbours"));
}

}  // namespace

double FamiliarityThreshold(absl::Span<const double> validation) {
  return validation[validation.size() - 1 - validation.size() * kBeyond / kOf];
}

absl::Status AddTraining(uint32_t image, std::vector<float> features, FeatureSpace& space) {
  if (features.empty() || (!space.images.empty() && features.size() != space.features)) {
    return absl::InvalidArgumentError(absl::StrCat("familiarity: image ", image, " has ",
                                                   features.size(), " features, others ",
                                                   space.features));
  }
  RETURN_IF_ERROR(Normalise(features));
  space.features = static_cast<uint32_t>(features.size());
  space.images.push_back(image);
  space.values.insert(space.values.end(), features.begin(), features.end());
  return absl::OkStatus();
}

absl::Status AddValidation(std::vector<float> features, uint32_t neighbours, FeatureSpace& space) {
  RETURN_IF_ERROR(CheckPoint(space, features.size(), neighbours));
  RETURN_IF_ERROR(Normalise(features));
  const auto nearest = Nearest(features, space.values, neighbours);
  const double distance = nearest[std::min<size_t>(neighbours, nearest.size()) - 1].first;
  space.validation.insert(
      std::upper_bound(space.validation.begin(), space.validation.end(), distance), distance);
  return absl::OkStatus();
}

absl::StatusOr<v1::Familiarity> FamiliarityOf(const FeatureSpace& space,
                                              std::vector<float> features, uint32_t neighbours,
                                              uint32_t nearest) {
  RETURN_IF_ERROR(CheckPoint(space, features.size(), neighbours));
  RETURN_IF_ERROR(Normalise(features));
  const auto found = Nearest(features, space.values, std::max(neighbours, nearest));
  v1::Familiarity familiarity;
  familiarity.set_distance(found[std::min<size_t>(neighbours, found.size()) - 1].first);
  if (!space.validation.empty()) {
    familiarity.set_threshold(FamiliarityThreshold(space.validation));
  }
  familiarity.set_validation_images(static_cast<uint32_t>(space.validation.size()));
  for (size_t k = 0; k < std::min<size_t>(nearest, found.size()); ++k) {
    v1::NearImage& near = *familiarity.add_nearest();
    near.set_image(space.images[found[k].second]);
    near.set_distance(found[k].first);
  }
  return familiarity;
}

}  // namespace dermis
