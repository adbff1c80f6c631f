#include "adapters/qmp/schema.h"

#include <gtest/gtest.h>

#include "adapters/qmp/dialect.h"
#include "adapters/qmp/event_reader.h"
#include "adapters/qmp/schema_check.h"
#include "engine/backend/command.h"
#include "engine/base/error.h"
#include "tidemark/block/v1/event.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

// A QEMU that knows little: two drivers, of qcow2 only `file` and `backing`, one event.
constexpr char kSmallSchema[] = R"([
  {"name": "str", "meta-type": "builtin", "json-type": "string"},
  {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
  {"name": "null", "meta-type": "builtin", "json-type": "null"},
  {"name": "empty", "meta-type": "object", "members": []},
  {"name": "driver", "meta-type": "enum", "members": [{"name": "file"}, {"name": "qcow2"}],
   "values": ["file", "qcow2"]},
  {"name": "detect", "meta-type": "enum", "values": ["off", "on"]},
  {"name": "options", "meta-type": "object", "tag": "driver",
   "members": [{"name": "driver", "type": "driver"},
               {"name": "node-name", "type": "str", "default": null},
               {"name": "read-only", "type": "bool", "default": null},
               {"name": "detect-zeroes", "type": "detect", "default": null}],
   "variants": [{"case": "file", "type": "file"}, {"case": "qcow2", "type": "qcow2"}]},
  {"name": "file", "meta-type": "object", "members": [{"name": "filename", "type": "str"}]},
  {"name": "ref", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "options"}]},
  {"name": "qcow2", "meta-type": "object",
   "members": [{"name": "file", "type": "ref"}, {"name": "backing", "type": "ref",
                "default": null}]},
  {"name": "blockdev-add", "meta-type": "command", "arg-type": "options", "ret-type": "empty"},
  {"name": "actions", "meta-type": "array", "element-type": "action"},
  {"name": "kind", "meta-type": "enum", "values": ["abort"]},
  {"name": "action", "meta-type": "object", "tag": "type",
   "members": [{"name": "type", "type": "kind"}], "variants": []},
  {"name": "transaction-arg", "meta-type": "object",
   "members": [{"name": "actions", "type": "actions"}]},
  {"name": "transaction", "meta-type": "command", "arg-type": "transaction-arg",
   "ret-type": "empty"},
  {"name": "JOB_STATUS_CHANGE", "meta-type": "event", "arg-type": "empty"}
])";

std::shared_ptr<const Schema> Small() {
  auto schema = Schema::Parse(Json::parse(kSmallSchema));
  EXPECT_TRUE(schema.ok()) << schema.status();
  return *schema;
}

const backend::Command& CommandOf(const google::protobuf::Message& request) {
  return *backend::CommandIndex::Get().ByRequest(request.GetDescriptor());
}

absl::Status Check(const google::protobuf::Message& request) {
  return CheckSupported(*Small(), "7.2.0", CommandOf(request), request);
}

std::string FieldOf(const absl::Status& status) {
  const auto details = DetailsOf(status);
  if (!details.has_value() || details->reason != Reason::kFieldUnsupported) return "";
  return details->metadata[0].second;
}

v1::BlockdevAddRequest AddQcow2() {
  v1::BlockdevAddRequest request;
  request.set_instance("never sent");
  request.mutable_options()->set_node_name("disk0");
  auto& qcow2 = *request.mutable_options()->mutable_qcow2();
  qcow2.mutable_file()->mutable_definition()->mutable_file()->set_filename("/disk0");
  return request;
}

TEST(Schema, PassesWhatItKnowsDownToInlineChildren) {
  EXPECT_TRUE(Check(AddQcow2()).ok()) << Check(AddQcow2());
}

TEST(Schema, NamesAFieldThatIsNotKnownByItsPathInTheProto) {
  v1::BlockdevAddRequest request = AddQcow2();
  request.mutable_options()->mutable_qcow2()->set_discard_no_unref(true);
  const absl::Status status = Check(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(FieldOf(status), "options.qcow2.discard_no_unref");
  EXPECT_NE(status.message().find("7.2.0"), absl::string_view::npos) << status;
}

TEST(Schema, NamesAFieldOfAChild) {
  v1::BlockdevAddRequest request = AddQcow2();
  auto& child = *request.mutable_options()->mutable_qcow2()->mutable_file()->mutable_definition();
  child.mutable_file()->set_locking(v1::ON_OFF_AUTO_OFF);
  EXPECT_EQ(FieldOf(Check(request)), "options.qcow2.file.definition.file.locking");
}

TEST(Schema, NamesACaseOfAUnion) {
  v1::BlockdevAddRequest request;
  request.mutable_options()->set_node_name("disk0");
  request.mutable_options()->mutable_null_co();
  EXPECT_EQ(FieldOf(Check(request)), "options.null_co");
}

TEST(Schema, NamesAnAlternativeThatIsMissing) {
  v1::BlockdevAddRequest request = AddQcow2();
  request.mutable_options()->mutable_qcow2()->mutable_backing()->set_reference("base");
  EXPECT_TRUE(Check(request).ok()) << Check(request);
  request.mutable_options()->mutable_qcow2()->mutable_backing()->mutable_none();
  EXPECT_EQ(FieldOf(Check(request)), "options.qcow2.backing.none");
}

TEST(Schema, NamesAValueOfAnEnum) {
  v1::BlockdevAddRequest request = AddQcow2();
  request.mutable_options()->set_detect_zeroes(v1::BLOCKDEV_DETECT_ZEROES_OPTIONS_ON);
  EXPECT_TRUE(Check(request).ok()) << Check(request);
  request.mutable_options()->set_detect_zeroes(v1::BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP);
  EXPECT_EQ(FieldOf(Check(request)), "options.detect_zeroes");
  EXPECT_NE(Check(request).message().find("'unmap'"), absl::string_view::npos);
}

TEST(Schema, NamesAnElementOfAList) {
  v1::TransactionRequest request;
  request.add_actions()->mutable_abort();
  EXPECT_TRUE(Check(request).ok()) << Check(request);
  request.add_actions()->mutable_blockdev_backup();
  EXPECT_EQ(FieldOf(Check(request)), "actions[1].blockdev_backup");
}

TEST(Schema, NamesACommand) {
  const absl::Status status = Check(v1::BlockdevDelRequest());
  ASSERT_TRUE(DetailsOf(status).has_value());
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kCommandUnsupported);
}

