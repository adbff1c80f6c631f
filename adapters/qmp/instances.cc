// Everything that changes the table runs on `books`; everybody may read it. An instance that is
// being deleted stays in the table until its connection has ended, and what is wanted of its name
// meanwhile waits for that.
#include "adapters/qmp/instances.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <future>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/qmp/folder_watch.h"
#include "adapters/qmp/monitored_instance.h"
#include "engine/base/error.h"
#include "engine/base/error_metadata.h"
#include "engine/base/status_macros.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using Change = FolderWatch::Change;

// How long until a folder that has gone is looked for again.
constexpr absl::Duration kFolderRetry = absl::Seconds(1);

bool IsSocket(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
}

// Empty for an address without one.
std::string SocketPathOf(const MonitorAddress& address) {
  const auto* const socket = absl::get_if<UnixAddress>(&address.value());
  return socket == nullptr ? "" : socket->path;
}

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

// Whether it has been told that it is deleted; the table may not know yet.
bool IsDeleted(const MonitoredInstance& instance) {
  return instance.state() == v1::INSTANCE_STATE_DELETED;
}

absl::Status NotFound(absl::string_view id) {
  return Error(Reason::kInstanceNotFound, absl::StrCat("No instance is called '", id, "'"),
               {{"instance", id}});
}

absl::Status Stopping() {
  return Error(Reason::kShuttingDown, "The service is stopping and takes no more commands");
}

}  // namespace

class Instances::Core : public std::enable_shared_from_this<Instances::Core> {
 public:
  Core(InstancesOptions options, BridgeContext context, Executor& books)
      : options_(std::move(options)), context_(context), books_(books) {}

  // On `books`.
  absl::Status Start();
  void Stop(std::function<void()> done);
  void Create(const v1::CreateInstanceRequest& request, Created done);
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
    v1::InstanceOrigin origin;
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
  absl::Status CheckSocket(const MonitorAddress& address) const;
  absl::Status Store(const v1::CreateInstanceRequest& request);
  absl::Status ForgetOthers();
  // `is_new`: it is to be stored.
  absl::StatusOr<std::shared_ptr<MonitoredInstance>> Register(
      const v1::CreateInstanceRequest& request, v1::InstanceOrigin origin, bool is_new = false);
  void Leave(const std::string& id, MonitoredInstance::Ending ending, std::function<void()> done);
  void OnLeft(const std::string& id);

  void OnChange(const std::string& folder, const std::string& name, Change change);
  void LookAt(const std::string& folder, const std::string& name);
  void LookAtAll(const std::string& folder);
  void WatchAgain(const std::string& folder);
  std::vector<std::string> SocketsOf(const std::string& folder) const;
  void OnClosed(const std::string& id);
  bool IsMonitorFolder(const std::string& folder) const {
    return std::find(options_.folders.begin(), options_.folders.end(), folder) !=
           options_.folders.end();
  }

  // Constant after construction.
  const InstancesOptions options_;
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

absl::Status Instances::Core::Start() {
  watch_ = FolderWatch::Create(
      context_.loop,
      [weak = weak_from_this()](const std::string& folder, const std::string& name, Change change) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        self->Post([folder, name, change](Core& core) { core.OnChange(folder, name, change); });
      });
  if (watch_ == nullptr && !options_.folders.empty()) {
    return Error(Reason::kLimitReached,
                 "Cannot watch folders: the system has no inotify instance left "
                 "(fs.inotify.max_user_instances)");
  }
  for (const v1::CreateInstanceRequest& request : options_.of_file) {
    RETURN_IF_ERROR(Register(request, v1::INSTANCE_ORIGIN_FILE).status());
  }
  if (context_.store != nullptr) {
    ASSIGN_OR_RETURN(const auto stored, context_.store->LoadInstances());
    for (const v1::CreateInstanceRequest& request : stored) {
      const Entry* const other = EntryOf(request.id());
      if (other != nullptr) {
        options_.warn(absl::StrCat("instance '", request.id(), "' is in the file of instances, ",
                                   "so what a client registered under this name is not used"));
        continue;
      }
      // The folders may be others than when it was registered.
      const absl::StatusOr<MonitorAddress> address = AddressOf(request);
      absl::Status status = address.ok() ? CheckSocket(*address) : address.status();
      if (status.ok()) status = Register(request, v1::INSTANCE_ORIGIN_API).status();
      if (!status.ok()) options_.warn(std::string(status.message()));
    }
  }
  for (const std::string& folder : options_.folders) {
    RETURN_IF_ERROR(watch_->Add(folder));
    LookAtAll(folder);
  }
  return ForgetOthers();
}

