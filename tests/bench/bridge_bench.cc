// What the bridge adds to QMP: round trips, events, memory and throughput over many instances, each
// beside the raw figure of the same run. Figures belong to the machine; only ratios travel.
//
// usage: bridge_bench [--instances=N] [--calls=N]
// Build with `bazel build --config=opt //tests/bench:bridge_bench //service:tidemarkd`; TIDEMARKD
// names the service's binary.
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "google/protobuf/empty.pb.h"
#include "nlohmann/json.hpp"
#include "tests/faults/bridge_world.h"
#include "tests/faults/raw_monitor.h"
#include "tests/support/proc_file.h"
#include "tests/support/qmp_client.h"
#include "tidemark/block/v1/event.grpc.pb.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::test {
namespace {

using Json = nlohmann::json;
using Samples = std::vector<double>;

constexpr int kThreads = 8;
constexpr char kQuery[] = "{\"execute\": \"query-block-jobs\"}\n";

// No figure is worth anything after a failed call.
void CheckOk(const grpc::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "a call failed: %s\n", status.error_message().c_str());
  std::abort();
}

void CheckReturned(absl::string_view reply) { CHECK(absl::StartsWith(reply, "{\"return\"")); }

double Microseconds(absl::Duration duration) { return absl::ToDoubleMicroseconds(duration); }

double Percentile(Samples samples, double share) {
  CHECK(!samples.empty());
  std::sort(samples.begin(), samples.end());
  return samples[static_cast<size_t>(share * static_cast<double>(samples.size() - 1))];
}

// How long each of `count` calls takes, after some that do not count.
Samples Measure(int count, const std::function<void()>& call) {
  for (int i = 0; i < count / 10; ++i) call();
  Samples samples;
  for (int i = 0; i < count; ++i) {
    const absl::Time start = absl::Now();
    call();
    samples.push_back(Microseconds(absl::Now() - start));
  }
  return samples;
}

// Calls per second of `kThreads` threads that share `count` calls; each knows its number.
double Throughput(int count, const std::function<void(int thread, int call)>& call) {
  std::atomic<int> next = 0;
  const absl::Time start = absl::Now();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = next++; i < count; i = next++) call(thread, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return count / absl::ToDoubleSeconds(absl::Now() - start);
}

void Print(const std::string& what, const Samples& samples, const std::string& target) {
  std::printf("%-52s %8.0f %8.0f   %s\n", what.c_str(), Percentile(samples, 0.5),
              Percentile(samples, 0.99), target.c_str());
}

void PrintOne(const std::string& what, double value, const std::string& target) {
  std::printf("%-52s %8.0f %8s   %s\n", what.c_str(), value, "", target.c_str());
}

// How old events are, by QEMU's clock, when a plain client has them: two for each pause.
Samples RawEventAges(QmpClient* client, int count) {
  Samples ages;
  for (int i = 0; i < count; ++i) {
    const char* const verb = i % 2 == 0 ? "job-pause" : "job-resume";
    client->Send(absl::StrCat("{\"execute\": \"", verb, "\", \"arguments\": {\"id\": \"job\"}}\n"));
    bool replied = false;
    bool told = false;
    while (!replied || !told) {
      const std::string line = client->ReadLine();
      const absl::Time now = absl::Now();
      const Json json = Json::parse(line);
      replied |= json.contains("return");
      if (!json.contains("event")) continue;
      const Json& time = json["timestamp"];
      told = true;
      ages.push_back(Microseconds(now - absl::FromUnixSeconds(time["seconds"].get<int64_t>())) -
                     time["microseconds"].get<double>());
    }
  }
  return ages;
}

