#include "engine/native/shutdown.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/error.h"

namespace tidemark::native {
namespace {

void Tell(const std::string& text) { std::fprintf(stderr, "tidemark: %s\n", text.c_str()); }

// Runs `function` on the engine thread; also when commands are given up.
void OnEngine(Engine& engine, absl::FunctionRef<void()> function) {
  Notification done;
  engine.threads.engine().Post([&] {
    function();
    done.Notify();
  });
  done.Wait();
}

}  // namespace

bool Shutdown::Run() {
  bool ended = EndJobsAndCommands();
  // Clients first, then the disks that they used.
  ended &= EndExports();
  ended &= CloseParts();
  // Of queries: what hangs has hung for a while.
  const auto looked = std::make_shared<Notification>();
  OnEngine(engine_, [&] { engine_.disk_look.WhenIdle([looked] { looked->Notify(); }); });
  if (ended && looked->WaitFor(patience_)) return true;
  GiveUp(/*exports_end=*/false);
  // The last thing that the engine thread does: nobody hears of what happens later.
  engine_.threads.engine().Post([] {
    Notification never;
    never.Wait();
  });
  return false;
}

void Shutdown::GiveUp(bool exports_end) {
  OnEngine(engine_, [&] {
    if (exports_end) {
      engine_.threads.GiveUpCommands();
    } else {
      engine_.threads.GiveUpAll();
    }
    engine_.commands.Stop(Error(Reason::kShuttingDown,
                                "the engine was shut down while the command was waiting for a "
                                "disk: it may have been carried out or not"));
    engine_.disk_look.FinishAll();
  });
}

bool Shutdown::EndJobsAndCommands() {
  // Shared: what is given up notifies later, or never.
  const auto jobs = std::make_shared<Notification>();
  const auto idle = std::make_shared<Notification>();
  OnEngine(engine_, [&] {
    engine_.commands.RefuseWaiting(
        Error(Reason::kShuttingDown, "the engine is shutting down and takes no more commands"));
    engine_.scheduler.CancelAll([engine = &engine_, jobs, idle] {
      jobs->Notify();
      engine->commands.WhenIdle([idle] { idle->Notify(); });
    });
  });
  if (idle->WaitFor(patience_)) return true;
  Tell(jobs->WaitFor(absl::ZeroDuration()) ? "gave up waiting for commands that hang"
                                           : "gave up waiting for jobs that do not end");
  GiveUp(/*exports_end=*/true);
  return false;
}

bool Shutdown::EndExports() {
  const auto done = std::make_shared<Notification>();
  engine_.threads.commands().Post([engine = &engine_, done] {
    const Threads::ShutdownScope scope;
    engine->exports.StopServer().IgnoreError();  // It may not be running.
    done->Notify();
  });
  if (done->WaitFor(patience_)) return true;
  Tell("gave up waiting for clients of the NBD server whose requests hang");
  GiveUp(/*exports_end=*/false);
  return false;
}

std::vector<std::shared_ptr<Shutdown::Part>> Shutdown::FindParts(Engine& engine) {
  std::vector<std::shared_ptr<Part>> parts;
  absl::flat_hash_set<const graph::Node*> seen;
  for (const graph::Node* node : engine.graph.ListAll()) {
    if (seen.contains(node)) continue;
    auto part = std::make_shared<Part>();
    for (const graph::Node* member : engine.graph.PartOf(node)) {
      seen.insert(member);
      part->node_names.push_back(member->name());
      for (const graph::Edge* edge : member->parents()) {
        const bool writes = (edge->permissions().used & storage::kPermissionWrite) != 0;
        if (edge->parent() == nullptr && !edge->gated() && writes) part->writer = edge->User();
      }
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

void Shutdown::ClosePart(Engine& engine, Part* part) {
  std::vector<std::shared_ptr<graph::Port>> ports;
  OnEngine(engine, [&] {
    std::vector<graph::Node*> nodes;
    for (const std::string& name : part->node_names) {
      const absl::StatusOr<graph::Node*> node = engine.graph.Find(name);
      if (node.ok()) nodes.push_back(*node);
    }
    ports = engine.graph.PortsAbove(nodes);
  });
  // For good: nothing of guests is in flight, and nothing comes.
  for (const auto& port : ports) port->Close();
  OnEngine(engine, [&] { part->nodes = engine.graph.TakePart(part->node_names); });
  part->status = part->nodes.Close();
  if (!part->status.ok()) {
    Tell(absl::StrCat("closing the images: ", std::string(part->status.message())));
  }
  OnEngine(engine, [&] { engine.graph.Unlink(&part->nodes); });
  part->closed.Notify();
}

bool Shutdown::CloseParts() {
  std::vector<std::shared_ptr<Part>> parts;
  OnEngine(engine_, [&] { parts = FindParts(engine_); });
  bool all = true;
  std::vector<std::shared_ptr<Part>> closing;
  for (const auto& part : parts) {
    if (!part->writer.empty()) {
      all = false;
      Tell(absl::StrCat("not closed, as ", part->writer,
                        " hangs in it: ", absl::StrJoin(part->node_names, ", ")));
      continue;
    }
    closing.push_back(part);
    engine_.threads.commands().Post([engine = &engine_, part] { ClosePart(*engine, part.get()); });
  }
  const absl::Duration end = SystemClock().Elapsed() + patience_;
  for (const auto& part : closing) {
    if (part->closed.WaitFor(std::max(end - SystemClock().Elapsed(), absl::ZeroDuration()))) {
      has_lost_ |= !part->status.ok();
      continue;
    }
    all = false;
    Tell(absl::StrCat(
        "gave up closing, as the disk does not answer: ", absl::StrJoin(part->node_names, ", "),
        "; what was not written back is lost, and bitmaps stay marked as in use"));
  }
  return all;
}

}  // namespace tidemark::native
