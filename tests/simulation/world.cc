#include "tests/simulation/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "tests/simulation/guest.h"
#include "tests/simulation/meddler.h"
#include "tests/simulation/offline.h"
#include "tests/simulation/operator.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::simulation {
namespace {

using namespace block::v1;  // NOLINT: about messages.

// A job that has not ended when nothing has hindered it for so long never will.
constexpr absl::Duration kEndMax = absl::Hours(2);
// How often a job that stops at errors is resumed when there should be none.
constexpr int kResumesMax = 20;
// By so much are disks larger to which nobody writes, and so many writes have made what they hold.
constexpr uint64_t kQuietBytes = 24 * 65536;
constexpr uint64_t kQuietWrites = 100;

storage::ConstBytes Bytes(const std::string& data) {
  return {reinterpret_cast<const std::byte*>(data.data()), data.size()};
}

}  // namespace

World::World(const WorldOptions& options, Fibers* fibers,
             std::function<void(const std::string&)> part, WorldCounts* counts)
    : options_(options),
      part_(std::move(part)),
      counts_(*counts),
      fibers_(*fibers),
      machine_(fibers, options.seed) {
  machine_.set_tells(options.tells);
}

World::~World() = default;

bool World::Has(const std::string& part) {
  if (options_.without.contains(part)) return false;
  part_(part);
  return true;
}

void World::ReadEvents() {
  // Others may come by while the log is read.
  MutexLock lock(&reading_mutex_);
  const std::string wrong = ledger_.Add(machine_.ReadEvents(&events_read_));
  if (!wrong.empty()) Fail(wrong);
  counts_.errors += ledger_.TakeNewErrors();
}

void World::AwaitEvents() { machine_.AwaitEvents(events_read_); }

void World::MakeDisks() {
  Chance chance(seed(), "disks");
  const uint64_t count = 1 + (chance.OneIn(3) ? 1 : 0);
  for (uint64_t i = 0; i < count; ++i) {
    auto disk = std::make_unique<VirtualDisk>();
    disk->node = absl::StrCat("disk", i);
    disk->path = absl::StrCat("/disks/", disk->node);
    disk->driver = chance.OneIn(4) ? "raw" : "qcow2";
    NewImage image;
    image.driver = disk->driver;
    image.size_bytes = chance.Between(4, 24) * 65536;
    // Not all of it whole clusters.
    if (chance.OneIn(3)) image.size_bytes -= chance.Between(1, 127) * kSectorBytes;
    image.cluster_bytes = chance.Of<uint64_t>({512, 1024, 4096, 16384, 65536, 65536, 131072});
    image.refcount_bits = chance.Of<uint32_t>({1, 8, 16, 16, 64});
    disk->quiet = chance.OneIn(6);
    // How fast a backup is can be told where there is something to copy.
    if (disk->quiet) image.size_bytes += kQuietBytes;
    const uint64_t writes = disk->quiet ? kQuietWrites : chance.Below(6);
    disk->model = DiskModel(image.size_bytes);
    if (disk->driver == "qcow2" && (disk->quiet || chance.OneIn(3))) {
      image.backing = absl::StrCat("/bases/", i);
      image.backing_driver = "raw";
      MakeBase(chance, image.backing, writes, &disk->model);
    }
    if (chance.OneIn(2)) disk->file_node = absl::StrCat("file", i);
    disk->backing = image.backing;
    if (disk->driver == "raw" && disk->quiet) {
      MakeBase(chance, disk->path, writes, &disk->model);
    } else {
      MakeImage(machine_.disks(), disk->path, image);
    }
    disks_.push_back(std::move(disk));
  }
}

void World::MakeBase(Chance& chance, const std::string& path, uint64_t writes, DiskModel* model) {
  storage::MemoryStorage base(model->size_bytes());
  for (; writes > 0; --writes) {
    const uint64_t offset = chance.Below(model->size_bytes() / kSectorBytes) * kSectorBytes;
    const Range range{offset, std::min<uint64_t>(chance.Between(1, 256) * kSectorBytes,
                                                 model->size_bytes() - offset)};
    const int request = model->Begin(DiskModel::Kind::kWrite, range, machine_.now());
    model->End(request, true, machine_.now());
    CHECK(base.Write(offset, Bytes(model->DataOf(request)), {}).ok());
  }
  machine_.disks().Put(path, base);
  model->Restart(Bytes(base.Contents()));
}

