#include "worker/models/features.h"

#include <torch/types.h>
#include <torch/utils.h>

#include "common/progress.h"
#include "common/status_macros.h"
#include "worker/models/network.h"
#include "worker/models/resnet.h"

namespace dermis {

absl::StatusOr<Features> FeaturesOf(const v1::ModelRef& ref, std::string_view weights,
                                    const ImageData& data, absl::Span<const uint32_t> images) {
  ASSIGN_OR_RETURN(const Model model, ModelOf(ref, weights, data, "features"));
  const torch::NoGradGuard no_grad;
  Features features;
  // One by one: kernels that are chosen by the batch's size would give other bits.
  for (size_t i = 0; i < images.size(); ++i) {
    NoteProgress();
    data.Expect(images.subspan(i));
    ASSIGN_OR_RETURN(const torch::Tensor input, InputsOf(model, data, images.subspan(i, 1)));
    torch::Tensor maps = GraphOf(model, input).last.maps;
    if (IsResNet(model.layout.kind)) maps = maps.mean(c10::IntArrayRef{2, 3});
    const torch::Tensor row = maps.contiguous().flatten();
    const float* const begin = row.const_data_ptr<float>();
    features.count = static_cast<uint32_t>(row.numel());
    features.values.insert(features.values.end(), begin, begin + features.count);
  }
  return features;
}

}  // namespace dermis
