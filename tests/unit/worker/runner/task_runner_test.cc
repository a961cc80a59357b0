#include "worker/task_runner.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/baselines.h"
#include "common/checks.h"
#include "common/estimators.h"
#include "common/spec_yaml.h"
#include "tests/unit/worker/explain/test_data.h"
#include "tests/unit/worker/runner/fakes.h"
#include "worker/classical/forest.h"
#include "worker/classical/logistic.h"
#include "worker/classical/model_file.h"
#include "worker/explain/superpixels.h"
#include "worker/unavailability.h"

namespace dermis {
namespace {

class TaskRunnerTest : public ::testing::Test {
 protected:
  TaskRunner::Inputs Inputs() {
    TaskRunner::Inputs inputs;
    inputs.numerics_class = "test";
    inputs.images = [](const v1::ImageSource&) { return absl::UnavailableError("no images"); };
    inputs.image_set = [](const Digest&) { return absl::UnavailableError("no images"); };
    inputs.blob = [](const Digest&) { return absl::UnavailableError("no blobs"); };
    inputs.results = [this](const std::vector<v1::TaskSpec>& tasks) {
      asked = tasks;
      return absl::UnavailableError("no results");
    };
    return inputs;
  }
  absl::Status StatusOf(const v1::TaskSpec& task) {
    PlanCache plans;
    uint64_t items = 0;
    return TaskRunner(Inputs()).Run(task, plans, &items).status();
  }
  v1::Perturbation Perturbation() {
    v1::Perturbation p;
    p.mutable_images()->set_image_set(Sha256Of("set").bytes());
    p.mutable_images()->set_size(32);
    p.set_image(5);
    p.mutable_superpixels()->mutable_slic()->set_count(12);
    p.mutable_lime()->set_samples(600);
    return p;
  }
  std::vector<v1::TaskSpec> asked;
};

TEST_F(TaskRunnerTest, Noop_GivesItsIndex) {
  PlanCache plans;
  uint64_t items = 0;
  const auto payload = TaskRunner(Inputs()).Run(Noop(12), plans, &items);
  ASSERT_TRUE(payload.ok()) << payload.status();
  EXPECT_EQ(payload->noop(), 12u);
  EXPECT_EQ(items, 1u);
}

TEST_F(TaskRunnerTest, TasksOfOtherClassesOrSemantics_AreNotRun_AndNotFailed) {
  v1::TaskSpec task = Noop(1);
  task.set_numerics_class("cuda");
  EXPECT_TRUE(IsUnavailability(StatusOf(task)));
  task = Noop(1);
  task.set_semantics(task.semantics() + 1);
  EXPECT_TRUE(IsUnavailability(StatusOf(task)));
}

TEST_F(TaskRunnerTest, ATrainingTask_IsNoUnit) {
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(TrainTaskOf(v1::Recipe(), 10, "test"))));
}

TEST_F(TaskRunnerTest, InputsThatCannotBeHad_AreNotTheTasksFault) {
  v1::TaskSpec task;
  task.mutable_evaluate()->mutable_images()->set_size(32);
  EXPECT_TRUE(IsUnavailability(StatusOf(MakeTask(task, "test"))));
  EXPECT_TRUE(IsUnavailability(StatusOf(PerturbTaskOf(Perturbation(), 0, "test"))));
}

TEST_F(TaskRunnerTest, Fit_AsksForTheSuperpixels_ThenForAllRunsInOrder) {
  v1::TaskSpec task;
  *task.mutable_fit()->mutable_perturbation() = Perturbation();
  EXPECT_FALSE(StatusOf(MakeTask(task, "test")).ok());
  ASSERT_EQ(asked.size(), 1u + RunCount(Perturbation()));
  EXPECT_EQ(*TaskDigest(asked[0]), *TaskDigest(SuperpixelTaskOf(Perturbation(), "test")));
  for (uint32_t run = 0; run < RunCount(Perturbation()); ++run) {
    EXPECT_EQ(*TaskDigest(asked[1 + run]), *TaskDigest(PerturbTaskOf(Perturbation(), run, "test")));
  }
}

