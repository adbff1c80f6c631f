// Programs of this machine as judges in tests: qemu-img, qemu-io, qemu-storage-daemon. Tests only.
#ifndef ENGINE_STORAGE_EXTERNAL_TOOL_H_
#define ENGINE_STORAGE_EXTERNAL_TOOL_H_

#include <sys/types.h>

#include <string>
#include <vector>

namespace tidemark::storage {

// True if `name` (in PATH, or with its folder) can be run. A test skips, with the reason, if it
// cannot.
bool HaveTool(const std::string& name);

struct ToolResult {
  int exit_code = -1;
  std::string output;  // Standard output and error, as they came.
};

// Runs a program of PATH to its end, with nothing to read.
ToolResult RunTool(const std::vector<std::string>& arguments);

// A program that runs beside the test, until the destructor kills it. Lines can be talked both
// ways.
class BackgroundTool {
 public:
  explicit BackgroundTool(const std::vector<std::string>& arguments);
  ~BackgroundTool();
  BackgroundTool(const BackgroundTool&) = delete;
  BackgroundTool& operator=(const BackgroundTool&) = delete;

  void Write(const std::string& text);
  // Reads on until `text` has come; all that was read so far. Empty if the program ended before.
  std::string ReadUntil(const std::string& text);
  // Closes its input and waits for its end; the exit code.
  int Finish();

 private:
  pid_t process_ = -1;
  int input_fd_ = -1;
  int output_fd_ = -1;
  std::string output_;
};

// A path for `name` in the test's own folder.
std::string TestPath(const std::string& name);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_EXTERNAL_TOOL_H_
