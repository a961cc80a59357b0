#include "worker/evaluation/shortcut.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/bootstrap.h"
#include "common/lesion_tasks.h"
#include "common/metrics.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

// Probability of the last class, by image.
using Scores = absl::flat_hash_map<uint32_t, double>;

absl::Status AddScores(const v1::EvaluateOutput& output, Scores& scores) {
  const uint32_t classes = output.classes();
  if (static_cast<uint64_t>(output.logits_size()) != uint64_t{classes} * output.images_size() ||
      classes < 2) {
    return absl::InvalidArgumentError("shortcut check: an evaluation's sizes do not fit");
  }
  for (int i = 0; i < output.images_size(); ++i) {
    scores[output.images(i)] =
        Softmax(absl::MakeConstSpan(output.logits().data() + size_t(i) * classes, classes)).back();
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ShortcutOutput> RunShortcut(
    const v1::ShortcutTask& task, const std::vector<std::shared_ptr<const v1::Payload>>& outputs,
    const ImageData& data) {
  const v1::ImageSetManifest& manifest = data.set->manifest();
  const std::vector<uint32_t> images = MaskedImages(manifest, data.split.test);
  if (images.empty()) {
    return absl::InvalidArgumentError("shortcut check: no test image has a lesion mask");
  }
  std::vector<uint32_t> labels;
  for (const uint32_t image : images) {
    labels.push_back(data.labels[image] + 1 == data.classes ? 1 : 0);
  }
  const std::vector<uint32_t> groups = GroupsOf(manifest, images);

  v1::ShortcutOutput result;
  result.set_images(static_cast<uint32_t>(images.size()));
  result.set_lesions(groups.empty() ? 0 : *std::max_element(groups.begin(), groups.end()) + 1);
  size_t next = 0;
  // The whole images' evaluations, then each variant's.
  for (int variant = -1; variant < task.variants_size(); ++variant) {
    const size_t count = variant < 0 ? data.split.test.size() : images.size();
    Scores by_image;
    for (size_t done = 0; done < count; done += task.batch()) {
      if (next == outputs.size()) {
        return absl::InvalidArgumentError("shortcut check: an evaluation is missing");
      }
      RETURN_IF_ERROR(AddScores(outputs[next++]->evaluate(), by_image));
    }
    std::vector<double> scores;
    for (const uint32_t image : images) {
      const auto at = by_image.find(image);
      if (at == by_image.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat("shortcut check: image ", image, " is not evaluated"));
      }
      scores.push_back(at->second);
    }
    const WeightedArea area(scores, labels);
    const std::vector<uint32_t> once(images.size(), 1);
    const Interval interval = BootstrapByGroup(groups, task.draws(), task.seed(),
                                               [&](Counts counts) { return area(counts); });
    v1::ShortcutArea& out = *result.add_areas();
    if (variant >= 0) *out.mutable_hide() = task.variants(variant);
    out.set_area(area(once));
    out.set_low(interval.low);
    out.set_high(interval.high);
    if (!std::isfinite(out.area()) || !std::isfinite(out.low())) {
      return absl::InvalidArgumentError(
          "shortcut check: the test images with a mask are all of one class");
    }
  }
  return result;
}

}  // namespace dermis