TEST(Schema, ListsBeforehandWhatItWouldRefuse) {
  const std::vector<std::string> fields = UnsupportedFields(*Small(), CommandOf(AddQcow2()));
  const auto lists = [&](const char* path) {
    return std::find(fields.begin(), fields.end(), path) != fields.end();
  };
  EXPECT_TRUE(lists("options.null_co"));
  EXPECT_TRUE(lists("options.qcow2.discard_no_unref"));
  EXPECT_TRUE(lists("options.qcow2.backing.none"));
  EXPECT_FALSE(lists("options.qcow2.file"));
  EXPECT_FALSE(lists("instance"));
}

TEST(Schema, RefusesWhatIsNoSchema) {
  for (const char* const text :
       {R"({})", R"([1])", R"([{"name": "x"}])", R"([{"meta-type": "enum"}])",
        R"([{"name": "x", "meta-type": "array", "element-type": "missing"}])",
        R"([{"name": "x", "meta-type": "command", "arg-type": 3, "ret-type": "x"}])",
        R"([{"name": "x", "meta-type": "star"}])"}) {
    EXPECT_EQ(Schema::Parse(Json::parse(text)).status().code(), absl::StatusCode::kInternal)
        << text;
  }
}

TEST(Dialect, IsSharedByEqualAnswersAlone) {
  DialectCache cache;
  const auto first = cache.Get("7.2.0", Json::parse(kSmallSchema));
  const auto again = cache.Get("7.2.0", Json::parse(kSmallSchema));
  const auto newer = cache.Get("7.2.1", Json::parse(kSmallSchema));
  ASSERT_TRUE(first.ok() && again.ok() && newer.ok());
  EXPECT_EQ(*first, *again);
  EXPECT_NE(*first, *newer);
  const backend::Capabilities& capabilities = *(*first)->capabilities;
  EXPECT_EQ(capabilities.engine, backend::EngineKind::kQemu);
  EXPECT_EQ(capabilities.version, "7.2.0");
  EXPECT_EQ(capabilities.commands, (std::set<std::string>{"blockdev-add", "transaction"}));
  EXPECT_EQ(capabilities.details.drivers_size(), 2);
}

TEST(EventReader, ReadsKindTimeAndData) {
  uint64_t unknown = 0;
  const auto event = ReadEvent(
      Json::parse(R"({"event": "JOB_STATUS_CHANGE", "data": {"id": "j", "status": "running"},
                      "timestamp": {"seconds": 7, "microseconds": 9}})"),
      &unknown);
  ASSERT_TRUE(event.ok() && event->has_value());
  EXPECT_EQ((*event)->job_status_change().id(), "j");
  EXPECT_EQ((*event)->job_status_change().status(), v1::JOB_STATUS_RUNNING);
  EXPECT_EQ((*event)->time().seconds(), 7);
  EXPECT_EQ((*event)->time().nanos(), 9'000);
  EXPECT_EQ(unknown, 0u);
}

TEST(EventReader, LeavesTheTimeOpenIfQemuDoesNotKnowIt) {
  const auto event = ReadEvent(
      Json::parse(R"({"event": "JOB_STATUS_CHANGE", "data": {"id": "j", "status": "flying"},
                      "timestamp": {"seconds": -1, "microseconds": -1}})"),
      nullptr);
  ASSERT_TRUE(event.ok() && event->has_value());
  EXPECT_FALSE((*event)->has_time());
  EXPECT_EQ((*event)->job_status_change().status(), v1::JOB_STATUS_UNSPECIFIED);
}

TEST(EventReader, PassesOverEventsThatTheApiDoesNotHave) {
  const auto event = ReadEvent(Json::parse(R"({"event": "RTC_CHANGE", "data": {}})"), nullptr);
  ASSERT_TRUE(event.ok());
  EXPECT_FALSE(event->has_value());
}

TEST(EventReader, RefusesDataOfAnotherType) {
  EXPECT_FALSE(
      ReadEvent(Json::parse(R"({"event": "JOB_STATUS_CHANGE", "data": {"id": 3}})"), nullptr).ok());
  EXPECT_FALSE(ReadEvent(Json::parse(R"({"event": 3})"), nullptr).ok());
}

}  // namespace
}  // namespace tidemark::qmp
