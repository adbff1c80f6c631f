// Where clients may have the service connect, and what they learn of what listens there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/instances_world.h"
#include "adapters/qmp/testing/fake_monitor.h"
#include "engine/base/error.h"

namespace tidemark::qmp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(InstancesTest, AddressesThatTheOperatorDoesNotAllowAreForItsFileOnly) {
  v1::CreateInstanceRequest request;
  request.set_id("own");
  request.mutable_address()->mutable_tcp()->set_host("127.0.0.1");
  request.mutable_address()->mutable_tcp()->set_port(1);
  options_.of_file.push_back(request);
  options_.monitors = *AllowedMonitors::Create({"127.0.0.1:2"});
  // As stored by a service that allowed more.
  request.set_id("stored");
  ASSERT_TRUE(store_.SaveInstance(request).ok());
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("'tcp:127.0.0.1:1'")));
  EXPECT_FALSE(instances_->Get("stored").ok());
  const auto create = [&](const std::string& id, uint32_t port) {
    request.set_id(id);
    request.mutable_address()->mutable_tcp()->set_port(port);
    auto promise = std::make_shared<std::promise<absl::StatusOr<v1::Instance>>>();
    instances_->Create(request, [promise](absl::StatusOr<v1::Instance> instance) {
      promise->set_value(std::move(instance));
    });
    return promise->get_future().get();
  };
  EXPECT_TRUE(create("vm", 2).ok());
  const absl::Status refused = create("vm2", 3).status();
  EXPECT_TRUE(HasReason(refused, Reason::kPathForbidden)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("'tcp:127.0.0.1:3'"));
  EXPECT_EQ(create("own", 1)->origin(), v1::INSTANCE_ORIGIN_FILE) << "it is there";
}

// Whatever a client makes the service connect to: what it says is not the client's to read.
TEST_F(InstancesTest, WhatAStrangersPortSaysIsNotTold) {
  const std::string lines[] = {"SSH-2.0-secret\r\n",
                               "{\"secret\": 1}\n",
                               "[\"secret\"]\n",
                               "123456789012345678901234567890\n",
                               "{\"QMP\": {\"version\": {\"qemu\": {\"major\": \"secret\"}}}}\n",
                               "{\"error\": {\"class\": \"secret\", \"desc\": \"secret\"}}\n",
                               "{\"return\": \"secret\", \"id\": 1}\n"};
  ASSERT_TRUE(Start().ok());
  int number = 0;
  for (const std::string& line : lines) {
    const std::string id = absl::StrCat("vm", ++number);
    FakeMonitor stranger(folder_.File(id), line);
    ASSERT_TRUE(Create(id, folder_.File(id)).ok());
    const v1::Instance failed = WaitFor(id, v1::INSTANCE_STATE_FAILED);
    EXPECT_THAT(failed.DebugString(), Not(HasSubstr("secret"))) << line;
    EXPECT_THAT(failed.DebugString(), Not(HasSubstr("1234567890"))) << line;
  }
}

TEST_F(InstancesTest, WhatAStrangerSaysWhoGreetsLikeQemuIsNotToldEither) {
  FakeMonitor stranger(folder_.File("vm"));
  ASSERT_TRUE(Start().ok());
  const auto expect_silence = [&](const std::string& id) {
    ASSERT_TRUE(Create(id, folder_.File("vm")).ok());
    const v1::Instance failed = WaitFor(id, v1::INSTANCE_STATE_FAILED);
    EXPECT_THAT(failed.error(), Not(HasSubstr("secret")));
    EXPECT_TRUE(Delete(id).ok());
  };
  stranger.Fail("query-qmp-schema", "secret", "secret");
  expect_silence("refused");
  stranger.Answer("query-qmp-schema", Json::array({{{"name", "a"}, {"meta-type", "secret"}}}));
  expect_silence("malformed");
  stranger.Fail("qmp_capabilities", "secret", "secret");
  expect_silence("capabilities");
}

}  // namespace
}  // namespace tidemark::qmp
