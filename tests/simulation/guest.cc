#include "tests/simulation/guest.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/copy/limits.h"
#include "engine/native/command_keys.h"
#include "tests/simulation/chance.h"

namespace tidemark::simulation {
namespace {

// How long a guest's request may take when all disks are well: many requests to a disk that are all
// late, and copies that read and save meanwhile.
constexpr absl::Duration kRequestMax = absl::Seconds(5);

storage::ConstBytes Bytes(const std::string& data) {
  return {reinterpret_cast<const std::byte*>(data.data()), data.size()};
}

// Somewhere on the disk, in whole sectors. Guests like the same few places.
Range Somewhere(Chance& chance, uint64_t size_bytes) {
  const uint64_t sectors = size_bytes / kSectorBytes;
  uint64_t length = 1 + chance.Below(8);
  if (chance.OneIn(3)) length = 1 + chance.Below(256);
  if (chance.OneIn(10)) length = 1 + chance.Below(sectors);
  uint64_t offset = chance.Below(sectors);
  if (chance.OneIn(2)) offset = offset / 128 * 128;
  if (chance.OneIn(3)) offset = offset % std::max<uint64_t>(sectors / 8, 1);
  length = std::min(length, sectors - offset);
  return {offset * kSectorBytes, length * kSectorBytes};
}

class Guest {
 public:
  Guest(World* world, VirtualDisk* disk, const std::string& name, storage::Storage* port,
        uint64_t number)
      : world_(*world),
        disk_(*disk),
        name_(name),
        port_(*port),
        chance_(world->seed(), name, number) {}

  void DoSomething() {
    const absl::Duration begin = SystemClock().Elapsed();
    const auto place = disk_.under_way.insert(FileChangeCount());
    Request();
    disk_.under_way.erase(place);
    JudgeDelay(SystemClock().Elapsed() - begin);
  }

 private:
  // The guest's own disk may take what time it likes. A target that stands still may hold it once,
  // until its copy is given up; each fault makes but one of them stand still.
  void JudgeDelay(absl::Duration took) {
    const Disks& disks = world_.machine().disks();
    for (const std::string& path : {disk_.path, disk_.backing}) {
      if (path.empty()) continue;
      for (const Disks::Hit& hit : disks.HitsOf(path)) {
        // But what a copy asks of a raw disk, which has no tables that all wait for.
        if (disk_.driver != "raw" || hit.by != "td-disk") return;
      }
    }
    absl::Duration most = kRequestMax;
    for (const Disks::Hit& hit : disks.HitsOf("/targets/")) {
      if (hit.stood_still()) most += copy::kGuestStallMax;
    }
    if (took <= most) return;
    Fail(absl::StrCat(name_, " of ", disk_.node, " was held for ", absl::FormatDuration(took),
                      " by what is not its disk"));
  }

  void Request() {
    const Range range = Somewhere(chance_, disk_.model.size_bytes());
    switch (chance_.Below(12)) {
      case 0:
      case 1:
        return Flush();
      case 2:
      case 3:
      case 4:
        return Read(range);
      case 5:
        return Change(DiskModel::Kind::kZero, range);
      case 6:
        return Change(DiskModel::Kind::kDiscard, range);
      default:
        return Change(DiskModel::Kind::kWrite, range);
    }
  }

  // Of the disk's file, while somebody wants to know.
  size_t FileChangeCount() {
    if (disk_.file_bitmaps.empty()) return 0;
    return world_.machine().disks().Watch(disk_.path).size();
  }

  void Read(Range range) {
    std::vector<std::byte> data(range.length_bytes);
    const Moment from = world_.machine().now();
    const absl::Status status =
        port_.Read(range.offset_bytes, storage::Bytes(data.data(), data.size()));
    const Moment to = world_.machine().now();
    if (!status.ok()) return;
    const std::string wrong = disk_.model.JudgeRead(range.offset_bytes, data, from, to);
    if (!wrong.empty()) Fail(absl::StrCat(name_, " of ", disk_.node, ": ", wrong));
  }

  void Change(DiskModel::Kind kind, Range range) {
    const int request = disk_.model.Begin(kind, range, world_.machine().now());
    absl::Status status;
    switch (kind) {
      case DiskModel::Kind::kWrite: {
        const std::string data = disk_.model.DataOf(request);
        status = port_.Write(range.offset_bytes, Bytes(data), {});
        break;
      }
      case DiskModel::Kind::kZero:
        status = port_.WriteZeroes(range, {.may_unmap = chance_.OneIn(2)});
        break;
      case DiskModel::Kind::kDiscard:
        status = port_.Discard(range);
        break;
    }
    disk_.model.End(request, status.ok(), world_.machine().now());
    world_.machine().Say(absl::StrCat("request ", request, " of ", range.offset_bytes, "+",
                                      range.length_bytes, " ",
                                      status.ok() ? "OK" : std::string(status.message())));
  }

  void Flush() {
    const Moment from = world_.machine().now();
    if (port_.Flush().ok()) disk_.model.NoteFlush(from);
  }

  World& world_;
  VirtualDisk& disk_;
  const std::string name_;
  storage::Storage& port_;
  Chance chance_;
};

}  // namespace

NodeUser::NodeUser(World* world, const std::string& node, const std::string& user, bool writes)
    : world_(*world) {
  graph::Permissions permissions{.used = storage::kPermissionConsistentRead,
                                 .shared = storage::kPermissionAll};
  if (writes) permissions.used = permissions.used | storage::kPermissionWrite;
  native::Engine& engine = world_.machine().engine();
  graph::Graph& graph = engine.graph;
  absl::StatusOr<graph::Edge*> edge = absl::UnknownError("nothing has run");
  // In its turn, as any command: not between the steps of another.
  engine.commands.RunAndWait(native::KeysOfNodes({node}), [&] {
    edge = engine.threads.OnEngine([&]() -> absl::StatusOr<graph::Edge*> {
      const absl::StatusOr<graph::Node*> found = graph.Find(node);
      if (!found.ok()) return found.status();
      return graph.Attach(*found, {.user = user, .permissions = permissions});
    });
  });
  if (edge.ok()) {
    edge_ = *edge;
  } else if (!world_.dark()) {
    Fail(absl::StrCat(user, " cannot use ", node, ": ", edge.status().ToString()));
  }
}

NodeUser::~NodeUser() {
  if (edge_ == nullptr) return;
  world_.machine().OnEngine([this] { world_.machine().engine().graph.Detach(edge_); });
}

void RunGuest(World* world, VirtualDisk* disk, const std::string& name) {
  const NodeUser user(world, disk->node, name, /*writes=*/true);
  if (user.port() == nullptr) return;
  const uint64_t count = 10 + Chance(world->seed(), name).Below(40);
  for (uint64_t i = 0; i < count && !world->calm() && !world->dark(); ++i) {
    Guest(world, disk, name, user.port(), i + 1).DoSomething();
  }
}

}  // namespace tidemark::simulation
