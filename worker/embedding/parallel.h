// Independent pieces of one computation on several threads.
#ifndef DERMIS_WORKER_EMBEDDING_PARALLEL_H_
#define DERMIS_WORKER_EMBEDDING_PARALLEL_H_

#include <cstddef>
#include <functional>

namespace dermis {

// Calls piece(i) once for each i in [0, count), on up to `threads` threads (the caller's is one of
// them); returns when all are done. Which thread runs a piece and when is not fixed: the bits do
// not depend on it as long as a piece writes only what is its own.
void ForEachPiece(int threads, size_t count, const std::function<void(size_t)>& piece);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_PARALLEL_H_
