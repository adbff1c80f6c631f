#include "adapters/qmp/folder_watch.h"

#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <future>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark::qmp {
namespace {

constexpr uint32_t kInterest = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM |
                               IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
// Enough for many events of the longest name.
constexpr size_t kBufferBytes = size_t{64} << 10;

}  // namespace

class FolderWatch::Core {
 public:
  Core(IoLoop& loop, int fd, Told told) : loop_(loop), fd_(fd), told_(std::move(told)) {}
  ~Core() { close(fd_); }

  void Start(const std::shared_ptr<Core>& self) {
    watch_ = loop_.Watch(fd_, EPOLLIN, [self](uint32_t) { self->Read(); });
  }
  // On the loop, which leaves no doubt that nothing is told later.
  void Stop() { loop_.Unwatch(watch_); }
  IoLoop& loop() { return loop_; }

  absl::StatusOr<bool> Add(const std::string& folder) {
    {
      MutexLock lock(&mutex_);
      if (numbers_.count(folder) != 0) return false;
    }
    // Not with the lock held, which the loop takes: the folder may be on a disk that hangs.
    const int number = inotify_add_watch(fd_, folder.c_str(), kInterest);
    if (number < 0) {
      return Error(Reason::kIoError,
                   absl::StrCat("Cannot watch folder '", folder, "': ", std::strerror(errno)),
                   {{"file", folder}});
    }
    MutexLock lock(&mutex_);
    if (!numbers_.emplace(folder, number).second) return false;
    folders_[number].push_back(folder);
    return true;
  }

  void Remove(const std::string& folder) {
    MutexLock lock(&mutex_);
    const auto found = numbers_.find(folder);
    if (found == numbers_.end()) return;
    // Two names of one folder share a number.
    std::vector<std::string>& names = folders_[found->second];
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] != folder) continue;
      names.erase(names.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
    if (names.empty()) {
      folders_.erase(found->second);
      inotify_rm_watch(fd_, found->second);
    }
    numbers_.erase(found);
  }

 private:
  struct Item {
    std::string folder;
    std::string name;
    Change change;
  };

  void Read() {
    alignas(inotify_event) char buffer[kBufferBytes];
    const ssize_t length = read(fd_, buffer, sizeof(buffer));
    if (length <= 0) return;
    std::vector<Item> items;
    {
      MutexLock lock(&mutex_);
      for (ssize_t at = 0; at < length;) {
        const auto* const event = reinterpret_cast<const inotify_event*>(buffer + at);
        at += static_cast<ssize_t>(sizeof(inotify_event)) + event->len;
        Take(*event, &items);
      }
    }
    for (const Item& item : items) told_(item.folder, item.name, item.change);
  }

  void Take(const inotify_event& event, std::vector<Item>* items)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if ((event.mask & IN_Q_OVERFLOW) != 0) {
      for (const auto& [folder, number] : numbers_)
        items->push_back({folder, "", Change::kUnclear});
      return;
    }
    const auto found = folders_.find(event.wd);
    if (found == folders_.end()) return;
    if ((event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) != 0) {
      for (const std::string& folder : found->second) {
        items->push_back({folder, "", Change::kUnclear});
        numbers_.erase(folder);
      }
      if ((event.mask & IN_IGNORED) == 0) inotify_rm_watch(fd_, event.wd);
      folders_.erase(found);
      return;
    }
    if (event.len == 0) return;
    const Change change =
        (event.mask & (IN_CREATE | IN_MOVED_TO)) != 0 ? Change::kAppeared : Change::kVanished;
    for (const std::string& folder : found->second) items->push_back({folder, event.name, change});
  }

  IoLoop& loop_;
  const int fd_;
  const Told told_;
  IoLoop::WatchId watch_ = 0;

  Mutex mutex_;
  std::map<std::string, int> numbers_ ABSL_GUARDED_BY(mutex_);
  std::map<int, std::vector<std::string>> folders_ ABSL_GUARDED_BY(mutex_);
};

std::unique_ptr<FolderWatch> FolderWatch::Create(IoLoop& loop, Told told) {
  const int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) return nullptr;
  auto core = std::make_shared<Core>(loop, fd, std::move(told));
  core->Start(core);
  return std::unique_ptr<FolderWatch>(new FolderWatch(std::move(core)));
}

FolderWatch::FolderWatch(std::shared_ptr<Core> core) : core_(std::move(core)) {}

FolderWatch::~FolderWatch() {
  auto stopped = std::make_shared<std::promise<void>>();
  core_->loop().Post([core = core_, stopped] {
    core->Stop();
    stopped->set_value();
  });
  stopped->get_future().wait();
}

absl::StatusOr<bool> FolderWatch::Add(const std::string& folder) { return core_->Add(folder); }

std::function<absl::StatusOr<bool>()> FolderWatch::Adding(const std::string& folder) {
  return [core = core_, folder] { return core->Add(folder); };
}

void FolderWatch::Remove(const std::string& folder) { core_->Remove(folder); }

}  // namespace tidemark::qmp
