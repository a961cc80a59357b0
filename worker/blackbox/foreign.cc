#include "worker/blackbox/foreign.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "worker/blackbox/onnx.h"
#include "worker/blackbox/torchscript.h"

namespace dermis {
namespace {

constexpr double kLeastProbability = 1e-12;

absl::Status Bad(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("the model's file: ", why));
}

class ForeignBox final : public BlackBox {
 public:
  ForeignBox(v1::ForeignModel model, uint32_t size, std::unique_ptr<ForeignRuntime> runtime)
      : model_(std::move(model)),
        size_(size),
        runtime_(std::move(runtime)),
        tensor_(size_t{size} * size * 3) {}

  // Sets `classes`.
  absl::Status Probe() {
    const std::vector<float> grey(tensor_.size(), 127.5f);
    ASSIGN_OR_RETURN(const std::vector<float> logits, One(grey.data()));
    classes_ = static_cast<uint32_t>(logits.size());
    return absl::OkStatus();
  }

  uint32_t size() const override { return size_; }
  uint32_t classes() const override { return classes_; }
  absl::Status Logits(uint32_t count, const float* images, float* logits) override {
    for (uint32_t b = 0; b < count; ++b) {
      ASSIGN_OR_RETURN(const std::vector<float> row, One(images + b * tensor_.size()));
      if (row.size() != classes_)
        return Bad("the number of its outputs changes from image to image");
      std::copy(row.begin(), row.end(), logits + size_t{b} * classes_);
    }
    return absl::OkStatus();
  }
  std::array<double, 3> mean_color() const override {
    std::array<double, 3> color{};
    const v1::ModelInputSpec& input = model_.input();
    for (int c = 0; c < 3; ++c) {
      const int channel = input.channels() == v1::CHANNEL_ORDER_BGR ? 2 - c : c;
      color[c] = std::clamp(input.mean(channel) * 255 / input.range(), 0.0, 255.0);
    }
    return color;
  }

 private:
  absl::StatusOr<std::vector<float>> One(const float* image) {
    FillTensor(model_.input(), size_, image, tensor_.data());
    ASSIGN_OR_RETURN(const std::vector<float> outputs, runtime_->Run(tensor_.data()));
    return LogitsOf(model_, outputs);
  }

  const v1::ForeignModel model_;
  const uint32_t size_;
  const std::unique_ptr<ForeignRuntime> runtime_;
  std::vector<float> tensor_;
  uint32_t classes_ = 0;
};

}  // namespace

void FillTensor(const v1::ModelInputSpec& input, uint32_t size, const float* image, float* tensor) {
  const size_t pixels = size_t{size} * size;
  const double scale = input.range() / 255;
  for (int c = 0; c < 3; ++c) {
    const int from = input.channels() == v1::CHANNEL_ORDER_BGR ? 2 - c : c;
    const double mean = input.mean(c), deviation = input.deviation(c);
    for (size_t p = 0; p < pixels; ++p) {
      const double value = static_cast<double>(image[3 * p + from]) * scale;
      *tensor++ = static_cast<float>((value - mean) / deviation);
    }
  }
}

absl::StatusOr<std::vector<float>> LogitsOf(const v1::ForeignModel& model,
                                            absl::Span<const float> outputs) {
  if (outputs.empty() || (model.width() != 0 && outputs.size() != model.width())) {
    return Bad(absl::StrCat("it gives ", outputs.size(), " outputs, the study names ",
                            model.width(), " in model.classes"));
  }
  const bool probabilities = model.outputs() == v1::MODEL_OUTPUTS_PROBABILITIES;
  for (const float v : outputs) {
    if (!std::isfinite(v)) return Bad("it gives outputs that are not finite");
    if (probabilities && !(v >= -1e-6f && v <= 1 + 1e-6f)) {
      return Bad(absl::StrCat("it gives ", v,
                              " where model.outputs says probabilities: are they logits?"));
    }
  }
  const auto logit = [&](double v) {
    return probabilities ? std::log(std::max(v, kLeastProbability)) : v;
  };
  std::vector<float> logits;
  if (outputs.size() == 1) {
    // The last of two classes: a difference to the other, whose logit is 0.
    const double z =
        probabilities ? logit(outputs[0]) - logit(1 - double{outputs[0]}) : double{outputs[0]};
    return std::vector<float>{0, static_cast<float>(z)};
  }
  if (model.columns().empty()) {
    for (const float v : outputs) logits.push_back(static_cast<float>(logit(v)));
    return logits;
  }
  for (const uint32_t column : model.columns()) {
    if (column >= outputs.size()) {
      return Bad(absl::StrCat("it has no output ", column, ", only ", outputs.size()));
    }
    logits.push_back(static_cast<float>(logit(outputs[column])));
  }
  return logits;
}

absl::StatusOr<std::unique_ptr<BlackBox>> MakeForeignModel(
    const v1::ForeignModel& model, uint32_t size, std::unique_ptr<ForeignRuntime> runtime) {
  if (model.input().mean_size() != 3 || model.input().deviation_size() != 3) {
    return absl::InvalidArgumentError("a model's input needs three means and three deviations");
  }
  auto box = std::make_unique<ForeignBox>(model, size, std::move(runtime));
  RETURN_IF_ERROR(box->Probe());
  return box;
}

absl::StatusOr<std::unique_ptr<InferencePlan>> MakeForeignPlan(const v1::ForeignModel& model,
                                                               const std::string& bytes,
                                                               uint32_t size,
                                                               const ForeignOptions& options) {
  std::unique_ptr<ForeignRuntime> runtime;
  switch (model.format()) {
    case v1::MODEL_FORMAT_TORCHSCRIPT: {
      if (!options.allow_torchscript) {
        return absl::PermissionDeniedError(
            "this worker runs no TorchScript, which is code: give --allow-torchscript to every "
            "worker of the cluster, "
            "or export the model to ONNX");
      }
      ASSIGN_OR_RETURN(runtime, OpenTorchScript(bytes, size));
      break;
    }
    case v1::MODEL_FORMAT_ONNX: {
      ASSIGN_OR_RETURN(runtime, OpenOnnx(bytes, size, options.onnx_library));
      break;
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("no runtime for a model of ", v1::ModelFormat_Name(model.format())));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<BlackBox> box,
                   MakeForeignModel(model, size, std::move(runtime)));
  return MakeBlackBoxPlan(std::move(box));
}

}  // namespace dermis