constexpr uint32_t kDisplay = 48, kModel = 16, kBlock = kDisplay / kModel, kExplained = 1;

// A baseline that is there already, explained by the tasks that a study's planner names: each is
// run by its address, with all that it needs.
class ExplainedBaselineTest : public ::testing::Test {
 protected:
  ExplainedBaselineTest()
      : data_(std::make_shared<ImageData>(TestImageData(3, kDisplay, kDisplay, kModel))) {
    data_->split.training = {0, 2};  // So the mean colour is theirs.
    TaskRunner::Inputs inputs;
    inputs.numerics_class = "test";
    inputs.images =
        [this](const v1::ImageSource& images) -> absl::StatusOr<std::shared_ptr<const ImageData>> {
      EXPECT_EQ(images.size(), kModel) << "a baseline looks at images of its own size";
      return data_;
    };
    inputs.image_set = [this](const Digest&) -> absl::StatusOr<std::shared_ptr<ImageSet>> {
      return data_->set;
    };
    inputs.blob = [](const Digest&) { return absl::UnavailableError("a baseline is no blob"); };
    inputs.results = [this](const std::vector<v1::TaskSpec>& tasks)
        -> absl::StatusOr<std::vector<std::shared_ptr<const v1::Payload>>> {
      std::vector<std::shared_ptr<const v1::Payload>> results;
      for (const v1::TaskSpec& task : tasks) results.push_back(Result(task));
      return results;
    };
    runner_ = std::make_unique<TaskRunner>(std::move(inputs));
  }

  std::shared_ptr<const v1::Payload> Result(const v1::TaskSpec& task) {
    std::shared_ptr<const v1::Payload>& result = results_[TaskDigest(task)->hex()];
    if (result != nullptr) return result;
    PlanCache plans;
    uint64_t items = 0;
    auto payload = runner_->Run(task, plans, &items);
    EXPECT_TRUE(payload.ok()) << payload.status();
    if (!payload.ok()) return std::make_shared<v1::Payload>();
    EXPECT_TRUE(CheckPayload(task, *payload).ok()) << CheckPayload(task, *payload);
    return result = std::make_shared<v1::Payload>(*std::move(payload));
  }

  // Its fit is known under the digest of its task.
  void Fit(const v1::BaselineTask& baseline, std::string model) {
    v1::TaskSpec task;
    *task.mutable_baseline() = baseline;
    auto fitted = std::make_shared<v1::Payload>();
    fitted->mutable_baseline()->set_model(std::move(model));
    results_[TaskDigest(MakeTask(task, "test"))->hex()] = fitted;
  }

  // `methods`: as in a study. The fits, and the superpixels of the first.
  std::vector<v1::Attribution> Explain(const v1::BaselineTask& baseline, const std::string& methods,
                                       Segmentation* segmentation) {
    const auto study = ResolveSpec(*ParseStudyYaml(
        "name: a\nbaselines: {random_forest: {}}\nexplanation: {baselines: true, methods: " +
            methods + "}\n",
        "a.yaml"));
    EXPECT_TRUE(study.ok()) << study.status();
    const v1::ExplanationSpec explanation = ExplanationOf(study->explanation(), baseline);
    std::vector<v1::Attribution> fits;
    for (const v1::MethodSpec& method : explanation.methods()) {
      v1::TaskSpec task;
      task.mutable_fit()->set_output(explanation.output());
      v1::Perturbation& p = *task.mutable_fit()->mutable_perturbation();
      *p.mutable_images() = baseline.images();
      p.set_image(kExplained);
      *p.mutable_model()->mutable_baseline() = baseline;
      p.set_precision(v1::PRECISION_FP32);
      p.set_seed(7);
      *p.mutable_superpixels() = SuperpixelsOf(method);
      p.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
      const auto cut = Result(SuperpixelTaskOf(p, "test"));
      *segmentation = *FromProto(cut->superpixels());
      SetMasks(method, cut->superpixels().count(), p);
      SetFitOptions(method, *task.mutable_fit());
      fits.push_back(Result(MakeTask(task, "test"))->fit());
      EXPECT_EQ(fits.back().count(), segmentation->count);
    }
    return fits;
  }

