// The batch way into storage: many data requests in flight from one thread. io_uring where the
// kernel allows it, threads where it is forbidden; callers cannot tell but by speed. A queue is
// used by one thread at a time (a job's worker); different queues are independent. Targets that
// have no file are served by calls, on threads of the queue that are made when first needed.
#ifndef ENGINE_STORAGE_IO_QUEUE_H_
#define ENGINE_STORAGE_IO_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/storage/storage.h"

namespace tidemark::storage {

class IoQueue {
 public:
  enum class Operation { kRead, kWrite };

  struct Request {
    Operation operation = Operation::kRead;
    IoTarget* target = nullptr;
    uint64_t offset_bytes = 0;    // In the target.
    std::byte* memory = nullptr;  // Belongs to the queue until the completion is reaped.
    size_t length_bytes = 0;
    uint64_t cookie = 0;  // Comes back with the completion.
    // Past the page cache: the target has a file with a direct descriptor, and offset, length and
    // memory are aligned for it.
    bool direct = false;
  };
  struct Completion {
    uint64_t cookie = 0;
    // OK only if every byte was moved: short transfers are continued by the queue. A read past the
    // end of the file gives zeroes.
    absl::Status status;
  };

  // Waits for whatever is still in flight.
  virtual ~IoQueue() = default;

  // Begins a request. Never waits for a disk. At most `depth()` may be in flight (CHECKed).
  virtual void Submit(const Request& request) = 0;

  // Appends what has completed; if nothing has, waits up to `timeout` for the first, or for a Wake.
  // With nothing in flight only a Wake can come.
  virtual void Reap(absl::Duration timeout, std::vector<Completion>* completions) = 0;

  // Makes a Reap that waits, or the next one that would wait, return at once. The one method that
  // is safe from any thread, while the queue lives.
  virtual void Wake() = 0;

  // For whoever waits for many queues at once instead of in Reap (completion_watch.h): readable
  // while something may have completed that no Reap has brought yet, or a Wake has come. Reap reads
  // it, nobody else does. Before the first Submit; -1 if it cannot be had.
  virtual int completion_fd() = 0;

  virtual int in_flight() const = 0;
  virtual int depth() const = 0;
};

// A queue of the best kind this machine offers.
std::unique_ptr<IoQueue> MakeIoQueue(int depth);
// The fallback, by name: for tests, and for comparing.
std::unique_ptr<IoQueue> MakeThreadIoQueue(int depth);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_IO_QUEUE_H_
