#include "coordinator/planners/evaluation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/tasks.h"

namespace dermis {

EvaluationPlanner::EvaluationPlanner(v1::ImageSource images, v1::ModelRef model,
                                     v1::Precision precision, uint32_t batch_size,
                                     v1::SplitPart part, std::vector<uint32_t> listed,
                                     uint32_t classes, std::string numerics_class)
    : images_(std::move(images)),
      model_(std::move(model)),
      precision_(precision),
      batch_size_(std::max<uint32_t>(1, batch_size)),
      part_(part),
      listed_(std::move(listed)),
      classes_(classes),
      numerics_class_(std::move(numerics_class)),
      logits_(listed_.size() * classes_, 0.0f),
      batch_done_((listed_.size() + batch_size_ - 1) / batch_size_, false) {}

std::vector<v1::TaskSpec> EvaluationPlanner::Start() const {
  std::vector<v1::TaskSpec> wants;
  for (size_t first = 0; first < listed_.size(); first += batch_size_) {
    v1::TaskSpec task;
    v1::EvaluateTask& evaluate = *task.mutable_evaluate();
    *evaluate.mutable_images() = images_;
    *evaluate.mutable_model() = model_;
    evaluate.set_precision(precision_);
    evaluate.set_part(part_);
    evaluate.set_first(static_cast<uint32_t>(first));
    evaluate.set_count(static_cast<uint32_t>(std::min<size_t>(batch_size_, listed_.size() - first)));
    wants.push_back(MakeTask(std::move(task), numerics_class_));
  }
  return wants;
}

absl::Status EvaluationPlanner::OnResult(const v1::EvaluateTask& task,
                                         const v1::EvaluateOutput& output) {
  const size_t first = task.first(), count = task.count();
  if (first % batch_size_ != 0 || first + count > listed_.size() || output.classes() != classes_ ||
      static_cast<size_t>(output.logits_size()) != count * classes_ ||
      static_cast<size_t>(output.images_size()) != count) {
    return absl::InvalidArgumentError(absl::StrCat(
        "logits of images ", first, "..", first + count, " do not have the study's shape: ",
        output.classes(), " classes, ", output.images_size(), " images"));
  }
  for (size_t i = 0; i < count; ++i) {
    if (output.images(static_cast<int>(i)) != listed_[first + i]) {
      return absl::InvalidArgumentError(
          absl::StrCat("the worker's split differs at image ", first + i, ": it has image ",
                       output.images(static_cast<int>(i)), ", the coordinator ", listed_[first + i]));
    }
  }
  if (batch_done_[first / batch_size_]) return absl::OkStatus();
  batch_done_[first / batch_size_] = true;
  std::copy(output.logits().begin(), output.logits().end(),
            logits_.begin() + static_cast<std::ptrdiff_t>(first * classes_));
  images_done_ += count;
  return absl::OkStatus();
}

}  // namespace dermis
