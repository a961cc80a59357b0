#include "worker/classical/black_box.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "common/status_macros.h"

namespace dermis {
namespace {

class LogisticBox final : public BlackBox {
 public:
  explicit LogisticBox(LogisticModel model) : model_(std::move(model)) {}
  uint32_t size() const override { return model_.size; }
  uint32_t classes() const override { return 2; }
  absl::Status Logits(uint32_t count, const float* images, float* logits) override {
    for (uint32_t k = 0; k < count; ++k) {
      logits[2 * k] = 0;
      logits[2 * k + 1] = static_cast<float>(Margin(model_, images + k * model_.weights.size()));
    }
    return absl::OkStatus();
  }
  std::array<double, 3> mean_color() const override {
    std::array<double, 3> color{};
    for (size_t k = 0; k < model_.mean.size(); ++k) color[k % 3] += model_.mean[k];
    for (double& value : color) {
      value = std::clamp(value * 255 * 3 / static_cast<double>(model_.mean.size()), 0.0, 255.0);
    }
    return color;
  }

 private:
  const LogisticModel model_;
};

class ForestBox final : public BlackBox {
 public:
  explicit ForestBox(Forest forest) : forest_(std::move(forest)) {}
  uint32_t size() const override { return forest_.size; }
  uint32_t classes() const override { return forest_.classes; }
  absl::Status Logits(uint32_t count, const float* images, float* logits) override {
    const size_t features = size_t{forest_.size} * forest_.size * 3;
    for (uint32_t k = 0; k < count; ++k) {
      const std::vector<double> probability = Probabilities(forest_, images + k * features);
      for (uint32_t c = 0; c < forest_.classes; ++c) {
        *logits++ = static_cast<float>(std::log(std::max(probability[c], kLeastForestProbability)));
      }
    }
    return absl::OkStatus();
  }
  std::array<double, 3> mean_color() const override {
    return {forest_.mean_color[0], forest_.mean_color[1], forest_.mean_color[2]};
  }

 private:
  const Forest forest_;
};

absl::Status Bad(const char* why) { return absl::InvalidArgumentError(why); }

}  // namespace

absl::StatusOr<std::unique_ptr<BlackBox>> MakeClassicalBlackBox(ClassicalModel model) {
  if (auto* const logistic = std::get_if<LogisticModel>(&model)) {
    const size_t features = size_t{logistic->size} * logistic->size * 3;
    if (features == 0 || logistic->weights.size() != features ||
        logistic->mean.size() != features) {
      return Bad("logistic regression: weights or mean do not fit the size");
    }
    return std::make_unique<LogisticBox>(std::move(*logistic));
  }
  Forest& forest = std::get<Forest>(model);
  const uint64_t features = uint64_t{forest.size} * forest.size * 3;
  if (forest.trees.empty() || features == 0 || forest.mean_color.size() != 3) {
    return Bad("forest: no trees, size or mean colour");
  }
  for (const Tree& tree : forest.trees) {
    RETURN_IF_ERROR(CheckTree(tree, features, forest.classes));
  }
  return std::make_unique<ForestBox>(std::move(forest));
}

}  // namespace dermis
