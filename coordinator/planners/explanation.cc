#include "coordinator/planners/explanation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/estimators.h"
#include "common/metrics.h"
#include "common/model_methods.h"
#include "common/philox.h"
#include "common/status_macros.h"
#include "common/lesion_tasks.h"
#include "common/tasks.h"

namespace dermis {
namespace {

std::string CellName(const v1::ImageSetManifest& manifest, uint32_t label, uint32_t predicted,
                     uint32_t classes) {
  const auto name = [&](uint32_t c) {
    return c < static_cast<uint32_t>(manifest.classes_size())
               ? manifest.classes(static_cast<int>(c))
               : absl::StrCat("class ", c);
  };
  if (manifest.unlabelled()) return absl::StrCat("predicted as ", name(predicted));
  if (classes == 2) {
    return absl::StrCat(label == predicted ? "true " : "false ",
                        predicted == 1 ? "positive" : "negative");
  }
  return absl::StrCat(name(label), " predicted as ", name(predicted));
}

// Grows with the probability of the predicted class, and does not saturate as that does: minus the
// logarithm of the odds against it. Of two classes it is a difference of floats, exact, with no
// libm in it. NaN counts as none.
double Confidence(absl::Span<const float> logits, uint32_t predicted) {
  if (logits.size() == 2) {
    const double margin =
        static_cast<double>(logits[predicted]) - static_cast<double>(logits[1 - predicted]);
    return margin == margin ? margin : -std::numeric_limits<double>::infinity();
  }
  double against = 0;
  for (size_t c = 0; c < logits.size(); ++c) {
    if (c != predicted)
      against += std::exp(static_cast<double>(logits[c]) - static_cast<double>(logits[predicted]));
  }
  return against == against ? -against : -std::numeric_limits<double>::infinity();
}

// Of a fit without standard errors: no tolerance is met.
constexpr double kUnknownError = std::numeric_limits<double>::infinity();

struct Scored {
  uint32_t image;
  double confidence;
  std::string digest;
  uint64_t draw;
};

bool MoreConfident(const Scored& a, const Scored& b) {
  return std::tie(b.confidence, a.digest, a.image) < std::tie(a.confidence, b.digest, b.image);
}

// The images in the middle by confidence, as many as that or all, the more confident ones first.
// Of two middles the more confident one.
std::vector<uint32_t> Middle(std::vector<Scored> images, uint32_t count) {
  std::sort(images.begin(), images.end(), MoreConfident);
  const size_t n = std::min<size_t>(count, images.size());
  std::vector<uint32_t> middle;
  for (size_t k = (images.size() - n) / 2; middle.size() < n; ++k)
    middle.push_back(images[k].image);
  return middle;
}

}  // namespace

std::vector<ChosenImage> ChooseImages(const v1::ExplainedImages& spec,
                                      const v1::ImageSetManifest& manifest,
                                      absl::Span<const uint32_t> test,
                                      absl::Span<const float> logits, uint32_t classes,
                                      uint64_t seed) {
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Scored>> cells;
  std::vector<ChosenImage> chosen;
  for (size_t i = 0; i < test.size(); ++i) {
    const v1::ImageEntry& entry = manifest.images(static_cast<int>(test[i]));
    const absl::Span<const float> row = logits.subspan(i * classes, classes);
    uint32_t predicted = 0;
    for (uint32_t c = 1; c < classes; ++c) {
      if (row[c] >= row[predicted]) predicted = c;  // At .5 of two: the positive class.
    }
    const std::array<uint32_t, 4> block = PhiloxBlock(seed, Purpose::kChoice, test[i], 0, 0);
    if (spec.all_test()) {
      chosen.push_back(
          {test[i], absl::StrCat(CellName(manifest, entry.label(), predicted, classes))});
      continue;
    }
    cells[{entry.label(), predicted}].push_back(
        {test[i], Confidence(row, predicted), entry.digest(),
         (static_cast<uint64_t>(block[0]) << 32) | block[1]});
  }
  for (auto& [cell, images] : cells) {
    const std::string name = CellName(manifest, cell.first, cell.second, classes);
    const auto take = [&, &images = images](uint32_t n, const char* how, auto less) {
      std::sort(images.begin(), images.end(), less);
      const size_t count = std::min<size_t>(n, images.size());
      for (size_t i = 0; i < count; ++i) {
        chosen.push_back({images[i].image, absl::StrCat(name, ", ", how)});
      }
      images.erase(images.begin(), images.begin() + static_cast<std::ptrdiff_t>(count));
    };
    const v1::CellChoice& choice = spec.per_confusion_cell();
    const std::vector<uint32_t> middle = Middle(images, choice.median());
    take(choice.most_confident(), "most confident", MoreConfident);
    take(choice.least_confident(), "least confident", [](const Scored& a, const Scored& b) {
      return std::tie(a.confidence, a.digest, a.image) < std::tie(b.confidence, b.digest, b.image);
    });
    for (const uint32_t image : middle) {
      const auto taken = std::find_if(chosen.begin(), chosen.end(),
                                      [&](const ChosenImage& c) { return c.image == image; });
      if (taken != chosen.end()) {
        absl::StrAppend(&taken->why, ", median");
        continue;
      }
      chosen.push_back({image, absl::StrCat(name, ", median")});
      std::erase_if(images, [&](const Scored& scored) { return scored.image == image; });
    }
    take(choice.random(), "random", [](const Scored& a, const Scored& b) {
      return std::tie(a.draw, a.digest, a.image) < std::tie(b.draw, b.digest, b.image);
    });
  }
  return chosen;
}

ExplanationPlanner::ExplanationPlanner(const v1::ExplanationSpec& spec, const v1::Recipe& recipe,
                                       v1::ModelRef model, uint64_t seed,
                                       std::vector<ChosenImage> chosen, std::string numerics_class,
                                       bool brief)
    : spec_(spec),
      images_(recipe.images()),
      precision_(recipe.precision()),
      model_(std::move(model)),
      seed_(seed),
      chosen_(std::move(chosen)),
      numerics_class_(std::move(numerics_class)),
      brief_(brief) {}

v1::TaskSpec ExplanationPlanner::ModelTask(uint32_t image, const v1::MethodSpec& method) const {
  v1::TaskSpec task = ModelTaskOf(method, {images_, image, model_, spec_, seed_});
  if (brief_ && task.has_activations()) task.mutable_activations()->set_cams_only(true);
  return MakeTask(std::move(task), numerics_class_);
}

bool ExplanationPlanner::PerturbationOf(uint32_t image, const v1::MethodSpec& method,
                                        v1::Perturbation& out) const {
  out.Clear();
  switch (method.kind_case()) {
    case v1::MethodSpec::kLime:
      *out.mutable_superpixels() = method.lime().superpixels();
      out.set_hidden(method.lime().hidden());
      break;
    case v1::MethodSpec::kShapley:
      *out.mutable_superpixels() = method.shapley().superpixels();
      out.set_hidden(method.shapley().hidden());
      break;
    case v1::MethodSpec::kOcclusion:
      *out.mutable_superpixels() = method.occlusion().superpixels();
      out.set_hidden(method.occlusion().hidden());
      break;
    case v1::MethodSpec::kRise:
      *out.mutable_superpixels() = method.rise().superpixels();
      out.set_hidden(method.rise().hidden());
      break;
    default:
      return false;
  }
  *out.mutable_images() = images_;
  out.set_image(image);
  *out.mutable_model() = model_;
  out.set_precision(precision_);
  out.set_seed(seed_);
  if (auto hiding = HidingOf(spec_, out.hidden(), seed_)) *out.mutable_hiding() = *std::move(hiding);
  return true;
}

v1::TaskSpec ExplanationPlanner::FitOf(const Job& job, v1::OutputKind output) const {
  v1::TaskSpec task;
  v1::FitTask& fit = *task.mutable_fit();
  *fit.mutable_perturbation() = job.perturbation;
  fit.set_output(output);
  SetFitOptions(*job.method, fit);
  if (job.at < job.checkpoints.size()) fit.set_units(job.checkpoints[job.at]);
  return MakeTask(std::move(task), numerics_class_);
}

bool ExplanationPlanner::FitsMargin(const Job& job) const {
  return !brief_ && FitsMarginToo(*job.method, spec_.output(), model_.baseline().has_forest());
}

absl::StatusOr<ExplanationPlanner::Node*> ExplanationPlanner::Want(v1::TaskSpec task, Kind kind,
                                                                   Wants& wants) {
  ASSIGN_OR_RETURN(const Digest digest, TaskDigest(task));
  const auto [node, fresh] = nodes_.try_emplace(digest);
  if (fresh) {
    node->second.kind = kind;
    wants.emplace_back(digest, std::move(task));
  }
  return &node->second;
}

void ExplanationPlanner::Expect(Job& job) {
  expected_ -= job.expected;
  job.expected = job.finished ? 0
                              : RunCount(job.perturbation) - job.runs_wanted +
                                    (job.checkpoints.size() - job.at) + 1 + FitsMargin(job);
  expected_ += job.expected;
}

void ExplanationPlanner::Begin(Job& job, uint32_t superpixels) {
  SetMasks(*job.method, superpixels, job.perturbation);
  if (ToleranceOf(*job.method) > 0) job.checkpoints = Checkpoints(job.perturbation);
}

absl::Status ExplanationPlanner::Advance(size_t index, Wants& wants) {
  Job& job = jobs_[index];
  const uint32_t units = job.at < job.checkpoints.size() ? job.checkpoints[job.at] : 0;
  const uint32_t runs = RunsOfUnits(job.perturbation, units);
  for (; job.runs_wanted < runs; ++job.runs_wanted) {
    ASSIGN_OR_RETURN(Node * const run,
                     Want(PerturbTaskOf(job.perturbation, job.runs_wanted, numerics_class_),
                          Kind::kRun, wants));
    if (run->done) continue;
    run->dependents.push_back(index);
    ++job.runs_open;
  }
  Expect(job);
  return job.runs_open == 0 ? AdvanceToFit(index, wants) : absl::OkStatus();
}

absl::Status ExplanationPlanner::AdvanceToFit(size_t index, Wants& wants) {
  ASSIGN_OR_RETURN(Node* const fit, Want(FitOf(jobs_[index], spec_.output()), Kind::kFit, wants));
  if (fit->done) return Judge(index, fit->error, wants);
  fit->dependents.push_back(index);
  Job& job = jobs_[index];
  --job.expected;
  --expected_;
  return absl::OkStatus();
}

absl::Status ExplanationPlanner::Judge(size_t index, double error, Wants& wants) {
  Job& job = jobs_[index];
  if (job.at == job.checkpoints.size() || error <= ToleranceOf(*job.method)) {
    job.finished = true;
    Expect(job);
    if (!FitsMargin(job)) return absl::OkStatus();
    return Want(FitOf(job, v1::OUTPUT_KIND_MARGIN), Kind::kFit, wants).status();
  }
  ++job.at;
  return Advance(index, wants);
}

absl::StatusOr<ExplanationPlanner::Wants> ExplanationPlanner::Start() {
  Wants wants;
  started_ = true;
  for (const ChosenImage& chosen : chosen_) {
    for (const v1::MethodSpec& method : spec_.methods()) {
      Job job;
      job.method = &method;
      if (!PerturbationOf(chosen.image, method, job.perturbation)) {
        // Grad-CAM and activation maps share it.
        RETURN_IF_ERROR(
            Want(ModelTask(chosen.image, method), Kind::kActivations, wants).status());
        continue;
      }
      const size_t index = jobs_.size();
      if (!job_of_.try_emplace({chosen.image, method.SerializeAsString()}, index).second) {
        continue;  // The method is named twice.
      }
      expected_ += job.expected;
      if (!MasksDependOnCount(method)) {
        Begin(job, 0);
        Expect(job);
      }
      ASSIGN_OR_RETURN(Node * const superpixels,
                       Want(SuperpixelTaskOf(job.perturbation, numerics_class_),
                            Kind::kSuperpixels, wants));
      superpixels->dependents.push_back(index);
      jobs_.push_back(std::move(job));
    }
  }
  return wants;
}

absl::StatusOr<ExplanationPlanner::Wants> ExplanationPlanner::OnDone(const Digest& task,
                                                                     const PayloadReader& payload) {
  Wants wants;
  const auto it = nodes_.find(task);
  if (it == nodes_.end() || it->second.done) return wants;
  Node& node = it->second;
  const auto waits = [&](auto needs) {
    return std::any_of(node.dependents.begin(), node.dependents.end(),
                       [&](size_t index) { return needs(jobs_[index]); });
  };
  uint32_t superpixels = 0;
  if (node.kind == Kind::kSuperpixels &&
      waits([](const Job& job) { return MasksDependOnCount(*job.method); })) {
    ASSIGN_OR_RETURN(const v1::Payload output, payload());
    superpixels = output.superpixels().count();
  }
  if (node.kind == Kind::kFit &&
      waits([](const Job& job) { return job.at < job.checkpoints.size(); })) {
    ASSIGN_OR_RETURN(const v1::Payload output, payload());
    node.error = RelativeError(output.fit()).value_or(kUnknownError);
  }
  node.done = true;
  ++tasks_done_;
  const std::vector<size_t> dependents = std::move(node.dependents);
  node.dependents.clear();
  for (size_t index : dependents) {
    Job& job = jobs_[index];
    switch (node.kind) {
      case Kind::kSuperpixels:
        if (MasksDependOnCount(*job.method)) Begin(job, superpixels);
        RETURN_IF_ERROR(Advance(index, wants));
        break;
      case Kind::kRun:
        if (--job.runs_open == 0) RETURN_IF_ERROR(AdvanceToFit(index, wants));
        break;
      case Kind::kFit:
        RETURN_IF_ERROR(Judge(index, node.error, wants));
        break;
      case Kind::kActivations:
        break;
    }
  }
  return wants;
}

absl::StatusOr<ExplanationPlanner::MethodTask> ExplanationPlanner::TaskOf(
    size_t chosen, const v1::MethodSpec& method) const {
  MethodTask out;
  const uint32_t image = chosen_[chosen].image;
  if (const auto job = job_of_.find({image, method.SerializeAsString()}); job != job_of_.end()) {
    const v1::Perturbation& perturbation = jobs_[job->second].perturbation;
    ASSIGN_OR_RETURN(out.superpixels, TaskDigest(SuperpixelTaskOf(perturbation, numerics_class_)));
    out.task = FitOf(jobs_[job->second], spec_.output());
    if (FitsMargin(jobs_[job->second])) {
      ASSIGN_OR_RETURN(out.margin, TaskDigest(FitOf(jobs_[job->second], v1::OUTPUT_KIND_MARGIN)));
    }
  } else {
    out.task = ModelTask(image, method);
  }
  ASSIGN_OR_RETURN(out.digest, TaskDigest(out.task));
  return out;
}

}  // namespace dermis
