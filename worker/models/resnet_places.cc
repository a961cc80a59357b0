#include "worker/models/resnet_places.h"

namespace dermis {

ResNetPlaces::ResNetPlaces(const ModelLayout& layout)
    : shape(ResNetShapeOf(layout.kind, layout.stem)),
      fc_weight(layout.parameter("fc.weight").offset),
      fc_bias(layout.parameter("fc.bias").offset) {
  for (const ResNetLayer& form : shape.layers) {
    const ParameterSpec& kernel = layout.parameter(form.convolution + ".weight");
    layers.push_back({form, kernel.offset, kernel.count,
                      layout.parameter(form.norm + ".weight").offset,
                      layout.parameter(form.norm + ".bias").offset,
                      layout.statistic(form.norm + ".running_mean").offset,
                      layout.statistic(form.norm + ".running_var").offset, 0, kernel.frozen});
  }
  layers[0].side = layout.size / layers[0].form.stride;
  uint32_t side = layers[0].side / (shape.pooled_stem ? 2 : 1);
  for (const ResNetBlock& block : shape.blocks) {
    const uint32_t in = side;
    for (uint32_t k = block.first; k < block.first + block.count; ++k) {
      side /= layers[k].form.stride;
      layers[k].side = side;
    }
    if (block.downsample) {
      ResNetPlace& shortcut = layers[block.first + block.count];
      shortcut.side = in / shortcut.form.stride;
    }
  }
  last_side = side;
  while (first_block < shape.blocks.size() && layers[shape.blocks[first_block].first].frozen) {
    ++first_block;
  }
}

}  // namespace dermis
