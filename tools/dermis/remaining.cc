#include "tools/dermis/remaining.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dermis {
namespace {

// Long enough to smooth bundles, short enough to follow workers that come and go.
constexpr absl::Duration kWindow = absl::Minutes(2);
constexpr absl::Duration kSampleInterval = absl::Milliseconds(500);
// Less says more about the start than about the work.
constexpr absl::Duration kLeast = absl::Seconds(3);

}  // namespace

void RemainingTime::See(absl::Duration now, uint64_t done, uint64_t total) {
  // Work that grew smaller (results that were lost) is another piece of work.
  if (!samples_.empty() && done < samples_.back().done) samples_.clear();
  total_ = total;
  // The last one is always the newest state.
  if (samples_.size() >= 2 &&
      samples_.back().at - samples_[samples_.size() - 2].at < kSampleInterval) {
    samples_.pop_back();
  }
  samples_.push_back({now, done});
  while (samples_.size() > 2 && now - samples_[1].at >= kWindow) samples_.pop_front();
}

std::optional<absl::Duration> RemainingTime::left() const {
  if (samples_.size() < 2) return std::nullopt;
  const Sample &first = samples_.front(), &last = samples_.back();
  if (last.at - first.at < kLeast || last.done <= first.done || last.done >= total_)
    return std::nullopt;
  return (last.at - first.at) *
         (static_cast<double>(total_ - last.done) / static_cast<double>(last.done - first.done));
}

std::optional<double> RemainingTime::per_second() const {
  if (samples_.size() < 2) return std::nullopt;
  const Sample &first = samples_.front(), &last = samples_.back();
  if (last.at - first.at < kLeast || last.done <= first.done) return std::nullopt;
  return static_cast<double>(last.done - first.done) / absl::ToDoubleSeconds(last.at - first.at);
}

std::string RateText(double per_second) {
  const auto text = [](double rate, const char* unit) {
    return absl::StrFormat(rate < 9.95 ? "%.1f/%s" : "%.0f/%s", rate, unit);
  };
  if (per_second >= 1) return text(per_second, "s");
  return per_second * 60 >= 1 ? text(per_second * 60, "min") : text(per_second * 3600, "h");
}

std::string RoughTime(absl::Duration time) {
  const auto seconds = std::max<int64_t>(1, absl::ToInt64Seconds(time + absl::Milliseconds(500)));
  if (seconds < 90) return absl::StrCat(seconds < 10 ? seconds : (seconds + 2) / 5 * 5, " s");
  const int64_t minutes = (seconds + 30) / 60;
  if (minutes < 90) return absl::StrCat(minutes, " min");
  return absl::StrCat(minutes / 60, " h ", minutes % 60 / 10 * 10, " min");
}

}  // namespace dermis
