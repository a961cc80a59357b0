#include "common/tasks.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

constexpr char kClass[] = "cpu/test";

v1::Recipe SomeRecipe() {
  v1::Recipe recipe;
  recipe.mutable_images()->set_image_set(std::string(32, 'i'));
  recipe.mutable_images()->set_size(32);
  recipe.mutable_images()->mutable_split()->set_test(0.2);
  recipe.mutable_images()->mutable_split()->set_validation(0.1);
  recipe.mutable_images()->set_split_seed(1);
  recipe.set_model(v1::MODEL_KIND_SEED_CNN);
  recipe.set_logical_shards(4);
  recipe.set_batch_size(64);
  recipe.mutable_optimizer()->mutable_rmsprop()->set_learning_rate(1e-3);
  recipe.set_augment(true);
  recipe.set_dropout(true);
  recipe.set_precision(v1::PRECISION_FP32);
  recipe.set_seed(1);
  recipe.set_best_metric(v1::SELECTION_METRIC_VALIDATION_LOSS);
  return recipe;
}

v1::Perturbation SomePerturbation() {
  v1::Perturbation p;
  *p.mutable_images() = SomeRecipe().images();
  p.set_image(17);
  p.mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  p.mutable_model()->set_weights(std::string(32, 'w'));
  p.set_precision(v1::PRECISION_FP32);
  p.mutable_superpixels()->mutable_slic()->set_count(50);
  p.set_hidden(v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
  p.mutable_lime()->set_samples(1000);
  p.set_seed(1);
  return p;
}

v1::TaskSpec OfKind(v1::TaskSpec::KindCase kind) {
  v1::TaskSpec task;
  switch (kind) {
    case v1::TaskSpec::kTrain:
      return TrainTaskOf(SomeRecipe(), 1200, kClass);
    case v1::TaskSpec::kEvaluate:
      *task.mutable_evaluate()->mutable_images() = SomeRecipe().images();
      *task.mutable_evaluate()->mutable_model() = SomePerturbation().model();
      task.mutable_evaluate()->set_precision(v1::PRECISION_FP32);
      task.mutable_evaluate()->set_first(64);
      task.mutable_evaluate()->set_count(2);
      break;
    case v1::TaskSpec::kSuperpixels:
      task.mutable_superpixels()->set_image_set(std::string(32, 'i'));
      task.mutable_superpixels()->set_image(17);
      task.mutable_superpixels()->mutable_superpixels()->mutable_slic()->set_count(50);
      break;
    case v1::TaskSpec::kPerturb:
      return PerturbTaskOf(SomePerturbation(), 2, kClass);
    case v1::TaskSpec::kFit:
      *task.mutable_fit()->mutable_perturbation() = SomePerturbation();
      task.mutable_fit()->set_output(v1::OUTPUT_KIND_MARGIN);
      break;
    case v1::TaskSpec::kActivations:
      *task.mutable_activations()->mutable_images() = SomeRecipe().images();
      task.mutable_activations()->set_image(17);
      *task.mutable_activations()->mutable_model() = SomePerturbation().model();
      task.mutable_activations()->set_output(v1::OUTPUT_KIND_MARGIN);
      break;
    case v1::TaskSpec::kGradient:
      *task.mutable_gradient()->mutable_images() = SomeRecipe().images();
      task.mutable_gradient()->set_image(17);
      *task.mutable_gradient()->mutable_model() = SomePerturbation().model();
      task.mutable_gradient()->set_output(v1::OUTPUT_KIND_MARGIN);
      task.mutable_gradient()->mutable_deep_shap();
      task.mutable_gradient()->mutable_background()->set_per_class(50);
      task.mutable_gradient()->mutable_background()->set_seed(1);
      break;
    case v1::TaskSpec::kNoop:
      task.mutable_noop()->set_index(7);
      break;
    case v1::TaskSpec::kFidelity:
      *task.mutable_fidelity()->mutable_images() = SomeRecipe().images();
      task.mutable_fidelity()->set_image(17);
      *task.mutable_fidelity()->mutable_model() = SomePerturbation().model();
      task.mutable_fidelity()->mutable_superpixels()->mutable_slic()->set_count(50);
      task.mutable_fidelity()->set_blur(0.1);
      *task.mutable_fidelity()->mutable_attribution() = OfKind(v1::TaskSpec::kFit);
      break;
    case v1::TaskSpec::kStability:
      *task.mutable_stability()->mutable_images() = SomeRecipe().images();
      task.mutable_stability()->set_image(17);
      task.mutable_stability()->set_noise_draws(10);
      task.mutable_stability()->set_noise_radius(0.02);
      task.mutable_stability()->add_layers("dense");
      *task.mutable_stability()->mutable_attribution() = OfKind(v1::TaskSpec::kActivations);
      break;
    case v1::TaskSpec::kLesion:
      *task.mutable_lesion()->mutable_images() = SomeRecipe().images();
      task.mutable_lesion()->set_image(17);
      task.mutable_lesion()->set_placements(1);
      break;
    case v1::TaskSpec::kLesionSummary:
      task.mutable_lesion_summary()->add_images(3);
      task.mutable_lesion_summary()->set_primary(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE);
      task.mutable_lesion_summary()->set_null(v1::LESION_NULL_SHIFTED);
      break;
    case v1::TaskSpec::kShortcut:
      task.mutable_shortcut()->add_variants()->set_show(v1::LESION_REGION_LESION);
      break;
    default:
      break;
  }
  return MakeTask(std::move(task), kClass);
}

// Addresses of stored results. A failure here means that every store would be orphaned: raise the kind's
// semantics on purpose, or undo the change.
TEST(TasksTest, Digests_AreThoseOfTheGoldenTable) {
  const std::pair<v1::TaskSpec::KindCase, const char*> golden[] = {
      {v1::TaskSpec::kTrain,
       "7bed2923572bdedc472e5f40c0cca3b4ce10310cc87cfd32b059d0a7c0d098cb"},
      {v1::TaskSpec::kEvaluate,
       "e23afcc48d2c2b01799912fa43d844af4686b700f1acd8c492ad687df6113b2c"},
      {v1::TaskSpec::kSuperpixels,
       "0fd8cdbaad28fba625a6015ec8910e014c512d288fabd3ecce5e1b0cc0c5f01f"},
      {v1::TaskSpec::kPerturb,
       "2acc94c3f010efcb7f0acad568e222012d901a9fdc644839abf2b5cfa7cdeef0"},
      {v1::TaskSpec::kFit,
       "e96ad710079f00ae950cc537222b62e9173f29058f6c26d13a1d8780685be067"},
      {v1::TaskSpec::kActivations,
       "133f32d51fa71256138df6a2ee290132d2ce3167f127e7f2ffcecbd99ef9fb5c"},
      {v1::TaskSpec::kGradient,
       "ba415ad370cc49c6c196518dca74c0b64bf28bd9006963070afe5a6e2e4a26eb"},
      {v1::TaskSpec::kNoop,
       "4ffbec8c312fcf040b119c9d3093e4ccfab67c7b20f906f69c316aebccfcb09f"},
  };
  for (const auto& [kind, hex] : golden) {
    EXPECT_EQ(TaskDigest(OfKind(kind))->hex(), hex) << Describe(OfKind(kind));
  }
}

TEST(TasksTest, Digest_ChangesWithNumericsClassAndSemantics) {
  v1::TaskSpec task = OfKind(v1::TaskSpec::kNoop);
  const Digest digest = *TaskDigest(task);
  EXPECT_NE(*TaskDigest(MakeTask(task, "cpu/other")), digest);
  task.set_semantics(task.semantics() + 1);
  EXPECT_NE(*TaskDigest(task), digest);
}

TEST(TasksTest, RecipeOf_LeavesOutEpochsAndPatience) {
  v1::StudySpec a;
  a.set_seed(5);
  a.mutable_training()->set_epochs(10);
  a.mutable_training()->mutable_early_stopping()->set_metric(v1::SELECTION_METRIC_VALIDATION_LOSS);
  a.mutable_training()->mutable_early_stopping()->set_patience(3);
  v1::StudySpec b = a;
  b.mutable_training()->set_epochs(500);
  b.mutable_training()->mutable_early_stopping()->set_patience(15);
  b.set_name("other");
  const Digest set = Sha256Of("set");
  EXPECT_EQ(*RecipeDigest(RecipeOf(a, set), kClass), *RecipeDigest(RecipeOf(b, set), kClass));
  b.set_seed(6);
  EXPECT_NE(*RecipeDigest(RecipeOf(a, set), kClass), *RecipeDigest(RecipeOf(b, set), kClass));
  EXPECT_NE(*RecipeDigest(RecipeOf(a, set), kClass),
            *RecipeDigest(RecipeOf(a, Sha256Of("another")), kClass));
}

TEST(TasksTest, RecipeOf_HoldsTheAugmentation) {
  v1::StudySpec spec;
  const Digest set = Sha256Of("set");
  const Digest without = *RecipeDigest(RecipeOf(spec, set), kClass);
  spec.mutable_training()->mutable_augmentation()->set_hue(0.1);
  EXPECT_EQ(RecipeOf(spec, set).augmentation().hue(), 0.1);
  EXPECT_NE(*RecipeDigest(RecipeOf(spec, set), kClass), without);
}

TEST(TasksTest, RecipeOf_HoldsTheShuffleWindow) {
  v1::StudySpec spec;
  const Digest set = Sha256Of("set");
  const Digest without = *RecipeDigest(RecipeOf(spec, set), kClass);
  spec.mutable_training()->set_shuffle_window(1000);
  EXPECT_EQ(RecipeOf(spec, set).shuffle_window(), 1000u);
  EXPECT_NE(*RecipeDigest(RecipeOf(spec, set), kClass), without);
}

TEST(TasksTest, RecipeOf_AFastReduction_IsTheStudysOwn) {
  v1::StudySpec spec;
  spec.set_name("a");
  v1::StudySpec other = spec;
  other.set_name("b");
  const Digest set = Sha256Of("set");
  EXPECT_EQ(*RecipeDigest(RecipeOf(spec, set), kClass), *RecipeDigest(RecipeOf(other, set), kClass));
  spec.mutable_training()->set_reduction(v1::REDUCTION_FAST);
  other.mutable_training()->set_reduction(v1::REDUCTION_FAST);
  EXPECT_NE(*RecipeDigest(RecipeOf(spec, set), kClass), *RecipeDigest(RecipeOf(other, set), kClass));
  EXPECT_EQ(*RecipeDigest(RecipeOf(spec, set), kClass), *RecipeDigest(RecipeOf(spec, set), kClass));
}

TEST(TasksTest, RunCount_RoundsUp) {
  v1::Perturbation p;
  EXPECT_EQ(RunCount(p), 0u);
  p.mutable_lime()->set_samples(1000);
  EXPECT_EQ(RunCount(p), 4u);
  p.mutable_lime()->set_samples(1001);
  EXPECT_EQ(RunCount(p), 5u);
  p.mutable_shapley()->set_permutations(3);
  EXPECT_EQ(RunCount(p), 2u);
}

TEST(TasksTest, CheckPayload_Perturb_CountsTheRowsOfTheRun) {
  v1::Perturbation p = SomePerturbation();
  p.mutable_lime()->set_samples(260);
  v1::Payload payload;
  payload.mutable_perturb()->set_classes(2);
  payload.mutable_perturb()->mutable_logits()->Resize(500, 0.f);
  EXPECT_TRUE(CheckPayload(PerturbTaskOf(p, 0, kClass), payload).ok());
  EXPECT_FALSE(CheckPayload(PerturbTaskOf(p, 1, kClass), payload).ok());
  payload.mutable_perturb()->mutable_logits()->Resize(20, 0.f);
  EXPECT_TRUE(CheckPayload(PerturbTaskOf(p, 1, kClass), payload).ok());
  EXPECT_FALSE(CheckPayload(PerturbTaskOf(p, 2, kClass), payload).ok());
  payload.mutable_perturb()->set_logits(3, std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(CheckPayload(PerturbTaskOf(p, 1, kClass), payload).ToString(), HasSubstr("finite"));

  p.mutable_shapley()->set_permutations(3);  // S = 5: 2 + 2 * 2 * 4 rows, then 2 * 4.
  payload.mutable_perturb()->mutable_logits()->Clear();
  payload.mutable_perturb()->mutable_logits()->Resize(2 * 18, 0.f);
  EXPECT_TRUE(CheckPayload(PerturbTaskOf(p, 0, kClass), payload).ok());
  payload.mutable_perturb()->mutable_logits()->Resize(2 * 17, 0.f);
  EXPECT_FALSE(CheckPayload(PerturbTaskOf(p, 0, kClass), payload).ok());
  payload.mutable_perturb()->mutable_logits()->Resize(2 * 8, 0.f);
  EXPECT_TRUE(CheckPayload(PerturbTaskOf(p, 1, kClass), payload).ok());
}

TEST(TasksTest, CheckPayload_Train_WantsOneMetricACompletedEpoch) {
  const v1::TaskSpec task = TrainTaskOf(SomeRecipe(), 25, kClass);
  v1::Payload payload;
  v1::TrainOutput* out = payload.mutable_train();
  out->set_step(25);
  out->set_steps_per_epoch(10);
  out->set_state(std::string(32, 's'));
  out->set_last_model(std::string(32, 'l'));
  out->set_best_model(std::string(32, 'b'));
  out->set_best_epoch(2);
  out->add_epochs()->set_epoch(1);
  EXPECT_FALSE(CheckPayload(task, payload).ok());
  out->add_epochs()->set_epoch(2);
  out->mutable_epochs(1)->set_validation_loss(std::nan(""));  // A result, not a failure.
  EXPECT_TRUE(CheckPayload(task, payload).ok()) << CheckPayload(task, payload);
  EXPECT_EQ(BlobsOf(payload).size(), 3u);
  out->set_best_model(out->last_model());
  EXPECT_EQ(BlobsOf(payload).size(), 2u);
  out->set_best_epoch(3);
  EXPECT_FALSE(CheckPayload(task, payload).ok());
  out->set_best_epoch(2);
  out->set_step(24);
  EXPECT_FALSE(CheckPayload(task, payload).ok());
}

TEST(TasksTest, CheckPayload_Superpixels_WantsEveryLabelUsedAndInRange) {
  v1::Payload payload;
  v1::SuperpixelOutput* out = payload.mutable_superpixels();
  out->set_height(1);
  out->set_width(3);
  out->set_count(2);
  out->set_labels(std::string("\0\0\1\0\0\0", 6));
  const v1::TaskSpec task = OfKind(v1::TaskSpec::kSuperpixels);
  EXPECT_TRUE(CheckPayload(task, payload).ok());
  out->set_labels(std::string("\0\0\1\1\0\0", 6));
  EXPECT_FALSE(CheckPayload(task, payload).ok());
  out->set_labels(std::string("\0\0\0\0\0\0", 6));
  EXPECT_FALSE(CheckPayload(task, payload).ok());
  out->set_labels(std::string("\0\0\1\0", 4));
  EXPECT_FALSE(CheckPayload(task, payload).ok());
}

TEST(TasksTest, CheckPayload_RefusesEveryOtherKind) {
  using Kind = v1::TaskSpec::KindCase;
  v1::Payload noop;
  noop.set_noop(7);
  v1::Payload fit;
  fit.mutable_fit();
  for (Kind kind : {v1::TaskSpec::kTrain, v1::TaskSpec::kEvaluate, v1::TaskSpec::kSuperpixels,
                    v1::TaskSpec::kPerturb, v1::TaskSpec::kFit, v1::TaskSpec::kActivations}) {
    EXPECT_THAT(CheckPayload(OfKind(kind), noop).ToString(), HasSubstr("another kind"));
  }
  EXPECT_TRUE(CheckPayload(OfKind(v1::TaskSpec::kNoop), noop).ok());
  EXPECT_FALSE(CheckPayload(OfKind(v1::TaskSpec::kNoop), fit).ok());
  noop.set_noop(8);
  EXPECT_FALSE(CheckPayload(OfKind(v1::TaskSpec::kNoop), noop).ok());
}

TEST(TasksTest, CheckPayload_Lesion_WantsEveryPlacementAndSubset) {
  const v1::TaskSpec task = OfKind(v1::TaskSpec::kLesion);
  v1::Payload payload;
  payload.mutable_lesion()->set_classes(2);
  for (int p = 0; p < 4; ++p) {
    v1::LesionPlacement& placement = *payload.mutable_lesion()->add_placements();
    placement.mutable_areas()->Resize(4, 0.25);
    placement.mutable_logits()->Resize(32, 0.f);
  }
  EXPECT_TRUE(CheckPayload(task, payload).ok()) << CheckPayload(task, payload);
  payload.mutable_lesion()->mutable_placements(2)->mutable_logits()->RemoveLast();
  EXPECT_FALSE(CheckPayload(task, payload).ok());
  payload.mutable_lesion()->mutable_placements()->DeleteSubrange(2, 1);
  EXPECT_FALSE(CheckPayload(task, payload).ok());
}

TEST(TasksTest, CheckPayload_LesionSummary_WantsThePrimaryFirst_AndSaneNumbers) {
  const v1::TaskSpec task = OfKind(v1::TaskSpec::kLesionSummary);
  v1::Payload payload;
  v1::LesionSummary& summary = *payload.mutable_lesion_summary();
  summary.set_images(1);
  summary.set_lesions(1);
  for (auto* values : {summary.mutable_shares(), summary.mutable_areas(), summary.mutable_values()}) {
    values->Resize(4, 0.25);
  }
  EXPECT_FALSE(CheckPayload(task, payload).ok());
  v1::LesionFinding& finding = *summary.add_findings();
  finding.set_hypothesis(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE);
  finding.set_null(v1::LESION_NULL_SHIFTED);
  finding.set_p(0.2);
  finding.set_adjusted_p(0.4);
  EXPECT_TRUE(CheckPayload(task, payload).ok()) << CheckPayload(task, payload);
  finding.set_adjusted_p(0.1);
  EXPECT_FALSE(CheckPayload(task, payload).ok());
  finding.set_adjusted_p(0.4);
  finding.set_null(v1::LESION_NULL_ROTATED);
  EXPECT_FALSE(CheckPayload(task, payload).ok());
}

TEST(TasksTest, CheckPayload_Shortcut_WantsTheWholeAndEachVariant) {
  const v1::TaskSpec task = OfKind(v1::TaskSpec::kShortcut);
  v1::Payload payload;
  for (int i = 0; i < 2; ++i) {
    v1::ShortcutArea& area = *payload.mutable_shortcut()->add_areas();
    area.set_area(0.6);
    area.set_low(0.5);
    area.set_high(0.7);
  }
  EXPECT_TRUE(CheckPayload(task, payload).ok()) << CheckPayload(task, payload);
  payload.mutable_shortcut()->mutable_areas(1)->set_low(std::nan(""));
  EXPECT_FALSE(CheckPayload(task, payload).ok());
  payload.mutable_shortcut()->mutable_areas()->RemoveLast();
  EXPECT_FALSE(CheckPayload(task, payload).ok());
}

TEST(TasksTest, HiddenParts_AreInTheRecipe) {
  v1::StudySpec spec;
  const Digest set = Sha256Of("set");
  const Digest without = *RecipeDigest(RecipeOf(spec, set), kClass);
  spec.mutable_images()->mutable_hide()->set_show(v1::LESION_REGION_SURROUNDINGS);
  spec.mutable_images()->mutable_hide()->set_hidden(v1::HIDDEN_VALUE_BLUR);
  EXPECT_EQ(RecipeOf(spec, set).images().hide().blur(), 0.1);
  EXPECT_NE(*RecipeDigest(RecipeOf(spec, set), kClass), without);
}

TEST(TasksTest, SuperpixelsOfTheModelsImage_NameItsSize) {
  v1::Perturbation p = SomePerturbation();
  EXPECT_EQ(SuperpixelTaskOf(p, kClass).superpixels().size(), 0u);
  p.mutable_superpixels()->set_resolution(v1::RESOLUTION_MODEL);
  EXPECT_EQ(SuperpixelTaskOf(p, kClass).superpixels().size(), p.images().size());
}

TEST(TasksTest, Describe_NamesImageMethodAndRun) {
  EXPECT_EQ(Describe(OfKind(v1::TaskSpec::kPerturb)), "perturb image 17, lime run 2");
  EXPECT_THAT(Describe(OfKind(v1::TaskSpec::kTrain)), HasSubstr("to step 1200"));
}

v1::ExplanationSpec SomeExplanation() {
  v1::ExplanationSpec spec;
  v1::CellChoice& cell = *spec.mutable_images()->mutable_per_confusion_cell();
  cell.set_most_confident(2);
  cell.set_least_confident(1);
  cell.set_random(2);
  spec.add_methods()->mutable_lime()->set_samples(1001);
  v1::ShapleySpec& shapley = *spec.add_methods()->mutable_shapley();
  shapley.set_permutations(3);
  shapley.mutable_superpixels()->mutable_slic()->set_count(20);
  spec.add_methods()->mutable_grad_cam();
  return spec;
}

TEST(ExplanationSizeTest, CountsRunsSuperpixelsFitsAndMaskedInputs) {
  const ExplanationSize size = SizeOf(SomeExplanation(), 650, 2);
  EXPECT_EQ(size.images, 20u);                           // 5 of each of 4 cells.
  EXPECT_EQ(size.tasks, 20u * ((5 + 2) + (2 + 2) + 1));  // A last run may be shorter.
  EXPECT_EQ(size.inputs, 20u * (1001 + 2 + 2 * 3 * 19));
}

TEST(ExplanationSizeTest, CountsTheMarginsFit_WhereThereIsOne) {
  v1::ExplanationSpec spec = SomeExplanation();
  const uint64_t without = SizeOf(spec, 650, 2).tasks;
  spec.set_output(v1::OUTPUT_KIND_PROBABILITY);
  EXPECT_EQ(SizeOf(spec, 650, 2).tasks, without + 20);
  for (v1::MethodSpec& method : *spec.mutable_methods()) {
    if (method.has_lime()) method.mutable_lime()->set_hidden(v1::HIDDEN_VALUE_BACKGROUND);
  }
  EXPECT_EQ(SizeOf(spec, 650, 2).tasks, without) << "training images hide";
}

TEST(ExplanationSizeTest, AMaskIsAsManyInputsAsImagesHide) {
  v1::ExplanationSpec spec = SomeExplanation();
  v1::ShapleySpec& shapley = *spec.mutable_methods(1)->mutable_shapley();
  shapley.set_estimator(v1::ESTIMATOR_LEVERAGE);
  shapley.set_budget(500);
  spec.mutable_hiding()->set_background_per_class(5);
  EXPECT_EQ(SizeOf(spec, 650, 2).inputs, 20u * (1001 + 500));
  const uint64_t tasks = SizeOf(spec, 650, 2).tasks;
  shapley.set_hidden(v1::HIDDEN_VALUE_BACKGROUND);
  EXPECT_EQ(SizeOf(spec, 650, 2).inputs, 20u * (1001 + 500 * 2 * 5));
  EXPECT_EQ(SizeOf(spec, 650, 3).inputs, 45u * (1001 + 500 * 3 * 5)) << "three classes";
  EXPECT_EQ(SizeOf(spec, 650, 2).tasks, tasks) << "a budget counts masks, not inputs";
}

TEST(ExplanationSizeTest, HasNoMoreImagesThanTheTestSplit) {
  v1::ExplanationSpec spec = SomeExplanation();
  EXPECT_EQ(SizeOf(spec, 7, 2).images, 7u);
  spec.mutable_images()->set_all_test(true);
  EXPECT_EQ(SizeOf(spec, 650, 2).images, 650u);
}

}  // namespace
}  // namespace dermis
