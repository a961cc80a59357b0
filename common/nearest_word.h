// What was meant by a word that nobody knows: for "did you mean".
#ifndef DERMIS_COMMON_NEAREST_WORD_H_
#define DERMIS_COMMON_NEAREST_WORD_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dermis {

// The first of `known` with the fewest letters added, left out, changed, or swapped with the next
// one; empty: that takes more than `most`.
std::string NearestWord(std::string_view word, const std::vector<std::string>& known, size_t most);

}  // namespace dermis

#endif  // DERMIS_COMMON_NEAREST_WORD_H_
