#include "common/tasks.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"

#include "common/baselines.h"
#include "common/checks.h"
#include "common/estimators.h"
#include "common/lesion_tasks.h"
#include "common/model_methods.h"
#include "common/status_macros.h"

namespace dermis {

const char kVersion[] = "0.1.0";

namespace {

// The Gaussian's deviation of images.hide, as a fraction of the shorter side.
constexpr double kHideBlur = 0.1;


absl::Status Bad(const std::string& why) { return absl::InvalidArgumentError(why); }

bool IsDigest(const std::string& bytes) { return bytes.size() == Digest::kSize; }

template <typename Values>
bool AllFinite(const Values& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

absl::Status CheckTrain(const v1::TrainTask& task, const v1::TrainOutput& output) {
  if (output.step() != task.step()) {
    return Bad(absl::StrCat("the state is of step ", output.step(), ", wanted is ", task.step()));
  }
  if (output.steps_per_epoch() == 0) return Bad("steps_per_epoch is 0");
  if (!IsDigest(output.state()) || !IsDigest(output.last_model())) {
    return Bad("state and last_model must be digests of 32 bytes");
  }
  // Metrics may be NaN: a diverged epoch is a result, it ranks last.
  const uint64_t completed = output.step() / output.steps_per_epoch();
  if (static_cast<uint64_t>(output.epochs_size()) != completed) {
    return Bad(absl::StrCat(output.epochs_size(), " epochs have metrics, ", completed,
                            " are completed"));
  }
  for (int i = 0; i < output.epochs_size(); ++i) {
    if (output.epochs(i).epoch() != static_cast<uint32_t>(i + 1)) {
      return Bad("epochs must be numbered 1, 2, ...");
    }
  }
  if (output.best_epoch() > completed) return Bad("best_epoch is not completed");
  if (completed > 0 && (output.best_epoch() == 0 || !IsDigest(output.best_model()))) {
    return Bad("best_epoch and best_model are missing");
  }
  if (completed == 0 && (output.best_epoch() != 0 || !output.best_model().empty())) {
    return Bad("best_model is given before the first epoch");
  }
  return absl::OkStatus();
}

absl::Status CheckEvaluate(const v1::EvaluateTask& task, const v1::EvaluateOutput& output) {
  if (output.classes() < 2) return Bad("fewer than two classes");
  if (static_cast<uint32_t>(output.images_size()) != task.count()) {
    return Bad(absl::StrCat(output.images_size(), " images, wanted are ", task.count()));
  }
  if (static_cast<uint64_t>(output.logits_size()) != uint64_t{task.count()} * output.classes()) {
    return Bad(absl::StrCat(output.logits_size(), " logits for ", task.count(), " images of ",
                            output.classes(), " classes"));
  }
  for (int i = 1; i < output.images_size(); ++i) {
    if (output.images(i) <= output.images(i - 1)) return Bad("images must ascend");
  }
  if (!AllFinite(output.logits())) {
    return Bad("logits are not finite: the model diverged; try a lower learning rate");
  }
  return absl::OkStatus();
}

absl::Status CheckSuperpixels(const v1::SuperpixelOutput& output) {
  const uint64_t pixels = uint64_t{output.height()} * output.width();
  if (pixels == 0 || output.count() == 0 || output.count() > 65536 || output.count() > pixels) {
    return Bad(absl::StrCat(output.count(), " superpixels on ", output.height(), " x ",
                            output.width(), " pixels"));
  }
  if (output.labels().size() != pixels * 2) {
    return Bad(absl::StrCat(output.labels().size(), " bytes of labels for ", pixels, " pixels"));
  }
  std::vector<bool> used(output.count());
  for (size_t i = 0; i < output.labels().size(); i += 2) {
    const uint32_t label = static_cast<uint8_t>(output.labels()[i]) |
                           static_cast<uint32_t>(static_cast<uint8_t>(output.labels()[i + 1])) << 8;
    if (label >= output.count()) return Bad(absl::StrCat("label ", label, " is out of range"));
    used[label] = true;
  }
  if (std::find(used.begin(), used.end(), false) != used.end()) {
    return Bad("a superpixel holds no pixel");
  }
  return absl::OkStatus();
}

// Masks or pairs in a run; 0 where the run does not exist.
uint32_t UnitsOfRun(const v1::Perturbation& perturbation, uint32_t run) {
  const bool shapley = perturbation.has_shapley();
  const uint64_t all = shapley ? perturbation.shapley().permutations() : RowCount(perturbation);
  const uint64_t length = shapley ? kShapleyRun : perturbation.has_lime() ? kLimeRun : kMaskRun;
  const uint64_t first = length * run;
  return first >= all ? 0 : static_cast<uint32_t>(std::min(length, all - first));
}

absl::Status CheckPerturb(const v1::PerturbTask& task, const v1::PerturbOutput& output) {
  if (output.classes() < 2) return Bad("fewer than two classes");
  if (output.logits_size() % static_cast<int>(output.classes()) != 0) {
    return Bad("logits are not masks x classes");
  }
  uint64_t rows = static_cast<uint64_t>(output.logits_size()) / output.classes();
  const uint32_t units = UnitsOfRun(task.perturbation(), task.run());
  if (units == 0) return Bad(absl::StrCat("the perturbation has no run ", task.run()));
  if (!task.perturbation().has_shapley()) {
    // KernelSHAP's draws may repeat themselves.
    const bool fewer =
        task.perturbation().coalitions().estimator() == v1::ESTIMATOR_KERNEL && rows < units;
    if (rows != units && !fewer) return Bad(absl::StrCat(rows, " rows, the run has ", units, " masks"));
  } else {
    // Rows: the two end points in run 0, then 2 (S - 1) a pair; S is not known here.
    const uint64_t ends = task.run() == 0 ? 2 : 0;
    if (rows < ends || (rows - ends) % (2 * uint64_t{units}) != 0) {
      return Bad(absl::StrCat(rows, " rows do not make ", units, " antithetic pairs"));
    }
  }
  if (!AllFinite(output.logits())) return Bad("logits are not finite: the model diverged");
  return absl::OkStatus();
}

absl::Status CheckFit(const v1::Attribution& output) {
  if (output.count() == 0 || static_cast<uint32_t>(output.values_size()) != output.count()) {
    return Bad(absl::StrCat(output.values_size(), " values for ", output.count(), " superpixels"));
  }
  if (output.standard_errors_size() != 0 &&
      static_cast<uint32_t>(output.standard_errors_size()) != output.count()) {
    return Bad(absl::StrCat(output.standard_errors_size(), " standard errors for ", output.count(),
                            " superpixels"));
  }
  if (!AllFinite(output.values()) || !AllFinite(output.standard_errors()) ||
      !std::isfinite(output.full()) || !std::isfinite(output.hidden()) ||
      !std::isfinite(output.additivity_residual()) || !std::isfinite(output.intercept()) ||
      !std::isfinite(output.r_squared())) {
    return Bad("the attribution is not finite");
  }
  return absl::OkStatus();
}

absl::Status CheckActivations(const v1::ActivationTask& task, const v1::ActivationOutput& output) {
  if (output.layers_size() == 0) return Bad("no layers");
  if (!std::isfinite(output.full())) return Bad("f(x) is not finite");
  const bool cam = task.cam() != v1::CAM_KIND_UNSPECIFIED;
  const uint64_t maps = !cam ? 0 : IsLinearCam(task.cam()) ? 1 : 2;
  for (const v1::LayerMaps& layer : output.layers()) {
    const uint64_t pixels = uint64_t{layer.height()} * layer.width();
    const uint64_t channels = task.cams_only() ? 0 : layer.channels();
    // Bounded before it is multiplied again.
    if (layer.layer().empty() || pixels == 0 || pixels > (1u << 26) || layer.channels() == 0 ||
        static_cast<uint64_t>(layer.activations_size()) != (cam ? 0 : pixels * channels) ||
        static_cast<uint64_t>(layer.grad_cam_size()) != (cam ? 0 : pixels) ||
        static_cast<uint64_t>(layer.cam_size()) != pixels * maps) {
      return Bad(absl::StrCat("layer '", layer.layer(), "': sizes of its maps do not fit"));
    }
    if (!AllFinite(layer.activations()) || !AllFinite(layer.grad_cam()) ||
        !AllFinite(layer.cam()) || !std::isfinite(layer.offset())) {
      return Bad(absl::StrCat("layer '", layer.layer(), "': maps are not finite"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckGradient(const v1::GradientTask& task, const v1::PixelAttribution& output) {
  // Bounded before they are multiplied.
  if (output.height() == 0 || output.height() > 4096 || output.width() == 0 ||
      output.width() > 4096 || output.channels() != 3 ||
      static_cast<uint64_t>(output.values_size()) !=
          uint64_t{3} * output.height() * output.width()) {
    return Bad(absl::StrCat(output.values_size(), " values for ", output.height(), " x ",
                            output.width(), " x ", output.channels(), " pixels"));
  }
  const int errors = output.standard_errors_size();
  if ((errors != 0 && (!task.standard_errors() || 3 * errors != output.values_size())) ||
      output.has_sum_standard_error() != (errors != 0)) {
    return Bad(absl::StrCat(errors, " standard errors for ", output.height(), " x ", output.width(),
                            " pixels"));
  }
  if (!AllFinite(output.values()) || !AllFinite(output.standard_errors()) ||
      !std::isfinite(output.sum_standard_error()) || !std::isfinite(output.full()) ||
      !std::isfinite(output.reference()) || !std::isfinite(output.additivity_residual())) {
    return Bad("the attribution is not finite");
  }
  if (output.has_reference() != output.has_additivity_residual()) {
    return Bad("a reference and an additivity residual come together");
  }
  if (task.has_background() != IsDigest(output.background())) {
    return Bad("the background's digest is missing, or there is one without a background");
  }
  return absl::OkStatus();
}

absl::Status CheckCurve(const std::string& what, const v1::OutputCurve& curve, int superpixels) {
  if (curve.probability_size() != superpixels + 1 || curve.margin_size() != superpixels + 1) {
    return Bad(absl::StrCat(what, " has ", curve.probability_size(), " probabilities and ",
                            curve.margin_size(), " margins for ", superpixels, " superpixels"));
  }
  if (!AllFinite(curve.probability()) || !AllFinite(curve.margin())) {
    return Bad(what + " is not finite");
  }
  return absl::OkStatus();
}

std::string CamName(v1::CamKind kind) {
  switch (kind) {
    case v1::CAM_KIND_CAM: return "cam";
    case v1::CAM_KIND_GRAD_CAM_PLUS_PLUS: return "grad_cam_plus_plus";
    case v1::CAM_KIND_HIRES_CAM: return "hires_cam";
    case v1::CAM_KIND_LAYER_CAM: return "layer_cam";
    default: return "activations";
  }
}

std::string GradientName(const v1::GradientTask& task) {
  switch (task.method_case()) {
    case v1::GradientTask::kDeepShap: return "deep_shap";
    case v1::GradientTask::kExpectedGradients: return "expected_gradients";
    case v1::GradientTask::kIntegratedGradients: return "integrated_gradients";
    case v1::GradientTask::kSmoothGrad: return "smooth_grad";
    case v1::GradientTask::METHOD_NOT_SET: break;
  }
  return "unknown gradient method";
}

absl::Status CheckFidelity(const v1::FidelityTask& task, const v1::FidelityOutput& output) {
  const int priors = static_cast<int>(std::size(kPriorNames));
  if (output.maps().empty() || (task.has_priors() && output.maps_size() != priors)) {
    return Bad(absl::StrCat(output.maps_size(), " maps are judged"));
  }
  for (const v1::Fidelity& map : output.maps()) {
    if (map.values_size() == 0 || map.values_size() != output.maps(0).values_size()) {
      return Bad(absl::StrCat("map '", map.map(), "' has ", map.values_size(), " values, the first has ",
                              output.maps(0).values_size()));
    }
    RETURN_IF_ERROR(CheckCurve(absl::StrCat("map '", map.map(), "': deletion"), map.deletion(),
                               map.values_size()));
    RETURN_IF_ERROR(CheckCurve(absl::StrCat("map '", map.map(), "': insertion"), map.insertion(),
                               map.values_size()));
    if (!AllFinite(map.values()) || !std::isfinite(map.infidelity()) || map.infidelity() < 0 ||
        !std::isfinite(map.scale())) {
      return Bad(absl::StrCat("map '", map.map(), "' is not finite"));
    }
  }
  return absl::OkStatus();
}

// Within [-1, 1] up to rounding: rank correlations and SSIM alike.
bool IsSimilarity(const v1::Similarity& similarity) {
  for (const double value : {similarity.rank(), similarity.absolute_rank(), similarity.ssim()}) {
    if (!(std::abs(value) <= 1 + 1e-9)) return false;
  }
  return true;
}

absl::Status CheckStability(const v1::StabilityTask& task, const v1::StabilityOutput& output) {
  const int priors = static_cast<int>(std::size(kPriorNames));
  if (output.maps().empty() || (task.has_priors() && output.maps_size() != priors)) {
    return Bad(absl::StrCat(output.maps_size(), " maps are judged"));
  }
  const auto draws = static_cast<int>(task.noise_draws());
  // The task's own seed is one more.
  const int seeds = task.has_priors() ? 0 : static_cast<int>(task.seeds());
  for (const v1::Stability& map : output.maps()) {
    if (map.noise_size() != draws || map.seeds_size() != seeds * (seeds + 1) / 2 ||
        map.cascading_size() != task.layers_size() ||
        map.independent_size() != task.layers_size()) {
      return Bad(absl::StrCat("map '", map.map(), "': numbers of similarities do not fit"));
    }
    bool good = IsSimilarity(map.second_hidden());
    for (const auto* list : {&map.noise(), &map.seeds(), &map.cascading(), &map.independent()}) {
      good = good && std::all_of(list->begin(), list->end(), IsSimilarity);
    }
    if (!good || !std::isfinite(map.max_sensitivity()) || map.max_sensitivity() < 0) {
      return Bad(absl::StrCat("map '", map.map(), "': a similarity is out of range"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLesion(const v1::LesionTask& task, const v1::LesionOutput& output) {
  if (output.classes() < 2) return Bad("fewer than two classes");
  const uint64_t placements = 1 + 3 * uint64_t{task.placements()};
  if (static_cast<uint64_t>(output.placements_size()) != placements) {
    return Bad(absl::StrCat(output.placements_size(), " placements, wanted are ", placements));
  }
  for (const v1::LesionPlacement& placement : output.placements()) {
    if (placement.areas_size() != 4 ||
        static_cast<uint64_t>(placement.logits_size()) != 16 * uint64_t{output.classes()}) {
      return Bad("a placement's sizes do not fit");
    }
    if (!AllFinite(placement.areas())) return Bad("areas are not finite");
    if (!AllFinite(placement.logits())) return Bad("logits are not finite: the model diverged");
  }
  return absl::OkStatus();
}

absl::Status CheckLesionSummary(const v1::LesionSummaryTask& task,
                                const v1::LesionSummary& output) {
  if (output.images() != static_cast<uint32_t>(task.images_size()) || output.lesions() == 0 ||
      output.lesions() > output.images()) {
    return Bad(absl::StrCat(output.images(), " images of ", output.lesions(), " lesions"));
  }
  if (output.findings_size() == 0 || output.findings(0).hypothesis() != task.primary() ||
      output.findings(0).null() != task.null()) {
    return Bad("the primary hypothesis is not the first");
  }
  for (const auto* values : {&output.shares(), &output.areas(), &output.values()}) {
    if (values->size() != 4 || !AllFinite(*values)) return Bad("a zone's numbers are missing");
  }
  for (const v1::LesionFinding& finding : output.findings()) {
    if (!(finding.p() > 0 && finding.p() <= 1 && finding.adjusted_p() >= finding.p() &&
          finding.adjusted_p() <= 1) ||
        !std::isfinite(finding.effect()) || !std::isfinite(finding.low()) ||
        !std::isfinite(finding.high()) || !std::isfinite(finding.statistic())) {
      return Bad("a finding is out of range");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckShortcut(const v1::ShortcutTask& task, const v1::ShortcutOutput& output) {
  if (output.areas_size() != task.variants_size() + 1) {
    return Bad(absl::StrCat(output.areas_size(), " areas for ", task.variants_size(), " variants"));
  }
  for (const v1::ShortcutArea& area : output.areas()) {
    if (!(area.low() >= 0 && area.high() <= 1 && area.low() <= area.high() && area.area() >= 0 &&
          area.area() <= 1)) {
      return Bad("an area is out of range");
    }
  }
  return absl::OkStatus();
}

bool IsFraction(double value) { return value >= 0 && value <= 1; }

absl::Status CheckBaseline(const v1::BaselineTask& task, const v1::BaselineOutput& output) {
  if (!IsFraction(output.accuracy()) || !IsFraction(output.area()) ||
      !IsFraction(output.training_accuracy())) {
    return Bad("accuracy and area must be from 0 to 1");
  }
  if (!(output.optimality() >= 0) || !std::isfinite(output.optimality()) || !AllFinite(output.importance())) return Bad("it is not finite");
  const bool fold = task.images().split().has_fold();
  const uint64_t features = fold ? 0 : uint64_t{3} * task.images().size() * task.images().size();
  if (static_cast<uint64_t>(output.importance_size()) != features ||
      output.model().empty() != fold) {
    return Bad(absl::StrCat(output.importance_size(), " importances and a model of ",
                            output.model().size(), " bytes"));
  }
  return absl::OkStatus();
}

template <typename Output>
absl::Status CheckPoints(const Output& output, const google::protobuf::RepeatedField<float>& values,
                         uint64_t columns) {
  if (output.images().empty() ||
      static_cast<uint64_t>(values.size()) != columns * static_cast<uint64_t>(output.images_size())) {
    return Bad(absl::StrCat(values.size(), " coordinates of ", output.images_size(), " images"));
  }
  for (int i = 1; i < output.images_size(); ++i) {
    if (output.images(i) <= output.images(i - 1)) return Bad("images must ascend");
  }
  if (!AllFinite(values)) return Bad("coordinates are not finite");
  return absl::OkStatus();
}

absl::Status CheckPca(const v1::PcaTask& task, const v1::PcaOutput& output) {
  if (output.components() == 0 || output.components() > task.components() ||
      static_cast<uint32_t>(output.variance_size()) != output.components()) {
    return Bad(absl::StrCat(output.components(), " components"));
  }
  if (!AllFinite(output.variance()) || !std::isfinite(output.residual())) return Bad("it is not finite");
  return CheckPoints(output, output.scores(), output.components());
}

absl::Status CheckTsne(const v1::TsneOutput& output) {
  if (!std::isfinite(output.divergence())) return Bad("it is not finite");
  return CheckPoints(output, output.points(), 2);
}

absl::Status CheckSeparation(const v1::SeparationTask& task, const v1::SeparationOutput& output) {
  if (output.spaces_size() != task.tsne_size() + 2) {
    return Bad(absl::StrCat(output.spaces_size(), " spaces"));
  }
  for (const v1::Separation& space : output.spaces()) {
    if (!IsFraction(space.area()) || !IsFraction(space.accuracy())) {
      return Bad(absl::StrCat("'", space.space(), "' is out of range"));
    }
  }
  for (const v1::Association& one : output.associations()) {
    if (!(std::abs(one.correlation()) <= 1 + 1e-9)) return Bad("a correlation is out of range");
  }
  return absl::OkStatus();
}

std::string SuperpixelName(const v1::SuperpixelSpec& superpixels) {
  switch (superpixels.kind_case()) {
    case v1::SuperpixelSpec::kSlic:
      return "slic";
    case v1::SuperpixelSpec::kQuickshift:
      return "quickshift";
    case v1::SuperpixelSpec::kGrid:
      return "grid";
    case v1::SuperpixelSpec::kLabelMap:
      return "label map";
    case v1::SuperpixelSpec::kLesionZones:
      return "lesion zones";
    case v1::SuperpixelSpec::KIND_NOT_SET:
      break;
  }
  return "unknown superpixels";
}

std::string ShortHex(const std::string& bytes) {
  auto digest = Digest::FromBytes(bytes);
  return digest.ok() ? digest->short_hex() : "(no digest)";
}

const char* SourceName(const v1::PcaTask& task) {
  return task.has_model() ? "the network's features" : "pixels";
}

std::string MethodName(const v1::Perturbation& perturbation) {
  switch (perturbation.masks_case()) {
    case v1::Perturbation::kLime:
      return "lime";
    case v1::Perturbation::kShapley:
      return "shapley";
    case v1::Perturbation::kCoalitions:
      return absl::StrCat("shapley (", EstimatorName(perturbation.coalitions().estimator()), ")");
    case v1::Perturbation::kPartition:
      return "shapley (partition)";
    case v1::Perturbation::kOcclusion:
      return "occlusion";
    case v1::Perturbation::kRise:
      return "rise";
    case v1::Perturbation::MASKS_NOT_SET:
      break;
  }
  return "unknown method";
}

// A network is not named: there is one in a study.
std::string ByBaseline(const v1::Perturbation& perturbation) {
  if (!perturbation.model().has_baseline()) return "";
  return absl::StrCat(" of ", Describe(perturbation.model().baseline()), " at ",
                      perturbation.images().size(), " px");
}

}  // namespace

uint32_t SemanticsOf(v1::TaskSpec::KindCase kind) {
  switch (kind) {
    case v1::TaskSpec::kTrain:
    case v1::TaskSpec::kEvaluate:
    case v1::TaskSpec::kSuperpixels:
    case v1::TaskSpec::kPerturb:
    case v1::TaskSpec::kFit:
    case v1::TaskSpec::kActivations:
    case v1::TaskSpec::kNoop:
    case v1::TaskSpec::kGradient:
    case v1::TaskSpec::kStability:
    case v1::TaskSpec::kLesion:
    case v1::TaskSpec::kLesionSummary:
    case v1::TaskSpec::kShortcut:
    case v1::TaskSpec::kBaseline:
    case v1::TaskSpec::kPca:
    case v1::TaskSpec::kTsne:
    case v1::TaskSpec::kSeparation:
      return 1;
    case v1::TaskSpec::kFidelity:
      return 2;  // RISE's map was judged as if it were shares of f.
    case v1::TaskSpec::KIND_NOT_SET:
      break;
  }
  return 0;
}

v1::TaskSpec MakeTask(v1::TaskSpec spec, const std::string& numerics_class) {
  spec.set_semantics(SemanticsOf(spec.kind_case()));
  spec.set_numerics_class(numerics_class);
  return spec;
}

absl::StatusOr<Digest> TaskDigest(const v1::TaskSpec& task) { return MessageDigest(task); }

absl::StatusOr<Digest> RecipeDigest(const v1::Recipe& recipe, const std::string& numerics_class) {
  // Step 0 stands for the recipe as a whole: nothing is ever computed for it.
  return TaskDigest(TrainTaskOf(recipe, 0, numerics_class));
}

v1::Hide HideOf(const v1::HideSpec& spec) {
  v1::Hide hide;
  hide.set_show(spec.show());
  hide.set_hidden(spec.hidden());
  if (spec.hidden() == v1::HIDDEN_VALUE_BLUR) hide.set_blur(kHideBlur);
  return hide;
}

v1::Recipe RecipeOf(const v1::StudySpec& resolved, const Digest& image_set) {
  const v1::TrainingSpec& training = resolved.training();
  v1::Recipe recipe;
  v1::ImageSource* images = recipe.mutable_images();
  images->set_image_set(image_set.bytes());
  images->set_size(resolved.images().size());
  *images->mutable_split() = resolved.images().split();
  images->set_split_seed(resolved.seed());
  if (resolved.images().has_hide()) *images->mutable_hide() = HideOf(resolved.images().hide());
  recipe.set_model(training.model());
  recipe.set_stem(training.stem());
  if (training.has_schedule()) *recipe.mutable_schedule() = training.schedule();
  recipe.set_label_smoothing(training.label_smoothing());
  *recipe.mutable_class_weights() = training.class_weights();
  recipe.set_balance_classes(training.balance_classes());
  recipe.set_clip_norm(training.clip_norm());
  recipe.set_ema_decay(training.ema_decay());
  if (training.has_init()) {
    // ResolveSpec has checked the digits.
    if (const auto init = Digest::FromHex(training.init().digest()); init.ok()) {
      recipe.set_init(init->bytes());
    }
    recipe.set_frozen_before(training.init().frozen_before());
  }
  recipe.set_logical_shards(training.logical_shards());
  recipe.set_batch_size(training.batch_size());
  *recipe.mutable_optimizer() = training.optimizer();
  recipe.set_augment(training.augment());
  if (training.has_augmentation()) *recipe.mutable_augmentation() = training.augmentation();
  recipe.set_shuffle_window(training.shuffle_window());
  if (training.reduction() == v1::REDUCTION_FAST) {
    recipe.set_reduction(v1::REDUCTION_FAST);
    // Of no other study: its bits are not reproducible, so nobody may build on them.
    if (const auto study = MessageDigest(resolved); study.ok()) recipe.set_study(study->bytes());
  }
  recipe.set_dropout(training.dropout());
  recipe.set_precision(training.precision());
  recipe.set_seed(resolved.seed());
  recipe.set_best_metric(training.has_early_stopping() ? training.early_stopping().metric()
                                                       : v1::SELECTION_METRIC_VALIDATION_LOSS);
  return recipe;
}

v1::TaskSpec TrainTaskOf(const v1::Recipe& recipe, uint64_t step,
                         const std::string& numerics_class) {
  v1::TaskSpec task;
  *task.mutable_train()->mutable_recipe() = recipe;
  task.mutable_train()->set_step(step);
  return MakeTask(std::move(task), numerics_class);
}

uint32_t RunCount(const v1::Perturbation& perturbation) {
  switch (perturbation.masks_case()) {
    case v1::Perturbation::kLime:
      return static_cast<uint32_t>((uint64_t{perturbation.lime().samples()} + kLimeRun - 1) /
                                   kLimeRun);
    case v1::Perturbation::kShapley:
      return static_cast<uint32_t>(
          (uint64_t{perturbation.shapley().permutations()} + kShapleyRun - 1) / kShapleyRun);
    case v1::Perturbation::kPartition:
    case v1::Perturbation::MASKS_NOT_SET:
      return 0;
    default:
      return static_cast<uint32_t>((RowCount(perturbation) + kMaskRun - 1) / kMaskRun);
  }
}

v1::TaskSpec SuperpixelTaskOf(const v1::Perturbation& perturbation, const std::string& numerics_class) {
  v1::TaskSpec task;
  task.mutable_superpixels()->set_image_set(perturbation.images().image_set());
  task.mutable_superpixels()->set_image(perturbation.image());
  *task.mutable_superpixels()->mutable_superpixels() = perturbation.superpixels();
  if (perturbation.superpixels().resolution() == v1::RESOLUTION_MODEL) {
    task.mutable_superpixels()->set_size(perturbation.images().size());
  }
  return MakeTask(std::move(task), numerics_class);
}

v1::TaskSpec PerturbTaskOf(const v1::Perturbation& perturbation, uint32_t run,
                           const std::string& numerics_class) {
  v1::TaskSpec task;
  *task.mutable_perturb()->mutable_perturbation() = perturbation;
  task.mutable_perturb()->set_run(run);
  return MakeTask(std::move(task), numerics_class);
}

namespace {

ExplanationSize SizeOfModel(const v1::ExplanationSpec& spec, uint64_t test, uint64_t classes,
                            bool forest) {
  const v1::CellChoice& cell = spec.images().per_confusion_cell();
  ExplanationSize size;
  size.images = test;
  if (!spec.images().all_test()) {
    const uint64_t each =
        uint64_t{cell.most_confident()} + cell.least_confident() + cell.random() + cell.median();
    size.images = std::min(size.images, classes * classes * each);
  }
  for (const v1::MethodSpec& method : spec.methods()) {
    const MethodPrice price = PriceOf(method, AboutSuperpixels(SuperpixelsOf(method)));
    size.tasks += price.tasks;
    size.inputs += price.inputs * InputsOfAMask(spec, HiddenOf(method), classes);
    if (FitsMarginToo(method, spec.output(), forest)) ++size.tasks;
  }
  size.tasks *= size.images;
  size.inputs *= size.images;
  return size;
}

}  // namespace

ExplanationSize SizeOf(const v1::ExplanationSpec& spec, uint64_t test, uint64_t classes) {
  return SizeOfModel(spec, test, classes, false);
}

ExplanationSize SizeOfExplainedBaselines(const v1::StudySpec& spec, uint64_t test,
                                         uint64_t classes) {
  ExplanationSize all;
  if (!spec.explanation().baselines()) return all;
  for (const BaselineFamily& family : FamiliesOf(spec, {})) {
    const ExplanationSize one =
        SizeOfModel(ExplanationOf(spec.explanation(), family.points[0]), test, classes,
                    family.points[0].has_forest());
    all.images = one.images;
    all.tasks += one.tasks;
    all.inputs += one.inputs;
  }
  return all;
}

absl::Status CheckPayload(const v1::TaskSpec& task, const v1::Payload& payload) {
  auto wrong_kind = [&] {
    return Bad(absl::StrCat(Describe(task), ": the payload is of another kind"));
  };
  absl::Status status;
  switch (task.kind_case()) {
    case v1::TaskSpec::kTrain:
      if (!payload.has_train()) return wrong_kind();
      status = CheckTrain(task.train(), payload.train());
      break;
    case v1::TaskSpec::kEvaluate:
      if (!payload.has_evaluate()) return wrong_kind();
      status = CheckEvaluate(task.evaluate(), payload.evaluate());
      break;
    case v1::TaskSpec::kSuperpixels:
      if (!payload.has_superpixels()) return wrong_kind();
      status = CheckSuperpixels(payload.superpixels());
      break;
    case v1::TaskSpec::kPerturb:
      if (!payload.has_perturb()) return wrong_kind();
      status = CheckPerturb(task.perturb(), payload.perturb());
      break;
    case v1::TaskSpec::kFit:
      if (!payload.has_fit()) return wrong_kind();
      status = CheckFit(payload.fit());
      break;
    case v1::TaskSpec::kActivations:
      if (!payload.has_activations()) return wrong_kind();
      status = CheckActivations(task.activations(), payload.activations());
      break;
    case v1::TaskSpec::kGradient:
      if (!payload.has_gradient()) return wrong_kind();
      status = CheckGradient(task.gradient(), payload.gradient());
      break;
    case v1::TaskSpec::kNoop:
      if (payload.kind_case() != v1::Payload::kNoop) return wrong_kind();
      if (payload.noop() != task.noop().index()) status = Bad("another index came back");
      break;
    case v1::TaskSpec::kFidelity:
      if (!payload.has_fidelity()) return wrong_kind();
      status = CheckFidelity(task.fidelity(), payload.fidelity());
      break;
    case v1::TaskSpec::kStability:
      if (!payload.has_stability()) return wrong_kind();
      status = CheckStability(task.stability(), payload.stability());
      break;
    case v1::TaskSpec::kLesion:
      if (!payload.has_lesion()) return wrong_kind();
      status = CheckLesion(task.lesion(), payload.lesion());
      break;
    case v1::TaskSpec::kLesionSummary:
      if (!payload.has_lesion_summary()) return wrong_kind();
      status = CheckLesionSummary(task.lesion_summary(), payload.lesion_summary());
      break;
    case v1::TaskSpec::kShortcut:
      if (!payload.has_shortcut()) return wrong_kind();
      status = CheckShortcut(task.shortcut(), payload.shortcut());
      break;
    case v1::TaskSpec::kBaseline:
      if (!payload.has_baseline()) return wrong_kind();
      status = CheckBaseline(task.baseline(), payload.baseline());
      break;
    case v1::TaskSpec::kPca:
      if (!payload.has_pca()) return wrong_kind();
      status = CheckPca(task.pca(), payload.pca());
      break;
    case v1::TaskSpec::kTsne:
      if (!payload.has_tsne()) return wrong_kind();
      status = CheckTsne(payload.tsne());
      break;
    case v1::TaskSpec::kSeparation:
      if (!payload.has_separation()) return wrong_kind();
      status = CheckSeparation(task.separation(), payload.separation());
      break;
    case v1::TaskSpec::KIND_NOT_SET:
      return Bad("the task has no kind");
  }
  if (status.ok()) return status;
  return Bad(absl::StrCat(Describe(task), ": ", status.message()));
}

bool UsesResults(const v1::TaskSpec& task) {
  switch (task.kind_case()) {
    case v1::TaskSpec::kPerturb:
    case v1::TaskSpec::kFit:
    case v1::TaskSpec::kFidelity:
    case v1::TaskSpec::kStability:
    case v1::TaskSpec::kLesionSummary:
    case v1::TaskSpec::kShortcut:
    case v1::TaskSpec::kTsne:
    case v1::TaskSpec::kSeparation:
      return true;
    case v1::TaskSpec::kEvaluate:
      return task.evaluate().model().has_baseline();
    default:
      return false;
  }
}

std::vector<Digest> BlobsOf(const v1::Payload& payload) {
  std::vector<Digest> blobs;
  if (payload.has_train()) {
    for (const std::string* bytes : {&payload.train().state(), &payload.train().best_model(),
                                     &payload.train().last_model()}) {
      auto digest = Digest::FromBytes(*bytes);
      if (digest.ok() && !digest->none() &&
          std::find(blobs.begin(), blobs.end(), *digest) == blobs.end()) {
        blobs.push_back(*digest);
      }
    }
  }
  return blobs;
}

std::string Describe(const v1::TaskSpec& task) {
  switch (task.kind_case()) {
    case v1::TaskSpec::kTrain: {
      auto digest = RecipeDigest(task.train().recipe(), task.numerics_class());
      return absl::StrCat("train ", digest.ok() ? digest->short_hex() : "(malformed recipe)",
                          " to step ", task.train().step());
    }
    case v1::TaskSpec::kEvaluate:
      return absl::StrCat(
          "evaluate ", task.evaluate().part() == v1::SPLIT_PART_VALIDATION ? "validation" : "test",
          " images ", task.evaluate().first(), " to ",
          uint64_t{task.evaluate().first()} + task.evaluate().count(), " of ",
          task.evaluate().model().has_baseline()
              ? Describe(task.evaluate().model().baseline())
              : absl::StrCat("model ", ShortHex(task.evaluate().model().weights())),
                          task.evaluate().has_hide() ? ", partly hidden" : "");
    case v1::TaskSpec::kSuperpixels:
      return absl::StrCat("superpixels of image ", task.superpixels().image(), ", ",
                          SuperpixelName(task.superpixels().superpixels()));
    case v1::TaskSpec::kLesion:
      return absl::StrCat("lesion zones of image ", task.lesion().image());
    case v1::TaskSpec::kLesionSummary:
      return absl::StrCat("lesion test of ", task.lesion_summary().images_size(), " images");
    case v1::TaskSpec::kShortcut:
      return "shortcut check";
    case v1::TaskSpec::kPerturb:
      return absl::StrCat("perturb image ", task.perturb().perturbation().image(), ", ",
                          MethodName(task.perturb().perturbation()),
                          ByBaseline(task.perturb().perturbation()), " run ", task.perturb().run());
    case v1::TaskSpec::kFit:
      return absl::StrCat(
          "fit ", MethodName(task.fit().perturbation()), ByBaseline(task.fit().perturbation()),
          " of image ", task.fit().perturbation().image(),
          task.fit().units() == 0 ? std::string() : absl::StrCat(", first ", task.fit().units()));
    case v1::TaskSpec::kActivations:
      return absl::StrCat(CamName(task.activations().cam()), " of image ",
                          task.activations().image());
    case v1::TaskSpec::kGradient:
      return absl::StrCat(GradientName(task.gradient()), " of image ", task.gradient().image());
    case v1::TaskSpec::kBaseline: {
      const v1::ImageSource& images = task.baseline().images();
      return absl::StrCat("baseline of ", Describe(task.baseline()), " at ", images.size(), " px",
                          images.split().has_fold() ? absl::StrCat(", fold ", images.split().fold())
                                                    : std::string());
    }
    case v1::TaskSpec::kPca:
      return absl::StrCat("principal components of ", SourceName(task.pca()));
    case v1::TaskSpec::kTsne:
      return absl::StrCat("t-SNE of ", SourceName(task.tsne().pca()),
                          task.tsne().input() == v1::TSNE_INPUT_PCA ? " by components" : "");
    case v1::TaskSpec::kSeparation:
      return absl::StrCat("separation of ", SourceName(task.separation().pca()));
    case v1::TaskSpec::kNoop:
      return absl::StrCat("noop ", task.noop().index());
    case v1::TaskSpec::kFidelity:
      return absl::StrCat("fidelity of ",
                          task.fidelity().has_priors() ? absl::StrCat("the priors of image ", task.fidelity().image())
                                                       : Describe(task.fidelity().attribution()));
    case v1::TaskSpec::kStability:
      return absl::StrCat("stability of ",
                          task.stability().has_priors() ? absl::StrCat("the priors of image ", task.stability().image())
                                                        : Describe(task.stability().attribution()));
    case v1::TaskSpec::KIND_NOT_SET:
      break;
  }
  return "task of no kind";
}

}  // namespace dermis
