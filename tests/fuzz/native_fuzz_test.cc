// No request that is right by its types ends the service, stops it, or breaks an image: requests of
// every method of the native engine by chance, to a tidemarkd of each round's own, while a guest
// writes to whatever is exported.
//
// TIDEMARK_FUZZ_REQUESTS=N sends N in all (3,000). A number of a round always means the same images
// and the same requests; in odd rounds several clients send them, so not the same order.
// TIDEMARK_FUZZ_SEED=N plays that round alone.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "engine/backend/command.h"
#include "engine/backend/validate.h"
#include "engine/base/mutex.h"
#include "engine/base/notification.h"
#include "qmp/options.pb.h"
#include "tests/conformance/requests.h"
#include "tests/fuzz/request_maker.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/guest.h"
#include "tests/support/image.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr int kRequestsDefault = 3'000;
constexpr int kRequestsPerRound = 300;
constexpr int kClientsMax = 3;
// After so many requests a client looks what is there, which also tells whether it still answers.
constexpr int kLookedEvery = 4;
constexpr size_t kShownMax = 40;
constexpr uint64_t kSizeBytes = 8 * kMiB;
constexpr absl::Duration kGuestPause = absl::Milliseconds(5);
constexpr uint64_t kGuestRequestMax = 256 * 1024;

