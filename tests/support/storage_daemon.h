// A qemu-storage-daemon with its QMP socket: the other engine, for interoperation. One thread.
#ifndef TESTS_SUPPORT_STORAGE_DAEMON_H_
#define TESTS_SUPPORT_STORAGE_DAEMON_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "tests/support/process.h"
#include "tests/support/qmp_client.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {

class StorageDaemon {
 public:
  // Starts it with its sockets in `folder` and negotiates QMP; `started` says whether that worked.
  explicit StorageDaemon(const TempFolder* folder);
  StorageDaemon(const StorageDaemon&) = delete;
  StorageDaemon& operator=(const StorageDaemon&) = delete;

  bool started() const { return client_->connected(); }

  // As QmpClient's.
  std::string Try(absl::string_view command, absl::string_view arguments) {
    return client_->Try(command, arguments);
  }
  std::string Run(absl::string_view command, absl::string_view arguments) {
    return client_->Run(command, arguments);
  }

  // Opens a qcow2 image under a node name; the error's text, empty if it succeeded.
  std::string Open(const std::string& node, const std::string& path, bool read_only = false);
  void Close(const std::string& node);
  // Serves a node by NBD, writable, under its own name, on nbd_socket().
  void Export(const std::string& node);
  std::string nbd_socket() const { return folder_->File("qsd-nbd.sock"); }
  std::string Sha256(const std::string& node, const std::string& bitmap);

  // Ends it with SIGTERM, or with SIGKILL.
  int Stop();
  void Kill();

 private:
  const TempFolder* const folder_;
  std::unique_ptr<Process> process_;
  std::unique_ptr<QmpClient> client_;
  bool nbd_runs_ = false;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_STORAGE_DAEMON_H_
