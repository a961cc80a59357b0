// How long a piece of work will still take, by how fast it went lately.
#ifndef DERMIS_TOOLS_DERMIS_REMAINING_H_
#define DERMIS_TOOLS_DERMIS_REMAINING_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace dermis {

class RemainingTime {
 public:
  // `done` of `total` units at `now` (monotonic). What was done before the first call says nothing
  // of the speed.
  void See(absl::Duration now, uint64_t done, uint64_t total);
  // None before some of it went by, and where nothing is left.
  std::optional<absl::Duration> left() const;
  // Units, lately. None as long as it is not known.
  std::optional<double> per_second() const;

 private:
  struct Sample {
    absl::Duration at;
    uint64_t done;
  };
  std::deque<Sample> samples_;  // Of the last minute or two, the oldest first.
  uint64_t total_ = 0;
};

// "40 s", "3 min", "2 h 10 min": as exactly as it is known.
std::string RoughTime(absl::Duration time);
// "33/s", "2.1/s", "12/min", "4/h".
std::string RateText(double per_second);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_REMAINING_H_
