#include "worker/task_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/runner/fakes.h"
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

}  // namespace
}  // namespace dermis
