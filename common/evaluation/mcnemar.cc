#include "common/evaluation/mcnemar.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "common/evaluation/scores.h"
#include "common/status_macros.h"

namespace dermis {

McNemarTest McNemarOf(uint64_t only_first, uint64_t only_second) {
  McNemarTest test;
  test.only_first = only_first;
  test.only_second = only_second;
  const uint64_t n = only_first + only_second, least = std::min(only_first, only_second);
  test.exact = n < kExactBelow;
  // P(X = k) of n fair coins.
  const auto probability = [&](uint64_t k) {
    const double trials = static_cast<double>(n), heads = static_cast<double>(k);
    return std::exp(std::lgamma(trials + 1) - std::lgamma(heads + 1) -
                    std::lgamma(trials - heads + 1) - trials * std::log(2.0));
  };
  double below = 0;
  for (uint64_t k = 0; k < least; ++k) below += probability(k);
  test.p = std::min(1.0, 2 * (below + probability(least) * (test.exact ? 1 : 0.5)));
  return test;
}

absl::StatusOr<McNemarTest> McNemar(absl::Span<const uint32_t> first,
                                    absl::Span<const uint32_t> second,
                                    absl::Span<const uint32_t> label,
                                    absl::Span<const uint32_t> group) {
  if (first.size() != label.size() || second.size() != label.size() ||
      group.size() != label.size()) {
    return absl::InvalidArgumentError("predictions, labels and lesions differ in number");
  }
  RETURN_IF_ERROR(CheckIndependent(group, "McNemar's test"));
  uint64_t only_first = 0, only_second = 0;
  for (size_t i = 0; i < label.size(); ++i) {
    const bool a = first[i] == label[i], b = second[i] == label[i];
    only_first += a && !b;
    only_second += b && !a;
  }
  return McNemarOf(only_first, only_second);
}

}  // namespace dermis