void World::PlanFaults() {
  Chance count(seed(), "faults");
  const uint64_t faults = count.OneIn(3) ? 0 : count.Between(1, 4);
  for (uint64_t i = 0; i < faults; ++i) {
    Chance chance(seed(), "fault", i);
    using storage::Verb;
    Fault fault;
    fault.kind = static_cast<Fault::Kind>(chance.Below(5));
    if (chance.OneIn(2)) {
      fault.verb = chance.Of(
          {Verb::kRead, Verb::kWrite, Verb::kWrite, Verb::kWriteZeroes, Verb::kFlush, Verb::kMap});
    }
    fault.file = chance.Of<const char*>({"/disks/", "/targets/", "/targets/", "/"});
    fault.pass_count = chance.Below(chance.OneIn(2) ? 40 : 400);
    fault.lasting = chance.OneIn(2);
    // What hangs for ever does so once.
    if (fault.kind == Fault::Kind::kSlow || fault.kind == Fault::Kind::kHung) fault.lasting = false;
    if (!Has(absl::StrCat("fault", i))) continue;
    machine_.Say(absl::StrCat("fault", i, ": ", fault.ToString()));
    machine_.disks().AddFault(std::move(fault));
  }
  if (count.OneIn(3) && Has("power")) {
    machine_.disks().set_power_off_at(machine_.disks().request_count() + count.Below(2000));
  }
}

absl::Status World::AddNode(const VirtualDisk& disk) {
  BlockdevAddRequest request;
  BlockdevOptions& options = *request.mutable_options();
  options.set_node_name(disk.node);
  BlockdevRef* file = disk.driver == "qcow2" ? options.mutable_qcow2()->mutable_file()
                                             : options.mutable_raw()->mutable_file();
  options.set_discard(BLOCKDEV_DISCARD_OPTIONS_UNMAP);
  if (disk.file_node.empty()) {
    file->mutable_definition()->mutable_file()->set_filename(disk.path);
  } else {
    BlockdevAddRequest below;
    below.mutable_options()->set_node_name(disk.file_node);
    below.mutable_options()->set_discard(BLOCKDEV_DISCARD_OPTIONS_UNMAP);
    below.mutable_options()->mutable_file()->set_filename(disk.path);
    RETURN_IF_ERROR(machine_.Call<BlockdevAddResponse>(below).status());
    file->set_reference(disk.file_node);
  }
  return machine_.Call<BlockdevAddResponse>(request).status();
}

void World::AddNodes() {
  for (const auto& disk : disks_) {
    const absl::Status status = AddNode(*disk);
    if (!status.ok()) Fail(absl::StrCat(disk->node, " cannot be opened: ", status.ToString()));
  }
}

void World::Turbulence() {
  std::vector<Thread> threads;
  for (size_t i = 0; i < disks_.size(); ++i) {
    VirtualDisk* const disk = disks_[i].get();
    operators_.push_back(std::make_unique<Operator>(this, disk, i));
    threads.emplace_back(absl::StrCat("operator", i),
                         [owner = operators_.back().get()] { owner->Run(); });
    const uint64_t guests = disk->quiet ? 0 : Chance(seed(), "guests", i).Between(1, 3);
    for (uint64_t j = 0; j < guests; ++j) {
      const std::string name = absl::StrCat("guest", i, ".", j);
      if (!Has(name)) continue;
      threads.emplace_back(name, [this, disk, name] { RunGuest(this, disk, name); });
    }
  }
  if (Has("meddling")) {
    threads.emplace_back("meddler", [this] { RunMeddler(this); });
  }
  // What hangs goes on after a while, so that all of these end.
  bool over = false;
  Thread healer("healer", [&] {
    for (int i = 0; i < 100 && !over; ++i) Rest(absl::Seconds(1));
    machine_.disks().LiftFaults();
  });
  for (Thread& thread : threads) thread.Join();
  over = true;
  healer.Join();
}

void World::Rest(absl::Duration time) { fibers_.Sleep(&fibers_, time); }