// What an earlier process stored of virtual machines of a file or folder that are there no more.
// One that gets the name later is another one.
absl::Status Instances::Core::ForgetOthers() {
  if (context_.store == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<std::string> ids, context_.store->LoadOtherInstanceIds());
  for (const std::string& id : ids) {
    if (EntryOf(id) != nullptr) continue;
    const absl::Status status = context_.store->DeleteInstance(id);
    if (!status.ok()) options_.warn(std::string(status.message()));
  }
  return absl::OkStatus();
}

absl::Status Instances::Core::CheckSocket(const MonitorAddress& address) const {
  const std::string path = SocketPathOf(address);
  return path.empty() ? absl::OkStatus() : options_.sockets.CheckPath(path);
}

absl::Status Instances::Core::Store(const v1::CreateInstanceRequest& request) {
  return context_.store == nullptr ? absl::OkStatus() : context_.store->SaveInstance(request);
}

void Instances::Core::Create(const v1::CreateInstanceRequest& request, Created done) {
  if (stopped_) return done(Stopping());
  const absl::StatusOr<MonitorAddress> address = AddressOf(request);
  absl::Status status = address.status();
  if (status.ok()) status = CheckSocket(*address);
  if (!status.ok()) return done(WithMetadata(status, "instance", request.id()));
  Entry* const entry = EntryOf(request.id());
  if (entry != nullptr && entry->is_leaving) {
    entry->waiting.push_back([this, request, done] { Create(request, done); });
    return;
  }
  if (entry != nullptr && entry->instance->address() != *address) {
    return done(Error(Reason::kInstanceExists,
                      absl::StrCat("Cannot register instance '", request.id(), "' at '",
                                   address->ToString(), "': this name is registered for '",
                                   entry->instance->address().ToString(), "'"),
                      {{"instance", request.id()}}));
  }
  if (entry != nullptr) {
    // From now on it is the client's, too, and stays when its file or socket goes.
    if (entry->origin == v1::INSTANCE_ORIGIN_FOLDER) {
      status = Store(request);
      if (!status.ok()) return done(std::move(status));
      entry->origin = v1::INSTANCE_ORIGIN_API;
      entry->instance->SetOrigin(entry->origin);
    }
    return done(entry->instance->Describe());
  }
  auto registered = Register(request, v1::INSTANCE_ORIGIN_API, /*is_new=*/true);
  if (!registered.ok()) return done(std::move(registered).status());
  done((*registered)->Describe());
}

absl::StatusOr<std::shared_ptr<MonitoredInstance>> Instances::Core::Register(
    const v1::CreateInstanceRequest& request, v1::InstanceOrigin origin, bool is_new) {
  const std::string& id = request.id();
  ASSIGN_OR_RETURN(const MonitorAddress address, AddressOf(request));
  {
    MutexLock lock(&mutex_);
    if (table_.size() >= options_.instances_max) {
      return Error(Reason::kLimitReached,
                   absl::StrCat("Cannot register instance '", id, "': there are ",
                                options_.instances_max, " already, which is the limit"),
                   {{"instance", id}});
    }
  }
  QmpBackend::Stored stored;
  if (context_.store != nullptr) {
    ASSIGN_OR_RETURN(stored.jobs, context_.store->LoadJobs(id));
    ASSIGN_OR_RETURN(stored.exports, context_.store->LoadExports(id));
  }
  if (is_new) RETURN_IF_ERROR(Store(request));
  MonitoredInstance::Options options{
      request, address, origin, options_.limits, options_.random, [weak = weak_from_this(), id] {
        const auto self = weak.lock();
        if (self == nullptr) return;
        self->Post([id](Core& core) { core.OnClosed(id); });
      }};
  auto instance = std::make_shared<MonitoredInstance>(std::move(options), context_,
                                                      QmpBackend::Create(id, context_, stored));
  {
    MutexLock lock(&mutex_);
    Entry& entry = table_[id];
    entry.instance = instance;
    entry.origin = origin;
  }
  const std::string path = SocketPathOf(address);
  if (!path.empty()) {
    by_path_[path] = id;
    // A folder that is not there yet cannot be watched; attempts find the socket all the same.
    if (watch_ != nullptr) watch_->Add(FolderOf(path)).IgnoreError();
  }
  instance->Start();
  return instance;
}

