// An eventfd: something to be heard by a thread that sleeps in poll. Ring from any thread.
#ifndef ENGINE_STORAGE_BELL_H_
#define ENGINE_STORAGE_BELL_H_

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

namespace tidemark::storage {

class Bell {
 public:
  Bell() = default;
  ~Bell() {
    if (fd_ >= 0) close(fd_);
  }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  // False if there is none to be had. Before it is shared.
  bool Open() {
    if (fd_ < 0) fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd_ >= 0;
  }
  // -1 before Open. Readable from Ring to Hear.
  int fd() const { return fd_; }

  void Ring() {
    const uint64_t one = 1;
    // Fails only if the counter is full: it is heard then. Or if there is no bell.
    if (fd_ >= 0) (void)!write(fd_, &one, sizeof(one));
  }
  void Hear() {
    uint64_t count;
    if (fd_ >= 0) (void)!read(fd_, &count, sizeof(count));
  }

 private:
  int fd_ = -1;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_BELL_H_
