#ifndef DERMIS_COMMON_UTF8_H_
#define DERMIS_COMMON_UTF8_H_

#include <string_view>

namespace dermis {

// Protobuf strings must be UTF-8, or the receiver cannot read the message; files and their names need not be.
bool IsUtf8(std::string_view text);

}  // namespace dermis

#endif  // DERMIS_COMMON_UTF8_H_
