// Messages out of rows. One thread at a time.
#ifndef ADAPTERS_STORE_READ_BODIES_H_
#define ADAPTERS_STORE_READ_BODIES_H_

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/store/database.h"
#include "engine/base/status_macros.h"

namespace tidemark::store {

// The messages in the one column that `select` asks for; those that cannot be read are left out.
template <typename Body>
absl::Status ReadInto(Statement select, std::vector<Body>* bodies) {
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return absl::OkStatus();
    const absl::string_view bytes = select.Bytes(0);
    Body body;
    if (body.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      bodies->push_back(std::move(body));
    }
  }
}

template <typename Body>
absl::StatusOr<std::vector<Body>> ReadBodies(Statement select) {
  std::vector<Body> bodies;
  RETURN_IF_ERROR(ReadInto(std::move(select), &bodies));
  return bodies;
}

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_READ_BODIES_H_
