// Two hundred virtual machines at once, with a job on each.
#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/faults/bridge_world.h"
#include "tests/support/proc_file.h"

namespace tidemark::test {
namespace {

constexpr int kInstances = 200;
constexpr int kThreads = 4;
// What so many storage daemons and this test need.
constexpr int64_t kMemoryKibMin = 3 << 20;
// Of the service, for one instance with what a test asks of it: far above what an idle one costs.
#ifdef __SANITIZE_ADDRESS__
constexpr int64_t kInstanceKibMax = 8 * 1024;  // Freed memory is kept to find its users.
#else
constexpr int64_t kInstanceKibMax = 1024;
#endif

std::string NameOf(int number) { return absl::StrFormat("vm%03d", number); }

// Runs `work` for every number, on a few threads.
template <class Work>
void ForAll(const Work& work) {
  std::atomic<int> next = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int number = next++; number < kInstances; number = next++) work(number);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

class BridgeManyTest : public ::testing::TestWithParam<QemuBuild> {};

TEST_P(BridgeManyTest, EveryJobOfTwoHundredMachinesEndsWithItsResult) {
  if (!GetParam().Missing().empty()) GTEST_SKIP() << GetParam().Missing();
  if (AvailableKib() < kMemoryKibMin) {
    GTEST_SKIP() << "less than " << kMemoryKibMin << " KiB of memory";
  }
  BridgeWorld world;
  const pid_t pid = world.daemon().process().pid();
  const int64_t before_kib = ResidentKib(pid);
  // One at a time: each is waited for.
  for (int i = 0; i < kInstances; ++i) {
    world.StartQemu(GetParam(), NameOf(i));
    world.ClientOf(NameOf(i));
    ASSERT_TRUE(world.Register(NameOf(i)).ok()) << NameOf(i);
  }
  for (int i = 0; i < kInstances; ++i) {
    ASSERT_TRUE(world.WaitForState(NameOf(i), v1::INSTANCE_STATE_READY)) << NameOf(i);
  }
  const int64_t ready_kib = ResidentKib(pid);
  const uint64_t before = world.ClientOf("").Invoke(v1::ListInstancesRequest()).sequence;

  std::atomic<int> refused = 0;
  ForAll([&](int number) {
    const Refusal refusal = world.StartBackup(NameOf(number), "job", /*slow=*/false);
    if (refusal.ok()) return;
    ++refused;
    std::cerr << NameOf(number) << ": " << refusal << "\n";
  });
  ASSERT_EQ(refused, 0);

  std::set<std::string> gone;
  world.EventsUntil(before, [&](const v1::Event& event) {
    if (IsStatus(event, "job", v1::JOB_STATUS_NULL)) gone.insert(event.instance());
    return gone.size() == kInstances;
  });
  EXPECT_EQ(gone.size(), kInstances);
  v1::ListJobsRequest request;
  request.set_page_size(1000);
  const auto jobs = world.ClientOf("").Invoke(request);
  ASSERT_TRUE(jobs.ok()) << jobs.refusal;
  EXPECT_EQ(jobs->jobs_size(), kInstances);
  for (const v1::Job& job : jobs->jobs()) {
    EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_SUCCEEDED) << job.ShortDebugString();
  }

  const int64_t end_kib = ResidentKib(pid);
  std::printf("tidemarkd: %d KiB alone, %d KiB more for each ready instance, %d after its job\n",
              static_cast<int>(before_kib), static_cast<int>((ready_kib - before_kib) / kInstances),
              static_cast<int>((end_kib - before_kib) / kInstances));
  EXPECT_LT((end_kib - before_kib) / kInstances, kInstanceKibMax);
}

TEST_P(BridgeManyTest, AQuarterOfThemKilledAtOnceLeavesTheOthersAlone) {
  if (!GetParam().Missing().empty()) GTEST_SKIP() << GetParam().Missing();
  if (AvailableKib() < kMemoryKibMin) {
    GTEST_SKIP() << "less than " << kMemoryKibMin << " KiB of memory";
  }
  BridgeWorld world;
  for (int i = 0; i < kInstances; ++i) {
    world.StartQemu(GetParam(), NameOf(i));
    ASSERT_TRUE(world.Register(NameOf(i)).ok()) << NameOf(i);
    world.ClientOf(NameOf(i));
  }
  for (int i = 0; i < kInstances; ++i) {
    ASSERT_TRUE(world.WaitForState(NameOf(i), v1::INSTANCE_STATE_READY)) << NameOf(i);
  }
  const uint64_t before = world.ClientOf("").Invoke(v1::ListInstancesRequest()).sequence;
  ForAll([&](int number) {
    const Refusal refusal = world.StartBackup(NameOf(number), "job", /*slow=*/true);
    EXPECT_TRUE(refusal.ok()) << NameOf(number) << ": " << refusal;
  });
  for (int i = 0; i < kInstances; i += 4) world.KillQemu(NameOf(i));

  std::set<std::string> gone;
  world.EventsUntil(before, [&](const v1::Event& event) {
    if (IsStatus(event, "job", v1::JOB_STATUS_NULL)) gone.insert(event.instance());
    return gone.size() == kInstances / 4;
  });
  EXPECT_EQ(gone.size(), kInstances / 4);
  ForAll([&](int number) {
    const auto jobs = world.ClientOf(NameOf(number)).Invoke(v1::QueryJobsRequest());
    const auto expected = number % 4 == 0 ? absl::StatusCode::kUnavailable : absl::StatusCode::kOk;
    EXPECT_EQ(jobs.refusal.code, expected) << NameOf(number) << ": " << jobs.refusal;
  });
}

INSTANTIATE_TEST_SUITE_P(, BridgeManyTest, ::testing::ValuesIn(QemuBuild::All()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace tidemark::test
