// Planner of a model's evaluation: logits of a part of the split in batches of consecutive images.
#ifndef DERMIS_COORDINATOR_PLANNERS_EVALUATION_H_
#define DERMIS_COORDINATOR_PLANNERS_EVALUATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "common/digest.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

class EvaluationPlanner {
 public:
  // `listed`: image indices of that part, ascending. classes: columns of the logits.
  EvaluationPlanner(v1::ImageSource images, v1::ModelRef model, v1::Precision precision,
                    uint32_t batch_size, v1::SplitPart part, std::vector<uint32_t> listed,
                    uint32_t classes, std::string numerics_class);

  std::vector<v1::TaskSpec> Start() const;
  // The result of one of Start's tasks. Any order, any repetition. INVALID_ARGUMENT: it does not
  // fit (other images than the split's: the worker disagrees about the split).
  absl::Status OnResult(const v1::EvaluateTask& task, const v1::EvaluateOutput& output);

  bool done() const { return images_done_ == listed_.size(); }
  uint64_t images_done() const { return images_done_; }
  uint64_t images_total() const { return listed_.size(); }
  uint32_t classes() const { return classes_; }
  const std::vector<uint32_t>& listed() const { return listed_; }
  const v1::ModelRef& model() const { return model_; }
  // listed() x classes(), row-major; zeros where nothing is known yet.
  const std::vector<float>& logits() const { return logits_; }

 private:
  const v1::ImageSource images_;
  const v1::ModelRef model_;
  const v1::Precision precision_;
  const uint32_t batch_size_;
  const v1::SplitPart part_;
  const std::vector<uint32_t> listed_;
  const uint32_t classes_;
  const std::string numerics_class_;
  std::vector<float> logits_;
  std::vector<bool> batch_done_;
  uint64_t images_done_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_EVALUATION_H_
