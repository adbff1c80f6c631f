// The exports of a server by name, with who uses each: what makes it possible to take one back.
// Any thread; Remove and Close block.
#ifndef ENGINE_NBD_EXPORT_TABLE_H_
#define ENGINE_NBD_EXPORT_TABLE_H_

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"
#include "engine/nbd/export.h"

namespace tidemark::nbd {

class ExportTable {
 private:
  struct Entry;

 public:
  // Somebody who has chosen an export and may have requests in flight.
  class Client {
   public:
    virtual ~Client() = default;
    // Starts ending the connection, which then lets go of its Use. Never blocks, never calls the
    // table. May come more than once.
    virtual void Disconnect() = 0;
  };

  // An export kept in place: while one exists, the storage stays and Remove waits. Empty if the
  // export was not there. Used by one thread at a time.
  class Use {
   public:
    Use() = default;
    Use(Use&& other) noexcept { *this = std::move(other); }
    Use& operator=(Use&& other) noexcept;
    ~Use() { Release(); }

    explicit operator bool() const { return entry_ != nullptr; }
    const Export& operator*() const;
    const Export* operator->() const { return &**this; }
    void Release();

   private:
    friend class ExportTable;
    Use(ExportTable* table, std::shared_ptr<Entry> entry, Client* client)
        : table_(table), entry_(std::move(entry)), client_(client) {}

    ExportTable* table_ = nullptr;
    std::shared_ptr<Entry> entry_;
    Client* client_ = nullptr;
  };

  ExportTable() = default;
  ExportTable(const ExportTable&) = delete;
  ExportTable& operator=(const ExportTable&) = delete;
  // Nobody uses an export any more (CHECKed).
  ~ExportTable();

  // Refused: kExportExists, kInvalidField, kLimitReached; kNbdServerNotRunning after Close.
  absl::Status Add(Export exported);

  // Waits until nobody uses it. Refused: kExportNotFound; kExportInUse if clients are attached and
  // `disconnects` is false.
  absl::Status Remove(absl::string_view name, bool disconnects);

  // Removes everything, for ever.
  void Close();

  // For a glance: keep it short, and send nothing meanwhile.
  Use Find(absl::string_view name);
  // For a client: counted, and disconnected by Remove. `client` outlives the use.
  Use Attach(absl::string_view name, Client* client);

  struct Listing {
    std::string name;
    std::string description;
  };
  // In the order added.
  std::vector<Listing> List() const;

  int client_count(absl::string_view name) const;

 private:
  struct Entry {
    explicit Entry(Export e) : exported(std::move(e)) {}

    // Constant until the last user is gone.
    Export exported;
    // Guarded by the table's mutex.
    int use_count = 0;
    std::set<Client*> clients;
  };

  Use NewUse(absl::string_view name, Client* client);
  void Release(Entry& entry, Client* client);
  std::shared_ptr<Entry> Lookup(absl::string_view name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DisconnectAndWait(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  CondVar released_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_EXPORT_TABLE_H_
