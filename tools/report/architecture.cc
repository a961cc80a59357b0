#include "tools/report/architecture.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "tools/ingest/csv.h"
#include "tools/report/plot.h"
#include "worker/models/model.h"
#include "worker/models/resnet.h"

namespace dermis {
namespace {

std::string Maps(uint32_t side, uint32_t channels) {
  return absl::StrCat(side, " × ", side, " × ", channels);
}

// Numbers of the tensors NAME.weight, NAME.bias, ...
Layer LayerOf(const ModelLayout& layout, const std::string& name, const std::string& type,
              const std::string& output) {
  Layer layer{name, type, output};
  const std::string prefix = name + ".";
  for (const ParameterSpec& p : layout.parameters)
    layer.trained += absl::StartsWith(p.name, prefix) ? p.count : 0;
  for (const ParameterSpec& s : layout.statistics)
    layer.other += absl::StartsWith(s.name, prefix) ? s.count : 0;
  return layer;
}

// As worker/models/seed_cnn.h.
std::vector<Layer> SeedCnn(const ModelLayout& layout, bool dropout) {
  std::vector<Layer> rows;
  uint32_t side = layout.size;
  for (int k = 1; k <= 6; ++k) {
    const std::string conv = absl::StrCat("conv", k), bn = absl::StrCat("bn", k);
    const auto channels = static_cast<uint32_t>(layout.parameter(conv + ".bias").shape[0]);
    rows.push_back(LayerOf(layout, conv, "3 × 3 convolution", Maps(side, channels)));
    rows.push_back({absl::StrCat("activation", k), "ELU", Maps(side, channels)});
    rows.push_back(LayerOf(layout, bn, "batch norm", Maps(side, channels)));
    if (k % 2 != 0) continue;
    side /= 2;
    rows.push_back({absl::StrCat("pool", k / 2), "2 × 2 max pool", Maps(side, channels)});
    if (dropout)
      rows.push_back({absl::StrCat("dropout", k / 2), absl::StrCat("dropout .", 1 + k / 2),
                      Maps(side, channels)});
  }
  rows.push_back({"flatten", "flatten", absl::StrCat(layout.parameter("dense.weight").shape[1])});
  rows.push_back(LayerOf(layout, "dense", "dense", absl::StrCat(layout.classes)));
  return rows;
}

std::vector<Layer> ResNet(const ModelLayout& layout) {
  const ResNetShape shape = ResNetShapeOf(layout.kind, layout.stem);
  std::vector<Layer> rows;
  const auto add = [&](const ResNetLayer& layer, uint32_t side) {
    rows.push_back(LayerOf(layout, layer.convolution,
                           absl::StrCat(layer.kernel, " × ", layer.kernel, " convolution"),
                           Maps(side, layer.out)));
    rows.push_back(LayerOf(layout, layer.norm, "batch norm", Maps(side, layer.out)));
  };
  uint32_t side = layout.size / shape.layers[0].stride;
  add(shape.layers[0], side);
  if (shape.pooled_stem) {
    side /= 2;
    rows.push_back({"maxpool", "3 × 3 max pool", Maps(side, shape.layers[0].out)});
  }
  for (const ResNetBlock& block : shape.blocks) {
    for (uint32_t k = 0; k < block.count; ++k) {
      side /= shape.layers[block.first + k].stride;
      add(shape.layers[block.first + k], side);
    }
    if (block.downsample) add(shape.layers[block.first + block.count], side);
  }
  rows.push_back({"avgpool", "mean over the map", absl::StrCat(shape.features)});
  rows.push_back(LayerOf(layout, "fc", "dense", absl::StrCat(layout.classes)));
  return rows;
}

}  // namespace

uint64_t Architecture::trained() const {
  uint64_t sum = 0;
  for (const Layer& row : rows) sum += row.trained;
  return sum;
}

uint64_t Architecture::other() const {
  uint64_t sum = 0;
  for (const Layer& row : rows) sum += row.other;
  return sum;
}

Architecture ArchitectureOf(const v1::StudyResults& results, int classes) {
  const v1::StudySpec& spec = results.spec();
  const v1::ModelKind kind = spec.has_model() ? spec.model().kind() : spec.training().model();
  // Of a model that was given nobody told the stem.
  if (kind == v1::MODEL_KIND_UNSPECIFIED || (spec.has_model() && IsResNet(kind))) return {};
  const auto layout =
      LayoutOf(kind, spec.images().size(), static_cast<uint32_t>(classes), spec.training().stem());
  if (!layout.ok()) return {};
  return {IsResNet(kind) ? ResNet(*layout)
                         : SeedCnn(*layout, !spec.has_model() && spec.training().dropout())};
}

std::string RenderArchitecture(const Architecture& architecture) {
  std::string body;
  for (const Layer& row : architecture.rows) {
    absl::StrAppend(&body, "<tr><th scope=\"row\">", Escape(row.name), "</th><td>", row.type,
                    "</td><td>", row.output, "</td><td>", row.trained + row.other, "</td></tr>");
  }
  return absl::StrCat(
      "<div "
      "class=\"scroll\"><table><thead><tr><th>layer</th><th>type</th><th>output</"
      "th><th>parameters</th></tr></thead><tbody>",
      body, "</tbody></table></div><p class=\"note\">", architecture.total(),
      " parameters: ", architecture.trained(), " are trained, ", architecture.other(),
      " are running statistics.</p>");
}

std::string ArchitectureCsv(const Architecture& architecture) {
  std::string csv = "layer,type,output,parameters,trained\r\n";
  for (const Layer& row : architecture.rows) {
    absl::StrAppend(&csv, CsvField(row.name), ",", CsvField(row.type), ",", CsvField(row.output),
                    ",", row.trained + row.other, ",", row.trained, "\r\n");
  }
  return csv;
}

}  // namespace dermis
