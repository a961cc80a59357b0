// The bits of a small result of each kind of task. They may change on purpose only: then the kind's number in SemanticsOf
// (common/tasks.cc) is raised, and the new hash goes into golden_results.txt. A numerics class has bits of its own: on one
// that the table does not know the test is skipped and prints the lines to add.
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/lesion_tasks.h"
#include "common/tasks.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/explain/test_data.h"
#include "worker/classical/baseline.h"
#include "worker/classical/gram_cache.h"
#include "worker/collective/collective.h"
#include "worker/device/numerics_class.h"
#include "worker/embedding/embed.h"
#include "worker/evaluation/evaluate.h"
#include "worker/evaluation/shortcut.h"
#include "worker/explain/checks/fidelity.h"
#include "worker/explain/checks/stability.h"
#include "worker/explain/explain.h"
#include "worker/explain/lesion/lesion.h"
#include "worker/models/activations.h"
#include "worker/models/features.h"
#include "worker/models/gradients.h"
#include "worker/models/model.h"
#include "worker/models/resnet.h"
#include "worker/plan/inference_plan.h"
#include "worker/training/trainer.h"

namespace dermis {
namespace {

constexpr uint32_t kImages = 48, kSize = 32, kDisplay = 64;

std::shared_ptr<const ImageData> Images() {
  auto data = std::make_shared<ImageData>(TestImageData(kImages, kDisplay, kDisplay, kSize));
  for (uint32_t i = 0; i < kImages; ++i) {
    data->labels.push_back(i % 2);
    (i < 32 ? data->split.training : i < 40 ? data->split.validation : data->split.test).push_back(i);
  }
  return data;
}

std::string Weights(v1::ModelKind kind = v1::MODEL_KIND_SEED_CNN) {
  Model model;
  model.layout = *LayoutOf(kind, kSize, 2, IsResNet(kind) ? v1::STEM_SMALL : v1::STEM_UNSPECIFIED);
  model.pixel_mean = 131.7;
  model.pixel_deviation = 47.3;
  InitializeModel(3, model);
  return SerializeModel(model);
}

// GRAD_CAM_PLUS_PLUS -> grad_cam_plus_plus
std::string CamName(v1::CamKind kind) {
  return absl::AsciiStrToLower(v1::CamKind_Name(kind).substr(std::string_view("CAM_KIND_").size()));
}

std::string HashOf(const v1::Payload& payload) { return Sha256Of(payload.SerializeAsString()).hex().substr(0, 16); }

// A whole epoch and its validation.
v1::Payload Training(v1::Precision precision, const std::shared_ptr<const ImageData>& data) {
  v1::Recipe recipe;
  recipe.set_model(v1::MODEL_KIND_SEED_CNN);
  recipe.mutable_images()->set_size(kSize);
  recipe.set_logical_shards(2);
  recipe.set_batch_size(16);
  auto& rmsprop = *recipe.mutable_optimizer()->mutable_rmsprop();
  rmsprop.set_learning_rate(1e-3);
  rmsprop.set_alpha(0.9);
  rmsprop.set_epsilon(1e-7);
  rmsprop.set_weight_decay(1e-4);
  recipe.set_augment(true);
  recipe.set_dropout(true);
  recipe.set_precision(precision);
  recipe.set_seed(5);
  recipe.set_best_metric(v1::SELECTION_METRIC_VALIDATION_LOSS);
  v1::TrainGoal goal;
  goal.set_max_epochs(1);
  auto collective = MakeLocalCollective(2);
  TrainerOptions options;
  options.segment = absl::Hours(1);
  v1::Payload payload;
  const std::atomic<bool> yield{false};
  std::atomic<uint64_t> progress{0};
  const auto step = Train(recipe, goal, data, *collective, "", options,
                          [&](TrainedState state) {
                            *payload.mutable_train() = std::move(state.output);
                            return absl::OkStatus();
                          },
                          yield, progress);
  EXPECT_TRUE(step.ok()) << step.status();
  return payload;
}

// Images with a disc for a lesion.
class MaskedSet final : public ImageSet {
 public:
  MaskedSet() {
    manifest_.set_height(kDisplay);
    manifest_.set_width(kDisplay);
    manifest_.add_classes("benign");
    manifest_.add_classes("malignant");
    for (uint32_t i = 0; i < kImages; ++i) {
      v1::ImageEntry& entry = *manifest_.add_images();
      entry.set_label(i % 2);
      entry.set_has_mask(true);
      entry.set_digest(std::string(32, static_cast<char>(i)));
      pixels_.push_back(TestPixels(i, kDisplay, kDisplay));
      std::string& mask = masks_.emplace_back();
      for (uint32_t y = 0; y < kDisplay; ++y) {
        for (uint32_t x = 0; x < kDisplay; ++x) {
          const int dy = static_cast<int>(y) - 30 - static_cast<int>(i % 5), dx = static_cast<int>(x) - 31;
          mask.push_back(dy * dy + dx * dx < 200 + static_cast<int>(i) * 4);
        }
      }
    }
  }
  absl::StatusOr<std::string_view> Pixels(uint32_t i) const override { return pixels_.at(i); }
  absl::StatusOr<std::string_view> Mask(uint32_t i) const override { return masks_.at(i); }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::NotFoundError("no chunk");
  }

