#include "worker/models/randomise.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/checks.h"
#include "common/philox.h"
#include "common/status_macros.h"
#include "worker/models/model.h"

namespace dermis {
namespace {

// "conv3.weight" and "bn3.running_mean" are of conv3, "layer2.0.conv1.weight" is of layer2.
bool IsOf(const std::string& tensor, const std::string& layer) {
  if (absl::StartsWith(tensor, layer + ".")) return true;
  return absl::StartsWith(layer, "conv") &&
         absl::StartsWith(tensor, absl::StrCat("bn", layer.substr(4), "."));
}

void Replace(const std::vector<ParameterSpec>& specs, const std::string& layer,
             const std::vector<float>& fresh, std::vector<float>& values) {
  for (const ParameterSpec& spec : specs) {
    if (!IsOf(spec.name, layer)) continue;
    const auto first = static_cast<std::ptrdiff_t>(spec.offset);
    std::copy_n(fresh.begin() + first, spec.count, values.begin() + first);
  }
}

}  // namespace

absl::StatusOr<std::string> Randomise(std::string_view weights,
                                      const v1::RandomisedLayers& randomised) {
  ASSIGN_OR_RETURN(Model model, ParseModel(weights));
  const std::vector<std::string> layers = RandomisableLayers(model.layout.kind);
  const auto block = PhiloxBlock(randomised.seed(), Purpose::kRandomise, 0, 0, 0);
  Model fresh = model;
  InitializeModel(uint64_t{block[0]} << 32 | block[1], fresh);
  for (const std::string& layer : randomised.layers()) {
    if (std::find(layers.begin(), layers.end(), layer) == layers.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("no layer ", layer, " to be randomised in ", ModelName(model.layout.kind),
                       "; there are ", absl::StrJoin(layers, ", ")));
    }
    Replace(model.layout.parameters, layer, fresh.parameters, model.parameters);
    Replace(model.layout.statistics, layer, fresh.statistics, model.statistics);
  }
  return SerializeModel(model);
}

}  // namespace dermis
