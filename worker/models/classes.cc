#include "worker/models/classes.h"

#include <algorithm>

#include "absl/strings/match.h"

namespace dermis {

void MoveClassLast(uint32_t c, Model& model) {
  for (const ParameterSpec& spec : model.layout.parameters) {
    if (!absl::StartsWith(spec.name, "fc.") && !absl::StartsWith(spec.name, "dense.")) continue;
    const auto row = static_cast<std::ptrdiff_t>(spec.count / model.layout.classes);
    const auto first =
        model.parameters.begin() + static_cast<std::ptrdiff_t>(spec.offset) + c * row;
    const auto end =
        model.parameters.begin() + static_cast<std::ptrdiff_t>(spec.offset + spec.count);
    std::rotate(first, first + row, end);
  }
}

}  // namespace dermis
