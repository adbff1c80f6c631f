// What the native engine is made of: the parts that its commands share.
#ifndef ENGINE_NATIVE_ENGINE_H_
#define ENGINE_NATIVE_ENGINE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/event_log.h"
#include "engine/base/clock.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/path_policy.h"
#include "engine/graph/graph.h"
#include "engine/job/scheduler.h"
#include "engine/native/budgets.h"
#include "engine/native/command_keys.h"
#include "engine/native/command_queue.h"
#include "engine/native/disk_look.h"
#include "engine/native/exports.h"
#include "engine/native/format_choice.h"
#include "engine/native/graph_world.h"
#include "engine/native/jobs/job_events.h"
#include "engine/native/open_files.h"
#include "engine/native/opener.h"
#include "engine/native/threads.h"
#include "engine/storage/file.h"

namespace tidemark::native {

// Each part says its own thread. Made and destroyed by NativeBackend, whose threads outlive it.
struct Engine {
  Engine(Threads* its_threads, backend::EventLog* its_log, Clock* its_clock, PathPolicy its_policy,
         LookupPool* lookups, std::shared_ptr<storage::FileSystem> its_files,
         ProbeRules probe_rules, uint64_t memory_bytes)
      : budgets(memory_bytes),
        threads(*its_threads),
        log(*its_log),
        clock(*its_clock),
        policy(std::move(its_policy)),
        files(std::move(its_files)),
        exports(its_threads, &graph, its_log),
        world(&graph, &exports, policy.RootNames()),
        commands(its_threads, &world),
        job_events(its_log, its_clock),
        scheduler(
            &threads.engine(), &threads.workers(),
            [this](const std::vector<std::string>& job_ids, Task task) {
              commands.Add(KeysOfNodes(job_events.NodesOf(job_ids)), std::move(task));
            },
            its_clock, &job_events),
        opener(its_threads, &graph, &policy, lookups, files.get(), &open_files, probe_rules),
        disk_look(its_threads, policy.RootNames()),
        hashes(threads.MakeDiskShare()) {}

  // First: whatever has borrowed from them is destroyed before.
  Budgets budgets;
  Threads& threads;
  backend::EventLog& log;
  Clock& clock;
  const PathPolicy policy;
  const std::shared_ptr<storage::FileSystem> files;
  OpenFiles open_files;
  graph::Graph graph;
  Exports exports;
  GraphWorld world;
  CommandQueue commands;
  JobEvents job_events;
  job::Scheduler scheduler;
  Opener opener;
  DiskLook disk_look;
  // What clients have computed of large bitmaps: a share of threads for all of it.
  const std::unique_ptr<Executor> hashes;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_ENGINE_H_
