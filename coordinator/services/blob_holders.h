// Which workers hold which large blobs, so that workers get them from each other: the coordinator
// sends about two copies of what many want at once, and each that has got one serves others.
//
// Nothing here is durable, and nothing rests on its being true: a worker that does not find the
// blob at the peer it was sent to asks again and names that peer as one to avoid; where no peer is
// left, or nothing moves for a while, the coordinator sends the bytes.
#ifndef DERMIS_COORDINATOR_SERVICES_BLOB_HOLDERS_H_
#define DERMIS_COORDINATOR_SERVICES_BLOB_HOLDERS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/digest.h"
#include "dermis/v1/blobs.pb.h"

namespace dermis {

// Thread-safe where the clock is. No call waits.
class BlobHolders {
 public:
  static constexpr size_t kCopies = 2;      // Sent by the coordinator while there are fewer.
  static constexpr int kUploads = 2;        // At once from one worker, of all blobs.
  static constexpr size_t kBlobs = 10'000;  // Remembered; those not asked for longest go first.
  // A blob that nobody has got or been sent for so long is sent, whatever is under way.
  static constexpr absl::Duration kPatience = absl::Seconds(30);

  explicit BlobHolders(const Clock& clock) : clock_(clock) {}

  struct Answer {
    enum { kSend, kAsk, kWait } what = kSend;
    v1::BlobPeer peer;  // kAsk.
  };
  // Worker `me` wants a blob of `size` bytes; those below kLargeBlob are always sent. Ends what it
  // was told before about this blob.
  Answer Want(const Digest& blob, uint64_t size, const v1::BlobPeer& me,
              const std::vector<std::string>& avoid);

  // `me` has the blob (`held`), or could not get or keep it: others need not wait for it.
  void Told(const Digest& blob, const v1::BlobPeer& me, bool held);

 private:
  // What a worker was told to do and has not yet ended. One that is never heard of again counts
  // until `until`.
  struct Transfer {
    std::string from;  // "": the coordinator.
    absl::Duration until;
  };
  struct Blob {
    std::vector<std::string> holders;           // In the order in which they got it.
    std::map<std::string, Transfer> transfers;  // By receiver.
    absl::Duration moved, wanted;
  };

  void End(Blob& blob, const std::string& receiver) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Expire(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Blob& Of(const Digest& blob, absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock& clock_;
  absl::Mutex mutex_;
  std::map<Digest, Blob> blobs_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, v1::BlobPeer> peers_ ABSL_GUARDED_BY(mutex_);  // By worker, as last said.
  std::map<std::string, int> uploads_ ABSL_GUARDED_BY(mutex_);         // Under way, by worker.
  absl::Duration next_expiry_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_BLOB_HOLDERS_H_
