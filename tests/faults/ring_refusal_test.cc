// A kernel that has io_uring and then takes nothing by it, for as long as it is asked: the service
// copies all the same, and its jobs and itself can be ended.
#include <errno.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "tests/conformance/requests.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/image.h"
#include "tests/support/matchers.h"

namespace tidemark::test {
namespace {

constexpr uint64_t kSizeBytes = 16 << 20;
constexpr int kPatienceSeconds = 120;

// From now on io_uring_enter fails so for this thread and all that it starts.
bool RefuseRings(int errno_value) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_enter, 0, 1),
      BPF_STMT(BPF_RET | BPF_K,
               SECCOMP_RET_ERRNO | (static_cast<uint32_t>(errno_value) & SECCOMP_RET_DATA)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

class RingRefusal : public testing::TestWithParam<int> {
 protected:
  void Start() {
    daemon_ = std::make_unique<Daemon>(&folder_);
    ASSERT_TRUE(daemon_->started()) << daemon_->Log();
    client_ = std::make_unique<Client>(daemon_->address());
    for (const char* node : {"disk0", "target0"}) {
      const std::string path = folder_.File(std::string(node) + ".qcow2");
      Image::Create(path, kSizeBytes, "qcow2", "preallocation=full");
      Do(Add(Qcow2Options(node, path)));
    }
  }
  template <class Request>
  void Do(const Request& request) {
    EXPECT_THAT(client_->Invoke(request), Accepted());
  }
  bool AwaitEnd(const std::string& job) {
    v1::WaitJobRequest wait;
    wait.set_id(job);
    wait.mutable_timeout()->set_seconds(kPatienceSeconds);
    const auto reply = client_->Invoke(wait);
    EXPECT_THAT(reply, Accepted());
    return reply.value.done();
  }

  TempFolder folder_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Client> client_;
};

TEST_P(RingRefusal, StopsNoBackupNoCancelAndNoEnd) {
  // Filters of a thread cannot be taken off again: this one ends with it.
  std::thread refused([this] {
    if (!RefuseRings(GetParam())) return;
    Start();
    if (HasFatalFailure()) return;
    Do(Backup({.job = "full"}));
    EXPECT_TRUE(AwaitEnd("full"));
    Do(Backup({.job = "cancelled", .speed = kHold}));
    Do(Cancel("cancelled", /*force=*/true));
    EXPECT_TRUE(AwaitEnd("cancelled"));
    Do(Backup({.job = "left", .speed = kHold}));
    EXPECT_EQ(daemon_->Stop(), 0) << daemon_->Log();
  });
  refused.join();
  if (daemon_ == nullptr) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(Image(folder_.File("target0.qcow2")).DifferenceFrom(Image(folder_.File("disk0.qcow2"))),
            "");
}

INSTANTIATE_TEST_SUITE_P(Errors, RingRefusal, testing::Values(EAGAIN, EBUSY, ENOMEM, EPERM),
                         [](const auto& info) { return std::string(strerrorname_np(info.param)); });

}  // namespace
}  // namespace tidemark::test
