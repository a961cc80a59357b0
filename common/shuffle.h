// The order in which an epoch visits its training images: fixed by the study alone, whoever
// computes and however much of the images fits into memory.
#ifndef DERMIS_COMMON_SHUFFLE_H_
#define DERMIS_COMMON_SHUFFLE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

// The images of `training` in the order of their visits.
//
// training: ascending indices in the image set. chunk_begin: the first image of each chunk of the
// image set, ascending from 0. window 0, or one that holds all training images: a uniform
// permutation (PhiloxPermutation), whatever the chunks. Else the chunks are permuted and their
// training images put one after the other in that order; image p of this list is drawn a place in
// [p, p + window), and the images are visited in the order of these places. So
//   - none is moved by `window` or more from its place in the list (by window / 4 on average);
//   - the first m images of the order come from the first m + window of the list: who walks along
//   the order needs about
//     `window` images at a time, and one chunk goes as another comes. (Shuffling blocks of `window`
//     images moves them as far, but at each block's end all that is in memory is exchanged at once:
//     twice the memory, or a pause.)
std::vector<uint32_t> EpochOrder(uint64_t seed, uint32_t epoch, absl::Span<const uint32_t> training,
                                 absl::Span<const uint32_t> chunk_begin, uint32_t window);

}  // namespace dermis

#endif  // DERMIS_COMMON_SHUFFLE_H_