void World::AwaitEnd(const std::string& job) {
  const absl::Duration begin = SystemClock().Elapsed();
  int resumes = 0;
  for (;;) {
    ReadEvents();
    const Ledger::Job* const told = ledger_.Find(job);
    if (told != nullptr && told->concluded()) return;
    if (dark()) return;
    if (SystemClock().Elapsed() - begin > kEndMax) {
      Fail(absl::StrCat("job ", job, " does not end; it is ",
                        told == nullptr ? "unknown" : JobStatus_Name(told->status)));
    }
    if (told != nullptr && told->status == JOB_STATUS_PAUSED && ++resumes > kResumesMax) {
      // A file that could not be flushed once stays so.
      if (!machine_.disks().FlushFailed("/")) {
        Fail(absl::StrCat("job ", job, " does not go on, though its disks are well"));
      }
      BlockJobCancelRequest cancel;
      cancel.set_device(job);
      cancel.set_force(true);
      (void)machine_.Call<BlockJobCancelResponse>(cancel);
    } else if (told != nullptr && told->status == JOB_STATUS_PAUSED) {
      JobResumeRequest resume;
      resume.set_id(job);
      (void)machine_.Call<JobResumeResponse>(resume);
    }
    if (told != nullptr && told->status == JOB_STATUS_PENDING) {
      JobFinalizeRequest finalize;
      finalize.set_id(job);
      (void)machine_.Call<JobFinalizeResponse>(finalize);
    }
    AwaitEvents();
  }
}

void World::FinishJobs() {
  ReadEvents();
  std::vector<std::string> ids;
  for (const auto& [id, job] : ledger_.jobs()) ids.push_back(id);
  for (const std::string& id : ids) {
    if (ledger_.Find(id)->gone()) continue;
    ledger_.NoteSpeedChange(id);
    BlockJobSetSpeedRequest speed;
    speed.set_device(id);
    speed.set_speed(0);
    (void)machine_.Call<BlockJobSetSpeedResponse>(speed);
    const bool had_ended = ledger_.Find(id)->concluded();
    AwaitEnd(id);
    if (dark()) return;
    const Ledger::Job& told = *ledger_.Find(id);
    if (!had_ended && told.completed && !told.error.empty() && !machine_.disks().FlushFailed("/")) {
      Fail(absl::StrCat("job ", id, " ended by an error from before: ", told.error));
    }
    if (told.gone()) continue;
    JobDismissRequest dismiss;
    dismiss.set_id(id);
    const absl::Status status = machine_.Call<JobDismissResponse>(dismiss).status();
    ReadEvents();
    if (!ledger_.Find(id)->gone() && !dark()) {
      Fail(absl::StrCat("job ", id, " cannot be dismissed: ", status.ToString()));
    }
  }
}

std::string World::ReadAll(VirtualDisk& disk) {
  const NodeUser reader(this, disk.node, "the last look", /*writes=*/false);
  std::string data(disk.model.size_bytes(), '\0');
  if (reader.port() == nullptr) return "";
  const absl::Status status = reader.port()->Read(
      0, storage::Bytes(reinterpret_cast<std::byte*>(data.data()), data.size()));
  if (!status.ok()) Fail(absl::StrCat(disk.node, " cannot be read: ", status.ToString()));
  return data;
}

void World::CheckImage(const VirtualDisk& disk) {
  if (disk.driver != "qcow2") return;
  const std::string wrong = CheckQcow2(machine_.disks(), disk.path);
  if (!wrong.empty()) Fail(wrong);
}

void World::AfterPowerLoss() {
  machine_.Say("the power is back");
  machine_.disks().PowerOn();
  const Moment now = machine_.now();
  for (const auto& disk : disks_) CheckImage(*disk);
  machine_.Start();
  AddNodes();
  for (const auto& disk : disks_) {
    const std::string data = ReadAll(*disk);
    const std::string wrong = disk->model.JudgeCrash(Bytes(data), now);
    if (!wrong.empty()) Fail(absl::StrCat(disk->node, ": ", wrong));
    JudgeBitmapsAfterPowerLoss(*disk);
    disk->model.Restart(Bytes(data));
    disk->bitmaps.clear();
  }
  machine_.Stop();
}

