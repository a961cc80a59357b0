// The lesion test and the shortcut check, once the model is evaluated: their units run side by side
// with explanations; each has one summary at its end. A fold, as all planners.
#ifndef DERMIS_COORDINATOR_PLANNERS_LESIONS_H_
#define DERMIS_COORDINATOR_PLANNERS_LESIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/digest.h"
#include "coordinator/planners/task_graph.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

class LesionPlanner {
 public:
  using Wants = TaskGraph::Wants;

  // Whether a resolved study asks for either.
  static bool IsAsked(const v1::ExplanationSpec& explanation);
  // Whether the images allow it: two test images with a mask for the lesion test, one of each class
  // for the shortcut check. INVALID_ARGUMENT says what is missing.
  static absl::Status Check(const v1::ExplanationSpec& explanation,
                            const v1::ImageSetManifest& manifest, absl::Span<const uint32_t> test);

  // `study` resolved; `recipe` gives images and precision; `test`: the test split, ascending.
  LesionPlanner(const v1::StudySpec& study, const v1::Recipe& recipe, const v1::ModelRef& model,
                const v1::ImageSetManifest& manifest, absl::Span<const uint32_t> test,
                std::string numerics_class);

  // is_done: whether a result is there already (the study's own evaluations are).
  absl::StatusOr<Wants> Start(const std::function<bool(const Digest&)>& is_done);
  // A wanted task's result is stored. Gives what it makes possible. Any order, any repetition.
  Wants OnDone(const Digest& task) { return graph_.OnDone(task); }

  bool Has(const Digest& task) const { return graph_.Has(task); }
  bool done() const { return started_ && graph_.done() == graph_.size(); }
  uint64_t tasks_done() const { return graph_.done(); }
  uint64_t tasks_total() const { return graph_.size(); }

  // The summaries' tasks, where they are asked for.
  const std::optional<v1::TaskSpec>& lesion_test() const { return lesion_test_; }
  const std::optional<v1::TaskSpec>& shortcut() const { return shortcut_; }

 private:
  absl::Status Add(const v1::TaskSpec& summary, std::vector<v1::TaskSpec> needs,
                   const std::function<bool(const Digest&)>& is_done, Wants& wants);

  const std::string numerics_class_;
  const uint32_t test_images_, masked_images_;
  std::optional<v1::TaskSpec> lesion_test_, shortcut_;
  TaskGraph graph_;
  bool started_ = false;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_LESIONS_H_
