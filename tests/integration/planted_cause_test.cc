// Do the explanations find what truly causes the prediction? Synthetic images carry a region whose pattern alone sets
// the label (tools/synth); a network is trained on them and LIME and Shapley values explain held-out images. An
// untrained network and one trained on shuffled labels must fail the same test: else it would measure the images.
//
// Thresholds are the issue's; a pilot on another seed (11) gave enrichments far above them and chose the sizes here
// (images, epochs, masks) so that the test ends within minutes.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/checks.h"
#include "common/image_set.h"
#include "common/metrics.h"
#include "common/philox.h"
#include "common/rank.h"
#include "common/tasks.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/synth/synth.h"
#include "worker/collective/collective.h"
#include "worker/data/image_source.h"
#include "worker/explain/checks/fidelity.h"
#include "worker/explain/explain.h"
#include "worker/explain/planted_cause.h"
#include "worker/explain/superpixels.h"
#include "worker/models/model.h"
#include "worker/plan/inference_plan.h"
#include "worker/training/trainer.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kImages = 800;
constexpr uint32_t kExplained = 100;     // Held-out images, the first of the test split.
constexpr uint32_t kEpochs = 24;
constexpr uint32_t kThreads = 2;

SynthOptions Options(bool exchange) {
  SynthOptions options;
  options.seed = 5;
  options.count = kImages;
  options.exchange_region = exchange;
  return options;
}

v1::ImageSource SourceOf(const ImageSet& set) {
  v1::ImageSource source;
  source.set_image_set(set.digest().bytes());
  source.set_size(32);
  source.mutable_split()->set_test(0.25);
  source.mutable_split()->set_validation(0.15);
  source.set_split_seed(1);
  return source;
}

struct Loaded {
  v1::ImageSource source;
  std::shared_ptr<const ImageData> data;
};

Loaded Load(bool exchange) {
  std::string name = (fs::temp_directory_path() / "dermis-planted-XXXXXX").string();
  const fs::path folder = mkdtemp(name.data());
  const std::string path = folder / "set.images";
  EXPECT_TRUE(WriteSynthSet(Options(exchange), path).ok());
  auto opened = ImageSet::OpenFile(path);
  EXPECT_TRUE(opened.ok()) << opened.status();
  std::shared_ptr<ImageSet> set = *std::move(opened);
  ImageSources sources([set](const Digest& digest) -> absl::StatusOr<std::string> {
    if (digest == set->digest()) return set->manifest_blob();
    auto bytes = set->ChunkBytes(digest);
    if (!bytes.ok()) return bytes.status();
    return std::string(*bytes);
  });
  Loaded loaded{SourceOf(*set), nullptr};
  auto data = sources.Get(loaded.source);
  EXPECT_TRUE(data.ok()) << data.status();
  loaded.data = *data;
  fs::remove_all(folder);
  return loaded;
}

v1::Recipe RecipeFor(const v1::ImageSource& source) {
  v1::Recipe recipe;
  *recipe.mutable_images() = source;
  recipe.set_model(v1::MODEL_KIND_SEED_CNN);
  recipe.set_logical_shards(4);
  recipe.set_batch_size(64);
  auto& rmsprop = *recipe.mutable_optimizer()->mutable_rmsprop();
  rmsprop.set_learning_rate(1e-3);
  rmsprop.set_alpha(0.9);
  rmsprop.set_epsilon(1e-7);
  rmsprop.set_decay(1e-6);
  rmsprop.set_weight_decay(1e-4);
  recipe.set_augment(true);
  recipe.set_dropout(true);
  recipe.set_precision(v1::PRECISION_FP32);
  recipe.set_seed(1);
  recipe.set_best_metric(v1::SELECTION_METRIC_VALIDATION_LOSS);
  return recipe;
}

