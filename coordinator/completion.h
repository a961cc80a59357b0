// What the gRPC threads do with completions and submissions before the core sees them, so that the
// core thread hashes and parses nothing.
#ifndef DERMIS_COORDINATOR_COMPLETION_H_
#define DERMIS_COORDINATOR_COMPLETION_H_

#include <memory>
#include <string>
#include <vector>

#include "common/digest.h"
#include "coordinator/blob_index.h"
#include "coordinator/quota.h"
#include "dermis/v1/cluster.pb.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

// A completion whose address, shape and blobs were checked.
struct CheckedCompletion {
  v1::Completion completion;  // result.task and payload_digest are filled.
  Digest task;
  std::shared_ptr<const v1::Payload> payload;  // Parsed; of training and evaluation only.
  v1::CompletionReply::Verdict verdict =
      v1::CompletionReply::STORED;  // Else: refused before the core.
  std::vector<Digest> missing;      // MISSING: upload these.
  std::string cause;                // REFUSED: why.
};
// Pure but for `blobs`; thread-safe.
CheckedCompletion CheckCompletion(v1::Completion completion, const BlobIndex& blobs);

// A study as the service hands it on: spec resolved (ResolveSpec), manifest parsed and validated,
// the image set's chunks known to be stored.
struct Submission {
  v1::StudySpec spec;
  Digest image_set;
  std::shared_ptr<const v1::ImageSetManifest> manifest;
  std::string user;
  std::vector<std::string> warnings;
  v1::Adjustment adjust;
  Brought brings;
  std::vector<Digest> named;  // All blobs of these.
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_COMPLETION_H_
