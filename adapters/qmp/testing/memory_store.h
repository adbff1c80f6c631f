// A state folder without a disk. Tests only; one thread.
#ifndef ADAPTERS_QMP_TESTING_MEMORY_STORE_H_
#define ADAPTERS_QMP_TESTING_MEMORY_STORE_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/state_store.h"

namespace tidemark::qmp {

class MemoryStore final : public backend::StateStore {
 public:
  using Instance = ::tidemark::block::v1::CreateInstanceRequest;
  using Job = ::tidemark::block::v1::Job;
  using Export = ::tidemark::block::v1::BlockExportInfo;
  // Instance and id.
  using Key = std::pair<std::string, std::string>;

  absl::StatusOr<std::vector<Instance>> LoadInstances() override {
    std::vector<Instance> all;
    for (const auto& [id, instance] : instances) all.push_back(instance);
    return all;
  }
  absl::Status SaveInstance(const Instance& instance) override {
    if (before_save) before_save();
    if (failure.ok()) instances[instance.id()] = instance;
    return failure;
  }
  absl::StatusOr<std::vector<std::string>> LoadOtherInstanceIds() override {
    std::set<std::string> ids;
    for (const auto& [key, job] : jobs) ids.insert(key.first);
    for (const auto& [key, info] : exports) ids.insert(key.first);
    for (const auto& [id, instance] : instances) ids.erase(id);
    return std::vector<std::string>(ids.begin(), ids.end());
  }
  absl::Status DeleteInstance(absl::string_view id) override {
    if (!failure.ok()) return failure;
    instances.erase(std::string(id));
    std::erase_if(jobs, [&](const auto& entry) { return entry.first.first == id; });
    std::erase_if(exports, [&](const auto& entry) { return entry.first.first == id; });
    return failure;
  }

  absl::StatusOr<std::vector<Job>> LoadJobs(absl::string_view instance) override {
    return Of(jobs, instance);
  }
  absl::Status SaveJob(const Job& job) override {
    if (failure.ok()) jobs[{job.instance(), job.id()}] = job;
    return failure;
  }
  absl::Status DeleteJob(absl::string_view instance, absl::string_view id) override {
    if (failure.ok()) jobs.erase({std::string(instance), std::string(id)});
    return failure;
  }

  absl::StatusOr<std::vector<Export>> LoadExports(absl::string_view instance) override {
    return Of(exports, instance);
  }
  absl::Status SaveExport(absl::string_view instance, const Export& info) override {
    if (failure.ok()) exports[{std::string(instance), info.id()}] = info;
    return failure;
  }
  absl::Status DeleteExport(absl::string_view instance, absl::string_view id) override {
    if (failure.ok()) exports.erase({std::string(instance), std::string(id)});
    return failure;
  }

  std::map<std::string, Instance> instances;
  std::map<Key, Job> jobs;
  std::map<Key, Export> exports;
  // What an instance waits for before it is saved, if anything.
  std::function<void()> before_save;
  // What every change is answered.
  absl::Status failure;

 private:
  template <typename Body>
  static std::vector<Body> Of(const std::map<Key, Body>& all, absl::string_view instance) {
    std::vector<Body> found;
    for (const auto& [key, body] : all) {
      if (key.first == instance) found.push_back(body);
    }
    return found;
  }
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_TESTING_MEMORY_STORE_H_
