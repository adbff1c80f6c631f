// What comes and goes in the folders of sockets.
#include <dirent.h>
#include <sys/stat.h>

#include <memory>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/qmp/instance_table.h"
#include "adapters/qmp/limits.h"
#include "engine/base/utf8.h"

namespace tidemark::qmp {

namespace v1 = ::tidemark::block::v1;
using Change = FolderWatch::Change;

std::string SocketPathOf(const MonitorAddress& address) {
  const auto* const socket = absl::get_if<UnixAddress>(&address.value());
  return socket == nullptr ? "" : socket->path;
}

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

bool IsSocket(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
}

std::set<std::string> NamesIn(const std::string& folder) {
  std::set<std::string> names;
  if (DIR* const listing = opendir(folder.c_str()); listing != nullptr) {
    while (const dirent* const entry = readdir(listing)) names.insert(entry->d_name);
    closedir(listing);
  }
  return names;
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

// What came to the sockets of a folder before it was watched is looked at.
void Instances::Core::Watch(const std::string& folder) {
  if (watch_ == nullptr) return;
  LookUp<bool>(folder, watch_->Adding(folder),
               [folder](Core& core, const absl::StatusOr<bool>& is_new) {
                 if (!is_new.ok() || !*is_new) return;
                 for (const std::string& path : core.SocketsOf(folder)) {
                   core.LookAt(folder, path.substr(folder.size() + 1));
                 }
               });
}

// A folder that was removed may come back.
void Instances::Core::WatchAgain(const std::string& folder) {
  if (stopped_ || watch_ == nullptr) return;
  LookUp<bool>(folder, watch_->Adding(folder),
               [folder](Core& core, const absl::StatusOr<bool>& is_new) {
                 is_new.ok() ? core.LookAtAll(folder) : core.WatchSoon(folder);
               });
}

void Instances::Core::WatchSoon(const std::string& folder) {
  context_.loop.RunAfter(kFolderRetry, [weak = weak_from_this(), folder] {
    if (const auto self = weak.lock()) {
      self->Post([folder](Core& core) { core.WatchAgain(folder); });
    }
  });
}

// Makes what is known of one name in a folder true.
void Instances::Core::LookAt(const std::string& folder, const std::string& name) {
  const std::string path = absl::StrCat(folder, "/", name);
  if (stopped_ || (!by_path_.contains(path) && !IsMonitorFolder(folder))) return;
  LookUp<bool>(
      path, [path]() -> absl::StatusOr<bool> { return IsSocket(path); },
      [folder, name](Core& core, const absl::StatusOr<bool>& is_socket) {
        if (is_socket.ok()) core.OnLooked(folder, name, *is_socket);
      });
}

void Instances::Core::OnLooked(const std::string& folder, const std::string& name, bool is_socket) {
  if (stopped_) return;
  const std::string path = absl::StrCat(folder, "/", name);
  const auto known = by_path_.find(path);
  if (known == by_path_.end() && !IsMonitorFolder(folder)) return;
  if (!is_socket) {
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
    options_.warn(absl::StrCat("socket '", ToUtf8(path), "' is not taken for a virtual machine: ",
                               request.status().message()));
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
  using Names = std::set<std::string>;
  LookUp<Names>(
      folder, [folder]() -> absl::StatusOr<Names> { return NamesIn(folder); },
      [folder](Core& core, absl::StatusOr<Names> names) {
        if (!names.ok()) return;
        for (const std::string& path : core.SocketsOf(folder)) {
          names->insert(path.substr(folder.size() + 1));
        }
        for (const std::string& name : *names) core.LookAt(folder, name);
      });
}

// An instance of a folder goes with its socket, once it has been tried in vain.
void Instances::Core::OnClosed(const std::string& id) {
  const Entry* const entry = EntryOf(id);
  if (stopped_ || entry == nullptr || entry->is_leaving) return;
  const std::string path = SocketPathOf(entry->instance->address());
  if (path.empty()) return;
  // It may have been made, or made anew, since.
  Watch(FolderOf(path));
  if (entry->origin != v1::INSTANCE_ORIGIN_FOLDER ||
      entry->instance->state() != v1::INSTANCE_STATE_UNREACHABLE) {
    return;
  }
  LookUp<bool>(
      path, [path]() -> absl::StatusOr<bool> { return IsSocket(path); },
      [id, instance = entry->instance](Core& core, const absl::StatusOr<bool>& is_socket) {
        const Entry* const now = core.EntryOf(id);
        const bool is_same = now != nullptr && now->instance == instance && !now->is_leaving;
        if (is_same && is_socket.ok() && !*is_socket) core.OnGone(id);
      });
}

void Instances::Core::OnGone(const std::string& id) {
  const Entry& entry = *EntryOf(id);
  if (stopped_ || entry.origin != v1::INSTANCE_ORIGIN_FOLDER ||
      entry.instance->state() != v1::INSTANCE_STATE_UNREACHABLE) {
    return;
  }
  if (context_.store != nullptr) context_.store->DeleteInstance(id).IgnoreError();
  Leave(id, MonitoredInstance::Ending::kGone, [] {});
}

}  // namespace tidemark::qmp