void World::JudgeBitmapsAfterPowerLoss(const VirtualDisk& disk) {
  machine_.OnEngine([&] {
    graph::Node* const node = machine_.engine().graph.Find(disk.node).value();
    for (const auto& [name, model] : disk.bitmaps) {
      const auto bitmap = node->bitmaps().Find(name);
      // It was not stored yet, or is known not to be true.
      if (!bitmap.ok() || (*bitmap)->inconsistent()) continue;
      const std::vector<bool> marked = model.Marked(disk.model);
      for (size_t s = 0; s < marked.size(); ++s) {
        if (!marked[s] || (*bitmap)->bits()->IsDirty(s * kSectorBytes)) continue;
        Fail(absl::StrCat("bitmap ", name, " of ", disk.node,
                          " is said to be true after a loss of ",
                          "power, and does not say that sector ", s, " was changed"));
      }
    }
  });
}

void World::JudgeStoredBitmaps(const VirtualDisk& disk) {
  machine_.OnEngine([&] {
    graph::Node* const node = machine_.engine().graph.Find(disk.node).value();
    for (const auto& [name, model] : disk.bitmaps) {
      if (!model.persistent) continue;
      const auto bitmap = node->bitmaps().Find(name);
      if (!bitmap.ok()) Fail(absl::StrCat("bitmap ", name, " was not stored"));
      if ((*bitmap)->inconsistent()) Fail(absl::StrCat("bitmap ", name, " is inconsistent"));
      const std::vector<bool> marked = model.Marked(disk.model);
      for (size_t s = 0; s < marked.size(); ++s) {
        if (!marked[s] || (*bitmap)->bits()->IsDirty(s * kSectorBytes)) continue;
        Fail(absl::StrCat("bitmap ", name, " of ", disk.node,
                          " opened again does not say that sector ", s, " was changed"));
      }
    }
  });
}

void World::CloseAndLookAgain() {
  machine_.Stop();
  for (const auto& disk : disks_) CheckImage(*disk);
  machine_.Start();
  events_read_ = 0;
  AddNodes();
  for (const auto& disk : disks_) {
    const std::string data = ReadAll(*disk);
    const Moment now = machine_.now();
    // A file that could not be flushed was not closed well: it is as after a loss of power.
    const bool well = !machine_.disks().FlushFailed(disk->path);
    const std::string wrong = well ? disk->model.JudgeRead(0, Bytes(data), now, now)
                                   : disk->model.JudgeCrash(Bytes(data), now);
    if (!wrong.empty()) Fail(absl::StrCat(disk->node, " opened again: ", wrong));
    if (!well) {
      JudgeBitmapsAfterPowerLoss(*disk);
      continue;
    }
    JudgeStoredBitmaps(*disk);
  }
  machine_.Stop();
}

void World::Run() {
  MakeDisks();
  machine_.Start();
  AddNodes();
  PlanFaults();
  Turbulence();
  calm_ = true;
  machine_.Say("all is calm");
  machine_.disks().LiftFaults();
  // What failed before is told by now.
  Rest(absl::Minutes(1));
  if (!dark()) {
    ReadEvents();
    for (const auto& owner : operators_) owner->JudgeTold();
    const uint64_t errors = counts_.errors;
    FinishJobs();
    if (counts_.errors != errors && !machine_.disks().FlushFailed("/") && !dark()) {
      Fail("a job that was resumed was stopped again, by an error from before");
    }
  }
  if (!dark()) {
    for (const auto& owner : operators_) owner->JudgeWhatIsLeft();
  }
  machine_.disks().set_power_off_at(0);
  if (machine_.calls_open() != 0) Fail("a request was not answered");
  counts_.requests += machine_.disks().request_count();
  counts_.calls += machine_.calls_answered();
  if (dark()) {
    ++counts_.power_losses;
    machine_.Stop();
    AfterPowerLoss();
  } else {
    CloseAndLookAgain();
  }
}

void RunWorld(const WorldOptions& options, std::function<void(const std::string&)> part,
              WorldCounts* counts) {
  Fibers::Options fiber_options;
  fiber_options.seed = options.seed;
  Chance chance(options.seed, "world");
  if (!options.without.contains("switches")) {
    fiber_options.switch_one_in = chance.Of<uint64_t>({2, 5, 20, 100});
    part("switches");
  }
  fiber_options.traces = options.tells;
  Fibers fibers(fiber_options);
  const bool ended = fibers.Run([&] { World(options, &fibers, part, counts).Run(); });
  if (!ended) Fail(fibers.stuck());
  counts->turns += fibers.turns();
}

}  // namespace tidemark::simulation
