// The stage of every scenario: a fresh world, and the three voices guest(), operate() and image().
#ifndef TESTS_CONFORMANCE_CONFORMANCE_H_
#define TESTS_CONFORMANCE_CONFORMANCE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/conformance/backend.h"
#include "tests/conformance/operator.h"
#include "tests/conformance/requests.h"
#include "tests/support/matchers.h"

namespace tidemark::test {

using Mentions = std::vector<std::string>;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The events of a backup that goes well.
inline Story Success() {
  return {"created", "running", "waiting", "pending", "COMPLETED", "concluded", "null"};
}
inline Story Failure() {
  return {"created", "running", "aborting", "COMPLETED(error)", "concluded", "null"};
}
inline Story Cancelled() {
  return {"created", "running", "aborting", "CANCELLED", "concluded", "null"};
}

class Conformance : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Flags for the service, beyond where its socket, state and images are.
  virtual std::vector<std::string> Flags() const { return {}; }

  World& world() { return *world_; }
  TempFolder& folder() { return world_->folder(); }
  EventRecorder& events() { return world_->events(); }
  Operator& operate() { return *operate_; }
  // The guest of a disk, connected when it is first called for.
  Guest& guest(const std::string& node = "disk0");
  // Where that guest finds its disk.
  NbdPlace PlaceOf(const std::string& node);
  // Disconnects the guest and takes its export away, so that the node can be closed.
  void Unplug(const std::string& node = "disk0");
  Image image(const std::string& node) { return Image(operate().FileOf(node)); }
  // What the guest of a disk has written, also after Unplug. Zeroes to begin with.
  std::shared_ptr<ByteModel> ModelOf(const std::string& node);

  // A disk full of data, so that a copy of it takes its time.
  void CreateFullDisk(const std::string& node = "disk0", uint64_t size_bytes = kDiskBytes);

  // Closes all disks and expects that their images are sound.
  void DetachAndCheck(const std::vector<std::string>& nodes);

  // Ends the service and starts it again on the same files.
  void Restart(bool crash);

  // The request is refused for `reason`, the message names `mentions`, and nothing has changed:
  // nodes, bitmaps, jobs, exports, files and locks are as before.
  template <class Request>
  void ExpectRefused(const Request& request, v1::ErrorReason reason, const Mentions& mentions) {
    const std::string before = operate().Everything();
    EXPECT_THAT(operate().Try(request), Refused(reason, mentions))
        << request.GetTypeName() << " {" << request.ShortDebugString() << "}";
    EXPECT_EQ(operate().Everything(), before) << "after the refusal of " << request.GetTypeName();
  }

 private:
  std::unique_ptr<World> world_;
  std::unique_ptr<Operator> operate_;
  std::map<std::string, std::shared_ptr<ByteModel>> models_;
  std::map<std::string, std::unique_ptr<Guest>> guests_;
  std::vector<std::string> exported_;
};

inline std::string NameOfBackend(const ::testing::TestParamInfo<Backend>& info) {
  return info.param.name;
}

// Puts `fixture` on every engine.
#define ON_EVERY_BACKEND(fixture) \
  INSTANTIATE_TEST_SUITE_P(On, fixture, ::testing::ValuesIn(Backends()), NameOfBackend)

}  // namespace tidemark::test

#endif  // TESTS_CONFORMANCE_CONFORMANCE_H_
