// What a QEMU at hand says of its own commands and events (query-qmp-schema). One thread.
#ifndef TESTS_SCHEMA_QEMU_SCHEMA_H_
#define TESTS_SCHEMA_QEMU_SCHEMA_H_

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "nlohmann/json.hpp"
#include "tests/support/qemu_build.h"

namespace tidemark::test {

using Json = nlohmann::ordered_json;

// The schema of one program. Its entries are as QEMU gives them: an object each, with "name" and
// "meta-type".
class QemuSchema {
 public:
  // Starts the program, asks it on its standard input, and lets it end. Without a good answer the
  // object is `!read()`.
  explicit QemuSchema(const std::vector<std::string>& command);

  bool read() const { return !types_.empty(); }
  // What it printed instead of an answer.
  const std::string& errors() const { return errors_; }
  // "10.0.2".
  const std::string& version() const { return version_; }

  // The type of a name; CHECK-fails on one that the schema itself does not explain.
  const Json& Type(absl::string_view name) const;
  // All commands or events, by name.
  const std::map<std::string, Json>& commands() const { return commands_; }
  const std::map<std::string, Json>& events() const { return events_; }

 private:
  void Parse(const std::string& lines);

  std::string errors_;
  std::string version_;
  std::map<std::string, Json> types_;
  std::map<std::string, Json> commands_;
  std::map<std::string, Json> events_;
};

// One QEMU: its storage daemon and its system emulator for x86-64.
struct QemuPrograms {
  std::string version;
  std::vector<QemuSchema> programs;
};

// Nothing, and the reason, if it cannot be asked.
absl::optional<QemuPrograms> AskQemu(const QemuBuild& build, std::string* why_not);

}  // namespace tidemark::test

#endif  // TESTS_SCHEMA_QEMU_SCHEMA_H_
