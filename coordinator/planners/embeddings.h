// The images as points: principal components, t-SNE, and how far the classes lie apart. Those of pixels
// wait for nothing, those of features for the network. A fold, as all planners.
#ifndef DERMIS_COORDINATOR_PLANNERS_EMBEDDINGS_H_
#define DERMIS_COORDINATOR_PLANNERS_EMBEDDINGS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/digest.h"
#include "common/split.h"
#include "coordinator/planners/task_graph.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

class EmbeddingPlanner {
 public:
  using Wants = TaskGraph::Wants;

  static absl::Status Check(const v1::StudySpec& study, const v1::ImageSetManifest& manifest,
                            const Split& split);

  // `study` resolved and checked; `images`: what its network sees.
  EmbeddingPlanner(const v1::StudySpec& study, v1::ImageSource images, std::string numerics_class);

  absl::StatusOr<Wants> Start();
  // Once the network is there, and what it sees. At most once.
  absl::StatusOr<Wants> OnModel(const v1::ModelRef& model, const v1::ImageSource& images);
  // A wanted task's result is stored. Gives what it makes possible. Any order, any repetition.
  Wants OnDone(const Digest& task) { return graph_.OnDone(task); }

  bool Has(const Digest& task) const { return graph_.Has(task); }
  bool done() const { return sources_left_ == 0 && graph_.done() == graph_.size(); }
  uint64_t tasks_done() const { return graph_.done(); }
  uint64_t tasks_total() const { return tasks_total_; }
  // All that are known so far, by source: PCA, t-SNE, separation.
  const std::vector<std::pair<Digest, v1::TaskSpec>>& tasks() const { return tasks_; }

 private:
  absl::Status Add(v1::PcaTask pca, Wants& wants);
  absl::StatusOr<Digest> AddTask(v1::TaskSpec task, const std::vector<Digest>& needs, Wants& wants);

  const v1::EmbeddingsSpec spec_;
  const uint64_t seed_;
  const v1::ImageSource images_;
  const std::string numerics_class_;
  TaskGraph graph_;
  std::vector<std::pair<Digest, v1::TaskSpec>> tasks_;
  uint32_t sources_left_;
  const uint64_t tasks_total_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_EMBEDDINGS_H_
