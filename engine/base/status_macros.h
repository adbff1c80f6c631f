// RETURN_IF_ERROR and ASSIGN_OR_RETURN: hand an absl::Status up to the caller.
#ifndef ENGINE_BASE_STATUS_MACROS_H_
#define ENGINE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns the status of `expression` from the calling function unless it is OK.
#define RETURN_IF_ERROR(expression)                                           \
  do {                                                                        \
    if (::absl::Status tidemark_status = (expression); !tidemark_status.ok()) \
      return tidemark_status;                                                 \
  } while (false)

#define TIDEMARK_CONCATENATE_INNER(x, y) x##y
#define TIDEMARK_CONCATENATE(x, y) TIDEMARK_CONCATENATE_INNER(x, y)

// ASSIGN_OR_RETURN(auto value, Function()): the value, or returns the status.
#define ASSIGN_OR_RETURN(declaration, expression) \
  TIDEMARK_ASSIGN_OR_RETURN(TIDEMARK_CONCATENATE(tidemark_or_, __LINE__), declaration, expression)
#define TIDEMARK_ASSIGN_OR_RETURN(status_or, declaration, expression) \
  auto status_or = (expression);                                      \
  if (!status_or.ok()) return std::move(status_or).status();          \
  declaration = *std::move(status_or)

#endif  // ENGINE_BASE_STATUS_MACROS_H_
