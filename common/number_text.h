// Numbers for people.
#ifndef DERMIS_COMMON_NUMBER_TEXT_H_
#define DERMIS_COMMON_NUMBER_TEXT_H_

#include <string>

namespace dermis {

// 67,200 and 1,000,000, not 6.72e+04 and 1e+06; numbers with a fraction, and small ones, as
// absl::StrCat has them. `digits` > 0: rounded to so many significant digits first.
std::string NumberText(double value, int digits = 0);

}  // namespace dermis

#endif  // DERMIS_COMMON_NUMBER_TEXT_H_
