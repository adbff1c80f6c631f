// The table of virtual machines, as it is kept on `books` (instances.h).
//
// Everything that changes the table runs on `books`; everybody may read it. An instance that is
// being deleted stays in the table until its connection has ended, and what is wanted of its name
// meanwhile waits for that.
//
// What a look at the disk finds comes back to `books`, where the table may be another by then: so
// each finding is weighed against the table as it is. One that is out of date does no harm, since
// what made it so is told by the watch and looked at in its turn.
#ifndef ADAPTERS_QMP_INSTANCE_TABLE_H_
#define ADAPTERS_QMP_INSTANCE_TABLE_H_

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/qmp/folder_watch.h"
#include "adapters/qmp/instances.h"
#include "adapters/qmp/monitored_instance.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/base/path_policy.h"
#include "tidemark/block/v1/instance.pb.h"

namespace tidemark::qmp {

class Instances::Core : public std::enable_shared_from_this<Instances::Core> {
 public:
  Core(InstancesOptions options, BridgeContext context, Executor& books)
      : options_(std::move(options)),
        sockets_(std::make_shared<const PathPolicy>(options_.sockets)),
        context_(context),
        books_(books) {}

  // On `books`.
  absl::Status Start();
  void Stop(std::function<void()> done);
  void CheckAndCreate(const ::tidemark::block::v1::CreateInstanceRequest& request, Created done);
  void Delete(const std::string& id, Deleted done);

  // From anywhere.
  std::shared_ptr<MonitoredInstance> Find(absl::string_view id) const {
    MutexLock lock(&mutex_);
    const auto found = table_.find(id);
    return found == table_.end() ? nullptr : found->second.instance;
  }
  std::vector<std::shared_ptr<MonitoredInstance>> All() const {
    MutexLock lock(&mutex_);
    std::vector<std::shared_ptr<MonitoredInstance>> all;
    for (const auto& [id, entry] : table_) all.push_back(entry.instance);
    return all;
  }
  // Runs `task` on `books` if this still lives by then.
  void Post(std::function<void(Core&)> task) {
    books_.Post([weak = weak_from_this(), task = std::move(task)] {
      if (const auto self = weak.lock()) task(*self);
    });
  }
  void EndWatch() { watch_ = nullptr; }

 private:
  struct Entry {
    std::shared_ptr<MonitoredInstance> instance;
    ::tidemark::block::v1::InstanceOrigin origin;
    bool is_leaving = false;
    // To be done when it has left.
    std::vector<std::function<void()>> waiting;
  };
  using Table = std::map<std::string, Entry, std::less<>>;

  // On `books`.
  Entry* EntryOf(const std::string& id) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    // Only this thread changes the table.
    const auto found = table_.find(id);
    return found == table_.end() ? nullptr : &found->second;
  }
  // Runs `look`, which may hang and owns what it uses, and then, however late, `then` with what it
  // has found.
  template <typename Found>
  void LookUp(const std::string& path, std::function<absl::StatusOr<Found>()> look,
              std::function<void(Core&, absl::StatusOr<Found>)> then);
  // Whether clients may name the socket.
  void LookAtSocket(const MonitorAddress& address, std::function<void(absl::Status)> done);
  void CheckSocket(const MonitorAddress& address, std::function<void(Core&, absl::Status)> then);
  void Create(const ::tidemark::block::v1::CreateInstanceRequest& request, Created done);
  void Admit(const std::string& id);
  absl::Status StartFolder(const std::string& folder);
  void RegisterStored(const std::vector<::tidemark::block::v1::CreateInstanceRequest>& stored);
  absl::Status Store(const ::tidemark::block::v1::CreateInstanceRequest& request);
  absl::Status ForgetOthers();
  // What is new is stored.
  enum class Since { kBefore, kNew };
  absl::StatusOr<std::shared_ptr<MonitoredInstance>> Register(
      const ::tidemark::block::v1::CreateInstanceRequest& request,
      ::tidemark::block::v1::InstanceOrigin origin, Since since = Since::kBefore,
      bool connects = true);
  void Leave(const std::string& id, MonitoredInstance::Ending ending, std::function<void()> done);
  void OnLeft(const std::string& id);

  void OnChange(const std::string& folder, const std::string& name, FolderWatch::Change change);
  void LookAt(const std::string& folder, const std::string& name);
  void OnLooked(const std::string& folder, const std::string& name, bool is_socket);
  void LookAtAll(const std::string& folder);
  void Watch(const std::string& folder);
  void WatchAgain(const std::string& folder);
  void WatchSoon(const std::string& folder);
  std::vector<std::string> SocketsOf(const std::string& folder) const;
  void OnClosed(const std::string& id);
  void OnGone(const std::string& id);
  bool IsMonitorFolder(const std::string& folder) const {
    return std::find(options_.folders.begin(), options_.folders.end(), folder) !=
           options_.folders.end();
  }

  // Constant after construction.
  const InstancesOptions options_;
  const std::shared_ptr<const PathPolicy> sockets_;
  const BridgeContext context_;
  Executor& books_;

  // Touched on `books` only.
  std::unique_ptr<FolderWatch> watch_;
  // Which instance's socket a path is.
  std::map<std::string, std::string> by_path_;
  bool stopped_ = false;

  mutable Mutex mutex_;
  Table table_ ABSL_GUARDED_BY(mutex_);
};

template <typename Found>
void Instances::Core::LookUp(const std::string& path, std::function<absl::StatusOr<Found>()> look,
                             std::function<void(Core&, absl::StatusOr<Found>)> then) {
  const auto found = std::make_shared<absl::StatusOr<Found>>(absl::UnknownError(""));
  context_.lookups.LookAtFile(
      path,
      [found, look = std::move(look)] {
        *found = look();
        return absl::OkStatus();
      },
      [weak = weak_from_this(), found, then = std::move(then)](const absl::Status& status) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        // What was found late belongs to the one who still looks.
        absl::StatusOr<Found> result = status.ok() ? std::move(*found) : status;
        self->Post([then, result = std::move(result)](Core& core) { then(core, result); });
      },
      absl::InfiniteDuration());
}

// How long until a folder that has gone, or a disk that hangs, is looked at again.
inline constexpr absl::Duration kFolderRetry = absl::Seconds(1);

// Empty for an address without one.
std::string SocketPathOf(const MonitorAddress& address);

// "/a/b" of "/a/b/c".
std::string FolderOf(const std::string& path);

// Whether a socket has this name; what the folder holds, nothing if it is none. Both may hang.
bool IsSocket(const std::string& path);
std::set<std::string> NamesIn(const std::string& folder);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_INSTANCE_TABLE_H_
