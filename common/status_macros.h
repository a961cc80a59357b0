// Early returns for absl::Status and absl::StatusOr.
#ifndef DERMIS_COMMON_STATUS_MACROS_H_
#define DERMIS_COMMON_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define DERMIS_CONCAT_INNER(a, b) a##b
#define DERMIS_CONCAT(a, b) DERMIS_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expression)                              \
  do {                                                           \
    if (::absl::Status status_ = (expression); !status_.ok()) {  \
      return status_;                                            \
    }                                                            \
  } while (false)

#define ASSIGN_OR_RETURN(target, expression) \
  ASSIGN_OR_RETURN_IMPL(DERMIS_CONCAT(status_or_, __LINE__), target, expression)
#define ASSIGN_OR_RETURN_IMPL(temporary, target, expression) \
  auto temporary = (expression);                             \
  if (!temporary.ok()) return temporary.status();            \
  target = *std::move(temporary)

#endif  // DERMIS_COMMON_STATUS_MACROS_H_