void Instances::Core::Delete(const std::string& id, Deleted done) {
  if (stopped_) return done(Stopping());
  Entry* const entry = EntryOf(id);
  if (entry == nullptr) return done(NotFound(id));
  if (entry->is_leaving) {
    entry->waiting.push_back([this, id, done] { Delete(id, done); });
    return;
  }
  if (context_.store != nullptr) {
    absl::Status status = context_.store->DeleteInstance(id);
    if (!status.ok()) return done(std::move(status));
  }
  Leave(id, MonitoredInstance::Ending::kDeleted, [done] { done(absl::OkStatus()); });
}

void Instances::Core::Leave(const std::string& id, MonitoredInstance::Ending ending,
                            std::function<void()> done) {
  Entry& entry = *EntryOf(id);
  entry.is_leaving = true;
  entry.waiting.push_back(std::move(done));
  entry.instance->End(ending, [self = shared_from_this(), id] {
    self->books_.Post([self, id] { self->OnLeft(id); });
  });
}

void Instances::Core::OnLeft(const std::string& id) {
  std::shared_ptr<MonitoredInstance> instance;
  std::vector<std::function<void()>> waiting;
  {
    MutexLock lock(&mutex_);
    const auto found = table_.find(id);
    instance = std::move(found->second.instance);
    waiting = std::move(found->second.waiting);
    table_.erase(found);
  }
  const std::string path = SocketPathOf(instance->address());
  const auto known = by_path_.find(path);
  if (known != by_path_.end() && known->second == id) {
    by_path_.erase(known);
    const std::string folder = FolderOf(path);
    const bool is_used = !SocketsOf(folder).empty();
    if (watch_ != nullptr && !is_used && !IsMonitorFolder(folder)) watch_->Remove(folder);
  }
  // What its last tasks have stored since. The next of this name is another one.
  if (context_.store != nullptr) context_.store->DeleteInstance(id).IgnoreError();
  for (const auto& task : waiting) task();
}

void Instances::Core::OnChange(const std::string& folder, const std::string& name, Change change) {
  if (stopped_) return;
  if (change == Change::kUnclear) {
    if (!IsMonitorFolder(folder)) return;
    LookAtAll(folder);
    return WatchAgain(folder);
  }
  // Much may come and go beside a socket.
  if (!IsMonitorFolder(folder) && !by_path_.contains(absl::StrCat(folder, "/", name))) return;
  if (change == Change::kVanished) return LookAt(folder, name);
  context_.loop.RunAfter(kSettleTime, [weak = weak_from_this(), folder, name] {
    if (const auto self = weak.lock()) {
      self->Post([folder, name](Core& core) { core.LookAt(folder, name); });
    }
  });
}

// A folder that was removed may come back.
void Instances::Core::WatchAgain(const std::string& folder) {
  if (stopped_) return;
  if (watch_->Add(folder).ok()) return LookAtAll(folder);
  context_.loop.RunAfter(kFolderRetry, [weak = weak_from_this(), folder] {
    if (const auto self = weak.lock()) {
      self->Post([folder](Core& core) { core.WatchAgain(folder); });
    }
  });
}

// Makes what is known of one name in a folder true.
void Instances::Core::LookAt(const std::string& folder, const std::string& name) {
  if (stopped_) return;
  const std::string path = absl::StrCat(folder, "/", name);
  const auto known = by_path_.find(path);
  if (known == by_path_.end() && !IsMonitorFolder(folder)) return;
  if (!IsSocket(path)) {
    if (known != by_path_.end()) OnClosed(known->second);
    return;
  }
  if (known != by_path_.end()) {
    Entry& entry = *EntryOf(known->second);
    if (!entry.is_leaving) return entry.instance->Poke();
    entry.waiting.push_back([this, folder, name] { LookAt(folder, name); });
    return;
  }
  const auto request = InstanceOfSocket(folder, name);
  if (!request.ok()) {
    options_.warn(absl::StrCat(
        "socket '", path, "' is not taken for a virtual machine: ", request.status().message()));
    return;
  }
  if (Entry* const entry = EntryOf(request->id()); entry != nullptr) {
    if (entry->is_leaving) {
      entry->waiting.push_back([this, folder, name] { LookAt(folder, name); });
      return;
    }
    options_.warn(absl::StrCat("socket '", path, "' is not taken for a virtual machine: the name '",
                               request->id(), "' is taken"));
    return;
  }
  const absl::Status status = Register(*request, v1::INSTANCE_ORIGIN_FOLDER).status();
  if (!status.ok()) options_.warn(std::string(status.message()));
}

