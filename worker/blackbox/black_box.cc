#include "worker/blackbox/black_box.h"

#include <utility>
#include <vector>

namespace dermis {
namespace {

constexpr uint32_t kBatch = 64;

class BlackBoxPlan final : public InferencePlan {
 public:
  explicit BlackBoxPlan(std::unique_ptr<BlackBox> model)
      : model_(std::move(model)), input_(size_t{kBatch} * model_->size() * model_->size() * 3) {
    SetPixelFacts({{0, 1}, model_->mean_color()});
  }
  uint32_t classes() const override { return model_->classes(); }
  uint32_t size() const override { return model_->size(); }
  uint32_t max_batch() const override { return kBatch; }
  float* input() override { return input_.data(); }
  absl::Status Run(uint32_t count, float* logits) override {
    return model_->Logits(count, input_.data(), logits);
  }

 private:
  const std::unique_ptr<BlackBox> model_;
  std::vector<float> input_;
};

}  // namespace

std::unique_ptr<InferencePlan> MakeBlackBoxPlan(std::unique_ptr<BlackBox> model) {
  return std::make_unique<BlackBoxPlan>(std::move(model));
}

}  // namespace dermis
