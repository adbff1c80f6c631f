// The filter of a backup: before a write, zero or discard changes the disk, the old data is
// captured; what is said to change nothing needs no capture. Reads pass, placed ones too; placed
// writes are not handed on, so that every change comes through here.
//
// Thread rule: as every storage. The captor outlives the filter's last request.
#ifndef ENGINE_GRAPH_COPY_BEFORE_WRITE_H_
#define ENGINE_GRAPH_COPY_BEFORE_WRITE_H_

#include <memory>
#include <string>
#include <utility>

#include "engine/graph/driver.h"
#include "engine/graph/port.h"
#include "engine/storage/storage.h"

namespace tidemark::graph {

// Takes old data into safety (engine/copy's copier).
class BeforeWrite {
 public:
  virtual ~BeforeWrite() = default;

  // Returns when what `range` held is safe; the range may then change. A failure fails the write:
  // so only what concerns the source should.
  virtual absl::Status Capture(Range range) = 0;
};

class CopyBeforeWriteStorage final : public storage::ForwardingStorage {
 public:
  // `source` is usually the port of the filter's edge.
  CopyBeforeWriteStorage(std::shared_ptr<storage::Storage> source,
                         std::shared_ptr<BeforeWrite> captor)
      : ForwardingStorage(std::move(source)), captor_(std::move(captor)) {}

  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override;
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override;
  absl::Status Discard(Range range) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override;

 private:
  const std::shared_ptr<BeforeWrite> captor_;
};

// The node's driver; closing it does nothing, since its parts belong to the job.
class CopyBeforeWriteDriver final : public Driver {
 public:
  CopyBeforeWriteDriver(std::shared_ptr<storage::Storage> source,
                        std::shared_ptr<BeforeWrite> captor)
      : storage_(std::make_shared<CopyBeforeWriteStorage>(std::move(source), std::move(captor))) {}

  absl::string_view name() const override { return "copy-before-write"; }
  bool is_filter() const override { return true; }
  std::shared_ptr<storage::Storage> storage() override { return storage_; }
  absl::Status Close(std::vector<StoredBitmap>) override { return absl::OkStatus(); }

 private:
  const std::shared_ptr<CopyBeforeWriteStorage> storage_;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_COPY_BEFORE_WRITE_H_
