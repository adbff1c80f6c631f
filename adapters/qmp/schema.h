// What one QEMU understands, as its query-qmp-schema tells: every command and event with the types
// of its arguments and answers. Constant; any thread. Big, so all virtual machines whose QEMU gives
// the same answer share one.
#ifndef ADAPTERS_QMP_SCHEMA_H_
#define ADAPTERS_QMP_SCHEMA_H_

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/qmp/transcoder.h"

namespace tidemark::qmp {

struct SchemaType;

struct SchemaMember {
  const SchemaType* type = nullptr;
  bool optional = false;
};

// Which fields mean something depends on `meta`; the others are empty.
struct SchemaType {
  enum class Meta { kBuiltin, kEnum, kArray, kObject, kAlternate };

  Meta meta = Meta::kBuiltin;
  // kBuiltin: "string", "int", "number", "boolean", "null", "value".
  std::string json_type;
  // kEnum.
  std::set<std::string> values;
  // kArray.
  const SchemaType* element = nullptr;
  // kObject. Of a union also those of the chosen variant; a value of the tag without variant adds
  // none.
  std::map<std::string, SchemaMember> members;
  std::string tag;
  std::map<std::string, const SchemaType*> variants;
  // kAlternate: told apart by their JSON types.
  std::vector<const SchemaType*> alternatives;
};

struct SchemaCommand {
  const SchemaType* arguments = nullptr;
  const SchemaType* returns = nullptr;
};

class Schema {
 public:
  // `reply` is what query-qmp-schema returned. INTERNAL if it is not of the form that QEMU's
  // documents give.
  static absl::StatusOr<std::shared_ptr<const Schema>> Parse(const Json& reply);

  Schema(const Schema&) = delete;
  Schema& operator=(const Schema&) = delete;

  // Null for what this QEMU does not have.
  const SchemaCommand* FindCommand(absl::string_view name) const;
  // The type of the event's data.
  const SchemaType* FindEvent(absl::string_view name) const;

 private:
  Schema() = default;
  absl::Status Read(const Json& reply);
  absl::Status ReadEntity(const Json& entity);
  absl::Status ReadType(const Json& entity, SchemaType* type);
  absl::StatusOr<const SchemaType*> Type(const Json& entity, const char* key) const;

  std::map<std::string, std::unique_ptr<SchemaType>> types_;
  std::map<std::string, SchemaCommand, std::less<>> commands_;
  std::map<std::string, const SchemaType*, std::less<>> events_;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_SCHEMA_H_