  const std::shared_ptr<ImageData> data_;
  std::map<std::string, std::shared_ptr<const v1::Payload>> results_;
  std::unique_ptr<TaskRunner> runner_;
};

TEST_F(ExplainedBaselineTest, ALogisticRegression_IsMetInClosedForm) {
  LogisticModel model;
  model.size = kModel;
  for (uint32_t i = 0; i < kModel * kModel * 3; ++i) {
    model.weights.push_back(std::sin(1 + i * .7));
    model.mean.push_back(.4 + .001 * (i % 100));
  }
  model.intercept = -.3;
  v1::BaselineTask baseline;
  baseline.mutable_images()->set_size(kModel);
  baseline.mutable_logistic()->set_c(1);
  Fit(baseline, SerializeLogistic(model));
  for (const char* cut : {"grid: {rows: 3}", "slic: {count: 9, compactness: 30}"}) {
    SCOPED_TRACE(cut);
    const std::string at = absl::StrCat("superpixels: {", cut, "}");
    Segmentation segmentation;
    const auto fits =
        Explain(baseline,
                absl::StrCat("[shapley: {estimator: exact, ", at, "}, shapley: {permutations: 2, ",
                             at, "}, shapley: {estimator: kernel, budget: 400, ", at,
                             "}, shapley: {estimator: leverage, budget: 400, ", at,
                             "}, shapley: {estimator: partition, ", at, "}, occlusion: {", at,
                             "}, lime: {hidden: training_mean, ", at, ", samples: 400}]"),
                &segmentation);
    ASSERT_EQ(fits.size(), 7u);
    // sum of w (x - b) over the superpixel: x as it is evaluated, in whole numbers, b the mean
    // colour; a model's pixel that several superpixels share counts by their areas.
    const auto* const display =
        reinterpret_cast<const uint8_t*>(data_->set->Pixels(kExplained)->data());
    const auto feature = [](uint32_t p, uint32_t c) {
      return (p / kDisplay / kBlock * kModel + p % kDisplay / kBlock) * 3 + c;
    };
    std::vector<double> resized(model.weights.size()), expected(segmentation.count);
    for (uint32_t p = 0; p < kDisplay * kDisplay; ++p) {
      for (uint32_t c = 0; c < 3; ++c)
        resized[feature(p, c)] += display[3 * p + c] / (1. * kBlock * kBlock);
    }
    for (uint32_t p = 0; p < kDisplay * kDisplay; ++p) {
      for (uint32_t c = 0; c < 3; ++c) {
        const uint32_t f = feature(p, c);
        const double x = display[3 * p + c] + data_->image(kExplained)[f] - resized[f];
        expected[segmentation.labels[p]] +=
            model.weights[f] / 255 * (x - data_->channel_mean[c]) / (kBlock * kBlock);
      }
    }
    double largest = 0, sum = 0;
    for (const double value : expected) {
      largest = std::max(largest, std::abs(value));
      sum += value;
    }
    ASSERT_GT(largest, .01);
    for (size_t m = 0; m < 6; ++m) {
      for (uint32_t k = 0; k < segmentation.count; ++k) {
        EXPECT_NEAR(fits[m].values(static_cast<int>(k)), expected[k], 2e-5 * largest)
            << "method " << m;
      }
    }
    EXPECT_NEAR(fits[0].full() - fits[0].hidden(), sum, 2e-5 * largest);
    EXPECT_NEAR(fits[0].full(), Margin(model, data_->image(kExplained)), 1e-5)
        << "f is the evaluated margin";
    // LIME's penalty shrinks its slopes, and its line meets a linear model.
    EXPECT_GT(fits[6].r_squared(), .99);
  }
}