 private:
  std::vector<std::string> pixels_, masks_;
};

// The lesion test, the shortcut check, and what hides and cuts otherwise.
std::map<std::string, std::string> LesionResults(const std::string& weights) {
  std::map<std::string, std::string> results;
  auto data = std::make_shared<ImageData>(*Images());
  data->set = std::make_shared<MaskedSet>();
  auto plan = MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, weights, kSize, v1::PRECISION_FP32);
  EXPECT_TRUE(plan.ok()) << plan.status();
  v1::LesionSummaryTask summary;
  v1::LesionTask& lesion = *summary.mutable_lesion();
  lesion.set_band(0.1);
  lesion.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  lesion.set_placements(2);
  lesion.set_seed(3);
  summary.set_output(v1::OUTPUT_KIND_MARGIN);
  summary.set_primary(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE);
  summary.set_null(v1::LESION_NULL_SHIFTED);
  summary.set_draws(99);
  std::vector<std::shared_ptr<const v1::Payload>> outputs;
  for (uint32_t image = 40; image < kImages; ++image) {
    v1::LesionTask task = lesion;
    task.set_image(image);
    summary.add_images(image);
    auto payload = std::make_shared<v1::Payload>();
    uint64_t evaluations = 0;
    *payload->mutable_lesion() = *RunLesion(task, *data, **plan, &evaluations);
    outputs.push_back(payload);
  }
  results["lesion"] = HashOf(*outputs[0]);
  v1::Payload payload;
  *payload.mutable_lesion_summary() = *RunLesionSummary(summary, outputs, *data->set);
  results["lesion_summary"] = HashOf(payload);

  v1::ShortcutTask shortcut;
  shortcut.set_batch(3);
  shortcut.set_draws(200);
  for (const v1::HiddenValue hidden : {v1::HIDDEN_VALUE_BLUR, v1::HIDDEN_VALUE_INPAINT}) {
    v1::Hide& hide = *shortcut.add_variants();
    hide.set_show(v1::LESION_REGION_SURROUNDINGS);
    hide.set_hidden(hidden);
    if (hidden == v1::HIDDEN_VALUE_BLUR) hide.set_blur(0.1);
  }
  outputs.clear();
  for (const v1::TaskSpec& need : ShortcutNeeds(shortcut, 8, 8, "")) {
    auto evaluated = std::make_shared<v1::Payload>();
    *evaluated->mutable_evaluate() = *RunEvaluate(need.evaluate(), *data, **plan);
    outputs.push_back(evaluated);
  }
  results["evaluate.hidden"] = HashOf(*outputs.back());
  *payload.mutable_shortcut() = *RunShortcut(shortcut, outputs, *data);
  results["shortcut"] = HashOf(payload);

