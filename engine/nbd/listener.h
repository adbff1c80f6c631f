// A listening socket at an address, with the socket file of a unix address. Accept is for one
// thread at a time, the rest for any.
#ifndef ENGINE_NBD_LISTENER_H_
#define ENGINE_NBD_LISTENER_H_

#include <sys/types.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/nbd/address.h"

namespace tidemark::nbd {

class Listener {
 public:
  // Listens at `address`. A socket file is replaced if nobody listens at it. Blocks for name
  // lookups. Refused, naming the address: kInvalidField, kIoError; unless `allow_remote` also
  // kPathForbidden, if the host has any address that is not this machine's own.
  static absl::StatusOr<std::unique_ptr<Listener>> Bind(const Address& address, bool allow_remote);

  // Stops listening and removes the socket file.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Where it listens: as asked for, but for a port that the kernel chose.
  const Address& address() const { return address_; }

  // Waits for a client, or with `admits` false for a Wake alone. Absent after a Wake, and whenever
  // there was nobody to accept after all: callers test their conditions and come again.
  absl::optional<int> Accept(bool admits);

  // Ends the present or the next Accept.
  void Wake();

  // Removes the socket file, if it is still this listener's.
  void RemoveFile();

 private:
  Listener(int fd, int wake_fd, Address address);

  // Constant after construction.
  const int fd_;
  const int wake_fd_;
  const Address address_;
  // Identity of the socket file.
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_LISTENER_H_
