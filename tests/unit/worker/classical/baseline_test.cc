#include "worker/classical/baseline.h"

#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/classical/pictures.h"
#include "worker/classical/forest.h"
#include "worker/classical/logistic_l1.h"
#include "worker/classical/logistic_l2.h"
#include "worker/classical/model_file.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kImages = 120, kSize = 4;
constexpr size_t kPixels = kSize * kSize * 3;

// Every third image is held out, each seventh stands in no part.
struct Fold {
  Fold() {
    data.size = kSize;
    data.classes = 2;
    data.pixels = pictures.bytes;
    data.labels.assign(pictures.labels.begin(), pictures.labels.end());
    for (uint32_t i = 0; i < kImages; ++i) {
      if (i % 7 == 0) continue;
      (i % 3 == 0 ? data.split.validation : data.split.training).push_back(i);
    }
    for (const uint32_t i : data.split.training) {
      rows.push_back(pictures.rows[i]);
      labels.push_back(pictures.labels[i]);
    }
  }
  std::shared_ptr<const Gram> Products() const {
    return std::make_shared<const Gram>(
        *Gram::FromValues(kImages, GramRows(pictures.rows, kPixels, 0, kImages)));
  }
  // Nothing but an l2 fit asks for the products.
  GramReader Reader(bool products) const {
    return [this, products]() -> absl::StatusOr<std::shared_ptr<const Gram>> {
      if (!products) return absl::InternalError("nobody needs them");
      return Products();
    };
  }
  // Counted one by one, and pair by pair.
  void ExpectScoredBy(const std::function<double(const uint8_t*)>& probability,
                      const v1::BaselineOutput& output) const {
    const auto accuracy = [&](const std::vector<uint32_t>& images) {
      double right = 0;
      for (const uint32_t i : images)
        right += (probability(pictures.rows[i]) >= .5) == (pictures.labels[i] == 1);
      return right / static_cast<double>(images.size());
    };
    double won = 0, pairs = 0;
    for (const uint32_t i : data.split.validation) {
      for (const uint32_t j : data.split.validation) {
        if (pictures.labels[i] != 1 || pictures.labels[j] != 0) continue;
        const double a = probability(pictures.rows[i]), b = probability(pictures.rows[j]);
        won += a > b ? 1 : a == b ? .5 : 0;
        ++pairs;
      }
    }
    EXPECT_DOUBLE_EQ(output.accuracy(), accuracy(data.split.validation));
    EXPECT_DOUBLE_EQ(output.training_accuracy(), accuracy(data.split.training));
    EXPECT_NEAR(output.area(), won / pairs, 1e-12);
    EXPECT_NE(output.accuracy(), output.training_accuracy()) << "or the two could be exchanged";
    EXPECT_TRUE(output.model().empty()) << "a fold's model is of no further use";
    EXPECT_EQ(output.importance_size(), 0);
  }

  Pictures pictures{kImages, kPixels};
  ImageData data;
  std::vector<const uint8_t*> rows;  // Of the training images.
  std::vector<uint8_t> labels;
};

v1::BaselineTask FoldTask() {
  v1::BaselineTask task;
  task.mutable_images()->mutable_split()->set_fold(1);
  return task;
}

TEST(Baseline, AFoldsRegression_IsFittedToItsTrainingImages_AndJudgedByThoseHeldOut) {
  const Fold fold;
  for (const v1::Penalty penalty : {v1::PENALTY_L1, v1::PENALTY_L2}) {
    v1::BaselineTask task = FoldTask();
    task.mutable_logistic()->set_penalty(penalty);
    task.mutable_logistic()->set_c(1);
    const bool l2 = penalty == v1::PENALTY_L2;
    const auto output = RunBaseline(task, fold.data, fold.data.split, fold.Reader(l2));
    ASSERT_TRUE(output.ok()) << output.status();
    const LogisticModel model =
        l2 ? L2Model(fold.rows, kSize,
                     (*FitL2Path(CentredKernel(*fold.Products(), fold.data.split.training),
                                 fold.labels, {1.0}))[0])
           : L1Model((*FitL1Path(PixelColumns(fold.rows, kPixels), fold.labels, {1.0}))[0], kSize,
                     MeanPixels(fold.rows, kPixels));
    fold.ExpectScoredBy([&](const uint8_t* image) { return LogisticSigmoid(Margin(model, image)); },
                        *output);
  }
}

TEST(Baseline, AFoldsForest_IsGrownFromItsTrainingImages_AndJudgedByThoseHeldOut) {
  const Fold fold;
  v1::BaselineTask task = FoldTask();
  task.mutable_forest()->set_trees(7);
  task.mutable_forest()->set_depth(3);
  task.set_seed(5);
  const auto output = RunBaseline(task, fold.data, fold.data.split, fold.Reader(false));
  ASSERT_TRUE(output.ok()) << output.status();
  Forest forest;
  forest.size = kSize;
  ForestOptions options;
  options.max_depth = 3;
  const std::vector<uint32_t> labels(fold.labels.begin(), fold.labels.end());
  for (uint32_t tree = 0; tree < 7; ++tree) {
    forest.trees.push_back(*GrowTree(PixelColumns(fold.rows, kPixels), labels, options, 5, tree));
  }
  fold.ExpectScoredBy([&](const uint8_t* image) { return Probabilities(forest, image)[1]; },
                      *output);
}

TEST(Baseline, OfTheWholeTrainingSplit_IsStored_WithWhatItLooksAt) {
  const Fold fold;
  v1::BaselineTask task = FoldTask();
  task.mutable_images()->mutable_split()->clear_fold();
  task.mutable_logistic()->set_penalty(v1::PENALTY_L2);
  task.mutable_logistic()->set_c(1);
  const auto output = RunBaseline(task, fold.data, fold.data.split, fold.Reader(true));
  ASSERT_TRUE(output.ok()) << output.status();
  const auto parsed = ParseClassicalModel(output->model());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto* const model = std::get_if<LogisticModel>(&*parsed);
  ASSERT_NE(model, nullptr);
  ASSERT_EQ(static_cast<size_t>(output->importance_size()), kPixels);
  for (size_t k = 0; k < kPixels; ++k) {
    EXPECT_EQ(output->importance(static_cast<int>(k)), static_cast<float>(model->weights[k]));
  }
}

TEST(Baseline, NeedsAllImagesInMemory_AndSaysHowToHaveThem) {
  Fold fold;
  fold.data.chunks = std::make_shared<ChunkCache>(std::vector<uint64_t>{}, 0, nullptr);
  v1::BaselineTask task = FoldTask();
  task.mutable_forest()->set_trees(5);
  const auto output = RunBaseline(task, fold.data, fold.data.split, fold.Reader(false));
  EXPECT_EQ(output.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(output.status().message(), HasSubstr("larger --image-memory"));
}

}  // namespace
}  // namespace dermis
