#include "tests/support/storage_daemon.h"

#include <signal.h>

#include "nlohmann/json.hpp"
#include "tests/support/storage_daemon_process.h"

namespace tidemark::test {
namespace {

using Json = nlohmann::json;

constexpr absl::Duration kTimeout = absl::Seconds(30);

Json ParseOrNull(absl::string_view text) {
  return Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

}  // namespace

StorageDaemon::StorageDaemon(const TempFolder* folder)
    : folder_(folder),
      process_(std::make_unique<Process>(
          StorageDaemonCommand(QemuBuild::Installed(), folder->File("qmp.sock")),
          folder->File("qsd.log"))),
      client_(std::make_unique<QmpClient>(folder->File("qmp.sock"))) {}

std::string StorageDaemon::Open(const std::string& node, const std::string& path, bool read_only) {
  const Json arguments = {{"driver", "qcow2"},
                          {"node-name", node},
                          {"read-only", read_only},
                          {"file", {{"driver", "file"}, {"filename", path}}}};
  return Try("blockdev-add", arguments.dump());
}

void StorageDaemon::Close(const std::string& node) {
  Run("blockdev-del", Json{{"node-name", node}}.dump());
}

void StorageDaemon::Export(const std::string& node) {
  if (!nbd_runs_) {
    Run("nbd-server-start",
        Json{{"addr", {{"type", "unix"}, {"data", {{"path", nbd_socket()}}}}}}.dump());
    nbd_runs_ = true;
  }
  Run("block-export-add",
      Json{{"type", "nbd"}, {"id", node}, {"node-name", node}, {"writable", true}}.dump());
}

std::string StorageDaemon::Sha256(const std::string& node, const std::string& bitmap) {
  const Json reply = ParseOrNull(
      Run("x-debug-block-dirty-bitmap-sha256", Json{{"node", node}, {"name", bitmap}}.dump()));
  return reply.is_object() ? reply.value("sha256", "") : "";
}

int StorageDaemon::Stop() {
  process_->Signal(SIGTERM);
  return process_->Wait(kTimeout).value_or(-1);
}

void StorageDaemon::Kill() {
  process_->Signal(SIGKILL);
  process_->Wait(kTimeout);
}

}  // namespace tidemark::test