// The same through the service's stream.
// One client watches, another one gives the commands.
Samples BridgedEventAges(BridgeWorld* world, const std::string& instance, int count) {
  Client& client = world->ClientOf(instance);
  Client watcher(world->daemon().address(), instance);
  const auto stub = v1::EventService::NewStub(watcher.channel());
  grpc::ClientContext context;
  v1::WatchEventsRequest request;
  request.add_instances(instance);
  request.add_kinds(v1::EVENT_KIND_JOB_STATUS_CHANGE);
  const auto stream = stub->WatchEvents(&context, request);
  v1::WatchEventsResponse response;
  CHECK(stream->Read(&response) && response.has_heartbeat());
  Samples ages;
  for (int i = 0; i < count; ++i) {
    std::thread verb([&] {
      if (i % 2 == 0) {
        v1::JobPauseRequest pause;
        pause.set_id("job");
        CHECK(client.Invoke(pause).ok());
      } else {
        v1::JobResumeRequest resume;
        resume.set_id("job");
        CHECK(client.Invoke(resume).ok());
      }
    });
    do {
      CHECK(stream->Read(&response));
    } while (!response.has_event());
    const absl::Time now = absl::Now();
    const auto& time = response.event().time();
    ages.push_back(Microseconds(now - absl::FromUnixSeconds(time.seconds()) -
                                absl::Nanoseconds(time.nanos())));
    verb.join();
  }
  context.TryCancel();
  return ages;
}

class Bench {
 public:
  Bench(QemuBuild qemu, int instances, int calls)
      : qemu_(std::move(qemu)), instances_(instances), calls_(calls) {}

  void Run() {
    std::printf("%s, %d calls, %d instances; microseconds unless said otherwise\n\n",
                qemu_.name().c_str(), calls_, instances_);
    std::printf("%-52s %8s %8s   %s\n", "", "p50", "p99", "target");
    world_.StartQemu(qemu_, "raw");
    world_.StartQemu(qemu_, "wire");
    world_.StartQemu(qemu_, "vm");
    CHECK(world_.Register("vm").ok());
    CHECK(world_.WaitForState("vm", v1::INSTANCE_STATE_READY));
    RoundTrips();
    Events();
    Many();
  }

 private:
  void RoundTrips() {
    QmpClient raw(world_.Socket("raw"));
    const Samples plain = Measure(calls_, [&] { CheckReturned(raw.RoundTrip(kQuery)); });
    Print("QMP round trip (query-block-jobs), raw", plain, "");
    {
      RawMonitor wire(world_.Socket("wire"));
      CHECK(wire.ready());
      Print("the same by adapters/qmp alone, with its thread",
            Measure(calls_, [&] { CHECK(wire.RoundTrip("query-block-jobs").ok()); }),
            "added p50 <= 100");
    }
    // What any call of the service costs, its work aside.
    const google::protobuf::Empty nothing;
    google::protobuf::Empty answer;
    const Samples grpc_alone = Measure(calls_, [&] {
      CHECK(world_.ClientOf("vm")
                .Call("/grpc.health.v1.Health/Check", nothing, &answer, nullptr)
                .ok());
    });
    Print("gRPC alone (health check)", grpc_alone, "");
    const auto jobs = v1::JobService::NewStub(world_.ClientOf("vm").channel());
    v1::QueryBlockJobsRequest query;
    query.set_instance("vm");
    const Samples bridged = Measure(calls_, [&] {
      grpc::ClientContext context;
      v1::QueryBlockJobsResponse response;
      CheckOk(jobs->QueryBlockJobs(&context, query, &response));
    });
    Print("the same through the bridge", bridged, "p50 <= 250, p99 <= 600");
    PrintOne("added, p50", Percentile(bridged, 0.5) - Percentile(plain, 0.5), "");
    std::printf("%-52s %8.2f\n", "bridged p50 : raw + gRPC alone",
                Percentile(bridged, 0.5) / (Percentile(plain, 0.5) + Percentile(grpc_alone, 0.5)));

    CHECK(world_.StartBackup("vm", "job", /*slow=*/true).ok());
    v1::GetJobRequest get;
    get.set_instance("vm");
    get.set_id("job");
    const auto get_job = [&](v1::JobService::Stub& stub) {
      grpc::ClientContext context;
      v1::GetJobResponse response;
      CheckOk(stub.GetJob(&context, get, &response));
    };
    Print("GetJob", Measure(calls_, [&] { get_job(*jobs); }), "p50 <= 90");
    Print("ListJobs",
          Measure(calls_,
                  [&] {
                    grpc::ClientContext context;
                    v1::ListJobsResponse response;
                    CheckOk(jobs->ListJobs(&context, v1::ListJobsRequest(), &response));
                  }),
          "p50 <= 90");
    PrintOne(
        absl::StrCat("GetJob, calls per second, ", kThreads, " clients"),
        Throughput(8 * calls_, [&, stubs = Stubs()](int thread, int) { get_job(*stubs[thread]); }),
        ">= 30000");
  }

