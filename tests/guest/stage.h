// The stage of every story about a real guest: a writing guest, the service that reaches it by its
// monitor, and a second guest that judges the disks in the end. One thread.
#ifndef TESTS_GUEST_STAGE_H_
#define TESTS_GUEST_STAGE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/conformance/requests.h"
#include "tests/guest/vm.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/event_recorder.h"
#include "tests/support/image.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {

// Two disks, or copies of them: paths of images.
using Pair = std::array<std::string, 2>;
// The newest records on two disks.
using Newest = std::array<uint64_t, 2>;

constexpr uint64_t kGuestDiskBytes = 64 << 20;

class GuestStory : public ::testing::TestWithParam<QemuBuild> {
 protected:
  // Boots the guest and registers it. Skips, with the reason, where no guest can be had.
  void SetUp() override;
  // Whatever the story was: the guest still writes, and QEMU and the service end in good order.
  void TearDown() override;

  // Further arguments for QEMU.
  virtual std::vector<std::string> Devices() { return {}; }

  TempFolder& folder() { return folder_; }
  Vm& guest() { return *vm_; }
  EventRecorder& events() { return *events_; }
  // The images that the guest was booted on.
  Pair Disks() const { return InFolder("disk"); }
  // "<folder>/<stem>0.qcow2" and "<folder>/<stem>1.qcow2".
  Pair InFolder(const std::string& stem) const;

  template <class Request>
  Reply<typename RpcOf<Request>::Response> Try(const Request& request) {
    return client_->Invoke(request);
  }
  template <class Request>
  typename RpcOf<Request>::Response Do(const Request& request) {
    auto reply = Try(request);
    EXPECT_THAT(reply, Accepted())
        << request.GetTypeName() << " {" << request.ShortDebugString() << "}";
    return reply.value;
  }

  // Waits until the job is gone and expects that it did what it should.
  void Finish(const std::string& job);
  void AwaitEnd(const std::string& job);
  // Waits until the job is ready for its completion.
  void AwaitReady(const std::string& job);
  // What is known of a job, also after its end.
  v1::Job Job(const std::string& job);

  // Ends the guest's QEMU; nobody has the images open any more.
  void StopGuest();
  // Boots a second guest on these images, and expects that it finds them of one moment.
  Newest VerifyByGuest(const Pair& images);

 private:
  TempFolder folder_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<EventRecorder> events_;
  std::unique_ptr<Vm> vm_;
  bool booted_ = false;
};

// Puts `fixture` on every QEMU.
#define ON_EVERY_QEMU(fixture)                                                 \
  INSTANTIATE_TEST_SUITE_P(On, fixture, ::testing::ValuesIn(QemuBuild::All()), \
                           [](const auto& info) { return info.param.name(); })

}  // namespace tidemark::test

#endif  // TESTS_GUEST_STAGE_H_
