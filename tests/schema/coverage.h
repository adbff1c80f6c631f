// Holds the protos against a schema of QEMU, item by item and both ways. Knows the rules at the top
// of qmp/options.proto and nothing of the transcoder that follows them. One thread.
//
// Items are named by the proto, so that one that several commands share is told of once:
//   "command blockdev-add"                       "event STOP"
//   "member BlockdevBackupRequest.job-id"        "value MirrorSyncMode.full"
//   "branch BlockdevOptions.driver=qcow2"        of a union, by its tag
//   "empty branch BlockdevCreateOptions.driver=dmg"    one that has no members
//   "alternative BlockdevRef.string"             of an alternate, by JSON's type
#ifndef TESTS_SCHEMA_COVERAGE_H_
#define TESTS_SCHEMA_COVERAGE_H_

#include <map>
#include <set>
#include <string>
#include <tuple>

#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "tests/schema/qemu_schema.h"

namespace tidemark::test {

// What came out. Of every map, the key is the item and the value says what is wrong.
struct Findings {
  // Every item of the schema that was looked for.
  std::set<std::string> wanted;
  // Items of the schema that the protos lack.
  std::map<std::string, std::string> missing;
  // Items that are in both and are not the same: another type, or one has it required.
  std::map<std::string, std::string> different;
  // Members of requests that QEMU can do without and the protos have no presence for: a zero, false
  // or "" of theirs is sent as if it were absent, which must mean the same to QEMU.
  std::map<std::string, std::string> merged;
  // Items of the protos that were looked for in the schema, and those of them that it lacks.
  std::set<std::string> sought;
  std::map<std::string, std::string> unknown;
};

// Compares the commands and events named with those of `schema`; names that it lacks are left out.
class Coverage {
 public:
  explicit Coverage(const QemuSchema& schema) : schema_(schema) {}

  void AddCommand(const std::string& name);
  void AddEvent(const std::string& name);
  // The commands and events of the protos that the schema lacks.
  void AddWhatIsUnknown();

  const Findings& findings() const { return findings_; }

 private:
  // kReopened: to QEMU, which holds what is said against what was said before.
  enum class Direction { kToQemu, kReopened, kFromQemu };

  void Arguments(const std::string& type, const google::protobuf::Descriptor& request,
                 Direction direction);
  void Returned(const std::string& type, const google::protobuf::Descriptor& response);
  void Object(const Json& type, const google::protobuf::Descriptor& message, Direction direction);
  void Member(const Json& member, const google::protobuf::Descriptor& message, Direction direction);
  void Presence(const std::string& item, const Json& member,
                const google::protobuf::FieldDescriptor& field, Direction direction);
  void Union(const Json& type, const google::protobuf::Descriptor& message,
             const google::protobuf::OneofDescriptor* oneof, Direction direction);
  void Branch(const std::string& item, const Json& type,
              const google::protobuf::FieldDescriptor& field, Direction direction);
  void Value(const std::string& item, const std::string& type,
             const google::protobuf::FieldDescriptor& field, Direction direction);
  void Single(const std::string& item, const std::string& type,
              const google::protobuf::FieldDescriptor& field, Direction direction);
  void Enum(const std::string& item, const Json& type,
            const google::protobuf::FieldDescriptor& field);
  void Alternate(const std::string& item, const Json& type,
                 const google::protobuf::FieldDescriptor& field, Direction direction);

  void Differs(const std::string& item, const std::string& how);

  const QemuSchema& schema_;
  Findings findings_;
  // Pairs of types that were compared already.
  std::set<std::tuple<std::string, std::string, Direction>> compared_;
};

}  // namespace tidemark::test

#endif  // TESTS_SCHEMA_COVERAGE_H_
