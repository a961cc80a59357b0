// Pictures that browsers send, decoded by dermis-decode: a process of its own for each, with little
// memory, time and nothing else (tools/decode). This process never looks into the file.
#ifndef DERMIS_COORDINATOR_DASHBOARD_DECODER_H_
#define DERMIS_COORDINATOR_DASHBOARD_DECODER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace dermis {

// Thread-safe.
class Decoder {
 public:
  // `program`: the path of dermis-decode.
  explicit Decoder(std::string program, absl::Duration patience = absl::Seconds(15))
      : program_(std::move(program)), patience_(patience) {}

  // size x size x 3 bytes. INVALID_ARGUMENT: no picture, a damaged one, one that takes too much
  // time or memory. UNAVAILABLE: there is no such program. RESOURCE_EXHAUSTED: another picture is
  // being decoded, and has been for a while.
  absl::StatusOr<std::string> Decode(const std::string& file, uint32_t size);

 private:
  absl::StatusOr<std::string> Run(const std::string& file, uint32_t size);

  const std::string program_;
  const absl::Duration patience_;
  absl::Mutex one_;  // At a time.
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_DECODER_H_