std::string TrainOn(const v1::Recipe& recipe, std::shared_ptr<const ImageData> data, bool best) {
  v1::TrainGoal goal;
  goal.set_max_epochs(kEpochs);
  auto collective = MakeLocalCollective(recipe.logical_shards());
  TrainerOptions options;
  options.threads = kThreads;
  options.segment = absl::Hours(1);
  std::string weights;
  const std::atomic<bool> yield{false};
  std::atomic<uint64_t> progress{0};
  const auto step = Train(recipe, goal, std::move(data), *collective, "", options,
                          [&](TrainedState state) {
                            weights = best ? state.best_model : state.last_model;
                            return absl::OkStatus();
                          },
                          yield, progress);
  EXPECT_TRUE(step.ok()) << step.status();
  return weights;
}

double MarginOf(InferencePlan& plan, const ImageData& data, uint32_t image) {
  const Normalisation normalise = NormalisationOf(data);
  const size_t n = size_t{data.size} * data.size * 3;
  std::transform(data.image(image), data.image(image) + n, plan.input(),
                 [&](uint8_t v) { return normalise(v); });
  float logits[2];
  EXPECT_TRUE(plan.Run(1, logits).ok());
  return logits[1] - logits[0];
}

std::unique_ptr<InferencePlan> PlanOf(const std::string& weights) {
  auto plan = MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, weights, 32, v1::PRECISION_FP32);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

// What one method says of many images.
struct Findings {
  std::vector<double> image, lesion;   // Enrichment of each image.
  double sign_right = 0;               // Share of images whose region points to their own class.
  std::array<uint32_t, std::size(kPriorNames)> beats{};  // Images whose area under deletion is below the prior's.

  static double Median(std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
    return v[v.size() / 2];
  }
  static double PValue(const std::vector<double>& ratios) {
    std::vector<double> differences;
    for (double r : ratios) differences.push_back(std::min(r, 1e6) - 1);
    return WilcoxonGreater(differences);
  }
  bool Passes() const {
    return Median(image) >= 3 && Median(lesion) >= 2 && PValue(image) < .001 && PValue(lesion) < .001 &&
           sign_right >= .9;
  }
  std::string Text() const {
    return absl::StrCat("median enrichment ", Median(image), " of the image, ", Median(lesion),
                        " of the lesion's rest; p ", PValue(image), ", ", PValue(lesion), "; sign right ",
                        sign_right);
  }
};

