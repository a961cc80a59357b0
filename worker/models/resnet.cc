#include "worker/models/resnet.h"

#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace dermis {
namespace {

constexpr uint32_t kLargestSize = 512;

std::array<uint32_t, 4> BlocksOf(v1::ModelKind kind) {
  if (kind == v1::MODEL_KIND_RESNET18) return {2, 2, 2, 2};
  return {3, 4, 6, 3};
}

void AddLayer(ModelLayout& layout, const ResNetLayer& layer) {
  const int64_t out = layer.out, in = layer.in, kernel = layer.kernel;
  layout.AddParameter({.name = layer.convolution + ".weight",
                       .shape = {out, in, kernel, kernel},
                       .draw = Draw::kNormal,
                       .spread = std::sqrt(2.0 / static_cast<double>(out * kernel * kernel)),
                       .decayed = true});
  layout.AddParameter({.name = layer.norm + ".weight", .shape = {out}, .spread = 1});
  layout.AddParameter({.name = layer.norm + ".bias", .shape = {out}});
  layout.AddStatistic({.name = layer.norm + ".running_mean", .shape = {out}});
  layout.AddStatistic({.name = layer.norm + ".running_var", .shape = {out}, .spread = 1});
}

}  // namespace

bool IsResNet(v1::ModelKind kind) {
  return kind == v1::MODEL_KIND_RESNET18 || kind == v1::MODEL_KIND_RESNET34 ||
         kind == v1::MODEL_KIND_RESNET50;
}

ResNetShape ResNetShapeOf(v1::ModelKind kind, v1::Stem stem) {
  ResNetShape shape;
  shape.pooled_stem = stem == v1::STEM_IMAGENET;
  const bool bottleneck = kind == v1::MODEL_KIND_RESNET50;
  shape.layers.push_back(
      {"conv1", "bn1", 3, 64, shape.pooled_stem ? 7u : 3u, shape.pooled_stem ? 2u : 1u});
  uint32_t in = 64;
  const std::array<uint32_t, 4> blocks = BlocksOf(kind);
  for (uint32_t stage = 1; stage <= 4; ++stage) {
    const uint32_t width = 32u << stage, out = bottleneck ? 4 * width : width;
    for (uint32_t b = 0; b < blocks[stage - 1]; ++b) {
      const uint32_t stride = b == 0 && stage > 1 ? 2 : 1;
      ResNetBlock block = {.name = absl::StrCat("layer", stage, ".", b),
                           .stage = stage,
                           .first = static_cast<uint32_t>(shape.layers.size()),
                           .count = bottleneck ? 3u : 2u,
                           .downsample = stride != 1 || in != out,
                           .last_of_stage = b + 1 == blocks[stage - 1]};
      auto add = [&](uint32_t k, uint32_t from, uint32_t to, uint32_t kernel, uint32_t step) {
        shape.layers.push_back({absl::StrCat(block.name, ".conv", k),
                                absl::StrCat(block.name, ".bn", k), from, to, kernel, step});
      };
      if (bottleneck) {
        add(1, in, width, 1, 1);
        add(2, width, width, 3, stride);
        add(3, width, out, 1, 1);
      } else {
        add(1, in, width, 3, stride);
        add(2, width, width, 3, 1);
      }
      if (block.downsample) {
        shape.layers.push_back(
            {block.name + ".downsample.0", block.name + ".downsample.1", in, out, 1, stride});
      }
      shape.blocks.push_back(std::move(block));
      in = out;
    }
  }
  shape.features = in;
  return shape;
}

absl::StatusOr<ModelLayout> ResNetLayout(v1::ModelKind kind, v1::Stem stem, uint32_t size,
                                         uint32_t classes) {
  if (stem != v1::STEM_IMAGENET && stem != v1::STEM_SMALL) {
    return absl::InvalidArgumentError(absl::StrCat(
        ModelName(kind), " needs a stem, imagenet or small; it is ", v1::Stem_Name(stem)));
  }
  const uint32_t step = stem == v1::STEM_IMAGENET ? 32 : 8;
  if (size == 0 || size % step != 0 || size > kLargestSize) {
    return absl::InvalidArgumentError(absl::StrCat(
        ModelName(kind), " with the ", stem == v1::STEM_IMAGENET ? "imagenet" : "small",
        " stem needs an image size that is a multiple of ", step, ", at most ", kLargestSize,
        "; images.size is ", size));
  }
  ModelLayout layout;
  layout.kind = kind;
  layout.stem = stem;
  layout.size = size;
  layout.classes = classes;
  layout.batch_norm_epsilon = 1e-5;
  layout.batch_norm_momentum = 0.1;
  const ResNetShape shape = ResNetShapeOf(kind, stem);
  for (const ResNetLayer& layer : shape.layers) AddLayer(layout, layer);
  const double limit = 1 / std::sqrt(static_cast<double>(shape.features));
  layout.AddParameter({.name = "fc.weight",
                       .shape = {classes, shape.features},
                       .draw = Draw::kUniform,
                       .spread = limit,
                       .decayed = true});
  layout.AddParameter(
      {.name = "fc.bias", .shape = {classes}, .draw = Draw::kUniform, .spread = limit});
  return layout;
}

}  // namespace dermis
