#include "engine/native/open_files.h"

#include <utility>

namespace tidemark::native {

OpenFiles::Use::~Use() {
  MutexLock lock(&files_.mutex_);
  files_.entries_.erase(entry_);
}

void OpenFiles::Use::set_node(std::string node) {
  MutexLock lock(&files_.mutex_);
  entry_->node = std::move(node);
}

std::unique_ptr<OpenFiles::Use> OpenFiles::Add(const storage::FileIdentity& identity,
                                               std::string path) {
  std::unique_ptr<Use> use(new Use(this));  // Not make_unique: the constructor is private.
  MutexLock lock(&mutex_);
  use->entry_ = entries_.insert(entries_.end(), {identity, std::move(path), ""});
  return use;
}

absl::optional<OpenFile> OpenFiles::FindOther(const storage::FileIdentity& identity,
                                              const Use* own) const {
  MutexLock lock(&mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->identity == identity && (own == nullptr || entry != own->entry_)) return *entry;
  }
  return absl::nullopt;
}

}  // namespace tidemark::native
