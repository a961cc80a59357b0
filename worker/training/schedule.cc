#include "worker/training/schedule.h"

#include <algorithm>
#include <cmath>

namespace dermis {

double ScheduleFactor(const v1::ScheduleSpec& spec, uint64_t step, uint64_t steps_per_epoch) {
  const double per_epoch = static_cast<double>(steps_per_epoch), s = static_cast<double>(step);
  const double warmup = std::floor(spec.warmup_epochs() * per_epoch + 0.5);
  if (s < warmup) return (s + 1) / warmup;
  switch (spec.kind_case()) {
    case v1::ScheduleSpec::kStep: {
      const uint64_t drops = step / steps_per_epoch / std::max(1u, spec.step().every());
      return std::pow(spec.step().factor(), static_cast<double>(drops));
    }
    case v1::ScheduleSpec::kCosine: {
      const double end = spec.cosine().epochs() * per_epoch, last = spec.cosine().final();
      const double p = end > warmup ? std::min(1.0, (s - warmup) / (end - warmup)) : 1.0;
      return last + (1 - last) * (1 + std::cos(M_PI * p)) / 2;
    }
    case v1::ScheduleSpec::kConstant:
    case v1::ScheduleSpec::KIND_NOT_SET:
      break;
  }
  return 1;
}

}  // namespace dermis