  v1::SuperpixelTask cut;
  cut.mutable_superpixels()->mutable_lesion_zones()->set_band(0.1);
  cut.set_image(41);
  const v1::SuperpixelOutput zones = *RunSuperpixels(cut, *data->set);
  *payload.mutable_superpixels() = zones;
  results["superpixels.lesion_zones"] = HashOf(payload);
  v1::PerturbTask perturb;
  v1::Perturbation& perturbation = *perturb.mutable_perturbation();
  perturbation.set_image(41);
  perturbation.mutable_lime()->set_samples(20);
  perturbation.mutable_hiding()->set_blur(0.1);
  perturbation.mutable_hiding()->mutable_background()->set_per_class(2);
  for (const auto& [hidden, name] : {std::pair(v1::HIDDEN_VALUE_BLUR, "blur"), {v1::HIDDEN_VALUE_INPAINT, "inpaint"},
                                     {v1::HIDDEN_VALUE_BACKGROUND, "background"}}) {
    perturbation.set_hidden(hidden);
    *payload.mutable_perturb() = *RunPerturb(perturb, *data, zones, **plan);
    results[absl::StrCat("perturb.", name)] = HashOf(payload);
  }
  return results;
}

// Baselines and embeddings.
std::map<std::string, std::string> ClassicalResults(const std::string& weights) {
  std::map<std::string, std::string> results;
  auto data = std::make_shared<ImageData>(*Images());
  data->set = std::make_shared<MaskedSet>();
  GramCache grams;
  const std::shared_ptr<const Gram> gram = *grams.Get(v1::ImageSource(), *data);
  v1::BaselineTask baseline;
  baseline.set_seed(4);
  const auto fit = [&](const std::string& name) {
    v1::Payload payload;
    *payload.mutable_baseline() = *RunBaseline(baseline, *data, data->split, [&] { return gram; });
    results["baseline." + name] = HashOf(payload);
  };
  baseline.mutable_forest()->set_trees(5);
  baseline.mutable_forest()->set_depth(3);
  fit("forest");
  baseline.mutable_logistic()->set_c(0.1);
  baseline.mutable_logistic()->set_penalty(v1::PENALTY_L1);
  fit("l1");
  baseline.mutable_logistic()->set_penalty(v1::PENALTY_L2);
  fit("l2");
  for (const std::string of : {"pixels", "features"}) {
    EmbeddedValues values;
    v1::SeparationTask separation;
    v1::PcaTask& task = *separation.mutable_pca();
    task.set_components(6);
    if (of == "pixels") {
      values.pixels = gram;
    } else {
      task.mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
      Features features = *FeaturesOf(task.model(), weights, *data, EmbeddedImages(data->split));
      values.features = std::move(features.values);
      values.dimensions = features.count;
    }
    v1::Payload pca, tsne, separated;
    *pca.mutable_pca() = *RunPca(task, *data, values);
    results["pca." + of] = HashOf(pca);
    v1::TsneTask& points = *separation.add_tsne();
    *points.mutable_pca() = task;
    points.set_input(v1::TSNE_INPUT_RAW);
    points.set_perplexity(8);
    points.set_iterations(300);
    *tsne.mutable_tsne() = *RunTsne(points, pca.pca(), values);
    results["tsne." + of] = HashOf(tsne);
    separation.set_neighbours(5);
    separation.set_draws(200);
    *separated.mutable_separation() =
        *RunSeparation(separation, pca.pca(), {&tsne.tsne()}, *data, values);
    results["separation." + of] = HashOf(separated);
  }
  return results;
}