v1::Perturbation PerturbationOf(const v1::ImageSource& source, uint32_t image, bool shapley) {
  v1::Perturbation p;
  *p.mutable_images() = source;
  p.set_image(image);
  p.mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  p.set_precision(v1::PRECISION_FP32);
  auto& slic = *p.mutable_superpixels()->mutable_slic();
  slic.set_count(50);
  slic.set_compactness(10);
  slic.set_sigma(1);
  p.set_seed(1);
  if (shapley) {
    p.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
    p.mutable_shapley()->set_permutations(8);
  } else {
    p.set_hidden(v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
    p.mutable_lime()->set_samples(500);
  }
  return p;
}

// By margin, towards the predicted class.
double DeletionArea(const v1::Fidelity& map) {
  double sum = 0;
  for (double margin : map.deletion().margin()) sum += margin;
  return sum;
}

v1::FidelityOutput Fidelity(const v1::FitTask& fit, const FidelityInputs& inputs, const ImageData& data,
                            InferencePlan& plan) {
  v1::FidelityTask task;
  task.set_image(fit.perturbation().image());
  task.set_output(fit.output());
  task.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  task.set_blur(0.1);
  task.set_halves(1);
  task.set_seed(1);
  if (inputs.attribution == nullptr) {
    task.mutable_priors()->set_random_orders(3);
  } else {
    *task.mutable_attribution()->mutable_fit() = fit;
  }
  uint64_t evaluations = 0;
  const auto output = RunFidelity(task, inputs, data, plan, &evaluations);
  EXPECT_TRUE(output.ok()) << output.status();
  return output.ok() ? *output : v1::FidelityOutput();
}

// The test images are shared out over threads, each with a plan of its own. `judge`: whether orders are held against the
// priors', which costs as much again.
Findings Explain(const Loaded& loaded, const std::string& weights, bool shapley, bool judge) {
  const ImageData& data = *loaded.data;
  std::vector<Enrichment> found(kExplained);
  std::vector<std::array<bool, std::size(kPriorNames)>> beats(kExplained);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      auto plan = PlanOf(weights);
      for (uint32_t i = t; i < kExplained; i += kThreads) {
        const uint32_t image = data.split.test[i];
        v1::FitTask fit;
        *fit.mutable_perturbation() = PerturbationOf(loaded.source, image, shapley);
        fit.set_output(v1::OUTPUT_KIND_MARGIN);
        v1::SuperpixelTask cut;
        cut.set_image(image);
        *cut.mutable_superpixels() = fit.perturbation().superpixels();
        const auto superpixels = RunSuperpixels(cut, *data.set);
        ASSERT_TRUE(superpixels.ok()) << superpixels.status();
        std::vector<v1::PerturbOutput> runs;
        for (uint32_t run = 0; run < RunCount(fit.perturbation()); ++run) {
          v1::PerturbTask task;
          *task.mutable_perturbation() = fit.perturbation();
          task.set_run(run);
          auto output = RunPerturb(task, data, *superpixels, *plan);
          ASSERT_TRUE(output.ok()) << output.status();
          runs.push_back(*std::move(output));
        }
        const auto attribution = RunFit(fit, superpixels->count(), runs);
        ASSERT_TRUE(attribution.ok()) << attribution.status();
        const auto segmentation = FromProto(*superpixels);
        const auto mask = data.set->Mask(image);
        ASSERT_TRUE(segmentation.ok() && mask.ok());
        std::vector<uint8_t> region, lesion;
        for (char m : *mask) {
          region.push_back(static_cast<uint8_t>(m) == kPlanted);
          lesion.push_back(static_cast<uint8_t>(m) != kOutside);
        }
        const std::vector<double> values(attribution->values().begin(), attribution->values().end());
        const auto enrichment = EnrichmentOf(values, *segmentation, region, lesion);
        ASSERT_TRUE(enrichment.ok()) << enrichment.status();
        found[i] = *enrichment;
        if (!judge) continue;
        v1::Payload payload;
        *payload.mutable_fit() = *attribution;
        const v1::FidelityOutput judged = Fidelity(fit, {&*superpixels, &payload, &*superpixels}, data, *plan);
        const v1::FidelityOutput priors = Fidelity(fit, {&*superpixels, nullptr, nullptr}, data, *plan);
        ASSERT_EQ(priors.maps_size(), static_cast<int>(std::size(kPriorNames)));
        for (int k = 0; k < priors.maps_size(); ++k) {
          beats[i][static_cast<size_t>(k)] = DeletionArea(judged.maps(0)) < DeletionArea(priors.maps(k));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Findings findings;
  uint32_t right = 0;
  for (uint32_t i = 0; i < kExplained; ++i) {
    findings.image.push_back(found[i].image);
    findings.lesion.push_back(found[i].lesion);
    right += (found[i].region > 0) == (data.labels[data.split.test[i]] == 1);
    for (size_t k = 0; k < findings.beats.size(); ++k) findings.beats[k] += beats[i][k];
  }
  findings.sign_right = static_cast<double>(right) / kExplained;
  std::printf("%s: %s\n", shapley ? "Shapley" : "LIME", findings.Text().c_str());
  return findings;
}

class PlantedCause : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { loaded_ = new Loaded(Load(false)); }
  static void TearDownTestSuite() { delete loaded_; }
  static Loaded* loaded_;
};
Loaded* PlantedCause::loaded_ = nullptr;

TEST_F(PlantedCause, IsFoundByLimeAndShapleyInATrainedNetwork) {
  const std::string weights = TrainOn(RecipeFor(loaded_->source), loaded_->data, true);
  ASSERT_FALSE(weights.empty());

  // The premise: the network sees the cause, and nothing but the cause.
  auto plan = PlanOf(weights);
  const Loaded exchanged = Load(true);
  std::vector<double> scores;
  std::vector<uint32_t> labels;
  uint32_t flipped = 0;
  for (uint32_t image : loaded_->data->split.test) {
    const double margin = MarginOf(*plan, *loaded_->data, image);
    // The other set's pixels under this set's normalisation: only the region differs.
    ImageData other = *loaded_->data;
    std::copy(exchanged.data->image(image), exchanged.data->image(image) + 32 * 32 * 3,
              other.pixels.begin() + size_t{image} * 32 * 32 * 3);
    flipped += (margin > 0) != (MarginOf(*plan, other, image) > 0);
    scores.push_back(margin);
    labels.push_back(loaded_->data->labels[image]);
  }
  // Ranks are all that the area needs; margins become probabilities only to be in [0, 1].
  for (double& s : scores) s = 1 / (1 + std::exp(-s));
  const Evaluation evaluation = Evaluate(scores, labels);
  std::printf("area under ROC %.3f, accuracy %.3f, flipped %u of %zu\n", evaluation.roc_area,
              evaluation.accuracy, flipped, scores.size());
  ASSERT_GE(evaluation.roc_area, .95);
  ASSERT_GE(flipped, .9 * static_cast<double>(scores.size()));

  for (bool shapley : {false, true}) {
    const Findings findings = Explain(*loaded_, weights, shapley, true);
    EXPECT_TRUE(findings.Passes()) << findings.Text();
    // The check of fidelity finds out, too, that these orders are right.
    std::printf("%s: area under deletion below random order on %u, centre on %u, edges on %u of %u images\n",
                shapley ? "Shapley" : "LIME", findings.beats[0], findings.beats[1], findings.beats[2], kExplained);
    // Shapley values hide by what deletion hides by (the training mean), and their order beats every prior. LIME hides by
    // the superpixel's own mean, so deletion asks it another question: measured, its order beats random order on 99 of
    // 100 images, edges on 70 and the centre, where these lesions lie, on 56. Only the first is demanded of it.
    for (size_t prior = 0; prior < std::size(kPriorNames); ++prior) {
      if (!shapley && std::string(kPriorNames[prior]) != "random") continue;
      EXPECT_LT(SignTest(findings.beats[prior], kExplained), 1e-6) << kPriorNames[prior];
    }
  }
}

TEST_F(PlantedCause, IsNotFoundInAnUntrainedNetwork) {
  const auto layout = LayoutOf(v1::MODEL_KIND_SEED_CNN, 32, 2);
  ASSERT_TRUE(layout.ok());
  Model model;
  model.layout = *layout;
  InitializeModel(1, model);
  model.pixel_mean = loaded_->data->mean;
  model.pixel_deviation = loaded_->data->deviation;
  for (bool shapley : {false, true}) {
    EXPECT_FALSE(Explain(*loaded_, SerializeModel(model), shapley, false).Passes());
  }
}

TEST_F(PlantedCause, IsNotFoundInANetworkTrainedOnShuffledLabels) {
  auto shuffled = std::make_shared<ImageData>(*loaded_->data);
  const auto order = PhiloxPermutation(7, Purpose::kTest, 0, static_cast<uint32_t>(shuffled->labels.size()));
  for (size_t i = 0; i < order.size(); ++i) shuffled->labels[i] = loaded_->data->labels[order[i]];
  const std::string weights = TrainOn(RecipeFor(loaded_->source), shuffled, false);
  for (bool shapley : {false, true}) {
    EXPECT_FALSE(Explain(*loaded_, weights, shapley, false).Passes());
  }
}

}  // namespace
}  // namespace dermis