int Variable(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  int value;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

std::string SomeLayout(std::mt19937_64& random) {
  const char* const layouts[] = {"cluster_size=512",
                                 "cluster_size=4096,refcount_bits=64",
                                 "cluster_size=65536,refcount_bits=1",
                                 "cluster_size=65536,lazy_refcounts=on",
                                 "cluster_size=2097152",
                                 "compat=0.10"};
  return layouts[random() % 6];
}

// ---- Which files are judged

bool IsImage(absl::string_view path) { return absl::EndsWith(path, ".qcow2"); }

// Another file for what would not treat an image as one.
std::string Instead(const std::string& path) {
  return absl::StrCat(path.substr(0, path.rfind('/')), "/e.raw");
}

template <typename T>
T* As(Message* message) {
  return google::protobuf::DynamicCastToGenerated<T>(message);
}

// A disk that is preallocated takes space at once, and the machine's is for others, too.
constexpr uint64_t kPreallocatedBytesMax = 16 << 20;

void SpareSpace(Message* message) {
  const auto spare = [](auto* options) {
    if (options == nullptr || options->preallocation() <= v1::PREALLOC_MODE_OFF) return;
    if (static_cast<uint64_t>(options->size()) > kPreallocatedBytesMax) {
      options->set_size(kPreallocatedBytesMax);
    }
  };
  spare(As<v1::BlockdevCreateOptionsFile>(message));
  spare(As<v1::BlockdevCreateOptionsRaw>(message));
  spare(As<v1::BlockdevCreateOptionsQcow2>(message));
}

const FieldDescriptor* FormatField(const Message& message) {
  const FieldDescriptor* const field = message.GetDescriptor()->FindFieldByName("format");
  const bool is_name = field != nullptr && field->type() == FieldDescriptor::TYPE_STRING;
  return is_name ? field : nullptr;
}

// drive-backup and whatever else makes a file by its name, of a format that may be named.
bool MakesImage(const Message& message) {
  if (FormatField(message) == nullptr) return false;
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  return std::any_of(fields.begin(), fields.end(), [&](const FieldDescriptor* field) {
    return field->options().GetExtension(qmp::path) == qmp::PATH_NEW_FILE &&
           IsImage(message.GetReflection()->GetString(message, field));
  });
}

// Whoever writes to an image as to a raw file breaks it, and may. So that it can be judged at the
// end, files that are called images are only written as images. `holds_image`: `message` is what
// the file of an image is opened by.
void SpareImages(Message* message, bool holds_image) {
  SpareSpace(message);
  if (auto* const options = As<v1::BlockdevOptions>(message);
      options != nullptr && IsImage(options->file().filename())) {
    // Nobody else finds it then.
    if (holds_image)
      options->clear_node_name();
    else
      options->mutable_file()->set_filename(Instead(options->file().filename()));
  } else if (auto* const create = As<v1::BlockdevCreateOptionsFile>(message);
             create != nullptr && IsImage(create->filename())) {
    create->set_filename(Instead(create->filename()));
  } else if (MakesImage(*message)) {
    message->GetReflection()->SetString(message, FormatField(*message), "qcow2");
  }
  const auto& reflection = *message->GetReflection();
  const absl::string_view type = message->GetDescriptor()->name();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(*message, &fields);
  for (const FieldDescriptor* const field : fields) {
    if (field->message_type() == nullptr) continue;
    const bool is_file = (absl::EndsWith(type, "OptionsQcow2") && field->name() == "file") ||
                         (holds_image && type == "BlockdevRef");
    const int count = field->is_repeated() ? reflection.FieldSize(*message, field) : 1;
    for (int i = 0; i < count; ++i) {
      SpareImages(field->is_repeated() ? reflection.MutableRepeatedMessage(message, field, i)
                                       : reflection.MutableMessage(message, field),
                  is_file);
    }
  }
}

// ---- One service

// How often each command was carried out and refused.
struct Count {
  int carried_out = 0;
  int refused = 0;
};
using Counts = std::map<std::string, Count>;

class Round {
 public:
  Round(uint64_t seed, Counts* counts) : seed_(seed), random_(seed), counts_(*counts) {}

  // What was wrong; empty if nothing was.
  std::string Play() {
    Begin();
    if (::testing::Test::HasFailure()) return Story("it does not begin");
    const int clients = seed_ % 2 == 0 ? 1 : kClientsMax;
    std::vector<std::thread> threads;
    for (int i = 0; i < clients; ++i) {
      threads.emplace_back([this, i, clients] { Send(i, kRequestsPerRound / clients); });
    }
    std::thread guest([this] { PlayGuest(); });
    for (std::thread& thread : threads) thread.join();
    is_over_.Notify();
    if (wrong().empty()) CancelJobs();
    if (wrong().empty()) End();
    // Whatever it waits for, it waits no longer.
    daemon_->Kill();
    guest.join();
    if (wrong().empty()) JudgeImages();
    return wrong().empty() ? "" : Story(wrong());
  }

 private:
  std::string File(absl::string_view name) const { return folder_.File(std::string(name)); }

  void Begin();
  RequestMaker::Names WhatIsThere(Client& client);
  void Send(int number, int count);
  void SendOne(Client& client, const RequestMaker::Made& made);
  void PlayGuest();
  void WriteTo(const NbdPlace& place, std::mt19937_64& random);
  void CancelJobs();
  void End();
  void JudgeImages();

  // Notes that something is wrong, unless something was before.
  void Complain(absl::string_view what) {
    const MutexLock lock(&mutex_);
    if (wrong_.empty()) wrong_ = std::string(what);
  }
  std::string wrong() const {
    const MutexLock lock(&mutex_);
    return wrong_;
  }
  std::string Story(absl::string_view what) const {
    const MutexLock lock(&mutex_);
    return absl::StrCat(what, "\nit said: ", daemon_->Log(), "\n", absl::StrJoin(story_, "\n"));
  }
  // Whether the call was answered at all.
  bool WasAnswered(const Refusal& refusal, absl::string_view what);

  const uint64_t seed_;
  std::mt19937_64 random_;
  const TempFolder folder_;
  std::unique_ptr<Daemon> daemon_;
  Notification is_over_;

  mutable Mutex mutex_;
  Counts& counts_ ABSL_GUARDED_BY(mutex_);
  std::string wrong_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> story_ ABSL_GUARDED_BY(mutex_);
};

// A chain, two images, raw nodes, a null one, a node over a file that has a name, bitmaps, exports.
void Round::Begin() {
  for (const char* const name : {"a.qcow2", "base.qcow2", "c.qcow2"}) {
    const uint64_t odd_bytes = random_() % 4 == 0 ? 512 : 0;
    Image::Create(File(name), kSizeBytes - odd_bytes, "qcow2", SomeLayout(random_));
  }
  Image::Create(File("b.qcow2"), kSizeBytes, "qcow2",
                absl::StrCat(SomeLayout(random_), ",backing_fmt=qcow2,backing_file=base.qcow2"));
  Image::Create(File("d.raw"), kSizeBytes, "raw");
  Image::Create(File("e.raw"), kSizeBytes + 1536, "raw");
  RunTool({"qemu-img", "bitmap", "--add", File("c.qcow2"), "kept"});
  RunTool({"qemu-img", "snapshot", "-c", "s0", File("c.qcow2")});
  daemon_ = std::make_unique<Daemon>(&folder_);
  ASSERT_TRUE(daemon_->started()) << daemon_->Log();
  Client client(daemon_->address());
  const auto send = [&](const auto& request) {
    const auto reply = client.Invoke(request);
    EXPECT_TRUE(reply.ok()) << reply;
  };
  v1::BlockdevOptions over_file;
  over_file.set_node_name("n0");
  over_file.mutable_qcow2()->mutable_file()->set_reference("f0");
  v1::BlockdevOptions raw;
  raw.set_node_name("n3");
  raw.mutable_raw()->mutable_file()->set_reference("f1");
  send(Add(FileOptions(File("a.qcow2"), "f0")));
  send(Add(over_file));
  send(Add(Qcow2Options("n1", File("b.qcow2"))));
  send(Add(Qcow2Options("n2", File("c.qcow2"))));
  send(Add(FileOptions(File("d.raw"), "f1")));
  send(Add(raw));
  send(Add(NullOptions("n4", kSizeBytes)));
  send(BitmapAdd("n0", "b0"));
  send(BitmapAdd("n3", "b0"));
  send(NbdStart(File("nbd.sock")));
  send(ExportAdd("e0", "n1", /*writable=*/true));
  send(ExportAdd("e1", "n3", /*writable=*/true));
}

bool Round::WasAnswered(const Refusal& refusal, absl::string_view what) {
  if (refusal.code == absl::StatusCode::kDeadlineExceeded) {
    Complain(absl::StrCat("no answer to ", what));
    return false;
  }
  if (refusal.code != absl::StatusCode::kUnavailable) return true;
  if (const auto ended = daemon_->process().Wait(absl::Seconds(2)); ended.has_value()) {
    Complain(absl::StrCat("it ended with ", *ended));
    return false;
  }
  return true;
}

void Round::SendOne(Client& client, const RequestMaker::Made& made) {
  const std::string name = made.command->qmp_name;
  {
    const MutexLock lock(&mutex_);
    story_.push_back(absl::StrCat(name, " ", made.request->ShortDebugString()));
    if (story_.size() > kShownMax) story_.pop_front();
  }
  const std::unique_ptr<Message> response(made.command->response->New());
  const Refusal refusal = client.Call(absl::StrCat("/", made.command->rpc_name), *made.request,
                                      response.get(), /*sequence=*/nullptr);
  {
    const MutexLock lock(&mutex_);
    story_.push_back(absl::StrCat("  ", name, ": ", refusal.ok() ? "OK" : refusal.message));
    Count& count = counts_[name];
    ++(refusal.ok() ? count.carried_out : count.refused);
  }
  WasAnswered(refusal, name);
}

RequestMaker::Names Round::WhatIsThere(Client& client) {
  RequestMaker::Names names;
  const auto nodes = client.Invoke(v1::QueryNamedBlockNodesRequest());
  WasAnswered(nodes.refusal, "query-named-block-nodes");
  for (const auto& node : nodes->nodes()) {
    // What was not named is in use by what was, and seldom taken.
    if (!absl::StartsWith(node.node_name(), "#") || names.nodes.size() % 4 == 3) {
      names.nodes.push_back(node.node_name());
    }
    for (const auto& bitmap : node.dirty_bitmaps()) {
      names.bitmaps.emplace_back(node.node_name(), bitmap.name());
    }
  }
  const auto jobs = client.Invoke(v1::QueryJobsRequest());
  for (const auto& job : jobs->jobs()) {
    names.jobs.push_back(job.id());
    // There are not many names: those of the dead are wanted.
    if (job.status() == v1::JOB_STATUS_CONCLUDED) {
      client.Invoke(OfJob<v1::JobDismissRequest>(job.id()));
    }
  }
  const auto exports = client.Invoke(v1::QueryBlockExportsRequest());
  for (const auto& one : exports->exports()) names.exports.push_back(one.id());
  return names;
}

void Round::Send(int number, int count) {
  Client client(daemon_->address());
  const auto capabilities = client.Invoke(v1::GetCapabilitiesRequest());
  std::set<std::string> has;
  for (const auto& command : capabilities->commands()) has.insert(command.command());
  RequestMaker maker(
      seed_ * kClientsMax + number, folder_.path(),
      [&](const backend::Command& command) { return has.count(command.qmp_name) != 0; },
      RequestMaker::Engine::kNative);
  for (int i = 0; i < count && wrong().empty();) {
    if (i % kLookedEvery == 0) maker.See(WhatIsThere(client));
    const RequestMaker::Made made = maker.Next();
    SpareImages(made.request.get(), /*holds_image=*/false);
    if (!backend::Validate(*made.request).ok()) continue;
    SendOne(client, made);
    ++i;
  }
}

// Until the requests are over: writes to whatever is exported.
void Round::PlayGuest() {
  std::mt19937_64 random(seed_);
  while (!is_over_.WaitFor(kGuestPause)) {
    const std::string socket = File(random() % 8 == 0 ? "other.sock" : "nbd.sock");
    const std::vector<std::string> exports = ListExports(socket);
    if (exports.empty()) continue;
    const std::string& chosen = exports[random() % exports.size()];
    WriteTo({socket, std::string(absl::string_view(chosen).substr(0, chosen.rfind(" (")))}, random);
  }
}

void Round::WriteTo(const NbdPlace& place, std::mt19937_64& random) {
  Guest guest(place, std::make_shared<ByteModel>(kSizeBytes));
  if (!guest.connected()) return;
  const uint64_t end_bytes = std::min(kSizeBytes, guest.size_bytes()) / 512 * 512;
  if (end_bytes == 0) return;
  for (int i = 0; i < 20 && !is_over_.WaitFor(absl::ZeroDuration()); ++i) {
    const uint64_t offset = random() % (end_bytes / 512) * 512;
    const uint64_t length = (1 + random() % (kGuestRequestMax / 512)) * 512;
    const Range range = Range{offset, length}.Intersect({0, end_bytes});
    // What is read-only, gone or full says so.
    const int kind = random() % 8;
    if (kind == 0)
      guest.TryFlush();
    else if (kind == 1)
      guest.TryZero(range);
    else if (kind == 2)
      guest.TryRead(range);
    else
      guest.TryWrite(random(), range);
  }
}

// In half of the rounds; in the others SIGTERM does.
void Round::CancelJobs() {
  if (seed_ / 2 % 2 == 0) return;
  Client client(daemon_->address());
  const auto jobs = client.Invoke(v1::QueryJobsRequest());
  if (!WasAnswered(jobs.refusal, "query-jobs")) return;
  for (const auto& job : jobs->jobs()) {
    client.Invoke(Cancel(job.id(), /*force=*/true));
    client.Invoke(OfJob<v1::JobCancelRequest>(job.id()));
    const auto waited = client.Invoke(OfJob<v1::WaitJobRequest>(job.id()));
    if (!WasAnswered(waited.refusal, absl::StrCat("wait-job ", job.id()))) return;
    client.Invoke(OfJob<v1::JobDismissRequest>(job.id()));
  }
  const auto left = client.Invoke(v1::QueryJobsRequest());
  if (left->jobs_size() != 0) {
    Complain(absl::StrCat("jobs do not end: ", left->ShortDebugString()));
  }
}

void Round::End() {
  const int status = daemon_->Stop();
  // What cannot be saved is told: somebody has made it so, such as a raw file below an image
  // smaller.
  const bool told = absl::StrContains(daemon_->Log(), "not everything could be saved, as told");
  if (status != 0 && !(status == 1 && told)) {
    Complain(absl::StrCat("SIGTERM, and it ended with ", status));
  }
}

void Round::JudgeImages() {
  // (a.qcow2 lies under a node with a name, so anything may have been written there.)
  for (const char* const name : {"base", "b", "c", "new0", "new1"}) {
    const std::string path = File(absl::StrCat(name, ".qcow2"));
    // A command that made it may have been refused after that, and it is empty.
    if (std::ifstream(path).peek() == std::ifstream::traits_type::eof()) continue;
    // By itself: a backing file that it names need not be there.
    const ToolResult check = RunTool(
        {"qemu-img", "check",
         absl::StrCat(R"(json:{"driver": "qcow2", "backing": null, "file": {"driver": "file", )",
                      R"("filename": ")", path, R"("}})")});
    if (check.exit_status == 0) continue;
    // Leaks cost room, and nothing else.
    if (check.exit_status == 3) {
      std::printf("seed %lu: %s", static_cast<unsigned long>(seed_), check.output.c_str());
      continue;
    }
    Complain(absl::StrCat("qemu-img check ", path, ": ", check.output, check.errors));
  }
}

TEST(NativeFuzz, NoRequestEndsTheServiceOrStopsItOrBreaksAnImage) {
  if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  const int rounds =
      std::max(1, Variable("TIDEMARK_FUZZ_REQUESTS", kRequestsDefault) / kRequestsPerRound);
  const int only = Variable("TIDEMARK_FUZZ_SEED", -1);
  Counts counts;
  for (int seed = std::max(only, 0); seed < (only < 0 ? rounds : only + 1); ++seed) {
    ASSERT_EQ(Round(seed, &counts).Play(), "") << "TIDEMARK_FUZZ_SEED=" << seed;
  }
  for (const auto& [command, count] : counts) {
    std::printf("%-36s %6d carried out %6d refused\n", command.c_str(), count.carried_out,
                count.refused);
  }
  if (only >= 0) return;
  // Each method was there: what the engine says it can is what it was asked.
  TempFolder folder;
  Daemon daemon(&folder);
  ASSERT_TRUE(daemon.started()) << daemon.Log();
  const auto capabilities = Client(daemon.address()).Invoke(v1::GetCapabilitiesRequest());
  EXPECT_GT(capabilities->commands_size(), 0);
  for (const auto& command : capabilities->commands()) {
    EXPECT_EQ(counts.count(command.command()), 1u) << command.command() << " was never sent";
  }
}

}  // namespace
}  // namespace tidemark::test