// One run of masks by name.
void SetSomeMasks(const std::string& name, uint32_t superpixels, v1::Perturbation& perturbation) {
  if (name == "lime") {
    perturbation.mutable_lime()->set_samples(60);
    perturbation.set_hidden(v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
  } else if (name == "shapley") {
    perturbation.mutable_shapley()->set_permutations(2);
  } else if (name == "occlusion") {
    perturbation.mutable_occlusion()->set_superpixels(superpixels);
  } else if (name == "rise") {
    perturbation.mutable_rise()->set_samples(60);
    perturbation.mutable_rise()->set_probability(0.5);
  } else if (name == "partition") {
    perturbation.mutable_partition()->set_budget(60);
  } else {
    v1::CoalitionMasks& masks = *perturbation.mutable_coalitions();
    masks.set_estimator(name == "kernel" ? v1::ESTIMATOR_KERNEL : v1::ESTIMATOR_LEVERAGE);
    masks.set_superpixels(superpixels);
    masks.set_budget(250);
  }
}

// Name -> hash.
std::map<std::string, std::string> Results() {
  std::map<std::string, std::string> results;
  const std::shared_ptr<const ImageData> data = Images();
  const std::string weights = Weights(), resnet_weights = Weights(v1::MODEL_KIND_RESNET18);
  for (const v1::Precision precision : {v1::PRECISION_FP32, v1::PRECISION_BF16}) {
    const std::string suffix = precision == v1::PRECISION_FP32 ? ".fp32" : ".bf16";
    results["train" + suffix] = HashOf(Training(precision, data));
    auto plan = MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, weights, kSize, precision);
    EXPECT_TRUE(plan.ok()) << plan.status();
    v1::EvaluateTask evaluate;
    evaluate.set_count(8);
    v1::Payload payload;
    *payload.mutable_evaluate() = *RunEvaluate(evaluate, *data, **plan);
    results["evaluate" + suffix] = HashOf(payload);
    auto resnet = MakeInferencePlan(v1::MODEL_KIND_RESNET18, resnet_weights, kSize, precision);
    EXPECT_TRUE(resnet.ok()) << resnet.status();
    *payload.mutable_evaluate() = *RunEvaluate(evaluate, *data, **resnet);
    results["evaluate.resnet18" + suffix] = HashOf(payload);

    for (const bool slic : {true, false}) {
      v1::SuperpixelTask cut;
      if (slic) {
        cut.mutable_superpixels()->mutable_slic()->set_count(12);
        cut.mutable_superpixels()->mutable_slic()->set_compactness(10);
        cut.mutable_superpixels()->mutable_slic()->set_sigma(1);
      } else {
        cut.mutable_superpixels()->mutable_quickshift()->set_kernel_size(4);
        cut.mutable_superpixels()->mutable_quickshift()->set_max_dist(200);
        cut.mutable_superpixels()->mutable_quickshift()->set_ratio(0.2);
      }
      const v1::SuperpixelOutput superpixels = *RunSuperpixels(cut, *data->set);
      *payload.mutable_superpixels() = superpixels;
      results[slic ? "superpixels.slic" : "superpixels.quickshift"] = HashOf(payload);
      if (!slic) continue;
      for (const char* name : {"lime", "shapley", "kernel", "leverage", "occlusion", "rise", "partition"}) {
        v1::FitTask fit;
        fit.set_output(v1::OUTPUT_KIND_MARGIN);
        v1::Perturbation& perturbation = *fit.mutable_perturbation();
        perturbation.set_seed(9);
        perturbation.set_precision(precision);
        perturbation.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
        SetSomeMasks(name, superpixels.count(), perturbation);
        if (perturbation.has_partition()) {
          *payload.mutable_fit() = *RunPartition(fit, *data, superpixels, **plan);
        } else {
          v1::PerturbTask task;
          *task.mutable_perturbation() = perturbation;
          const v1::PerturbOutput run = *RunPerturb(task, *data, superpixels, **plan);
          *payload.mutable_perturb() = run;
          results[absl::StrCat("perturb.", name, suffix)] = HashOf(payload);
          *payload.mutable_fit() = *RunFit(fit, superpixels.count(), {run});
        }
        results[absl::StrCat("fit.", name, suffix)] = HashOf(payload);
        if (std::string_view(name) != "shapley") continue;
        v1::FidelityTask fidelity;
        fidelity.set_output(v1::OUTPUT_KIND_MARGIN);
        fidelity.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
        fidelity.set_blur(0.1);
        fidelity.set_halves(8);
        fidelity.set_seed(9);
        *fidelity.mutable_attribution()->mutable_fit() = fit;
        uint64_t evaluations = 0;
        v1::Payload judged;
        *judged.mutable_fidelity() =
            *RunFidelity(fidelity, {&superpixels, &payload, &superpixels}, *data, **plan, &evaluations);
        results["fidelity" + suffix] = HashOf(judged);
      }
    }
  }
  v1::StabilityTask stability;
  stability.set_noise_draws(2);
  stability.set_noise_radius(0.02);
  stability.add_layers("dense");
  stability.mutable_priors()->set_random_orders(1);
  v1::SuperpixelTask cut;
  cut.mutable_superpixels()->mutable_slic()->set_count(12);
  auto superpixels = std::make_shared<v1::Payload>();
  *superpixels->mutable_superpixels() = *RunSuperpixels(cut, *data->set);
  v1::Payload stable;
  *stable.mutable_stability() = *RunStability(stability, {superpixels}, *data);
  results["stability"] = HashOf(stable);
  for (const auto& [name, hash] : LesionResults(weights)) results[name] = hash;
  for (const auto& [name, hash] : ClassicalResults(weights)) results[name] = hash;
  v1::ActivationTask activations;
  activations.set_output(v1::OUTPUT_KIND_MARGIN);
  activations.mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  v1::Payload payload;
  *payload.mutable_activations() = *RunActivations(activations, *data, weights);
  results["activations"] = HashOf(payload);
  for (const auto cam : {v1::CAM_KIND_GRAD_CAM_PLUS_PLUS, v1::CAM_KIND_HIRES_CAM, v1::CAM_KIND_LAYER_CAM}) {
    activations.set_cam(cam);
    *payload.mutable_activations() = *RunActivations(activations, *data, weights);
    results["activations." + CamName(cam)] = HashOf(payload);
  }
  v1::GradientTask gradient;
  gradient.set_output(v1::OUTPUT_KIND_MARGIN);
  gradient.mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  gradient.set_seed(9);
  const auto run = [&](const std::string& name) {
    GradientCache cache;
    *payload.mutable_gradient() = *RunGradient(gradient, *data, weights, cache);
    results["gradient." + name] = HashOf(payload);
  };
  gradient.mutable_integrated_gradients()->set_steps(20);
  run("integrated_gradients");
  gradient.mutable_smooth_grad()->set_samples(8);
  gradient.mutable_smooth_grad()->set_noise(0.1);
  run("smooth_grad");
  gradient.mutable_background()->set_per_class(9);
  gradient.mutable_expected_gradients()->set_samples(20);
  run("expected_gradients");
  gradient.mutable_deep_shap();
  run("deep_shap");
  return results;
}

