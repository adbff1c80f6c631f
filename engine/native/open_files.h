// The files that the engine has open, by what they are and not by what they are called: a hard link
// or a symbolic link to the file of another node is that file. Image locks do not tell, for a raw
// disk that nobody uses holds none. Any thread.
#ifndef ENGINE_NATIVE_OPEN_FILES_H_
#define ENGINE_NATIVE_OPEN_FILES_H_

#include <list>
#include <memory>
#include <string>

#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/storage/file.h"

namespace tidemark::native {

struct OpenFile {
  storage::FileIdentity identity;
  std::string path;
  std::string node;  // Empty: still being opened.
};

class OpenFiles {
 public:
  // One open file, from its opening until the destructor.
  class Use {
   public:
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

    // Called once the node has a name.
    void set_node(std::string node);

   private:
    friend class OpenFiles;
    explicit Use(OpenFiles* files) : files_(*files) {}

    OpenFiles& files_;
    std::list<OpenFile>::iterator entry_;
  };

  OpenFiles() = default;
  OpenFiles(const OpenFiles&) = delete;
  OpenFiles& operator=(const OpenFiles&) = delete;

  std::unique_ptr<Use> Add(const storage::FileIdentity& identity, std::string path);

  // How the file is open, but by `own`, which may be null; absent if it is not.
  absl::optional<OpenFile> FindOther(const storage::FileIdentity& identity, const Use* own) const;

 private:
  mutable Mutex mutex_;
  std::list<OpenFile> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_OPEN_FILES_H_
