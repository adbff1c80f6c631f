// What one kind of QEMU speaks: its schema, and what follows from it for clients. Constant and
// shared by all virtual machines of the kind, for it is big.
#ifndef ADAPTERS_QMP_DIALECT_H_
#define ADAPTERS_QMP_DIALECT_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/qmp/schema.h"
#include "engine/backend/capabilities.h"
#include "engine/base/mutex.h"

namespace tidemark::qmp {

struct Dialect {
  std::shared_ptr<const Schema> schema;
  std::shared_ptr<const backend::Capabilities> capabilities;
};

// Any thread.
class DialectCache {
 public:
  // The dialect of a QEMU of this version that answered query-qmp-schema with `schema`. The same
  // one for the same answer, for as long as anybody holds it. Takes milliseconds for a new one.
  absl::StatusOr<std::shared_ptr<const Dialect>> Get(absl::string_view version, const Json& schema);

 private:
  Mutex mutex_;
  // By version and the whole answer: a virtual machine must not be able to pass for another kind.
  std::map<std::string, std::weak_ptr<const Dialect>> dialects_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_DIALECT_H_
