// Infidelity: does what the map says of a change meet what the output does?
#ifndef DERMIS_WORKER_EXPLAIN_CHECKS_INFIDELITY_H_
#define DERMIS_WORKER_EXPLAIN_CHECKS_INFIDELITY_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"

#include "worker/explain/masks.h"

namespace dermis {

struct Infidelity {
  double squared_error = 0;      // Mean of (scale * said - done)^2.
  // The same over the variance of `done`: 0 is perfect, 1 is what the best constant reaches. nullopt: it does not vary.
  std::optional<double> relative;
  double scale = 1;
};

// said[d]: the change of the output that the map tells for draw d (the sum of phi over what is removed; or of phi times
// the noise that is taken away); done[d]: f(x) - f(changed x). fit_scale: the map has no units, so it is multiplied by
// what serves it best. At least one draw.
Infidelity InfidelityOf(absl::Span<const double> said, absl::Span<const double> done,
                        bool fit_scale);

// Draw `draw` of an image: a random half of the superpixels (rounded down) is hidden, the others are shown.
Mask RandomHalf(uint64_t seed, uint32_t image, uint32_t draw, uint32_t superpixels);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_CHECKS_INFIDELITY_H_
