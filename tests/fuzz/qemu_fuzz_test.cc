// No request that is right by its types ends a QEMU, or stops its monitor: requests of every method
// by chance, through the bridge, to storage daemons and system emulators of both versions.
//
// TIDEMARK_FUZZ_REQUESTS=N sends so many to each (1,000). Each round has a QEMU of its own;
// TIDEMARK_FUZZ_SEED=N plays that round alone. What QEMU does wrong by itself, and the bridge
// cannot know beforehand, is listed in kKnown: the round then goes on with another QEMU. Half of a
// round's requests go through all methods, one after the other and on into the next round, so that
// none is left out; the rest are by chance.
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "adapters/qmp/instances.h"
#include "adapters/qmp/transcoder.h"
#include "engine/backend/event_log.h"
#include "engine/backend/job_book.h"
#include "engine/backend/validate.h"
#include "engine/base/clock.h"
#include "engine/base/error.h"
#include "engine/base/executor.h"
#include "engine/base/notification.h"
#include "tests/fuzz/request_maker.h"
#include "tests/support/process.h"
#include "tests/support/qemu_build.h"
#include "tests/support/storage_daemon_process.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {
namespace {

namespace v1 = ::tidemark::block::v1;
using qmp::Json;

constexpr int kRequestsDefault = 1'000;
constexpr int kRequestsPerRound = 100;
constexpr int kInTurnPerRound = kRequestsPerRound / 2;
// Until one is right by its protos.
constexpr int kAttemptsMax = 1'000;
// So often may a round end in a way that is known.
constexpr int kKnownEndsMax = 3;
constexpr size_t kShownMax = 40;
// In place of a request: SIGTERM.
constexpr char kToldToEnd[] = "told to end";
// Behind it the connection is given up (limits.h).
constexpr absl::Duration kAnswerMax = absl::Seconds(60);
constexpr absl::Duration kEndMax = absl::Seconds(60);

// How a QEMU ended, or that it does not answer.
struct End {
  // As Process tells it: 128 and the signal. Absent: it has not ended.
  absl::optional<int> status;
  // What it said, and the last request.
  std::string said;
  std::string request;
};

constexpr int kAborted = 128 + SIGABRT;

// Ends of QEMU that are its own: all that is given must be so.
struct Known {
  absl::optional<int> status;
  // A part of what it said.
  const char* said;
  // How the last request begins, and a part of it.
  const char* command;
  const char* argument;
  const char* reason;

  bool Is(const End& end) const {
    return end.status == status && absl::StrContains(end.said, said) &&
           absl::StartsWith(end.request, command) && absl::StrContains(end.request, argument);
  }
};
constexpr Known kKnown[] = {
    {kAborted, "bdrv_close_all: Assertion `QTAILQ_EMPTY(&all_bdrv_states)' failed", kToldToEnd, "",
     "at its own end QEMU has lost count of a node; which request made it so is not known"},
    {absl::nullopt, "", "object-add ", R"("qom-type":"pr-manager-helper")",
     "QEMU waits for ever for the helper that its path leads to, if another program listens there"},
};

int Variable(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  int value;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

struct Program {
  std::string name;
  QemuBuild build;
  const char* program;
};

std::vector<Program> Programs() {
  std::vector<Program> programs;
  for (const QemuBuild& build : QemuBuild::All()) {
    programs.push_back({build.name() + "Daemon", build, "qemu-storage-daemon"});
    programs.push_back({build.name() + "System", build, "qemu-system-x86_64"});
    programs.push_back({build.name() + "Waiting", build, "qemu-system-x86_64"});
  }
  return programs;
}

// What every round begins with: a chain, raw nodes, a null one, bitmaps, a server, an object.
constexpr const char* kBeginning[][2] = {
    {"blockdev-add",
     R"({"node-name": "f0", "driver": "file", "filename": "%/a.qcow2", "discard": "unmap"})"},
    {"blockdev-add", R"({"node-name": "n0", "driver": "qcow2", "file": "f0"})"},
    {"blockdev-add", R"({"node-name": "n1", "driver": "qcow2", "backing": "n0",
                         "file": {"driver": "file", "filename": "%/b.qcow2"}})"},
    {"blockdev-add", R"({"node-name": "n2", "driver": "qcow2", "backing": null,
                         "file": {"driver": "file", "filename": "%/c.qcow2"}})"},
    {"blockdev-add", R"({"node-name": "f1", "driver": "file", "filename": "%/d.raw"})"},
    {"blockdev-add", R"({"node-name": "n3", "driver": "raw", "file": "f1"})"},
    {"blockdev-add", R"({"node-name": "n4", "driver": "null-co", "size": 8388608})"},
    {"block-dirty-bitmap-add", R"({"node": "n1", "name": "b0", "persistent": true})"},
    {"block-dirty-bitmap-add", R"({"node": "n3", "name": "b0"})"},
    {"nbd-server-start", R"({"addr": {"type": "unix", "data": {"path": "%/nbd.sock"}}})"},
    {"object-add", R"({"qom-type": "iothread", "id": "o0"})"},
    {"object-add", R"({"qom-type": "throttle-group", "id": "o1"})"},
    {"object-add", R"({"qom-type": "secret", "id": "o2", "data": "secret"})"},
};

