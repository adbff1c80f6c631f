#include "adapters/qmp/export_keeper.h"

#include <set>
#include <utility>

#include "absl/types/optional.h"
#include "adapters/qmp/limits.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

// The export that a request makes, if it is one that does.
absl::optional<v1::BlockExportInfo> ExportMadeBy(const google::protobuf::Message& request) {
  v1::BlockExportInfo info;
  if (const auto* const add = dynamic_cast<const v1::BlockExportAddRequest*>(&request)) {
    info.set_id(add->id());
    info.set_node_name(add->node_name());
    return info;
  }
  if (const auto* const add = dynamic_cast<const v1::NbdServerAddRequest*>(&request)) {
    info.set_id(add->name().empty() ? add->device() : add->name());
    info.set_node_name(add->device());
    return info;
  }
  return absl::nullopt;
}

}  // namespace

ExportKeeper::ExportKeeper(std::string instance, backend::EventLog& log, backend::StateStore* store,
                           Executor& workers)
    : instance_(std::move(instance)), log_(log), store_(store), workers_(workers) {}

void ExportKeeper::Restore(const std::vector<Info>& stored) {
  MutexLock lock(&mutex_);
  for (const Info& info : stored) known_[info.id()] = info;
}

void ExportKeeper::OnCarriedOut(const google::protobuf::Message& request) {
  absl::optional<Info> info = ExportMadeBy(request);
  if (info.has_value()) Know(*std::move(info));
}

void ExportKeeper::OnDeleted(backend::Event event) {
  v1::BlockExportDeletedEvent& deleted = *event.mutable_block_export_deleted();
  const std::string id = deleted.id();
  bool was_known = false;
  {
    MutexLock lock(&mutex_);
    const auto found = known_.find(id);
    was_known = found != known_.end();
    if (was_known) {
      deleted.set_node_name(found->second.node_name());
      known_.erase(found);
    }
  }
  const uint64_t position = log_.Append(instance_, std::move(event));
  if (!was_known) return;
  // Until then a restart tells it again.
  log_.RunWhenSaved(position, [weak = weak_from_this(), id] {
    if (const auto keeper = weak.lock()) keeper->Store(id);
  });
}

void ExportKeeper::Reconcile(const v1::QueryBlockExportsResponse& exports, bool same_qemu) {
  if (!same_qemu) EndAll();
  std::set<std::string> listed;
  for (const Info& info : exports.exports()) listed.insert(info.id());
  for (const std::string& id : Known()) {
    if (!listed.contains(id)) Lose(id);
  }
  for (const Info& info : exports.exports()) Know(info);
}

void ExportKeeper::EndAll() {
  for (const std::string& id : Known()) Lose(id);
}

void ExportKeeper::Forget() {
  MutexLock lock(&mutex_);
  known_.clear();
}

bool ExportKeeper::AnyLives() const {
  MutexLock lock(&mutex_);
  return !known_.empty();
}

void ExportKeeper::Know(Info info) {
  const std::string id = info.id();
  {
    MutexLock lock(&mutex_);
    // No QEMU has so many: the peer makes them up.
    if (known_.size() >= kExportsMax && !known_.contains(id)) return;
    Info& known = known_[id];
    if (known.SerializeAsString() == info.SerializeAsString()) return;
    known = std::move(info);
  }
  Store(id);
}

void ExportKeeper::Lose(const std::string& id) {
  backend::Event event;
  event.set_recovered(true);
  event.mutable_block_export_deleted()->set_id(id);
  OnDeleted(std::move(event));
}

std::vector<std::string> ExportKeeper::Known() const {
  MutexLock lock(&mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, info] : known_) ids.push_back(id);
  return ids;
}

// Posted, for it may block.
void ExportKeeper::Store(const std::string& id) {
  if (store_ == nullptr) return;
  workers_.Post([keeper = shared_from_this(), id] {
    MutexLock store_lock(&keeper->store_mutex_);
    absl::optional<Info> known;
    {
      MutexLock lock(&keeper->mutex_);
      const auto found = keeper->known_.find(id);
      if (found != keeper->known_.end()) known = found->second;
    }
    // If that fails, a restart passes its end over, or tells it twice.
    if (known.has_value()) {
      keeper->store_->SaveExport(keeper->instance_, *known).IgnoreError();
    } else {
      keeper->store_->DeleteExport(keeper->instance_, id).IgnoreError();
    }
  });
}

}  // namespace tidemark::qmp
