#include "engine/nbd/export_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

namespace {

absl::Status Validate(const Export& exported) {
  CHECK(exported.storage != nullptr);
  const auto too_long = [](absl::string_view what, const std::string& text) {
    return Error(Reason::kInvalidField,
                 absl::StrCat(what, " '", absl::string_view(text).substr(0, 64), "...' is ",
                              text.size(), " bytes long; at most ", kNameBytesMax, " are allowed"));
  };
  if (exported.name.size() > kNameBytesMax) return too_long("export name", exported.name);
  if (exported.description.size() > kNameBytesMax) {
    return too_long("export description", exported.description);
  }
  return absl::OkStatus();
}

}  // namespace

ExportTable::Use& ExportTable::Use::operator=(Use&& other) noexcept {
  if (this != &other) {
    Release();
    table_ = std::exchange(other.table_, nullptr);
    entry_ = std::move(other.entry_);
    other.entry_ = nullptr;
    client_ = std::exchange(other.client_, nullptr);
  }
  return *this;
}

const Export& ExportTable::Use::operator*() const {
  CHECK(entry_ != nullptr);
  return entry_->exported;
}

void ExportTable::Use::Release() {
  if (entry_ == nullptr) return;
  table_->Release(*entry_, client_);
  entry_ = nullptr;
}

ExportTable::~ExportTable() {
  MutexLock lock(&mutex_);
  for (const auto& entry : entries_) CHECK(entry->use_count == 0);
}

absl::Status ExportTable::Add(Export exported) {
  if (absl::Status status = Validate(exported); !status.ok()) return status;
  MutexLock lock(&mutex_);
  if (closed_) return Error(Reason::kNbdServerNotRunning, "the NBD server is not running");
  if (Lookup(exported.name) != nullptr) {
    return Error(Reason::kExportExists,
                 absl::StrCat("the NBD server already has an export named '", exported.name, "'"),
                 {{"export_name", exported.name}});
  }
  if (entries_.size() >= kExportsMax) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("the NBD server already has ", kExportsMax, " exports"));
  }
  entries_.push_back(std::make_shared<Entry>(std::move(exported)));
  return absl::OkStatus();
}

absl::Status ExportTable::Remove(absl::string_view name, bool disconnects) {
  std::shared_ptr<Entry> removed;
  {
    MutexLock lock(&mutex_);
    removed = Lookup(name);
    if (removed == nullptr) {
      return Error(Reason::kExportNotFound,
                   absl::StrCat("the NBD server has no export named '", name, "'"),
                   {{"export_name", name}});
    }
    if (!removed->clients.empty() && !disconnects) {
      return Error(Reason::kExportInUse,
                   absl::StrCat("export '", name, "' is used by ", removed->clients.size(),
                                " connected client(s)"),
                   {{"export_name", name}});
    }
    entries_.erase(std::find(entries_.begin(), entries_.end(), removed));
    DisconnectAndWait(*removed);
  }
  removed->exported = Export();  // Nobody is left who could see it; the storage may block to close.
  return absl::OkStatus();
}

void ExportTable::Close() {
  std::vector<std::shared_ptr<Entry>> removed;
  {
    MutexLock lock(&mutex_);
    closed_ = true;
    removed.swap(entries_);
    for (const auto& entry : removed) {
      for (Client* client : entry->clients) client->Disconnect();
    }
    for (const auto& entry : removed) DisconnectAndWait(*entry);
  }
  for (const auto& entry : removed) entry->exported = Export();
}

void ExportTable::DisconnectAndWait(Entry& entry) {
  // With the lock held, because a client must not vanish meanwhile: Disconnect never blocks.
  for (Client* client : entry.clients) client->Disconnect();
  while (entry.use_count > 0) released_.Wait(&mutex_);
}

ExportTable::Use ExportTable::Find(absl::string_view name) { return NewUse(name, nullptr); }

ExportTable::Use ExportTable::Attach(absl::string_view name, Client* client) {
  CHECK(client != nullptr);
  return NewUse(name, client);
}

ExportTable::Use ExportTable::NewUse(absl::string_view name, Client* client) {
  MutexLock lock(&mutex_);
  std::shared_ptr<Entry> entry = Lookup(name);
  if (entry == nullptr) return Use();
  entry->use_count++;
  if (client != nullptr) entry->clients.insert(client);
  return Use(this, std::move(entry), client);
}

void ExportTable::Release(Entry& entry, Client* client) {
  MutexLock lock(&mutex_);
  entry.use_count--;
  if (client != nullptr) entry.clients.erase(client);
  released_.SignalAll();
}

std::vector<ExportTable::Listing> ExportTable::List() const {
  MutexLock lock(&mutex_);
  std::vector<Listing> listings;
  listings.reserve(entries_.size());
  for (const auto& entry : entries_) {
    listings.push_back({entry->exported.name, entry->exported.description});
  }
  return listings;
}

int ExportTable::client_count(absl::string_view name) const {
  MutexLock lock(&mutex_);
  const std::shared_ptr<Entry> entry = Lookup(name);
  return entry == nullptr ? 0 : static_cast<int>(entry->clients.size());
}

std::shared_ptr<ExportTable::Entry> ExportTable::Lookup(absl::string_view name) const {
  for (const auto& entry : entries_) {
    if (entry->exported.name == name) return entry;
  }
  return nullptr;
}

}  // namespace tidemark::nbd
