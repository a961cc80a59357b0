#include "coordinator/planners/baselines.h"

#include <limits>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"

#include "common/image_set.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {
namespace {

constexpr uint32_t kClasses = 2;

uint64_t Batches(uint64_t images, uint32_t batch) { return (images + batch - 1) / batch; }

}  // namespace

absl::Status BaselinePlanner::Check(const v1::StudySpec& study,
                                    const v1::ImageSetManifest& manifest, const Split& split) {
  if (!study.has_baselines()) return absl::OkStatus();
  if (manifest.classes_size() != 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "baselines: they tell two classes apart, the image set has ", manifest.classes_size()));
  }
  if (split.training.empty()) {
    return absl::InvalidArgumentError(
        "baselines: there are no training images to fit them to; images.split.test must be below 1");
  }
  if (static_cast<size_t>(manifest.images_size()) > kMostProducts) {
    return absl::InvalidArgumentError(
        absl::StrCat("baselines: the set has ", manifest.images_size(), " images; at most ", kMostProducts,
                     " are taken, as all products of two images lie in memory"));
  }
  std::set<uint32_t> labels;
  for (const uint32_t image : split.training) {
    labels.insert(manifest.images(static_cast<int>(image)).label());
  }
  if (labels.size() < 2) {
    return absl::InvalidArgumentError("baselines: the training split has images of one class only");
  }
  for (const uint32_t size : study.baselines().sizes()) {
    if (absl::Status status = CheckModelSize(size, manifest); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("baselines.sizes: ", status.message()));
    }
  }
  v1::SplitSpec fold = study.images().split();
  fold.set_folds(study.baselines().folds());
  fold.set_fold(0);
  if (auto folds = MakeSplit(manifest, fold, study.seed()); !folds.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("baselines.folds = ", study.baselines().folds(), ": ",
                     folds.status().message()));
  }
  return absl::OkStatus();
}

BaselinePlanner::BaselinePlanner(const v1::StudySpec& study, const v1::ImageSource& images,
                                 const Split& split, std::string numerics_class)
    : numerics_class_(std::move(numerics_class)),
      folds_(study.baselines().folds()),
      batch_size_(study.evaluation().batch_size()),
      test_(split.test),
      validation_(split.validation) {
  for (BaselineFamily& family : FamiliesOf(study, images)) {
    Family& made = families_.emplace_back();
    made.family = std::move(family);
    const size_t points = made.family.points.size();
    made.accuracy.assign(points,
                         std::vector<double>(folds_, std::numeric_limits<double>::quiet_NaN()));
    made.folds_left = points * folds_;
    tasks_total_ += made.folds_left + 1 + Batches(test_.size(), batch_size_) +
                    Batches(validation_.size(), batch_size_);
  }
}

absl::StatusOr<BaselinePlanner::Wants> BaselinePlanner::Start() {
  Wants wants;
  for (size_t f = 0; f < families_.size(); ++f) {
    for (size_t p = 0; p < families_[f].family.points.size(); ++p) {
      for (uint32_t fold = 0; fold < folds_; ++fold) {
        v1::TaskSpec task;
        *task.mutable_baseline() = OnFold(families_[f].family.points[p], folds_, fold);
        Node node;
        node.family = f;
        node.point = p;
        node.fold = fold;
        RETURN_IF_ERROR(Want(std::move(node), std::move(task), wants));
      }
    }
  }
  return wants;
}

absl::Status BaselinePlanner::Want(Node node, v1::TaskSpec task, Wants& wants) {
  task = MakeTask(std::move(task), numerics_class_);
  ASSIGN_OR_RETURN(const Digest digest, TaskDigest(task));
  if (node.kind == Node::Kind::kFit) families_[node.family].fit = digest;
  nodes_[digest] = std::move(node);
  wants.emplace_back(digest, std::move(task));
  return absl::OkStatus();
}

absl::StatusOr<BaselinePlanner::Wants> BaselinePlanner::OnDone(const Digest& task,
                                                               const PayloadReader& payload) {
  Wants wants;
  const auto it = nodes_.find(task);
  if (it == nodes_.end() || it->second.done) return wants;
  // A copy: what is wanted next goes into the same map.
  it->second.done = true;
  const Node node = it->second;
  ++tasks_done_;
  Family& family = families_[node.family];
  switch (node.kind) {
    case Node::Kind::kFold: {
      ASSIGN_OR_RETURN(const v1::Payload result, payload());
      family.accuracy[node.point][node.fold] = result.baseline().accuracy();
      if (--family.folds_left == 0) RETURN_IF_ERROR(Choose(node.family, wants));
      break;
    }
    case Node::Kind::kFit:
      RETURN_IF_ERROR(Evaluate(node.family, wants));
      break;
    case Node::Kind::kTest:
    case Node::Kind::kValidation: {
      ASSIGN_OR_RETURN(const v1::Payload result, payload());
      EvaluationPlanner& planner =
          node.kind == Node::Kind::kTest ? *family.test : *family.validation;
      RETURN_IF_ERROR(planner.OnResult(node.evaluate, result.evaluate()));
      if (family.test->done() && family.validation->done()) ++evaluated_;
      break;
    }
  }
  return wants;
}

absl::Status BaselinePlanner::Choose(size_t f, Wants& wants) {
  Family& family = families_[f];
  std::vector<double> means;
  for (const std::vector<double>& folds : family.accuracy) {
    means.push_back(std::accumulate(folds.begin(), folds.end(), 0.0) / folds_);
  }
  family.chosen = ChoosePoint(family.family, means);
  v1::TaskSpec task;
  *task.mutable_baseline() = family.family.points[*family.chosen];
  Node node;
  node.kind = Node::Kind::kFit;
  node.family = f;
  return Want(std::move(node), std::move(task), wants);
}

absl::Status BaselinePlanner::Evaluate(size_t f, Wants& wants) {
  Family& family = families_[f];
  const v1::BaselineTask& point = family.family.points[*family.chosen];
  v1::ModelRef model;
  *model.mutable_baseline() = point;
  const auto evaluate = [&](v1::SplitPart part, const std::vector<uint32_t>& images,
                            Node::Kind kind) -> absl::StatusOr<std::unique_ptr<EvaluationPlanner>> {
    auto planner =
        std::make_unique<EvaluationPlanner>(point.images(), model, v1::PRECISION_FP32, batch_size_,
                                            part, images, kClasses, numerics_class_);
    for (v1::TaskSpec& task : planner->Start()) {
      Node node;
      node.kind = kind;
      node.family = f;
      node.evaluate = task.evaluate();
      RETURN_IF_ERROR(Want(std::move(node), std::move(task), wants));
    }
    return planner;
  };
  ASSIGN_OR_RETURN(family.test, evaluate(v1::SPLIT_PART_UNSPECIFIED, test_, Node::Kind::kTest));
  ASSIGN_OR_RETURN(family.validation,
                   evaluate(v1::SPLIT_PART_VALIDATION, validation_, Node::Kind::kValidation));
  return absl::OkStatus();
}

}  // namespace dermis
