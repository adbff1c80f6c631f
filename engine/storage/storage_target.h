// The verbs of a storage as a target of batch requests. Any thread.
#ifndef ENGINE_STORAGE_STORAGE_TARGET_H_
#define ENGINE_STORAGE_STORAGE_TARGET_H_

#include "engine/storage/storage.h"

namespace tidemark::storage {

class StorageTarget final : public IoTarget {
 public:
  // Both outlive the target; `file` may be null.
  explicit StorageTarget(Storage* storage, const DataFile* file = nullptr)
      : storage_(*storage), file_(file) {}

  const DataFile* file() const override { return file_; }
  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override {
    return storage_.Read(offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, ConstBytes data) override {
    return storage_.Write(offset_bytes, data, {});
  }

 private:
  Storage& storage_;
  const DataFile* const file_;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_STORAGE_TARGET_H_