TEST(PlanCacheTest, FourBaselinesInTurn_PushOutNeitherOneAnotherNorTheOnePlanOfADevice) {
  LogisticModel model;
  model.size = 2;
  model.weights.assign(12, .5);
  model.mean.assign(12, .5);
  const std::string file = SerializeLogistic(model);
  int made = 0, networks = 0;
  PlanCache plans({},
                  [&](v1::ModelKind, std::string_view, uint32_t size,
                      v1::Precision) -> absl::StatusOr<std::unique_ptr<InferencePlan>> {
                    ++networks;
                    return std::make_unique<FunctionPlan>(
                        size, [](const auto&) { return std::pair(0., 0.); });
                  });
  const auto network = [&] {
    v1::ModelRef model;
    model.set_kind(v1::MODEL_KIND_SEED_CNN);
    EXPECT_TRUE(
        plans.Get(model, 32, v1::PRECISION_FP32, [](const v1::ModelRef&) { return std::string(); })
            .ok());
  };
  const auto get = [&](double c) {
    v1::ModelRef baseline;
    baseline.mutable_baseline()->mutable_logistic()->set_c(c);
    EXPECT_TRUE(plans
                    .Get(baseline, 2, v1::PRECISION_FP32,
                         [&](const v1::ModelRef&) -> absl::StatusOr<std::string> {
                           ++made;
                           return file;
                         })
                    .ok());
  };
  for (int turn = 0; turn < 3; ++turn) {
    network();
    for (const double c : {1, 2, 3, 4}) get(c);
  }
  EXPECT_EQ(made, 4);
  EXPECT_EQ(networks, 1);
  get(5);
  get(2);
  EXPECT_EQ(made, 5);
  get(1);  // The one that was used least recently has gone.
  EXPECT_EQ(made, 6);
}

TEST_F(ExplainedBaselineTest, AForest_IsExplainedByItsProbability_WhichIsFiniteWhereAllTreesAgree) {
  // One split at one pixel, far above the mean colour there: whoever shows this pixel decides all.
  constexpr uint32_t kPixel = 5 * kModel + 9;
  Forest forest;
  forest.size = kModel;
  forest.mean_color = {100, 100, 100};
  const auto value = static_cast<float>(data_->image(kExplained)[kPixel * 3]);
  const auto mean = static_cast<float>(data_->channel_mean[0]);
  ASSERT_GT(std::abs(value - mean), 2);
  Tree tree;
  tree.feature = {kPixel * 3, -1, -1};
  tree.threshold = {std::floor(value + mean) / 2, 0, 0};
  tree.left = {1, -1, -1};
  tree.right = {2, -1, -1};
  tree.weight = {8, 4, 4};
  tree.probability = {.5, .5, 1, 0, 0, 1};
  forest.trees = {tree, tree};
  v1::BaselineTask baseline;
  baseline.mutable_images()->set_size(kModel);
  baseline.mutable_forest()->set_trees(2);
  Fit(baseline, SerializeForest(forest));
  Segmentation segmentation;
  const auto fits =
      Explain(baseline, "[shapley: {estimator: exact, superpixels: {grid: {rows: 2}}}, grad_cam]",
              &segmentation);
  ASSERT_EQ(fits.size(), 1u) << "a forest has no maps";
  const double up = value > mean ? 1 : -1;
  EXPECT_NEAR(fits[0].full(), value > mean ? 1 : 0, 1e-9);
  const uint32_t holds =
      segmentation.labels[kPixel / kModel * kBlock * kDisplay + kPixel % kModel * kBlock];
  for (uint32_t k = 0; k < segmentation.count; ++k) {
    EXPECT_NEAR(fits[0].values(static_cast<int>(k)), k == holds ? up : 0, 1e-9);
  }
}

}  // namespace
}  // namespace dermis
