#include "worker/classical/baseline.h"

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/baselines.h"
#include "common/metrics.h"
#include "common/progress.h"
#include "common/status_macros.h"
#include "worker/classical/forest.h"
#include "worker/classical/logistic_l1.h"
#include "worker/classical/logistic_l2.h"
#include "worker/classical/model_file.h"
#include "worker/classical/pixel_columns.h"

namespace dermis {
namespace {

std::vector<const uint8_t*> RowsOf(const ImageData& data, const std::vector<uint32_t>& images) {
  std::vector<const uint8_t*> rows;
  for (const uint32_t image : images) rows.push_back(data.image(image));
  return rows;
}

std::vector<uint8_t> LabelsOf(const ImageData& data, const std::vector<uint32_t>& images) {
  std::vector<uint8_t> labels;
  for (const uint32_t image : images) labels.push_back(data.labels[image] == 0 ? 0 : 1);
  return labels;
}

// Probabilities of the positive class against the labels.
Evaluation Judge(const ImageData& data, const std::vector<uint32_t>& images,
                 const std::function<double(uint32_t image)>& probability) {
  std::vector<double> scores;
  std::vector<uint32_t> labels;
  for (const uint32_t image : images) {
    NoteProgress();  // Thousands of large images take long on a busy machine.
    scores.push_back(probability(image));
    labels.push_back(data.labels[image] == 0 ? 0 : 1);
  }
  return Evaluate(scores, labels);
}

void State(const ImageData& data, const Split& split,
           const std::function<double(uint32_t image)>& probability, v1::BaselineOutput& output) {
  const Evaluation validation = Judge(data, split.validation, probability);
  output.set_accuracy(validation.accuracy);
  output.set_area(validation.roc_area);
  output.set_training_accuracy(Judge(data, split.training, probability).accuracy);
}

absl::StatusOr<LogisticModel> FitL2(const v1::BaselineTask& task, const ImageData& data,
                                    const Split& split, const Gram& gram,
                                    v1::BaselineOutput& output) {
  const Kernel kernel = CentredKernel(gram, split.training);
  ASSIGN_OR_RETURN(const std::vector<L2Fit> fits,
                   FitL2Path(kernel, LabelsOf(data, split.training), {task.logistic().c()}));
  output.set_iterations(fits[0].steps);
  output.set_optimality(fits[0].gradient);
  return L2Model(RowsOf(data, split.training), data.size, fits[0]);
}

absl::StatusOr<LogisticModel> FitL1(const v1::BaselineTask& task, const ImageData& data,
                                    const Split& split, v1::BaselineOutput& output) {
  const std::vector<const uint8_t*> rows = RowsOf(data, split.training);
  const PixelColumns columns(rows, data.image_bytes());
  ASSIGN_OR_RETURN(const std::vector<L1Fit> fits,
                   FitL1Path(columns, LabelsOf(data, split.training), {task.logistic().c()}));
  output.set_iterations(fits[0].passes);
  // At the optimum rounding may bring it below.
  output.set_optimality(std::max(0.0, fits[0].gap));
  return L1Model(fits[0], data.size, MeanPixels(rows, data.image_bytes()));
}

void Keep(const LogisticModel& model, v1::BaselineOutput& output) {
  output.set_model(SerializeLogistic(model));
  for (const double weight : model.weights) output.add_importance(static_cast<float>(weight));
}

absl::StatusOr<Forest> GrowForest(const v1::BaselineTask& task, const ImageData& data,
                                  const Split& split) {
  const PixelColumns columns(RowsOf(data, split.training), data.image_bytes());
  std::vector<uint32_t> labels;
  for (const uint32_t image : split.training) labels.push_back(data.labels[image]);
  ForestOptions options;
  options.classes = data.classes;
  options.max_depth = task.forest().depth();
  Forest forest;
  forest.size = data.size;
  forest.classes = data.classes;
  for (uint32_t tree = 0; tree < task.forest().trees(); ++tree) {
    ASSIGN_OR_RETURN(Tree grown, GrowTree(columns, labels, options, task.seed(), tree));
    forest.trees.push_back(std::move(grown));
    NoteProgress();
  }
  std::vector<double> sums(3);
  const std::vector<double> means = MeanPixels(RowsOf(data, split.training), data.image_bytes());
  for (size_t feature = 0; feature < means.size(); ++feature) sums[feature % 3] += means[feature];
  // Rounding may bring a saturated colour beyond what a file may say.
  for (double& sum : sums) {
    sum = std::min(255.0, sum * (255.0 * 3 / static_cast<double>(means.size())));
  }
  forest.mean_color = std::move(sums);
  return forest;
}

}  // namespace

absl::StatusOr<v1::BaselineOutput> RunBaseline(const v1::BaselineTask& task, const ImageData& data,
                                               const Split& split, const GramReader& gram) {
  const std::string what = absl::StrCat("baseline of ", Describe(task));
  if (data.classes != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": it tells two classes apart, the set has ", data.classes));
  }
  if (data.chunks != nullptr) {
    return absl::UnavailableError(absl::StrCat(
        what, ": it needs all images in memory, ",
        (data.labels.size() * data.image_bytes()) >> 20,
        " MiB at ", data.size, " px; start the worker with a larger --image-memory"));
  }
  const bool fold = task.images().split().has_fold();
  v1::BaselineOutput output;
  if (task.has_forest()) {
    ASSIGN_OR_RETURN(const Forest forest, GrowForest(task, data, split));
    State(data, split, [&](uint32_t image) { return Probabilities(forest, data.image(image))[1]; },
          output);
    if (fold) return output;
    output.set_model(SerializeForest(forest));
    for (const double share : ImpurityImportance(forest)) {
      output.add_importance(static_cast<float>(share));
    }
    return output;
  }
  const auto fit = [&]() -> absl::StatusOr<LogisticModel> {
    if (task.logistic().penalty() == v1::PENALTY_L1) return FitL1(task, data, split, output);
    ASSIGN_OR_RETURN(const std::shared_ptr<const Gram> products, gram());
    return FitL2(task, data, split, *products, output);
  };
  ASSIGN_OR_RETURN(const LogisticModel model, fit());
  State(data, split, [&](uint32_t image) { return LogisticSigmoid(Margin(model, data.image(image))); },
        output);
  if (!fold) Keep(model, output);
  return output;
}

}  // namespace dermis
