#include "common/checks.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/background.h"
#include "common/estimators.h"
#include "common/lesion_tasks.h"
#include "common/model_methods.h"
#include "common/tasks.h"

namespace dermis {
namespace {

// The parts that every attribution has, whatever its kind. Null: not an attribution.
struct Parts {
  v1::ImageSource* images = nullptr;
  v1::ModelRef* model = nullptr;
};

Parts PartsOf(v1::TaskSpec& attribution) {
  switch (attribution.kind_case()) {
    case v1::TaskSpec::kFit: {
      v1::Perturbation& perturbation = *attribution.mutable_fit()->mutable_perturbation();
      return {perturbation.mutable_images(), perturbation.mutable_model()};
    }
    case v1::TaskSpec::kActivations:
      return {attribution.mutable_activations()->mutable_images(),
              attribution.mutable_activations()->mutable_model()};
    case v1::TaskSpec::kGradient:
      return {attribution.mutable_gradient()->mutable_images(),
              attribution.mutable_gradient()->mutable_model()};
    default:
      return {};
  }
}

// Comparisons need no activations, which are large, and no standard errors.
v1::TaskSpec MapsAlone(v1::TaskSpec attribution) {
  if (attribution.has_activations()) attribution.mutable_activations()->set_cams_only(true);
  if (attribution.has_gradient()) attribution.mutable_gradient()->clear_standard_errors();
  return attribution;
}

v1::TaskSpec Randomised(const v1::TaskSpec& attribution, const v1::StabilityTask& task, int first,
                        int last) {
  v1::TaskSpec variant = attribution;
  v1::RandomisedLayers& randomised = *PartsOf(variant).model->mutable_randomised();
  for (int i = first; i < last; ++i) randomised.add_layers(task.layers(i));
  randomised.set_seed(task.seed());
  return variant;
}

v1::TaskSpec CommonSuperpixels(const v1::ImageSource& images, uint32_t image,
                               const v1::SuperpixelSpec& superpixels,
                               const std::string& numerics_class) {
  v1::Perturbation perturbation;
  *perturbation.mutable_images() = images;
  perturbation.set_image(image);
  *perturbation.mutable_superpixels() = superpixels;
  return SuperpixelTaskOf(perturbation, numerics_class);
}

}  // namespace

bool IsJudged(const v1::MethodSpec& method) {
  return method.kind_case() != v1::MethodSpec::KIND_NOT_SET && !method.has_activation_maps();
}

bool AsksForChecks(const v1::ExplanationSpec& explanation) {
  const auto& methods = explanation.methods();
  return (explanation.checks().fidelity() || explanation.checks().has_stability()) &&
         std::any_of(methods.begin(), methods.end(), IsJudged);
}

std::vector<std::string> RandomisableLayers(v1::ModelKind kind) {
  switch (kind) {
    case v1::MODEL_KIND_SEED_CNN:
      return {"dense", "conv6", "conv5", "conv4", "conv3", "conv2", "conv1"};
    case v1::MODEL_KIND_RESNET18:
    case v1::MODEL_KIND_RESNET34:
    case v1::MODEL_KIND_RESNET50:
      return {"fc", "layer4", "layer3", "layer2", "layer1", "conv1"};
    default:
      return {};
  }
}

bool DrawsAtRandom(const v1::TaskSpec& attribution) {
  if (attribution.has_fit()) return SamplesMasks(attribution.fit().perturbation());
  return attribution.gradient().has_expected_gradients() ||
         attribution.gradient().has_smooth_grad();
}

v1::HiddenValue SecondHidden(const v1::TaskSpec& attribution, v1::HiddenValue wanted) {
  if (!attribution.has_fit()) return v1::HIDDEN_VALUE_UNSPECIFIED;
  const v1::HiddenValue own = attribution.fit().perturbation().hidden();
  if (wanted != v1::HIDDEN_VALUE_UNSPECIFIED && wanted != own) return wanted;
  return own == v1::HIDDEN_VALUE_SUPERPIXEL_MEAN ? v1::HIDDEN_VALUE_TRAINING_MEAN
                                                 : v1::HIDDEN_VALUE_SUPERPIXEL_MEAN;
}

Variants VariantsOf(const v1::StabilityTask& task, const std::string& numerics_class) {
  Variants variants;
  if (!task.has_attribution()) return variants;
  const v1::TaskSpec base = MakeTask(MapsAlone(task.attribution()), numerics_class);
  for (uint32_t draw = 0; draw < task.noise_draws(); ++draw) {
    v1::TaskSpec variant = base;
    v1::ImageNoise& noise = *PartsOf(variant).images->mutable_noise();
    noise.set_radius(task.noise_radius());
    noise.set_draw(draw);
    noise.set_seed(task.seed());
    variants.noise.push_back(std::move(variant));
  }
  for (uint32_t k = 1; k <= task.seeds(); ++k) {
    v1::TaskSpec variant = base;
    if (variant.has_gradient()) {
      variant.mutable_gradient()->set_seed(variant.gradient().seed() + k);
    } else {
      v1::Perturbation& perturbation = *variant.mutable_fit()->mutable_perturbation();
      perturbation.set_seed(perturbation.seed() + k);
    }
    variants.seeds.push_back(std::move(variant));
  }
  for (int i = 0; i < task.layers_size(); ++i) {
    variants.cascading.push_back(Randomised(base, task, 0, i + 1));
    variants.independent.push_back(Randomised(base, task, i, i + 1));
  }
  if (task.second_hidden() != v1::HIDDEN_VALUE_UNSPECIFIED) {
    variants.second_hidden = base;
    v1::Perturbation& perturbation = *variants.second_hidden->mutable_fit()->mutable_perturbation();
    perturbation.set_hidden(task.second_hidden());
    perturbation.clear_hiding();
    if (task.has_second_hiding()) *perturbation.mutable_hiding() = task.second_hiding();
  }
  return variants;
}

CheckPrices PricesOfChecks(const v1::ExplanationSpec& explanation, v1::ModelKind model,
                           uint64_t classes) {
  CheckPrices prices;
  if (!AsksForChecks(explanation)) return prices;
  const v1::ChecksSpec& checks = explanation.checks();
  const v1::StabilitySpec& stability = checks.stability();
  const auto inputs_of_a_mask = [&](v1::HiddenValue hidden) {
    return InputsOfAMask(explanation, hidden, classes);
  };
  const uint64_t deletion = inputs_of_a_mask(checks.hidden());
  // Insertion is into the blurred image.
  const uint64_t curves = (uint64_t{AboutSuperpixels(checks.superpixels())} + 1) * (deletion + 1);
  const auto layers = static_cast<uint64_t>(RandomisableLayers(model).size());
  const uint64_t randomised = stability.randomisation() && layers > 0 ? 2 * layers - 1 : 0;
  // The priors and the common superpixels.
  prices.fidelity = {2, deletion + (uint64_t{checks.random_orders()} + 2) * curves, 0};
  prices.stability = {2, 0, 0};
  for (const v1::MethodSpec& method : explanation.methods()) {
    if (!IsJudged(method)) continue;
    const bool hides = HasMasks(method);
    const uint32_t count = hides ? AboutSuperpixels(SuperpixelsOf(method)) : 0;
    v1::TaskSpec own;  // Of what it names, by which masks it hides, and by what.
    if (hides) {
      v1::Perturbation& perturbation = *own.mutable_fit()->mutable_perturbation();
      perturbation.set_hidden(HiddenOf(method));
      SetMasks(method, count, perturbation);
    }
    const bool draws =
        hides ? DrawsAtRandom(own) : method.has_expected_gradients() || method.has_smooth_grad();
    // A plain gradient's halves are whole images.
    const uint64_t halved =
        method.has_smooth_grad() ? 1 : inputs_of_a_mask(hides ? HiddenOf(method) : checks.hidden());
    prices.fidelity.tasks += 1;
    prices.fidelity.inputs +=
        MapsOf(method, model) * curves + deletion + (uint64_t{checks.halves()} + 1) * halved;
    const MethodPrice once = PriceOf(method, count);
    // What hides superpixels hides by something else for once; the superpixels are there.
    const uint64_t variants =
        stability.noise_draws() + randomised + (draws ? stability.seeds() : 0);
    prices.stability.tasks += 1 + (hides ? (variants + 1) * (once.tasks - 1) : variants);
    prices.stability.gradients +=
        variants * GradientsOf(method, classes * BackgroundPerClass(explanation));
    if (!hides) continue;
    prices.stability.inputs +=
        once.inputs * (variants * inputs_of_a_mask(HiddenOf(method)) +
                       inputs_of_a_mask(SecondHidden(own, stability.second_hidden())));
  }
  if (!checks.fidelity()) prices.fidelity = Price();
  if (!checks.has_stability()) prices.stability = Price();
  return prices;
}

std::vector<v1::TaskSpec> NeedsOf(const v1::TaskSpec& task) {
  const std::string& numerics_class = task.numerics_class();
  std::vector<v1::TaskSpec> needs;
  switch (task.kind_case()) {
    case v1::TaskSpec::kPerturb:
      needs.push_back(SuperpixelTaskOf(task.perturb().perturbation(), numerics_class));
      break;
    case v1::TaskSpec::kFit: {
      const v1::Perturbation& perturbation = task.fit().perturbation();
      needs.push_back(SuperpixelTaskOf(perturbation, numerics_class));
      const uint32_t runs = RunsOfUnits(perturbation, task.fit().units());
      for (uint32_t run = 0; run < runs; ++run) {
        needs.push_back(PerturbTaskOf(perturbation, run, numerics_class));
      }
      break;
    }
    case v1::TaskSpec::kFidelity: {
      const v1::FidelityTask& fidelity = task.fidelity();
      needs.push_back(CommonSuperpixels(fidelity.images(), fidelity.image(), fidelity.superpixels(),
                                        numerics_class));
      if (!fidelity.has_attribution()) break;
      needs.push_back(fidelity.attribution());
      if (fidelity.attribution().has_fit()) {
        needs.push_back(
            SuperpixelTaskOf(fidelity.attribution().fit().perturbation(), numerics_class));
      }
      break;
    }
    case v1::TaskSpec::kStability: {
      const v1::StabilityTask& stability = task.stability();
      const v1::TaskSpec& own = stability.attribution();
      needs.push_back(own.has_fit() ? SuperpixelTaskOf(own.fit().perturbation(), numerics_class)
                                    : CommonSuperpixels(stability.images(), stability.image(),
                                                        stability.superpixels(), numerics_class));
      if (!stability.has_attribution()) break;
      needs.push_back(own);
      Variants variants = VariantsOf(stability, numerics_class);
      for (auto* list :
           {&variants.noise, &variants.seeds, &variants.cascading, &variants.independent}) {
        for (v1::TaskSpec& variant : *list) needs.push_back(std::move(variant));
      }
      if (variants.second_hidden) needs.push_back(*std::move(variants.second_hidden));
      break;
    }
    default:
      break;
  }
  return needs;
}

}  // namespace dermis
