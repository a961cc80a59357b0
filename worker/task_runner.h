// Runs units: the table of task kinds. A new kind is one function in its folder and one line in the table.
#ifndef DERMIS_WORKER_TASK_RUNNER_H_
#define DERMIS_WORKER_TASK_RUNNER_H_

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/digest.h"
#include "dermis/v1/task.pb.h"
#include "worker/blackbox/foreign.h"
#include "worker/classical/gram_cache.h"
#include "worker/data/image_source.h"
#include "worker/embedding/embed.h"
#include "worker/models/gradients.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

// What a compute thread keeps between tasks: plans are not thread-safe, one set a thread.
class PlanCache {
 public:
  // networks: makes the plans of our own networks; empty: MakeInferencePlan.
  explicit PlanCache(ForeignOptions foreign = {}, PlanMaker networks = {})
      : foreign_(std::move(foreign)), networks_(std::move(networks)) {}
  // The bytes of a model's file. `version`: of a baseline, which result of its task.
  using GetModel = std::function<absl::StatusOr<std::string>(const v1::ModelRef&)>;
  absl::StatusOr<InferencePlan*> Get(const v1::ModelRef& model, uint32_t size,
                                     v1::Precision precision, const GetModel& get_model,
                                     const std::string& version = "");
  GradientCache& gradients() { return gradients_; }

 private:
  struct Entry {
    std::string key;
    bool baseline = false;
    std::unique_ptr<InferencePlan> plan;
  };
  const ForeignOptions foreign_;
  const PlanMaker networks_;
  // Least recently used first, at most four of baselines and four of others: where both are
  // explained, tasks of a network and of baselines come in turn, and the network's plan is dear.
  std::list<Entry> entries_;
  GradientCache gradients_;
};

class TaskRunner {
 public:
  struct Inputs {
    std::string numerics_class;
    std::function<absl::StatusOr<std::shared_ptr<const ImageData>>(const v1::ImageSource&)> images;
    std::function<absl::StatusOr<std::shared_ptr<ImageSet>>(const Digest& manifest)> image_set;
    std::function<absl::StatusOr<std::string>(const Digest&)> blob;
    std::function<absl::StatusOr<std::vector<std::shared_ptr<const v1::Payload>>>(
        const std::vector<v1::TaskSpec>&)>
        results;
  };
  explicit TaskRunner(Inputs inputs);

  // Thread-safe, given one PlanCache a thread. *items = images or masks that were worked on. Errors: what the
  // task's function returns (deterministic); UNAVAILABLE when inputs cannot be had or the task is not for
  // this worker's numerics class. Exceptions of libraries come back as INTERNAL.
  absl::StatusOr<v1::Payload> Run(const v1::TaskSpec& task, PlanCache& plans, uint64_t* items) const;

 private:
  using Function = absl::StatusOr<v1::Payload> (TaskRunner::*)(const v1::TaskSpec&, PlanCache&,
                                                               uint64_t*) const;
  static Function FunctionOf(v1::TaskSpec::KindCase kind);
  absl::StatusOr<v1::Payload> Evaluate(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Superpixels(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Perturb(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Fit(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Activations(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Gradient(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Fidelity(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Stability(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Lesion(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> LesionSummary(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Shortcut(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Baseline(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Pca(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Tsne(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Separation(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::StatusOr<v1::Payload> Noop(const v1::TaskSpec&, PlanCache&, uint64_t*) const;
  absl::Status StateBackground(const v1::Perturbation& perturbation,
                               v1::Attribution& attribution) const;

  // The bytes of a model's file, with what its reference says to randomise; of a baseline: from its result.
  absl::StatusOr<std::string> FileOf(const v1::ModelRef& model) const;
  absl::StatusOr<InferencePlan*> PlanOf(PlanCache& plans, const v1::ModelRef& model, uint32_t size,
                                        v1::Precision precision) const;
  // What a PCA's task says its coordinates are made of.
  absl::StatusOr<EmbeddedValues> ValuesOf(const v1::PcaTask& task, const ImageData& data) const;

  const Inputs inputs_;
  mutable GramCache grams_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_TASK_RUNNER_H_
