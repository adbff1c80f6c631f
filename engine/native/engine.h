// What the native engine is made of: the parts that its commands share.
#ifndef ENGINE_NATIVE_ENGINE_H_
#define ENGINE_NATIVE_ENGINE_H_

#include "engine/backend/event_log.h"
#include "engine/base/clock.h"
#include "engine/base/path_policy.h"
#include "engine/graph/graph.h"
#include "engine/job/scheduler.h"
#include "engine/native/exports.h"
#include "engine/native/job_events.h"
#include "engine/native/opener.h"
#include "engine/native/threads.h"

namespace tidemark::native {

// Each part says its own thread. Made and destroyed by NativeBackend, whose threads outlive it.
struct Engine {
  Engine(Threads* its_threads, backend::EventLog* its_log, Clock* its_clock, PathPolicy its_policy)
      : threads(*its_threads),
        log(*its_log),
        clock(*its_clock),
        policy(std::move(its_policy)),
        job_events(its_log, its_clock),
        scheduler(&threads.engine(), &threads.workers(), &threads.commands(), its_clock,
                  &job_events),
        opener(its_threads, &graph, &policy),
        exports(its_threads, &graph, its_log) {}

  Threads& threads;
  backend::EventLog& log;
  Clock& clock;
  const PathPolicy policy;
  graph::Graph graph;
  JobEvents job_events;
  job::Scheduler scheduler;
  Opener opener;
  Exports exports;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_ENGINE_H_
