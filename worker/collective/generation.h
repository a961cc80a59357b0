// The order of gangs: which generation is older (dermis.v1.Generation).
#ifndef DERMIS_WORKER_COLLECTIVE_GENERATION_H_
#define DERMIS_WORKER_COLLECTIVE_GENERATION_H_

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dermis/v1/cluster.pb.h"

namespace dermis {

inline bool Older(const v1::Generation& a, const v1::Generation& b) {
  return std::pair(a.incarnation(), a.counter()) < std::pair(b.incarnation(), b.counter());
}
inline bool Same(const v1::Generation& a, const v1::Generation& b) { return !Older(a, b) && !Older(b, a); }
inline std::string GenerationName(const v1::Generation& g) { return absl::StrCat(g.incarnation(), ".", g.counter()); }

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_GENERATION_H_
