#include "tests/simulation/meddler.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "tests/simulation/chance.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::simulation {
namespace {

using namespace block::v1;  // NOLINT: about messages.

// What the engine tells of itself it tells at once, whatever disks do.
constexpr absl::Duration kQueriesMax = absl::Seconds(2);

void MeddleWith(World& world, const std::string& id, Chance& chance) {
  Machine& machine = world.machine();
  switch (chance.Below(8)) {
    case 0:
    case 1: {
      JobPauseRequest request;
      request.set_id(id);
      (void)machine.Call<JobPauseResponse>(request);
      return;
    }
    case 2:
    case 3: {
      JobResumeRequest request;
      request.set_id(id);
      (void)machine.Call<JobResumeResponse>(request);
      return;
    }
    case 4: {
      BlockJobCancelRequest request;
      request.set_device(id);
      request.set_force(chance.OneIn(2));
      (void)machine.Call<BlockJobCancelResponse>(request);
      return;
    }
    case 5: {
      BlockJobSetSpeedRequest request;
      world.ledger().NoteSpeedChange(id);
      request.set_device(id);
      request.set_speed(chance.OneIn(2) ? 0 : chance.Between(1, 256) << 14);
      (void)machine.Call<BlockJobSetSpeedResponse>(request);
      return;
    }
    case 6: {
      JobFinalizeRequest request;
      request.set_id(id);
      (void)machine.Call<JobFinalizeResponse>(request);
      return;
    }
    default: {
      JobDismissRequest request;
      request.set_id(id);
      (void)machine.Call<JobDismissResponse>(request);
      return;
    }
  }
}

}  // namespace

void RunMeddler(World* world) {
  const uint64_t count = 5 + Chance(world->seed(), "meddling").Below(25);
  for (uint64_t i = 0; i < count && !world->calm() && !world->dark(); ++i) {
    Chance chance(world->seed(), "meddling", i + 1);
    world->Rest(absl::Microseconds(chance.Below(chance.OneIn(4) ? 3'000'000 : 30'000)));
    if (!world->Has(absl::StrCat("meddling", i))) continue;
    if (chance.OneIn(6)) {
      const absl::Duration begin = SystemClock().Elapsed();
      (void)world->machine().Call<QueryNamedBlockNodesResponse>(QueryNamedBlockNodesRequest());
      (void)world->machine().Call<QueryBlockJobsResponse>(QueryBlockJobsRequest());
      const absl::Duration took = SystemClock().Elapsed() - begin;
      if (took > kQueriesMax) {
        Fail(absl::StrCat("queries took ", absl::FormatDuration(took), ": they wait for no disk"));
      }
      continue;
    }
    world->ReadEvents();
    std::vector<std::string> ids;
    for (const auto& [id, job] : world->ledger().jobs()) {
      if (!job.gone()) ids.push_back(id);
    }
    if (!ids.empty()) MeddleWith(*world, ids[chance.Below(ids.size())], chance);
  }
}

}  // namespace tidemark::simulation
