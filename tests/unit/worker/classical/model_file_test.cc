#include "worker/classical/model_file.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "tests/unit/worker/classical/pictures.h"
#include "worker/classical/black_box.h"

namespace dermis {
namespace {

LogisticModel SomeLogistic() {
  LogisticModel model{2, {}, {}, -.75};
  for (int k = 0; k < 12; ++k) {
    model.weights.push_back(std::sin(k + 1));
    model.mean.push_back(.05 * k);
  }
  return model;
}

Forest SomeForest() {
  const Pictures pictures(40, 12);
  const std::vector<uint32_t> labels(pictures.labels.begin(), pictures.labels.end());
  Forest forest{2, 2, {200, 150, 140.5}, {}};
  for (uint32_t number = 0; number < 3; ++number) {
    forest.trees.push_back(
        *GrowTree(PixelColumns(pictures.rows, 12), labels, {2, 4, 0}, 1, number));
  }
  return forest;
}

TEST(ModelFile, GivesTheModelBack) {
  const LogisticModel model = SomeLogistic();
  const auto read = ParseClassicalModel(SerializeLogistic(model));
  ASSERT_TRUE(read.ok()) << read.status();
  const LogisticModel& back = std::get<LogisticModel>(*read);
  EXPECT_EQ(back.size, model.size);
  EXPECT_EQ(back.weights, model.weights);
  EXPECT_EQ(back.mean, model.mean);
  EXPECT_EQ(back.intercept, model.intercept);

  const Forest forest = SomeForest();
  const auto again = ParseClassicalModel(SerializeForest(forest));
  ASSERT_TRUE(again.ok()) << again.status();
  const Forest& trees = std::get<Forest>(*again);
  EXPECT_EQ(SerializeForest(trees), SerializeForest(forest));
  ASSERT_EQ(trees.trees.size(), 3u);
  EXPECT_EQ(trees.trees[2].feature, forest.trees[2].feature);
  EXPECT_EQ(trees.trees[1].probability, forest.trees[1].probability);
  EXPECT_EQ(trees.mean_color, forest.mean_color);
}

TEST(ModelFile, IsRefused_WhenItIsCutOrChanged) {
  const std::string logistic = SerializeLogistic(SomeLogistic());
  const std::string forest = SerializeForest(SomeForest());
  for (const std::string& bytes : {logistic, forest}) {
    for (size_t size = 0; size < bytes.size(); size += 7) {
      EXPECT_FALSE(ParseClassicalModel(bytes.substr(0, size)).ok()) << size;
    }
  }
  // Whatever a byte becomes, reading ends in a model that can run, or in an error.
  for (const std::string& bytes : {logistic, forest}) {
    for (size_t k = 0; k < bytes.size(); ++k) {
      for (char value : {'\0', '\x7f', '\xff', '9'}) {
        std::string changed = bytes;
        changed[k] = value;
        auto model = ParseClassicalModel(changed);
        if (!model.ok()) continue;
        auto box = MakeClassicalBlackBox(*std::move(model));
        ASSERT_TRUE(box.ok());
        const std::vector<float> image((*box)->size() * (*box)->size() * 3, 100.5f);
        std::vector<float> logits((*box)->classes());
        EXPECT_TRUE((*box)->Logits(1, image.data(), logits.data()).ok());
        for (float logit : logits) EXPECT_FALSE(std::isnan(logit));
      }
    }
  }
}

TEST(ModelFile, IsRefused_WhenItsNumbersCannotBe) {
  const auto logistic = [](const std::function<void(LogisticModel&)>& change) {
    LogisticModel model = SomeLogistic();
    change(model);
    return ParseClassicalModel(SerializeLogistic(model)).ok();
  };
  EXPECT_TRUE(logistic([](LogisticModel&) {}));
  EXPECT_FALSE(logistic([](LogisticModel& m) { m.weights[3] = std::nan(""); }));
  EXPECT_FALSE(logistic([](LogisticModel& m) { m.intercept = INFINITY; }));
  EXPECT_FALSE(logistic([](LogisticModel& m) { m.mean[0] = 1.5; }));
  const auto forest = [](const std::function<void(Forest&)>& change) {
    Forest model = SomeForest();
    change(model);
    return ParseClassicalModel(SerializeForest(model)).ok();
  };
  EXPECT_TRUE(forest([](Forest&) {}));
  EXPECT_FALSE(forest([](Forest& f) { f.trees[0].feature[0] = 12; }));
  EXPECT_FALSE(forest([](Forest& f) { f.trees[0].feature[0] = -2; }));
  EXPECT_FALSE(forest([](Forest& f) { f.trees[0].left[0] = 0; }));  // Round in circles.
  EXPECT_FALSE(forest([](Forest& f) { f.trees[0].right[0] = f.trees[0].left[0]; }));
  EXPECT_FALSE(forest([](Forest& f) { f.trees[1].right[0] = 1 << 30; }));
  EXPECT_FALSE(forest([](Forest& f) { f.trees[1].threshold[0] = NAN; }));
  EXPECT_FALSE(forest([](Forest& f) { f.trees[1].probability[0] = 2; }));
  EXPECT_FALSE(forest([](Forest& f) { f.trees.clear(); }));
  EXPECT_FALSE(forest([](Forest& f) { f.mean_color[1] = 256; }));
  EXPECT_FALSE(ParseClassicalModel("").ok());
}

TEST(ClassicalBlackBox, GivesMarginsAndLogarithms) {
  const LogisticModel logistic = SomeLogistic();
  const Forest forest = SomeForest();
  auto linear = MakeClassicalBlackBox(logistic);
  auto trees = MakeClassicalBlackBox(forest);
  ASSERT_TRUE(linear.ok() && trees.ok());
  EXPECT_EQ((*linear)->size(), 2u);
  EXPECT_EQ((*trees)->classes(), 2u);
  std::vector<float> images;
  for (int k = 0; k < 5 * 12; ++k) images.push_back(static_cast<float>((k * 37) % 2550) / 10);
  float logits[10], alone[2];
  ASSERT_TRUE((*linear)->Logits(5, images.data(), logits).ok());
  for (int k = 0; k < 5; ++k) {
    EXPECT_EQ(logits[2 * k], 0);
    EXPECT_EQ(logits[2 * k + 1], static_cast<float>(Margin(logistic, &images[12 * k])));
    ASSERT_TRUE((*linear)->Logits(1, &images[12 * k], alone).ok());
    EXPECT_EQ(alone[1], logits[2 * k + 1]);
  }
  ASSERT_TRUE((*trees)->Logits(5, images.data(), logits).ok());
  for (int k = 0; k < 5; ++k) {
    const std::vector<double> probability = Probabilities(forest, &images[12 * k]);
    for (int c = 0; c < 2; ++c) {
      EXPECT_FLOAT_EQ(logits[2 * k + c],
                      static_cast<float>(std::log(std::max(probability[c], 1e-12))));
    }
  }
  EXPECT_EQ((*trees)->mean_color()[2], 140.5);
  // Red: pixels 0, 3, 6, 9.
  EXPECT_NEAR((*linear)->mean_color()[0], 255 * .05 * (0 + 3 + 6 + 9) / 4, 1e-9);
}

TEST(ClassicalBlackBox, IsRefused_WhenArraysDoNotFit) {
  LogisticModel logistic = SomeLogistic();
  logistic.weights.pop_back();
  EXPECT_FALSE(MakeClassicalBlackBox(logistic).ok());
  Forest forest = SomeForest();
  forest.trees[0].left.pop_back();
  EXPECT_FALSE(MakeClassicalBlackBox(forest).ok());
}

}  // namespace
}  // namespace dermis
