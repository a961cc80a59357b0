// ResNet-18, 34 and 50 (He et al. 2015) as torchvision builds them: which layers there are, in
// which order, under which names. The one description that the layout, the graph, the training pass
// and the inference plan read. No Torch here.
//
// stem -> stages layer1 .. layer4 of blocks -> global average pool -> fc.
//   stem      imagenet: 7x7 convolution / 2, batch norm, ReLU, 3x3 max pool / 2 (padding 1)
//             small:    3x3 convolution, batch norm, ReLU
//   block     out = ReLU(branch(x) + shortcut(x)); the branch is two 3x3 convolutions (18, 34) or
//             1x1, 3x3, 1x1 (50), each with a batch norm, and ReLU between them; the shortcut is x,
//             or a 1x1 convolution with a batch norm where the shape changes ("downsample").
// The first block of layer2 .. layer4 halves the sides, in the branch's first 3x3 convolution.
#ifndef DERMIS_WORKER_MODELS_RESNET_H_
#define DERMIS_WORKER_MODELS_RESNET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/spec.pb.h"
#include "worker/models/model.h"

namespace dermis {

// A convolution without bias (padding kernel / 2) and the batch norm after it.
struct ResNetLayer {
  std::string convolution, norm;  // Prefixes of their tensors: "layer1.0.conv1", "layer1.0.bn1".
  uint32_t in = 0, out = 0;       // Channels.
  uint32_t kernel = 0, stride = 1;
};

struct ResNetBlock {
  std::string name;         // "layer1.0"
  uint32_t stage = 0;       // 1..4
  uint32_t first = 0;       // layers[first], ... is the branch, `count` of them.
  uint32_t count = 0;       // 2 or 3.
  bool downsample = false;  // layers[first + count] is the shortcut.
  bool last_of_stage = false;
};

struct ResNetShape {
  bool pooled_stem = false;         // imagenet
  std::vector<ResNetLayer> layers;  // In torchvision's order of parameters; layers[0] is the stem.
  std::vector<ResNetBlock> blocks;
  uint32_t features = 0;  // What fc takes: 512 or 2048.
};

bool IsResNet(v1::ModelKind kind);

// kind: a ResNet; stem: imagenet or small.
ResNetShape ResNetShapeOf(v1::ModelKind kind, v1::Stem stem);

// Convolutions: Kaiming normal by fan out, as torchvision; fc: U(+-1 / sqrt(fan in)). Weight decay
// on the weights of convolutions and fc. Errors: INVALID_ARGUMENT for a stem or size that does not
// fit: imagenet takes multiples of 32, small multiples of 8.
absl::StatusOr<ModelLayout> ResNetLayout(v1::ModelKind kind, v1::Stem stem, uint32_t size,
                                         uint32_t classes);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_RESNET_H_
