// A fresh folder for the sockets of one test, made the working directory: socket paths are limited
// to about a hundred bytes, so tests name them relative to it.
#ifndef ENGINE_NBD_TESTING_FOLDER_H_
#define ENGINE_NBD_TESTING_FOLDER_H_

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "engine/base/check.h"
#include "engine/nbd/address.h"

namespace tidemark::nbd {

class TestFolder {
 public:
  TestFolder() : before_(std::filesystem::current_path()) {
    const char* const root = std::getenv("TEST_TMPDIR");
    std::string name = std::string(root == nullptr ? "/tmp" : root) + "/nbd_XXXXXX";
    CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
    std::filesystem::current_path(path_);
  }
  ~TestFolder() {
    std::filesystem::current_path(before_);
    std::filesystem::remove_all(path_);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

 private:
  const std::filesystem::path before_;
  std::filesystem::path path_;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_TESTING_FOLDER_H_