// Those of instances that lie in the folder itself, with their paths.
std::vector<std::string> Instances::Core::SocketsOf(const std::string& folder) const {
  const std::string prefix = folder + "/";
  std::vector<std::string> paths;
  for (auto known = by_path_.lower_bound(prefix);
       known != by_path_.end() && absl::StartsWith(known->first, prefix); ++known) {
    if (FolderOf(known->first) == folder) paths.push_back(known->first);
  }
  return paths;
}

void Instances::Core::LookAtAll(const std::string& folder) {
  std::set<std::string> names;
  if (DIR* const listing = opendir(folder.c_str()); listing != nullptr) {
    while (const dirent* const entry = readdir(listing)) names.insert(entry->d_name);
    closedir(listing);
  }
  for (const std::string& path : SocketsOf(folder)) names.insert(path.substr(folder.size() + 1));
  for (const std::string& name : names) LookAt(folder, name);
}

// An instance of a folder goes with its socket, once it has been tried in vain.
void Instances::Core::OnClosed(const std::string& id) {
  const Entry* const entry = EntryOf(id);
  if (stopped_ || entry == nullptr || entry->is_leaving) return;
  const std::string path = SocketPathOf(entry->instance->address());
  if (path.empty()) return;
  // It may have been made, or made anew, since.
  if (watch_ != nullptr) watch_->Add(FolderOf(path)).IgnoreError();
  const bool is_reached = entry->instance->state() != v1::INSTANCE_STATE_UNREACHABLE;
  if (entry->origin != v1::INSTANCE_ORIGIN_FOLDER || is_reached || IsSocket(path)) return;
  if (context_.store != nullptr) context_.store->DeleteInstance(id).IgnoreError();
  Leave(id, MonitoredInstance::Ending::kGone, [] {});
}

void Instances::Core::Stop(std::function<void()> done) {
  stopped_ = true;
  // Runs `done` when the last of those who hold it lets go.
  const std::shared_ptr<void> last(nullptr, [done = std::move(done)](void*) { done(); });
  std::vector<std::shared_ptr<MonitoredInstance>> staying;
  {
    MutexLock lock(&mutex_);
    for (auto& [id, entry] : table_) {
      if (entry.is_leaving) {
        entry.waiting.push_back([last] {});
      } else {
        staying.push_back(entry.instance);
      }
    }
  }
  for (const auto& instance : staying)
    instance->End(MonitoredInstance::Ending::kStopped, [last] {});
}

Instances::Instances(InstancesOptions options, BridgeContext context, Executor& books)
    : core_(std::make_shared<Core>(std::move(options), context, books)) {}

Instances::~Instances() = default;

absl::Status Instances::Start() {
  std::promise<absl::Status> started;
  core_->Post([&started](Core& core) { started.set_value(core.Start()); });
  return started.get_future().get();
}

void Instances::Shutdown() {
  auto stopped = std::make_shared<std::promise<void>>();
  core_->Post([stopped](Core& core) {
    core.EndWatch();
    core.Stop([stopped] { stopped->set_value(); });
  });
  stopped->get_future().wait();
}

std::shared_ptr<backend::Backend> Instances::Find(absl::string_view id) const {
  const auto instance = core_->Find(id);
  return instance == nullptr || IsDeleted(*instance) ? nullptr : instance->backend();
}

std::vector<std::string> Instances::Names() const {
  std::vector<std::string> names;
  for (const v1::Instance& instance : List()) names.push_back(instance.id());
  return names;
}

void Instances::Create(const v1::CreateInstanceRequest& request, Created done) {
  core_->Post([request, done = std::move(done)](Core& core) { core.Create(request, done); });
}

void Instances::Delete(absl::string_view id, Deleted done) {
  core_->Post(
      [id = std::string(id), done = std::move(done)](Core& core) { core.Delete(id, done); });
}

absl::StatusOr<v1::Instance> Instances::Get(absl::string_view id) const {
  const auto instance = core_->Find(id);
  if (instance == nullptr || IsDeleted(*instance)) return NotFound(id);
  return instance->Describe();
}

std::vector<v1::Instance> Instances::List() const {
  std::vector<v1::Instance> list;
  for (const auto& instance : core_->All()) {
    if (!IsDeleted(*instance)) list.push_back(instance->Describe());
  }
  return list;
}

}  // namespace tidemark::qmp
