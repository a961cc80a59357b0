#include "worker/models/network.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/metrics.h"
#include "common/status_macros.h"
#include "worker/data/noise.h"
#include "worker/models/resnet.h"
#include "worker/models/resnet_graph.h"
#include "worker/models/seed_cnn.h"

namespace dermis {

NetworkGraph GraphOf(const Model& model, const torch::Tensor& input) {
  NetworkGraph graph;
  if (IsResNet(model.layout.kind)) {
    ResNetGraph network = ResNetForward(model, input);
    const char* const layers[] = {"conv1", "layer1", "layer2", "layer3", "layer4"};
    for (size_t k = 0; k < network.taps.size(); ++k) {
      graph.taps.push_back({layers[k], network.taps[k]});
    }
    graph.last = graph.taps.back();
    graph.logits = network.logits;
    return graph;
  }
  SeedCnnGraph network = SeedCnnForward(model, input);
  for (size_t k = 0; k < network.taps.size(); ++k) {
    graph.taps.push_back({absl::StrCat("conv", k + 1), network.taps[k]});
  }
  graph.last = {"pool3", network.pooled};
  graph.logits = network.logits;
  return graph;
}

absl::StatusOr<Model> ModelOf(const v1::ModelRef& ref, std::string_view weights,
                              const ImageData& data, const std::string& what) {
  ASSIGN_OR_RETURN(Model model, ParseModel(weights));
  if (model.layout.kind != ref.kind()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": the task asks for ", v1::ModelKind_Name(ref.kind()),
                     ", the weights are of ", v1::ModelKind_Name(model.layout.kind)));
  }
  if (data.size != model.layout.size) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": images of ", data.size, " pixels a side, the model wants ", model.layout.size));
  }
  return model;
}

namespace {

absl::Status CheckImage(const ImageData& data, uint32_t image) {
  if (image < data.labels.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("no image ", image, ", the set has ", data.labels.size()));
}

// HWC values in 0..255 to CHW inputs.
template <typename T>
void Normalise(const Model& model, const T* values, int64_t pixels, float* out) {
  const float mean = static_cast<float>(model.pixel_mean);
  const float inverse = static_cast<float>(1.0 / (model.pixel_deviation + 1e-7));
  for (int64_t p = 0; p < pixels; ++p) {
    for (int64_t c = 0; c < 3; ++c) {
      out[c * pixels + p] = (static_cast<float>(values[p * 3 + c]) - mean) * inverse;
    }
  }
}

}  // namespace

absl::StatusOr<torch::Tensor> InputsOf(const Model& model, const ImageData& data,
                                       absl::Span<const uint32_t> images) {
  const int64_t size = data.size, pixels = size * size;
  torch::Tensor inputs =
      torch::empty({static_cast<int64_t>(images.size()), 3, size, size}, torch::kFloat32);
  float* out = inputs.data_ptr<float>();
  for (const uint32_t image : images) {
    RETURN_IF_ERROR(CheckImage(data, image));
    ASSIGN_OR_RETURN(const PinnedImage pinned, data.Pin(image));
    Normalise(model, pinned.data(), pixels, out);
    out += 3 * pixels;
  }
  return inputs;
}

absl::StatusOr<torch::Tensor> ExplainedInput(const Model& model, const ImageData& data,
                                             const v1::ImageSource& source, uint32_t image) {
  RETURN_IF_ERROR(CheckImage(data, image));
  ASSIGN_OR_RETURN(const std::vector<float> values, EvaluatedPixels(data, source, image));
  const int64_t size = data.size;
  torch::Tensor input = torch::empty({1, 3, size, size}, torch::kFloat32);
  Normalise(model, values.data(), size * size, input.data_ptr<float>());
  return input;
}

double InputRange(const Model& model) { return 255 / (model.pixel_deviation + 1e-7); }

torch::Tensor OutputsOf(v1::OutputKind kind, const torch::Tensor& logits) {
  const int64_t positive = logits.size(1) - 1;
  switch (kind) {
    case v1::OUTPUT_KIND_LOGIT:
      return logits.select(1, positive);
    case v1::OUTPUT_KIND_PROBABILITY:
      return torch::softmax(logits, 1).select(1, positive);
    default:
      return logits.select(1, positive) - logits.slice(1, 0, positive).mean(1);
  }
}

double OutputOfRow(v1::OutputKind kind, const torch::Tensor& logits, int64_t n) {
  const torch::Tensor row = logits.detach()[n].contiguous();
  return OutputOf(kind, {row.const_data_ptr<float>(), static_cast<size_t>(row.numel())});
}

}  // namespace dermis
