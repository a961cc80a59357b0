// A study on its way: sent, submitted, watched to its end.
#ifndef DERMIS_TOOLS_DERMIS_SUBMIT_H_
#define DERMIS_TOOLS_DERMIS_SUBMIT_H_

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"

#include "common/image_set.h"
#include "dermis/v1/studies.pb.h"
#include "tools/dermis/client.h"
#include "tools/dermis/study_file.h"

namespace dermis {

// From now on Ctrl-C (and SIGTERM, SIGHUP) only sets what Interrupted() says.
void CatchInterrupts();
bool Interrupted();

// Cancels a call that waits, once `until` says so (asked 20 times a second) or Ctrl-C is pressed.
class Canceller {
 public:
  explicit Canceller(grpc::ClientContext& context, std::function<bool()> until = nullptr);
  ~Canceller();
  Canceller(const Canceller&) = delete;
  Canceller& operator=(const Canceller&) = delete;

 private:
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

// Sends what the cluster does not have, then the study. Errors say what was not taken, and why.
absl::StatusOr<v1::SubmitResponse> Submit(Client& client, const StudyFile& study,
                                          const ImageSet& images,
                                          const v1::Adjustment& adjust = {});

// Watches until the study ends, or is paused because its budget is used up; `see` is told of every
// change. A lost coordinator is waited for. CANCELLED: interrupted, the study goes on.
// DEADLINE_EXCEEDED (exit code 4): it goes on after `most`.
using SeeStudy = std::function<void(const v1::StudyStatus&)>;
absl::StatusOr<v1::StudyStatus> Watch(Client& client, const std::string& id, const SeeStudy& see,
                                      absl::Duration most = absl::InfiniteDuration());
// Printing its progress.
absl::StatusOr<v1::StudyStatus> Watch(Client& client, const std::string& id);

// ABORTED (exit code 3) with its problems where the study did not end well.
absl::Status StatusOf(const v1::StudyStatus& study);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_SUBMIT_H_
