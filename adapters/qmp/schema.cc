// The list is read twice: first every type gets its place, then types, commands and events are
// filled in and point at each other, whatever their order in the list.
#include "adapters/qmp/schema.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tidemark::qmp {
namespace {

absl::Status Malformed(absl::string_view what) {
  return absl::InternalError(absl::StrCat("QEMU's schema is malformed: ", what));
}

absl::StatusOr<std::string> Text(const Json& object, const char* key) {
  const std::string* const text = StringMember(object, key);
  if (text == nullptr) return Malformed(absl::StrCat("an element has no text '", key, "'"));
  return *text;
}

// The list under `key`; empty if there is none.
const Json& List(const Json& object, const char* key) {
  static const Json empty = Json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : empty;
}

bool IsType(absl::string_view meta) { return meta != "command" && meta != "event"; }

absl::StatusOr<SchemaType::Meta> MetaOf(absl::string_view text) {
  if (text == "builtin") return SchemaType::Meta::kBuiltin;
  if (text == "enum") return SchemaType::Meta::kEnum;
  if (text == "array") return SchemaType::Meta::kArray;
  if (text == "object") return SchemaType::Meta::kObject;
  if (text == "alternate") return SchemaType::Meta::kAlternate;
  return Malformed("a type is of a kind that is unknown");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Schema>> Schema::Parse(const Json& reply) {
  std::shared_ptr<Schema> schema(new Schema());
  RETURN_IF_ERROR(schema->Read(reply));
  return std::shared_ptr<const Schema>(std::move(schema));
}

absl::Status Schema::Read(const Json& reply) {
  if (!reply.is_array()) return Malformed("it is no list");
  for (const Json& entity : reply) {
    ASSIGN_OR_RETURN(const std::string meta, Text(entity, "meta-type"));
    if (!IsType(meta)) continue;
    ASSIGN_OR_RETURN(std::string name, Text(entity, "name"));
    types_.emplace(std::move(name), std::make_unique<SchemaType>());
  }
  for (const Json& entity : reply) RETURN_IF_ERROR(ReadEntity(entity));
  return absl::OkStatus();
}

absl::Status Schema::ReadEntity(const Json& entity) {
  ASSIGN_OR_RETURN(const std::string meta, Text(entity, "meta-type"));
  ASSIGN_OR_RETURN(const std::string name, Text(entity, "name"));
  if (meta == "command") {
    SchemaCommand& command = commands_[name];
    ASSIGN_OR_RETURN(command.arguments, Type(entity, "arg-type"));
    ASSIGN_OR_RETURN(command.returns, Type(entity, "ret-type"));
    return absl::OkStatus();
  }
  if (meta == "event") {
    ASSIGN_OR_RETURN(events_[name], Type(entity, "arg-type"));
    return absl::OkStatus();
  }
  SchemaType& type = *types_.at(name);
  ASSIGN_OR_RETURN(type.meta, MetaOf(meta));
  return ReadType(entity, &type);
}

absl::Status Schema::ReadType(const Json& entity, SchemaType* type) {
  switch (type->meta) {
    case SchemaType::Meta::kBuiltin: {
      ASSIGN_OR_RETURN(type->json_type, Text(entity, "json-type"));
      return absl::OkStatus();
    }
    case SchemaType::Meta::kEnum:
      // "values" is the older form; QEMU gives both.
      for (const Json& value : List(entity, "values")) {
        if (!value.is_string()) return Malformed("a value of an enum is no text");
        type->values.insert(value.get<std::string>());
      }
      for (const Json& member : List(entity, "members")) {
        ASSIGN_OR_RETURN(std::string value, Text(member, "name"));
        type->values.insert(std::move(value));
      }
      return absl::OkStatus();
    case SchemaType::Meta::kArray: {
      ASSIGN_OR_RETURN(type->element, Type(entity, "element-type"));
      return absl::OkStatus();
    }
    case SchemaType::Meta::kAlternate:
      for (const Json& member : List(entity, "members")) {
        ASSIGN_OR_RETURN(const SchemaType* const alternative, Type(member, "type"));
        type->alternatives.push_back(alternative);
      }
      return absl::OkStatus();
    case SchemaType::Meta::kObject:
      for (const Json& member : List(entity, "members")) {
        ASSIGN_OR_RETURN(std::string name, Text(member, "name"));
        ASSIGN_OR_RETURN(const SchemaType* const its_type, Type(member, "type"));
        // An optional member has a default, which is always null.
        type->members[std::move(name)] = {its_type, member.contains("default")};
      }
      if (entity.contains("tag")) {
        ASSIGN_OR_RETURN(type->tag, Text(entity, "tag"));
      }
      for (const Json& variant : List(entity, "variants")) {
        ASSIGN_OR_RETURN(std::string value, Text(variant, "case"));
        ASSIGN_OR_RETURN(type->variants[std::move(value)], Type(variant, "type"));
      }
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::StatusOr<const SchemaType*> Schema::Type(const Json& entity, const char* key) const {
  ASSIGN_OR_RETURN(const std::string name, Text(entity, key));
  const auto found = types_.find(name);
  if (found == types_.end()) return Malformed("it names a type that is not in it");
  return found->second.get();
}

const SchemaCommand* Schema::FindCommand(absl::string_view name) const {
  const auto found = commands_.find(name);
  return found == commands_.end() ? nullptr : &found->second;
}

const SchemaType* Schema::FindEvent(absl::string_view name) const {
  const auto found = events_.find(name);
  return found == events_.end() ? nullptr : found->second;
}

}  // namespace tidemark::qmp
