// Virtual machines are registered, found, watched and forgotten.
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class InstanceScenarios : public ::testing::Test {
 protected:
  v1::CreateInstanceRequest Create(const std::string& id, const std::string& path) {
    v1::CreateInstanceRequest request;
    request.set_id(id);
    request.mutable_address()->mutable_unix_socket()->set_path(path);
    return request;
  }
  v1::GetInstanceRequest Get(const std::string& id) {
    v1::GetInstanceRequest request;
    request.set_id(id);
    return request;
  }
  v1::DeleteInstanceRequest Delete(const std::string& id) {
    v1::DeleteInstanceRequest request;
    request.set_id(id);
    return request;
  }

  TempFolder folder_;
};

TEST_F(InstanceScenarios, AreRegisteredListedAndForgotten) {
  Daemon daemon(&folder_);
  ASSERT_TRUE(daemon.started()) << daemon.Log();
  Client client(daemon.address());
  const std::string path = folder_.File("nobody.sock");
  const auto created = client.Invoke(Create("vm1", path));
  ASSERT_TRUE(created.ok()) << created;
  EXPECT_EQ(created->instance().id(), "vm1");
  EXPECT_EQ(created->instance().origin(), v1::INSTANCE_ORIGIN_API);
  EXPECT_TRUE(client.Invoke(Create("vm1", path)).ok()) << "the same again";
  EXPECT_THAT(client.Invoke(Create("vm1", path + "2")),
              Refused(v1::ERROR_REASON_INSTANCE_EXISTS, (Mentions{"vm1"})));
  EXPECT_EQ(client.Invoke(Get("vm1"))->instance().address().unix_socket().path(), path);
  ASSERT_TRUE(client.Invoke(Create("vm0", path + "0")).ok());
  const auto listed = client.Invoke(v1::ListInstancesRequest());
  ASSERT_EQ(listed->instances_size(), 2);
  EXPECT_EQ(listed->instances(0).id(), "vm0");
  EXPECT_TRUE(client.Invoke(Delete("vm1")).ok());
  EXPECT_THAT(client.Invoke(Delete("vm1")),
              Refused(v1::ERROR_REASON_INSTANCE_NOT_FOUND, (Mentions{"vm1"})));
  EXPECT_THAT(client.Invoke(Get("vm1")),
              Refused(v1::ERROR_REASON_INSTANCE_NOT_FOUND, (Mentions{"vm1"})));
  EXPECT_EQ(daemon.Stop(), 0);
}

// WatchInstances has its scenarios with the machines that it watches.

}  // namespace
}  // namespace tidemark::test
