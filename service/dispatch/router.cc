#include "service/dispatch/router.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark::dispatch {

absl::Status UnknownInstance(absl::string_view instance) {
  return Error(Reason::kInstanceNotFound, absl::StrCat("No instance is called '", instance, "'"),
               {{"instance", instance}});
}

}  // namespace tidemark::dispatch
