// What users have uploaded and no study has named yet: it counts for their quota like what their studies name, and goes when
// it was not asked for during a day. Without it a user could fill the disk by uploads alone.
//
// Not in the journal, because it is not part of any study. So that a restart forgets nothing, a file FOLDER/DIGEST with the user's
// name stands for each such blob. (Written before the blob is, and not synced: a power failure may lose some, which then count for
// nobody.)
#ifndef DERMIS_COORDINATOR_SERVICES_USER_UPLOADS_H_
#define DERMIS_COORDINATOR_SERVICES_USER_UPLOADS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/blob_store.h"
#include "common/clock.h"
#include "common/digest.h"
#include "coordinator/quota.h"

namespace dermis {

// Thread-safe.
class UserUploads {
 public:
  struct Options {
    UserQuota quota;  // Of studies nothing is looked at here.
    absl::Duration keep = absl::Hours(24);
  };
  // Makes the folder (0700) where there is none. All but options outlive this.
  static absl::StatusOr<std::unique_ptr<UserUploads>> Open(const std::string& folder, const BlobStore& store, const Clock& clock,
                                                           Options options);

  // Before a blob of so many bytes, which is not there yet, is uploaded. RESOURCE_EXHAUSTED: with it the user would have more than
  // his quota, counting what is under way.
  absl::Status Begin(const std::string& user, uint64_t size);
  // All bytes have come: it is going to be stored.
  absl::Status Storing(const std::string& user, const Digest& blob, uint64_t size);
  // After Begin, always: the upload has ended, and the blob is there, or not.
  void End(const std::string& user, const Digest& blob, uint64_t size, bool there);

  // Someone means to use the blob: it stays for another while.
  void Wanted(const Digest& blob);
  // A study of the user names these, and he now has so much by studies.
  void Named(const std::string& user, const Usage& by_studies, const std::vector<Digest>& blobs);

  // Blobs whose time is over, at most `most`, the oldest first, once a minute at most (else none).
  // Whoever removes them asks Take again, at that moment: true where it still is, and the blob
  // counts for nobody any more.
  std::vector<Digest> Due(size_t most);
  bool Take(const Digest& blob);

 private:
  struct Upload {
    std::string user;
    uint64_t size = 0;
    absl::Duration wanted;  // Last.
  };
  struct Account {
    Usage by_studies, uploads, under_way;
  };
  UserUploads(std::string folder, const Clock& clock, Options options)
      : folder_(std::move(folder)), clock_(clock), options_(options) {}
  std::string FileOf(const Digest& blob) const;
  void Add(const Digest& blob, const std::string& user, uint64_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(std::map<Digest, Upload>::iterator upload) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string folder_;
  const Clock& clock_;
  const Options options_;
  absl::Mutex mutex_;
  std::map<Digest, Upload> uploads_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<absl::Duration, Digest>> by_age_
      ABSL_GUARDED_BY(mutex_);  // By when they were wanted last.
  std::map<std::string, Account> accounts_ ABSL_GUARDED_BY(mutex_);
  absl::Duration next_look_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_USER_UPLOADS_H_