  // Of as many clients, each with a connection of its own.
  std::vector<std::shared_ptr<v1::JobService::Stub>> Stubs() {
    std::vector<std::shared_ptr<v1::JobService::Stub>> stubs;
    for (int i = 0; i < kThreads; ++i) {
      stubs.push_back(v1::JobService::NewStub(Client(world_.daemon().address(), "").channel()));
    }
    return stubs;
  }

  void Events() {
    QmpClient raw(world_.Socket("raw"));
    for (const char* node : {"source", "target"}) {
      raw.Run("blockdev-add",
              absl::StrCat(R"({"driver": "null-co", "node-name": ")", node, R"("})"));
    }
    raw.Run("blockdev-backup",
            R"({"job-id": "job", "device": "source", "target": "target", "sync": "full",
                "speed": 1024})");
    const int count = std::min(calls_, 1'000);
    Print("event, QEMU's emit to a plain client's receive", RawEventAges(&raw, count), "");
    Print("event, QEMU's emit to the stream's receive", BridgedEventAges(&world_, "vm", count),
          "p50 <= 200");
  }

  void Many() {
    for (int i = 0; i < instances_; ++i) world_.StartQemu(qemu_, Name(i));
    {
      std::vector<std::unique_ptr<QmpClient>> raw;
      for (int i = 0; i < instances_; ++i) {
        raw.push_back(std::make_unique<QmpClient>(world_.Socket(Name(i))));
      }
      // Each thread has its own share of the machines.
      PrintOne(absl::StrCat("commands per second over ", instances_, " machines, raw"),
               Throughput(4 * calls_,
                          [&](int thread, int call) {
                            const int share = instances_ / kThreads;
                            CheckReturned(raw[thread * share + call % share]->RoundTrip(kQuery));
                          }),
               "");
    }
    const pid_t pid = world_.daemon().process().pid();
    const int64_t before_kib = ResidentKib(pid);
    for (int i = 0; i < instances_; ++i) CHECK(world_.Register(Name(i)).ok());
    for (int i = 0; i < instances_; ++i) {
      CHECK(world_.WaitForState(Name(i), v1::INSTANCE_STATE_READY));
    }
    const int64_t idle_kib = (ResidentKib(pid) - before_kib) / instances_;
    PrintOne(absl::StrCat("commands per second over ", instances_, " machines, bridged"),
             Throughput(4 * calls_,
                        [&, stubs = Stubs()](int thread, int call) {
                          grpc::ClientContext context;
                          v1::QueryBlockJobsRequest query;
                          query.set_instance(Name(call % instances_));
                          v1::QueryBlockJobsResponse response;
                          CheckOk(stubs[thread]->QueryBlockJobs(&context, query, &response));
                        }),
             "");
    PrintOne("memory per idle instance, KiB", static_cast<double>(idle_kib), "<= 150");
  }

  static std::string Name(int number) { return absl::StrFormat("vm%03d", number); }

  const QemuBuild qemu_;
  const int instances_;
  const int calls_;
  BridgeWorld world_;
};

int Main(int argc, char** argv) {
  int instances = 200;
  int calls = 3'000;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    const bool good = (absl::ConsumePrefix(&argument, "--instances=") &&
                       absl::SimpleAtoi(argument, &instances) && instances >= kThreads) ||
                      (absl::ConsumePrefix(&argument, "--calls=") &&
                       absl::SimpleAtoi(argument, &calls) && calls >= 10);
    if (!good) {
      std::fprintf(stderr, "usage: %s [--instances=N] [--calls=N]\n", argv[0]);
      return 2;
    }
  }
  bool any = false;
  for (const QemuBuild& qemu : QemuBuild::All()) {
    if (!qemu.Missing().empty()) continue;
    if (any) std::printf("\n");
    any = true;
    Bench(qemu, instances, calls).Run();
  }
  if (!any) std::fprintf(stderr, "there is no qemu-storage-daemon\n");
  return any ? 0 : 1;
}

}  // namespace
}  // namespace tidemark::test

int main(int argc, char** argv) { return tidemark::test::Main(argc, argv); }
