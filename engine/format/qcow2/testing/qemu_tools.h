// QEMU's own programs as judges of what we write, and as makers of what we read. Tests only; one
// thread.
#ifndef ENGINE_FORMAT_QCOW2_TESTING_QEMU_TOOLS_H_
#define ENGINE_FORMAT_QCOW2_TESTING_QEMU_TOOLS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/storage/memory_storage.h"

namespace tidemark::qcow2 {

// True if `program` is on the PATH. A test that needs it is skipped, saying so, if not.
bool HasTool(const std::string& program);

struct ToolResult {
  int exit_code = -1;
  std::string output;  // Standard output and standard error.
};
// Runs `command` to its end; arguments may hold any bytes.
ToolResult RunTool(const std::vector<std::string>& command);

// The same for commands that must succeed: a test failure with the output if not.
std::string RunToolOrFail(const std::vector<std::string>& command);

// A path in the test's own folder.
std::string TemporaryPath(absl::string_view name);

// Whole files, sparse ones too.
void SaveFile(const storage::MemoryStorage& contents, const std::string& path);
std::shared_ptr<storage::MemoryStorage> LoadFile(const std::string& path);

// A qemu-storage-daemon that has an image open as node0, driven over QMP.
class StorageDaemon {
 public:
  StorageDaemon(const std::string& image_path, bool read_only);
  ~StorageDaemon();
  StorageDaemon(const StorageDaemon&) = delete;
  StorageDaemon& operator=(const StorageDaemon&) = delete;

  // The reply to a QMP command, as a line of JSON, errors too. Empty if the daemon has died, as it
  // does if it cannot open the image.
  std::string Call(absl::string_view json);
  // The digest of a bitmap, in hexadecimal; the whole error if there is one.
  std::string BitmapDigest(absl::string_view name);
  // What a power failure does.
  void Kill();
  // Ends it in order: bitmaps are stored.
  void Quit();

 private:
  std::string ReadLine();

  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  std::string read_;
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_TESTING_QEMU_TOOLS_H_
