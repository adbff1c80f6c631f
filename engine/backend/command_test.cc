#include "engine/backend/command.h"

#include <set>

#include "absl/strings/match.h"
#include "engine/backend/backend.h"
#include "engine/base/error.h"
#include "gtest/gtest.h"
#include "qmp/options.pb.h"
#include "tidemark/block/v1/common.pb.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/job_watch.pb.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;

TEST(CommandIndex, FindsACommandByRequestTypeByQmpNameAndByRpcName) {
  const CommandIndex& index = CommandIndex::Get();
  const Command* const command = index.ByQmpName("blockdev-backup");
  ASSERT_NE(command, nullptr);
  EXPECT_EQ(index.ByRequest(v1::BlockdevBackupRequest::descriptor()), command);
  EXPECT_EQ(index.ByRpcName("tidemark.block.v1.JobService/BlockdevBackup"), command);
  EXPECT_EQ(index.ByRpcName("/tidemark.block.v1.JobService/BlockdevBackup"), command);
  EXPECT_EQ(index.ByRpcName("tidemark.block.v1.JobService.BlockdevBackup"), command);
  EXPECT_EQ(command->kind, CommandKind::kGraph);
  EXPECT_EQ(command->deprecated, "");
  EXPECT_EQ(command->request_instance->name(), "instance");
  EXPECT_EQ(command->response_event_sequence->name(), "event_sequence");
}

TEST(CommandIndex, KnowsKindsAndDeprecation) {
  const CommandIndex& index = CommandIndex::Get();
  EXPECT_EQ(index.ByQmpName("query-jobs")->kind, CommandKind::kQuery);
  EXPECT_EQ(index.ByQmpName("job-cancel")->kind, CommandKind::kJobVerb);
  EXPECT_TRUE(absl::StrContains(index.ByQmpName("drive-backup")->deprecated, "BlockdevBackup"));
}

TEST(CommandIndex, MethodsOfTidemarkItselfAreNoCommands) {
  const CommandIndex& index = CommandIndex::Get();
  EXPECT_EQ(index.ByRequest(v1::GetJobRequest::descriptor()), nullptr);
  EXPECT_EQ(index.ByRpcName("tidemark.block.v1.JobService/GetJob"), nullptr);
  EXPECT_EQ(index.ByQmpName("no-such-command"), nullptr);
  EXPECT_EQ(index.ByRpcName(""), nullptr);
}

TEST(CommandIndex, EveryCommandSaysItsKindAndChangesCarryASequence) {
  for (const auto& command : CommandIndex::Get().commands()) {
    SCOPED_TRACE(command->rpc_name);
    EXPECT_NE(command->method->options().GetExtension(qmp::kind), qmp::KIND_UNSPECIFIED);
    EXPECT_NE(command->request_instance, nullptr);
    EXPECT_EQ(command->response_event_sequence != nullptr, command->kind != CommandKind::kQuery);
  }
}

// Answers BlockdevAdd and refuses all else.
class SmallBackend final : public Backend {
 public:
  void Call(const Command& command, const google::protobuf::Message& request,
            google::protobuf::Message* result, Done done) override {
    if (command.qmp_name != "blockdev-add") {
      return done(Error(Reason::kCommandUnsupported, command.qmp_name));
    }
    static_cast<v1::BlockdevAddResponse*>(result)->set_event_sequence(
        static_cast<const v1::BlockdevAddRequest&>(request).instance().size());
    done(absl::OkStatus());
  }
  std::shared_ptr<const Capabilities> capabilities() const override { return nullptr; }
};

TEST(Invoke, GivesTheTypedResponse) {
  SmallBackend backend;
  v1::BlockdevAddRequest request;
  request.set_instance("four");
  const auto response = InvokeAndWait<v1::BlockdevAddResponse>(backend, request);
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->event_sequence(), 4u);
}

TEST(Invoke, GivesTheRefusal) {
  SmallBackend backend;
  const auto response = InvokeAndWait<v1::BlockdevDelResponse>(backend, v1::BlockdevDelRequest());
  EXPECT_EQ(response.status().code(), absl::StatusCode::kUnimplemented);
}

// The table of errors and the API must name the same reasons with the same codes.
TEST(Reasons, AreThoseOfTheApiWithTheirStatusCodes) {
  std::set<std::string> seen;
  for (int i = 0; i <= static_cast<int>(Reason::kQemuRefused); ++i) {
    const Reason reason = static_cast<Reason>(i);
    v1::ErrorReason value = v1::ERROR_REASON_UNSPECIFIED;
    ASSERT_TRUE(v1::ErrorReason_Parse("ERROR_REASON_" + std::string(NameOf(reason)), &value))
        << NameOf(reason);
    EXPECT_EQ(
        v1::ErrorReason_descriptor()->FindValueByNumber(value)->options().GetExtension(qmp::status),
        absl::StatusCodeToString(CodeOf(reason)))
        << NameOf(reason);
    seen.insert(v1::ErrorReason_Name(value));
  }
  EXPECT_EQ(seen.size() + 1, static_cast<size_t>(v1::ErrorReason_descriptor()->value_count()));
}

}  // namespace
}  // namespace tidemark::backend
