#include "engine/native/disk_look.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "engine/native/limits.h"

namespace tidemark::native {

void DiskLook::Refresh(const std::vector<std::shared_ptr<graph::Driver>>& files, Task done) {
  auto query = std::make_shared<Query>();
  query->done = std::move(done);
  absl::flat_hash_set<std::string> concerned;
  for (const auto& file : files) {
    const std::string place = places_.PlaceOf(file->filename());
    Mount& mount = mounts_[place];
    if (mount.late) continue;
    mount.files.push_back(file);
    if (concerned.insert(place).second) mount.queries.push_back(query);
  }
  query->waits_for = static_cast<int>(concerned.size());
  if (query->waits_for == 0) return threads_.engine().Post(std::move(query->done));
  for (const std::string& place : concerned) Ask(place);
  threads_.engine().PostAfter(kDiskLookMax, [this, query] { OnLate(query); });
}

void DiskLook::Ask(const std::string& place) {
  Mount& mount = mounts_[place];
  if (mount.asking || mount.files.empty()) return;
  mount.asking = true;
  mount.asked_for = std::exchange(mount.queries, {});
  threads_.commands().Post([this, place, files = std::exchange(mount.files, {})]() mutable {
    for (const auto& file : files) static_cast<FileDriver&>(*file).LookAtDisk();
    files.clear();  // Perhaps the last reference: here, where that may block.
    threads_.engine().Post([this, place] { OnAnswered(place); });
  });
}

void DiskLook::OnAnswered(const std::string& place) {
  Mount& mount = mounts_[place];
  mount.asking = false;
  mount.late = false;
  for (const auto& query : std::exchange(mount.asked_for, {})) {
    if (--query->waits_for == 0) Finish(query.get());
  }
  Ask(place);
  if (!mount.asking) mounts_.erase(place);
  ReportIfIdle();
}

void DiskLook::WhenIdle(Task task) {
  when_idle_.push_back(std::move(task));
  ReportIfIdle();
}

void DiskLook::ReportIfIdle() {
  if (!mounts_.empty()) return;
  for (Task& task : std::exchange(when_idle_, {})) threads_.engine().Post(std::move(task));
}

void DiskLook::OnLate(const std::shared_ptr<Query>& query) {
  if (query->done == nullptr) return;
  for (auto& [place, mount] : mounts_) {
    // What has hung since before this query came, too.
    for (const auto* queries : {&mount.asked_for, &mount.queries}) {
      for (const auto& waiting : *queries) mount.late = mount.late || waiting == query;
    }
  }
  Finish(query.get());
}

void DiskLook::FinishAll() {
  for (auto& [place, mount] : mounts_) {
    for (const auto* queries : {&mount.asked_for, &mount.queries}) {
      for (const auto& query : *queries) Finish(query.get());
    }
  }
}

void DiskLook::Finish(Query* query) {
  if (query->done != nullptr) std::exchange(query->done, nullptr)();
}

}  // namespace tidemark::native
