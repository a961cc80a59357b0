// What one user may have in the cluster, and what counts. Only what is durable does: studies that are not deleted, and
// the image sets and models that they name, each once for each user who has a study of it.
#ifndef DERMIS_COORDINATOR_QUOTA_H_
#define DERMIS_COORDINATOR_QUOTA_H_

#include <cstdint>

#include "common/digest.h"

namespace dermis {

// 0: no limit.
struct UserQuota {
  uint64_t studies = 0, blobs = 0, bytes = 0;
};

struct Usage {
  uint64_t studies = 0, blobs = 0, bytes = 0;
};

// What a study names that its user gave.
struct Brought {
  Digest images, model;  // None: no model or weights were given.
  uint64_t image_blobs = 0, image_bytes = 0, model_bytes = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_QUOTA_H_