class QemuFuzz : public ::testing::TestWithParam<Program> {
 protected:
  void SetUp() override {
    const std::string missing = GetParam().build.Missing(GetParam().program);
    if (!missing.empty()) GTEST_SKIP() << missing;
  }

  // Plays the round; what ended QEMU, if anything did that is not known.
  std::string Play(uint64_t seed);

  // Of those made for the round, how many were sent of each command; and over all.
  std::map<std::string, int> sent_;
  size_t command_count_ = 0;
  int refused_ = 0;
  int carried_out_ = 0;
};

// One QEMU and the bridge to it.
class Round {
 public:
  explicit Round(const Program& program) {
    for (const char* const image : {"a.qcow2", "b.qcow2", "c.qcow2"}) {
      RunTool({"qemu-img", "create", "-q", "-f", "qcow2", folder_.File(image), "8M"});
    }
    RunTool({"qemu-img", "bitmap", "--add", folder_.File("c.qcow2"), "kept"});
    for (const char* const image : {"d.raw", "e.raw"}) {
      RunTool({"qemu-img", "create", "-q", "-f", "raw", folder_.File(image), "8M"});
    }
    qemu_ = std::make_unique<Process>(CommandOf(program), folder_.File("log"));
    AwaitMonitor(socket_);
    qmp::InstancesOptions options;
    options.random = [] { return 0.5; };
    instances_ = std::make_unique<qmp::Instances>(
        std::move(options),
        qmp::BridgeContext{loop_, workers_, workers_, lookups_, log_, jobs_, nullptr, SystemClock(),
                           dialects_},
        books_);
    EXPECT_TRUE(instances_->Start().ok());
    v1::CreateInstanceRequest request;
    request.set_id("vm");
    request.mutable_address()->mutable_unix_socket()->set_path(socket_);
    Notification created;
    instances_->Create(request, [&](const auto&) { created.Notify(); });
    created.Wait();
    AwaitReady();
  }
  ~Round() { instances_->Shutdown(); }

  absl::Status Send(const backend::Command& command, const google::protobuf::Message& request) {
    const std::shared_ptr<google::protobuf::Message> response(command.response->New());
    auto status = std::make_shared<absl::Status>();
    auto done = std::make_shared<Notification>();
    const std::shared_ptr<google::protobuf::Message> kept(request.New());
    kept->CopyFrom(request);
    instances_->Find("vm")->Call(command, *kept, response.get(),
                                 [status, done, kept, response](absl::Status answer) {
                                   *status = std::move(answer);
                                   done->Notify();
                                 });
    if (!done->WaitFor(kAnswerMax)) return absl::DeadlineExceededError("no answer");
    return *status;
  }

  bool Has(const backend::Command& command) {
    const auto capabilities = instances_->Find("vm")->capabilities();
    return capabilities != nullptr && capabilities->commands.contains(command.qmp_name);
  }
  bool IsReady() const { return instances_->Get("vm")->state() == v1::INSTANCE_STATE_READY; }
  const std::string& folder() const { return folder_.path(); }
  Process& qemu() { return *qemu_; }

 private:
  std::vector<std::string> CommandOf(const Program& program) const {
    if (absl::EndsWith(program.name, "Daemon")) return StorageDaemonCommand(program.build, socket_);
    std::vector<std::string> command = program.build.Command(program.program);
    for (const char* const word :
         {"-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "tcg",
          "-m", "64", "-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-cd,id=cd0", "-drive",
          "if=none,id=drive0,node-name=n5,driver=null-co,size=8M"}) {
      command.emplace_back(word);
    }
    command.insert(command.end(), {"-qmp", absl::StrCat("unix:", socket_, ",server=on,wait=off")});
    if (absl::EndsWith(program.name, "Waiting")) {
      command.insert(command.end(), {"-incoming", "defer"});
    }
    return command;
  }
  void AwaitReady() {
    uint64_t seen = 0;
    while (!IsReady()) {
      auto woken = std::make_shared<Notification>();
      log_.WakeAfter(seen, [woken] { woken->Notify(); });
      if (IsReady()) break;
      ASSERT_TRUE(woken->WaitFor(absl::Minutes(1))) << qemu_->Log();
      seen = log_.position();
    }
  }

  const TempFolder folder_;
  const std::string socket_ = folder_.File("qmp.sock");
  std::unique_ptr<Process> qemu_;
  SerialExecutor books_{"books"};
  qmp::IoLoop loop_;
  WorkerPool workers_{"worker", 2};
  LookupPool lookups_{workers_};
  backend::EventLog log_{SystemClock(), workers_};
  backend::JobBook jobs_{log_};
  qmp::DialectCache dialects_;
  std::unique_ptr<qmp::Instances> instances_;
};

std::string Line(const backend::Command& command, const google::protobuf::Message& request) {
  return absl::StrCat(command.qmp_name, " ", qmp::ToJson(request).dump());
}