TEST(GoldenResults, BitsChangeOnlyWithTheSemanticsOfTheirKind) {
  const absl::StatusOr<std::string> numerics = NumericsClassOfCpu();
  ASSERT_TRUE(numerics.ok()) << numerics.status();
  PrepareComputeThread();
  const std::map<std::string, std::string> results = Results();
  const char* source = std::getenv("DERMIS_SOURCE_DIR");
  std::ifstream table(absl::StrCat(source == nullptr ? "." : source, "/tests/unit/worker/golden/golden_results.txt"));
  std::map<std::string, std::string> golden;
  std::string line;
  while (std::getline(table, line)) {
    std::istringstream words(line);
    std::string of, name, hash;
    if (words >> of >> name >> hash && of == *numerics) golden[name] = hash;
  }
  if (golden.empty()) {
    std::string lines;
    for (const auto& [name, hash] : results) absl::StrAppend(&lines, *numerics, " ", name, " ", hash, "\n");
    GTEST_SKIP() << "golden_results.txt does not know this numerics class; its lines would be\n" << lines;
  }
  for (const auto& [name, hash] : results) {
    EXPECT_EQ(hash, golden[name]) << name << ": other bits than before. Where that is wanted raise SemanticsOf its kind.";
  }
}

}  // namespace
}  // namespace dermis
