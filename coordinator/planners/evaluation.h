// Planner of the evaluation stage: logits of the test split in batches of consecutive images.
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
  // `test`: image indices of the test split, ascending. classes: columns of the logits.
  EvaluationPlanner(v1::ImageSource images, v1::ModelRef model, v1::Precision precision,
                    uint32_t batch_size, std::vector<uint32_t> test, uint32_t classes,
                    std::string numerics_class);

  std::vector<v1::TaskSpec> Start() const;
  // The result of one of Start's tasks. Any order, any repetition. INVALID_ARGUMENT: it does not
  // fit (other images than the split's: the worker disagrees about the split).
  absl::Status OnResult(const v1::EvaluateTask& task, const v1::EvaluateOutput& output);

  bool done() const { return images_done_ == test_.size(); }
  uint64_t images_done() const { return images_done_; }
  uint64_t images_total() const { return test_.size(); }
  uint32_t classes() const { return classes_; }
  const std::vector<uint32_t>& test() const { return test_; }
  const v1::ModelRef& model() const { return model_; }
  // test() x classes(), row-major; zeros where nothing is known yet.
  const std::vector<float>& logits() const { return logits_; }

 private:
  const v1::ImageSource images_;
  const v1::ModelRef model_;
  const v1::Precision precision_;
  const uint32_t batch_size_;
  const std::vector<uint32_t> test_;
  const uint32_t classes_;
  const std::string numerics_class_;
  std::vector<float> logits_;
  std::vector<bool> batch_done_;
  uint64_t images_done_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_EVALUATION_H_
