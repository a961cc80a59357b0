// Class activation maps from a layer's maps and the gradient of the output by them: sums in double,
// in a fixed order, before ReLU and any display. No Torch.
//
// Letters: A maps and G gradients, C x P (channels, pixels).
#ifndef DERMIS_WORKER_MODELS_CAMS_H_
#define DERMIS_WORKER_MODELS_CAMS_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

struct LayerView {
  absl::Span<const float> maps, gradient;  // C x P each.
  size_t channels = 0, pixels = 0;
};

// Each gives P values.

// sum_c A_c mean(G_c) (Selvaraju et al. 2017). On a network that flattens its maps the means mix
// positions that the last layer tells apart.
std::vector<float> GradCam(const LayerView& layer);

// sum_c A_c sum_p a_cp max(0, G_cp), a = G^2 / (2 G^2 + (sum_p A_c) G^3 + 1e-6) where G is not 0
// (Chattopadhay et al. 2018, as in the package grad-cam).
std::vector<float> GradCamPlusPlus(const LayerView& layer);

// sum_c A_c G_c (Draelos & Carin 2020). Where the output is linear in A this is exact: it adds up
// to the output less its bias.
std::vector<float> HiresCam(const LayerView& layer);

// sum_c A_c max(0, G_c) (Jiang et al. 2021).
std::vector<float> LayerCam(const LayerView& layer);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_CAMS_H_