// One QEMU, from its beginning to its end, and what was said to it.
class Stretch {
 public:
  explicit Stretch(const Program& program) : round_(program) {
    for (const auto& [name, arguments] : kBeginning) {
      const backend::Command* const command = backend::CommandIndex::Get().ByQmpName(name);
      std::string text = arguments;
      for (size_t at; (at = text.find('%')) != text.npos;) text.replace(at, 1, round_.folder());
      const std::unique_ptr<google::protobuf::Message> request(command->request->New());
      EXPECT_TRUE(FromJson(Json::parse(text), qmp::Strictness::kRequest, request.get()).ok());
      const absl::Status status = Send(*command, *request);
      if (!absl::EndsWith(program.name, "Waiting")) {
        EXPECT_TRUE(status.ok()) << status;
      }
    }
  }

  absl::Status Send(const backend::Command& command, const google::protobuf::Message& request) {
    story_.push_back(Line(command, request));
    if (story_.size() > kShownMax) story_.pop_front();
    const absl::Status status = round_.Send(command, request);
    is_lost_ = absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status) || !round_.IsReady();
    if (is_lost_) end_ = EndNow(story_.back(), absl::Seconds(2));
    absl::StrAppend(&story_.back(), "  -> ", status.ok() ? "OK" : status.message());
    return status;
  }

  // It has ended, or does not answer.
  bool is_lost() const { return is_lost_; }
  // Ends it, if it has not ended; false if that went wrong.
  bool Finish() {
    if (is_lost_) return false;
    round_.qemu().Signal(SIGTERM);
    end_ = EndNow(kToldToEnd, kEndMax);
    return end_.status == 0;
  }
  // Why it is known that it ended so, or does not end; null if it is not.
  const char* WhyKnown() const {
    for (const Known& known : kKnown) {
      if (known.Is(end_)) return known.reason;
    }
    return nullptr;
  }
  std::string Tell() const {
    return absl::StrCat(end_.status.has_value() ? absl::StrCat("it ended with ", *end_.status)
                                                : "it does not answer, or end",
                        ", last: ", end_.request, "\nQEMU said: ", end_.said, "\n",
                        absl::StrJoin(story_, "\n"));
  }
  Round& round() { return round_; }

 private:
  End EndNow(std::string request, absl::Duration timeout) {
    const absl::optional<int> status = round_.qemu().Wait(timeout);
    return {status, round_.qemu().Log(), std::move(request)};
  }

  Round round_;
  std::deque<std::string> story_;
  bool is_lost_ = false;
  End end_;
};

std::string QemuFuzz::Play(uint64_t seed) {
  auto stretch = std::make_unique<Stretch>(GetParam());
  RequestMaker maker(seed, stretch->round().folder(), [&](const backend::Command& command) {
    return stretch->round().Has(command);
  });
  command_count_ = maker.command_count();
  int known_ends = 0;
  for (int i = 0; i <= kRequestsPerRound; ++i) {
    if (i < kRequestsPerRound) {
      const auto make = [&] {
        return i < kInTurnPerRound ? maker.Of(seed * kInTurnPerRound + i) : maker.Next();
      };
      RequestMaker::Made made = make();
      for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
        if (backend::Validate(*made.request).ok()) break;
        made = make();
      }
      ++sent_[made.command->qmp_name];
      const absl::Status status = stretch->Send(*made.command, *made.request);
      status.ok() ? ++carried_out_ : ++refused_;
      if (!stretch->is_lost()) continue;
    }
    if (stretch->Finish()) break;
    const char* const why = stretch->WhyKnown();
    if (why == nullptr) return stretch->Tell();
    std::printf("seed %lu: known: %s\n", static_cast<unsigned long>(seed), why);
    if (++known_ends > kKnownEndsMax) {
      return absl::StrCat("known ends, and too many: ", stretch->Tell());
    }
    if (i >= kRequestsPerRound) break;
    stretch = std::make_unique<Stretch>(GetParam());
    maker.MoveTo(stretch->round().folder());
  }
  return "";
}

INSTANTIATE_TEST_SUITE_P(On, QemuFuzz, ::testing::ValuesIn(Programs()),
                         [](const auto& info) { return info.param.name; });

TEST_P(QemuFuzz, NoRequestEndsIt) {
  const int rounds =
      std::max(1, Variable("TIDEMARK_FUZZ_REQUESTS", kRequestsDefault) / kRequestsPerRound);
  const int only = Variable("TIDEMARK_FUZZ_SEED", -1);
  for (int seed = std::max(only, 0); seed < (only < 0 ? rounds : only + 1); ++seed) {
    EXPECT_EQ(Play(seed), "") << "TIDEMARK_FUZZ_SEED=" << seed;
  }
  std::printf("%d were carried out, %d refused, of %zu methods\n", carried_out_, refused_,
              sent_.size());
  // About a fifth gets through.
  EXPECT_GT(carried_out_, (carried_out_ + refused_) / 10);
  if (only < 0 && rounds * kInTurnPerRound >= static_cast<int>(command_count_)) {
    EXPECT_EQ(sent_.size(), command_count_) << "some method was never sent";
  }
}

}  // namespace
}  // namespace tidemark::test
