// Who is registered: from the start, by clients, and until when. What comes and goes in folders is
// in instance_watch.cc.
#include "adapters/qmp/instances.h"

#include <future>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/instance_table.h"
#include "engine/base/error.h"
#include "engine/base/error_metadata.h"
#include "engine/base/status_macros.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

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

absl::Status Instances::Core::Start() {
  watch_ = FolderWatch::Create(
      context_.loop, [weak = weak_from_this()](const std::string& folder, const std::string& name,
                                               FolderWatch::Change change) {
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
    ASSIGN_OR_RETURN(const auto all, context_.store->LoadInstances());
    std::vector<v1::CreateInstanceRequest> stored;
    for (const v1::CreateInstanceRequest& request : all) {
      const Entry* const other = EntryOf(request.id());
      if (other != nullptr) {
        options_.warn(absl::StrCat("instance '", request.id(), "' is in the file of instances, ",
                                   "so what a client registered under this name is not used"));
        continue;
      }
      stored.push_back(request);
    }
    RegisterStored(stored);
  }
  bool all_answer = true;
  for (const std::string& folder : options_.folders) {
    const absl::Status status = StartFolder(folder);
    all_answer &= !absl::IsUnavailable(status);
    if (absl::IsUnavailable(status)) {
      options_.warn(std::string(status.message()));
      WatchSoon(folder);
    } else if (!status.ok()) {
      return status;
    }
  }
  // Nobody knows what has gone from a folder that does not answer.
  return all_answer ? ForgetOthers() : absl::OkStatus();
}

// Registers what is in the folder, which is watched from now on. Blocks, but for no disk that
// hangs: UNAVAILABLE.
absl::Status Instances::Core::StartFolder(const std::string& folder) {
  const auto sockets = std::make_shared<std::vector<std::string>>();
  RETURN_IF_ERROR(context_.lookups.LookAndWait(
      folder, [sockets, folder, watch = watch_->Adding(folder)]() -> absl::Status {
        RETURN_IF_ERROR(watch().status());
        for (const std::string& name : NamesIn(folder)) {
          if (IsSocket(absl::StrCat(folder, "/", name))) sockets->push_back(name);
        }
        return absl::OkStatus();
      }));
  for (const std::string& name : *sockets) OnLooked(folder, name, /*is_socket=*/true);
  return absl::OkStatus();
}

// What clients registered. The folders may be others than then: whose socket may not be named now
// is left out. Blocks, but for no disk that hangs: who cannot be judged in time is there, with its
// jobs, and connects when it can.
void Instances::Core::RegisterStored(const std::vector<v1::CreateInstanceRequest>& stored) {
  std::vector<std::future<absl::Status>> judged;
  for (const v1::CreateInstanceRequest& request : stored) {
    auto judgement = std::make_shared<std::promise<absl::Status>>();
    judged.push_back(judgement->get_future());
    const absl::StatusOr<MonitorAddress> address = AddressOf(request);
    const absl::Status allowed =
        address.ok() ? options_.monitors.Check(*address) : address.status();
    if (!allowed.ok()) {
      judgement->set_value(allowed);
      continue;
    }
    LookAtSocket(*address, [judgement](absl::Status status) { judgement->set_value(status); });
  }
  for (size_t i = 0; i < stored.size(); ++i) {
    absl::Status status = judged[i].get();
    const bool is_judged = !absl::IsUnavailable(status);
    if (status.ok() || !is_judged) {
      status = Register(stored[i], v1::INSTANCE_ORIGIN_API, Since::kBefore, is_judged).status();
    }
    if (!status.ok()) options_.warn(std::string(status.message()));
    if (status.ok() && !is_judged) Admit(stored[i].id());
  }
}

// Lets one connect as soon as its disk says that it may.
void Instances::Core::Admit(const std::string& id) {
  const Entry* const entry = EntryOf(id);
  if (stopped_ || entry == nullptr || entry->is_leaving) return;
  const auto instance = entry->instance;
  CheckSocket(instance->address(), [id, instance](Core& core, const absl::Status& status) {
    if (status.ok()) return instance->BeginConnecting();
    if (!absl::IsUnavailable(status)) return instance->Fail(status);
    core.context_.loop.RunAfter(kFolderRetry, [weak = core.weak_from_this(), id] {
      if (const auto self = weak.lock()) self->Post([id](Core& core) { core.Admit(id); });
    });
  });
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

// At once, or on the thread that answers for look-ups.
void Instances::Core::LookAtSocket(const MonitorAddress& address,
                                   std::function<void(absl::Status)> done) {
  const std::string path = SocketPathOf(address);
  if (path.empty() || sockets_->allows_everything()) return done(absl::OkStatus());
  if (absl::Status status = PathPolicy::CheckForm(path); !status.ok()) return done(status);
  context_.lookups.LookAtFile(
      path, [sockets = sockets_, path] { return sockets->CheckPath(path); }, std::move(done));
}

void Instances::Core::CheckSocket(const MonitorAddress& address,
                                  std::function<void(Core&, absl::Status)> then) {
  LookAtSocket(address, [self = shared_from_this(), then = std::move(then)](absl::Status status) {
    self->books_.Post([self, then, status = std::move(status)] { then(*self, status); });
  });
}

absl::Status Instances::Core::Store(const v1::CreateInstanceRequest& request) {
  return context_.store == nullptr ? absl::OkStatus() : context_.store->SaveInstance(request);
}

void Instances::Core::CheckAndCreate(const v1::CreateInstanceRequest& request, Created done) {
  const absl::StatusOr<MonitorAddress> address = AddressOf(request);
  if (!address.ok()) return done(WithMetadata(address.status(), "instance", request.id()));
  CheckSocket(*address, [request, done](Core& core, const absl::Status& status) {
    if (!status.ok()) return done(WithMetadata(status, "instance", request.id()));
    core.Create(request, done);
  });
}

void Instances::Core::Create(const v1::CreateInstanceRequest& request, Created done) {
  if (stopped_) return done(Stopping());
  const absl::StatusOr<MonitorAddress> address = AddressOf(request);
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
      absl::Status status = Store(request);
      if (!status.ok()) return done(std::move(status));
      entry->origin = v1::INSTANCE_ORIGIN_API;
      entry->instance->SetOrigin(entry->origin);
    }
    return done(entry->instance->Describe());
  }
  if (const absl::Status allowed = options_.monitors.Check(*address); !allowed.ok()) {
    return done(WithMetadata(allowed, "instance", request.id()));
  }
  auto registered = Register(request, v1::INSTANCE_ORIGIN_API, Since::kNew);
  if (!registered.ok()) return done(std::move(registered).status());
  done((*registered)->Describe());
}

absl::StatusOr<std::shared_ptr<MonitoredInstance>> Instances::Core::Register(
    const v1::CreateInstanceRequest& request, v1::InstanceOrigin origin, Since since,
    bool connects) {
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
  if (since == Since::kNew) RETURN_IF_ERROR(Store(request));
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
    Watch(FolderOf(path));
  }
  instance->Start(connects);
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

bool Instances::Shutdown(absl::Duration patience) {
  auto stopped = std::make_shared<std::promise<void>>();
  core_->Post([stopped](Core& core) {
    core.EndWatch();
    core.Stop([stopped] { stopped->set_value(); });
  });
  return stopped->get_future().wait_for(absl::ToChronoMilliseconds(patience)) ==
         std::future_status::ready;
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
  core_->Post(
      [request, done = std::move(done)](Core& core) { core.CheckAndCreate(request, done); });
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
