#include "tests/support/hanging_files.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tidemark::test {
namespace {

constexpr size_t kRequestBytesMax = (1 << 20) + 4096;
constexpr uint32_t kWriteBytesMax = 128 << 10;

void FillAttributes(uint64_t inode, const struct stat& from, fuse_attr* to) {
  *to = {};
  to->ino = inode;
  to->size = from.st_size;
  to->blocks = from.st_blocks;
  to->mode = from.st_mode;
  to->nlink = 1;
  to->blksize = 4096;
}

}  // namespace

const std::set<uint32_t> HangingFiles::kOpens = {FUSE_LOOKUP, FUSE_OPEN, FUSE_CREATE};
const std::set<uint32_t> HangingFiles::kStats = {FUSE_GETATTR};
const std::set<uint32_t> HangingFiles::kFlushes = {FUSE_FSYNC};
const std::set<uint32_t> HangingFiles::kWrites = {FUSE_WRITE};
const std::set<uint32_t> HangingFiles::kReads = {FUSE_READ};
const std::set<uint32_t> HangingFiles::kLocks = {FUSE_SETLK, FUSE_GETLK};

absl::StatusOr<std::unique_ptr<HangingFiles>> HangingFiles::Mount(const std::string& folder,
                                                                  const std::string& mount_point) {
  const int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (device < 0) {
    return absl::UnavailableError(absl::StrCat("cannot open /dev/fuse: ", strerror(errno)));
  }
  const std::string options =
      absl::StrCat("fd=", device, ",rootmode=40000,user_id=0,group_id=0,default_permissions");
  if (mount("hanging", mount_point.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    const std::string reason = strerror(errno);
    close(device);
    return absl::UnavailableError(absl::StrCat("cannot mount a FUSE file system: ", reason));
  }
  const int folder_descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return std::unique_ptr<HangingFiles>(new HangingFiles(device, folder_descriptor, mount_point));
}

HangingFiles::HangingFiles(int device, int folder, std::string mount_point)
    : device_(device), folder_(folder), mount_point_(std::move(mount_point)) {
  thread_ = std::thread([this] { Serve(); });
}

HangingFiles::~HangingFiles() {
  Release();
  // Lazily, as a program may still have files open; with the device goes the connection, and what
  // comes later fails.
  umount2(mount_point_.c_str(), MNT_DETACH | MNT_FORCE);
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
  close(device_);
  for (const auto& [inode, descriptor] : descriptors_) close(descriptor);
  close(folder_);
}

void HangingFiles::Hang(std::set<uint32_t> kinds) {
  MutexLock lock(&mutex_);
  hanging_kinds_ = std::move(kinds);
}

void HangingFiles::Release() {
  std::vector<std::vector<std::byte>> released;
  {
    MutexLock lock(&mutex_);
    hanging_kinds_.clear();
    stalled_ = false;
    changed_.SignalAll();
    released.swap(hung_);
  }
  for (const auto& request : released) Handle(request);
}

void HangingFiles::WaitForHung(size_t count) {
  MutexLock lock(&mutex_);
  while (hung_.size() < count) changed_.Wait(&mutex_);
}

void HangingFiles::Stall() {
  MutexLock lock(&mutex_);
  stalled_ = true;
}

void HangingFiles::WaitForStalled() {
  pollfd watched = {.fd = device_, .events = POLLIN, .revents = 0};
  while (poll(&watched, 1, /*timeout=*/-1) <= 0) {
  }
}

void HangingFiles::Serve() {
  std::vector<std::byte> buffer(kRequestBytesMax);
  for (;;) {
    {
      MutexLock lock(&mutex_);
      while (stalled_ && !stopping_) changed_.Wait(&mutex_);
      if (stopping_) return;
    }
    constexpr int kLookAgainMilliseconds = 20;  // At `stopping_`.
    pollfd watched = {.fd = device_, .events = POLLIN, .revents = 0};
    if (poll(&watched, 1, kLookAgainMilliseconds) <= 0) continue;
    {
      MutexLock lock(&mutex_);
      if (stalled_) continue;
    }
    const ssize_t got = read(device_, buffer.data(), buffer.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
    if (got < static_cast<ssize_t>(sizeof(fuse_in_header))) return;  // Unmounted.
    std::vector<std::byte> request(buffer.begin(), buffer.begin() + got);
    const uint32_t kind = reinterpret_cast<const fuse_in_header*>(request.data())->opcode;
    {
      MutexLock lock(&mutex_);
      if (hanging_kinds_.count(kind) != 0) {
        hung_.push_back(std::move(request));
        changed_.SignalAll();
        continue;
      }
    }
    Handle(request);
  }
}

void HangingFiles::Reply(uint64_t unique, int error, const void* data, size_t size) {
  fuse_out_header header = {
      .len = static_cast<uint32_t>(sizeof(header) + size), .error = -error, .unique = unique};
  iovec parts[] = {{&header, sizeof(header)}, {const_cast<void*>(data), size}};
  // It fails if nobody waits for the answer any more.
  [[maybe_unused]] const ssize_t written = writev(device_, parts, size == 0 ? 1 : 2);
}

int HangingFiles::DescriptorOf(uint64_t inode) {
  if (inode == FUSE_ROOT_ID) return folder_;
  MutexLock lock(&files_mutex_);
  const auto found = descriptors_.find(inode);
  return found == descriptors_.end() ? -1 : found->second;
}

uint64_t HangingFiles::InodeOf(const std::string& name, bool create) {
  MutexLock lock(&files_mutex_);
  const auto found = inodes_.find(name);
  if (found != inodes_.end()) return found->second;
  const int descriptor =
      openat(folder_, name.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0644);
  if (descriptor < 0) return 0;
  const uint64_t inode = FUSE_ROOT_ID + 1 + inodes_.size();
  inodes_[name] = inode;
  descriptors_[inode] = descriptor;
  return inode;
}

void HangingFiles::Lookup(uint64_t unique, const char* name, bool create) {
  const uint64_t inode = InodeOf(name, create);
  struct stat found = {};
  if (inode == 0 || fstat(DescriptorOf(inode), &found) != 0) return Reply(unique, ENOENT);
  struct {
    fuse_entry_out entry = {};
    fuse_open_out open = {};
  } out;
  out.entry.nodeid = inode;
  FillAttributes(inode, found, &out.entry.attr);
  out.open.open_flags = FOPEN_DIRECT_IO;
  Reply(unique, 0, &out, create ? sizeof(out) : sizeof(out.entry));
}

void HangingFiles::GetAttributes(uint64_t unique, uint64_t inode) {
  struct stat found = {};
  if (fstat(DescriptorOf(inode), &found) != 0) return Reply(unique, EIO);
  fuse_attr_out out = {};
  FillAttributes(inode, found, &out.attr);
  Reply(unique, 0, &out, sizeof(out));
}

void HangingFiles::SetAttributes(uint64_t unique, uint64_t inode, const std::byte* body) {
  const auto& wanted = *reinterpret_cast<const fuse_setattr_in*>(body);
  if ((wanted.valid & FATTR_SIZE) != 0 &&
      ftruncate(DescriptorOf(inode), static_cast<off_t>(wanted.size)) != 0) {
    return Reply(unique, EIO);
  }
  GetAttributes(unique, inode);
}

void HangingFiles::Read(uint64_t unique, uint64_t inode, const std::byte* body) {
  const auto& wanted = *reinterpret_cast<const fuse_read_in*>(body);
  std::vector<std::byte> data(wanted.size);
  const ssize_t got =
      pread(DescriptorOf(inode), data.data(), data.size(), static_cast<off_t>(wanted.offset));
  if (got < 0) return Reply(unique, EIO);
  Reply(unique, 0, data.data(), static_cast<size_t>(got));
}

void HangingFiles::Write(uint64_t unique, uint64_t inode, const std::byte* body) {
  const auto& wanted = *reinterpret_cast<const fuse_write_in*>(body);
  const ssize_t written = pwrite(DescriptorOf(inode), body + sizeof(wanted), wanted.size,
                                 static_cast<off_t>(wanted.offset));
  if (written < 0) return Reply(unique, EIO);
  const fuse_write_out out = {.size = static_cast<uint32_t>(written), .padding = 0};
  Reply(unique, 0, &out, sizeof(out));
}

void HangingFiles::Handle(const std::vector<std::byte>& request) {
  const auto& header = *reinterpret_cast<const fuse_in_header*>(request.data());
  const std::byte* const body = request.data() + sizeof(header);
  switch (header.opcode) {
    case FUSE_INIT: {
      fuse_init_out out = {};
      out.major = FUSE_KERNEL_VERSION;
      out.minor = FUSE_KERNEL_MINOR_VERSION;
      out.flags = FUSE_POSIX_LOCKS | FUSE_BIG_WRITES;
      out.max_write = kWriteBytesMax;
      return Reply(header.unique, 0, &out, sizeof(out));
    }
    case FUSE_LOOKUP:
      return Lookup(header.unique, reinterpret_cast<const char*>(body), /*create=*/false);
    case FUSE_CREATE:
      return Lookup(header.unique, reinterpret_cast<const char*>(body + sizeof(fuse_create_in)),
                    /*create=*/true);
    case FUSE_GETATTR:
      return GetAttributes(header.unique, header.nodeid);
    case FUSE_SETATTR:
      return SetAttributes(header.unique, header.nodeid, body);
    case FUSE_OPEN:
    case FUSE_OPENDIR: {
      // Round the page cache: what is read and written is asked of us.
      const fuse_open_out out = {.fh = 0, .open_flags = FOPEN_DIRECT_IO, .padding = 0};
      return Reply(header.unique, 0, &out, sizeof(out));
    }
    case FUSE_READ:
      return Read(header.unique, header.nodeid, body);
    case FUSE_WRITE:
      return Write(header.unique, header.nodeid, body);
    case FUSE_FSYNC:
      return Reply(header.unique, fdatasync(DescriptorOf(header.nodeid)) == 0 ? 0 : EIO);
    case FUSE_SETLK:
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      return Reply(header.unique, 0);
    case FUSE_GETLK: {
      fuse_lk_out out = {};
      out.lk.type = F_UNLCK;
      return Reply(header.unique, 0, &out, sizeof(out));
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return;  // These have no answer.
    default:
      return Reply(header.unique, ENOSYS);
  }
}

}  // namespace tidemark::test
