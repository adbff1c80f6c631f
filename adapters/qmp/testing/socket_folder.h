// A fresh folder for the sockets and images of one test, directly under /tmp: the path of a socket
// has at most 107 bytes. Tests only.
#ifndef ADAPTERS_QMP_TESTING_SOCKET_FOLDER_H_
#define ADAPTERS_QMP_TESTING_SOCKET_FOLDER_H_

#include <cstdlib>
#include <filesystem>
#include <string>

#include "engine/base/check.h"

namespace tidemark::qmp {

class SocketFolder {
 public:
  SocketFolder() { CHECK(mkdtemp(path_.data()) != nullptr); }
  ~SocketFolder() { std::filesystem::remove_all(path_); }
  SocketFolder(const SocketFolder&) = delete;
  SocketFolder& operator=(const SocketFolder&) = delete;

  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_ = "/tmp/tidemark_qmp_XXXXXX";
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_TESTING_SOCKET_FOLDER_H_
