// What it costs that results are told only once they are saved: jobs with and without --state_dir,
// on two services of the same run. A job is started, waited for and read. Figures belong to the
// machine and its disk; only ratios travel.
//
// usage: told_bench [--jobs=N] [--folder=FOLDER]
// The state folder is made in FOLDER, by default in the folder of temporary files: name one on the
// disk that is meant. Build with `bazel build --config=opt //tests/bench:told_bench
// //service:tidemarkd`; TIDEMARKD names the service's binary.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "tests/conformance/requests.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {
namespace {

constexpr int kThreads = 8;
constexpr absl::Duration kStartTimeout = absl::Seconds(60);

// No figure is worth anything after a failed call.
template <class Response>
void CheckOk(const Reply<Response>& reply) {
  if (reply.ok()) return;
  std::fprintf(stderr, "a call failed: %s\n", reply.refusal.message.c_str());
  std::abort();
}

// A service, with a client and disks for each thread.
class Service {
 public:
  // `state_folder` may be empty.
  explicit Service(const std::string& state_folder) : process_(Command(state_folder), Log()) {
    for (int i = 0; i < kThreads; ++i) {
      clients_.push_back(std::make_unique<Client>(Address()));
      CHECK(clients_.back()->WaitUntilServing(kStartTimeout));
      CheckOk(clients_.back()->Invoke(Add(NullOptions(absl::StrCat("disk", i), 1 << 20))));
      CheckOk(clients_.back()->Invoke(Add(NullOptions(absl::StrCat("target", i), 1 << 20))));
    }
  }

  // Starts a job of this thread's disks and waits for its end.
  void RunJob(int thread, int number) {
    const std::string id = absl::StrCat("job", number);
    CheckOk(clients_[thread]->Invoke(Backup({.job = id,
                                             .source = absl::StrCat("disk", thread),
                                             .target = absl::StrCat("target", thread)})));
    v1::WaitJobRequest wait;
    wait.set_id(id);
    const auto waited = clients_[thread]->Invoke(wait);
    CheckOk(waited);
    CHECK(waited->job().outcome() == v1::JOB_OUTCOME_SUCCEEDED && !waited->job().unsaved());
  }

 private:
  std::string Address() const { return absl::StrCat("unix:", folder_.File("socket")); }
  std::string Log() const { return folder_.File("log"); }
  std::vector<std::string> Command(const std::string& state_folder) const {
    std::vector<std::string> command = {Daemon::Binary(), absl::StrCat("--listen=", Address())};
    if (!state_folder.empty()) command.push_back(absl::StrCat("--state_dir=", state_folder));
    return command;
  }

  const TempFolder folder_;
  Process process_;
  std::vector<std::unique_ptr<Client>> clients_;
};

struct Figures {
  // Of one job at a time, in microseconds.
  double median = 0;
  double slow = 0;  // One of a hundred is slower.
  // With kThreads jobs at a time.
  double jobs_per_second = 0;
};

Figures Measure(Service& service, int jobs) {
  int number = 0;
  for (; number < jobs / 10; ++number) service.RunJob(0, number);
  std::vector<double> samples;
  for (int i = 0; i < jobs; ++i) {
    const absl::Time start = absl::Now();
    service.RunJob(0, number++);
    samples.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
  }
  std::sort(samples.begin(), samples.end());
  Figures figures;
  figures.median = samples[samples.size() / 2];
  figures.slow = samples[samples.size() * 99 / 100];
  std::atomic<int> next = number;
  const int end = number + jobs;
  const absl::Time start = absl::Now();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = next++; i < end; i = next++) service.RunJob(thread, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  figures.jobs_per_second = jobs / absl::ToDoubleSeconds(absl::Now() - start);
  return figures;
}

void Print(const char* what, double without, double with) {
  std::printf("%-44s %10.0f %10.0f %8.2f\n", what, without, with, with / without);
}

int Main(int argc, char** argv) {
  int jobs = 500;
  std::string folder;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--folder=")) {
      folder = std::string(argument);
    } else if (!absl::ConsumePrefix(&argument, "--jobs=") || !absl::SimpleAtoi(argument, &jobs) ||
               jobs < 10) {
      std::fprintf(stderr, "usage: %s [--jobs=N] [--folder=FOLDER]\n", argv[0]);
      return 2;
    }
  }
  const TempFolder own;
  Service without("");
  Service with(folder.empty() ? own.File("state") : absl::StrCat(folder, "/told_bench.state"));
  const Figures plain = Measure(without, jobs);
  const Figures saved = Measure(with, jobs);
  std::printf("%-44s %10s %10s %8s\n", "", "without", "saved", "ratio");
  Print("a job from start to end, median, us", plain.median, saved.median);
  Print("a job from start to end, 99 of 100, us", plain.slow, saved.slow);
  Print(absl::StrCat("jobs per second, ", kThreads, " at a time").c_str(), plain.jobs_per_second,
        saved.jobs_per_second);
  return 0;
}

}  // namespace
}  // namespace tidemark::test

int main(int argc, char** argv) { return tidemark::test::Main(argc, argv); }
