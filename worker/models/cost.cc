#include "worker/models/cost.h"

#include "worker/models/resnet.h"

namespace dermis {
namespace {

uint64_t ResNetMultiplyAdds(const ModelLayout& layout) {
  const ResNetShape shape = ResNetShapeOf(layout.kind, layout.stem);
  const auto of = [](const ResNetLayer& layer, uint64_t side) {
    return side * side * layer.in * layer.out * layer.kernel * layer.kernel;
  };
  uint64_t side = layout.size / shape.layers[0].stride;
  uint64_t sum = of(shape.layers[0], side) + uint64_t{shape.features} * layout.classes;
  if (shape.pooled_stem) side /= 2;
  for (const ResNetBlock& block : shape.blocks) {
    const uint64_t in = side;
    for (uint32_t k = block.first; k < block.first + block.count; ++k) {
      side /= shape.layers[k].stride;
      sum += of(shape.layers[k], side);
    }
    if (!block.downsample) continue;
    const ResNetLayer& shortcut = shape.layers[block.first + block.count];
    sum += of(shortcut, in / shortcut.stride);
  }
  return sum;
}

}  // namespace

uint64_t MultiplyAdds(const ModelLayout& layout) {
  if (IsResNet(layout.kind)) return ResNetMultiplyAdds(layout);
  // seed_cnn: every second convolution is followed by a pool that halves the sides.
  uint64_t sum = 0, side = layout.size;
  int convolutions = 0;
  for (const ParameterSpec& spec : layout.parameters) {
    if (spec.shape.size() == 4) {
      sum += spec.count * side * side;
      if (++convolutions % 2 == 0) side /= 2;
    } else if (spec.shape.size() == 2) {
      sum += spec.count;
    }
  }
  return sum;
}

}  // namespace dermis
