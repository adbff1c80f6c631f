#include "adapters/qmp/transcoder.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/base/error_metadata.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "qmp/options.pb.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/event.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::Message;
using google::protobuf::MessageFactory;
using google::protobuf::MethodDescriptor;
using google::protobuf::Reflection;
using google::protobuf::util::MessageDifferencer;

template <typename T>
T Read(const std::string& json, Strictness strictness = Strictness::kRequest) {
  T message;
  const absl::Status status = FromJson(Json::parse(json), strictness, &message);
  EXPECT_TRUE(status.ok()) << status;
  return message;
}

// The field that the refusal of `json` names; empty, with a failure, if it is not refused.
template <typename T>
std::string RefusedField(const std::string& json, Strictness strictness = Strictness::kRequest) {
  T message;
  const absl::Status status = FromJson(Json::parse(json), strictness, &message);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return MetadataOf(status, "field");
}

TEST(TranscoderTest, AUnionsCaseLiesFlatBesideItsTag) {
  const auto request = Read<v1::BlockdevAddRequest>(
      R"({"driver":"qcow2","node-name":"disk0","file":{"driver":"file","filename":"/x"}})");
  EXPECT_EQ(request.options().node_name(), "disk0");
  EXPECT_EQ(request.options().qcow2().file().definition().file().filename(), "/x");
  EXPECT_EQ(ToJson(request).dump(),
            R"({"node-name":"disk0","driver":"qcow2","file":{"driver":"file","filename":"/x"}})");
}

TEST(TranscoderTest, AWrappedUnionsCaseLiesInData) {
  const std::string json =
      R"({"actions":[{"type":"block-dirty-bitmap-add","data":{"node":"disk0","name":"b0"}},)"
      R"({"type":"abort","data":{}}]})";
  const auto request = Read<v1::TransactionRequest>(json);
  ASSERT_EQ(request.actions_size(), 2);
  EXPECT_EQ(request.actions(0).block_dirty_bitmap_add().name(), "b0");
  EXPECT_TRUE(request.actions(1).has_abort());
  EXPECT_EQ(ToJson(request).dump(), json);
}

TEST(TranscoderTest, ACaseMayHaveANameOfItsOwnAndTheProtosName) {
  for (const char* name : {"unix", "unix_socket"}) {
    const auto request = Read<v1::NbdServerStartRequest>(std::string(R"({"addr":{"type":")") +
                                                         name + R"(","data":{"path":"/s"}}})");
    EXPECT_EQ(request.addr().unix_socket().path(), "/s");
  }
}

TEST(TranscoderTest, AWrappedCaseWithoutDataOrWithAnUnknownTagIsRefusedByPath) {
  EXPECT_EQ(RefusedField<v1::TransactionRequest>(R"({"actions":[{"type":"abort"}]})"),
            "actions[0].data");
  EXPECT_EQ(RefusedField<v1::TransactionRequest>(R"({"actions":[{"type":"vanish","data":{}}]})"),
            "actions[0].type");
  EXPECT_EQ(RefusedField<v1::TransactionRequest>(
                R"({"actions":[{"type":"abort","data":{"node":"disk0"}}]})"),
            "actions[0].data.node");
}

TEST(TranscoderTest, AMemberOfAnotherCaseIsUnknown) {
  EXPECT_EQ(RefusedField<v1::BlockdevAddRequest>(R"({"driver":"null-co","file":"disk0"})"), "file");
}

TEST(TranscoderTest, AnAlternateIsToldByItsJsonType) {
  auto request = Read<v1::BlockdevAddRequest>(R"({"driver":"qcow2","file":"f0","backing":null})");
  EXPECT_EQ(request.options().qcow2().file().reference(), "f0");
  EXPECT_TRUE(request.options().qcow2().backing().has_none());
  EXPECT_EQ(ToJson(request).dump(), R"({"driver":"qcow2","file":"f0","backing":null})");
  request = Read<v1::BlockdevAddRequest>(R"({"driver":"qcow2","file":"f0"})");
  EXPECT_FALSE(request.options().qcow2().has_backing());
  EXPECT_EQ(RefusedField<v1::BlockdevAddRequest>(R"({"driver":"qcow2","file":7})"), "file");
  EXPECT_EQ(RefusedField<v1::BlockdevAddRequest>(R"({"driver":"qcow2","file":null})"), "file");
}

TEST(TranscoderTest, AStringCaseIsNotNullUnlessTyped) {
  const std::string json = R"({"driver":"qcow2","file":"f0","backing":"null"})";
  EXPECT_EQ(Read<v1::BlockdevAddRequest>(json).options().qcow2().backing().reference(), "null");
  EXPECT_TRUE(Read<v1::BlockdevAddRequest>(json, Strictness::kTyped)
                  .options()
                  .qcow2()
                  .backing()
                  .has_none());
}

TEST(TranscoderTest, TheWholeIsTheArgumentsOrTheReturnedValue) {
  v1::QueryJobsResponse response;
  response.add_jobs()->set_id("job0");
  EXPECT_EQ(ToJson(response).dump(), R"([{"id":"job0"}])");
  EXPECT_EQ(ToJson(response, {.with_local = true}).dump(), R"({"jobs":[{"id":"job0"}]})");
  const auto read = Read<v1::QueryJobsResponse>(R"([{"id":"job0"}])", Strictness::kReply);
  EXPECT_EQ(read.jobs(0).id(), "job0");
  EXPECT_EQ(ToJson(v1::QueryJobsResponse()).dump(), "[]");
}

TEST(TranscoderTest, LocalFieldsStayHere) {
  v1::BlockdevBackupRequest request;
  request.set_instance("vm0");
  request.set_device("disk0");
  EXPECT_EQ(ToJson(request).dump(), R"({"device":"disk0"})");
  EXPECT_EQ(ToJson(request, {.with_local = true})["instance"], "vm0");
}

TEST(TranscoderTest, IntegersAreExactToTheirLastBit) {
  for (const int64_t value :
       {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(),
        int64_t{9007199254740993}, int64_t{-1}, int64_t{1}}) {
    v1::BlockJobSetSpeedRequest request;
    request.set_speed(value);
    const std::string text = ToJson(request).dump();
    EXPECT_EQ(text, "{\"speed\":" + std::to_string(value) + "}");
    EXPECT_EQ(Read<v1::BlockJobSetSpeedRequest>(text).speed(), value);
    EXPECT_EQ(Read<v1::BlockJobSetSpeedRequest>("{\"speed\":\"" + std::to_string(value) + "\"}",
                                                Strictness::kTyped)
                  .speed(),
              value);
  }
  constexpr uint64_t kUnsignedMax = std::numeric_limits<uint64_t>::max();
  const std::string after = "{\"after\":" + std::to_string(kUnsignedMax) + "}";
  EXPECT_EQ(Read<v1::WatchEventsRequest>(after).after(), kUnsignedMax);
}

TEST(TranscoderTest, IntegersOutOfRangeAndOtherTypesAreRefused) {
  for (const char* speed : {"9223372036854775808", "-9223372036854775809", "1.0", "1e3", "\"1\"",
                            "true", "null", "[1]", "{}"}) {
    EXPECT_EQ(RefusedField<v1::BlockJobSetSpeedRequest>(std::string("{\"speed\":") + speed + "}"),
              "speed")
        << speed;
  }
  EXPECT_EQ(RefusedField<v1::WatchEventsRequest>(R"({"after":-1})"), "after");
  EXPECT_EQ(RefusedField<v1::BlockDirtyBitmapAddRequest>(R"({"granularity":4294967296})"),
            "granularity");
  for (const char* speed : {"\"\"", "\"1k\"", "\"0x10\"", "\"9223372036854775808\""}) {
    EXPECT_EQ(RefusedField<v1::BlockJobSetSpeedRequest>(std::string("{\"speed\":") + speed + "}",
                                                        Strictness::kTyped),
              "speed")
        << speed;
  }
}

TEST(TranscoderTest, EnumsTakeQmpsNameAndTheProtosAndNeverUnspecified) {
  for (const char* sync : {"full", "MIRROR_SYNC_MODE_FULL"}) {
    EXPECT_EQ(Read<v1::BlockdevBackupRequest>(std::string("{\"sync\":\"") + sync + "\"}").sync(),
              v1::MIRROR_SYNC_MODE_FULL);
  }
  for (const char* sync : {"FULL", "unspecified", "MIRROR_SYNC_MODE_UNSPECIFIED", "", "most"}) {
    EXPECT_EQ(RefusedField<v1::BlockdevBackupRequest>(std::string("{\"sync\":\"") + sync + "\"}"),
              "sync")
        << sync;
  }
  const auto request =
      Read<v1::BlockdevAddRequest>(R"({"driver":"file","filename":"/x","aio":"io_uring"})");
  EXPECT_EQ(ToJson(request)["aio"], "io_uring");
}

TEST(TranscoderTest, AnEnumValueFromTheFutureIsWrittenSomehow) {
  v1::JobInfo info;
  info.set_status(static_cast<v1::JobStatus>(4711));
  EXPECT_NE(ToJson(info)["status"].get<std::string>().find("4711"), std::string::npos);
}

TEST(TranscoderTest, UnknownMembersAreRefusedInRequestsAndCountedInReplies) {
  EXPECT_EQ(RefusedField<v1::JobCancelRequest>(R"({"id":"j","colour":1})"), "colour");
  v1::QueryJobsResponse response;
  uint64_t unknown_count = 0;
  const Json json =
      Json::parse(R"([{"id":"j","colour":1,"type":"paint","status":"running","mood":{"a":1}}])");
  ASSERT_TRUE(FromJson(json, Strictness::kReply, &response, &unknown_count).ok());
  EXPECT_EQ(unknown_count, 3u);
  EXPECT_EQ(response.jobs(0).type(), v1::JOB_TYPE_UNSPECIFIED);
  EXPECT_EQ(response.jobs(0).status(), v1::JOB_STATUS_RUNNING);
}

TEST(TranscoderTest, MembersHaveTwoNamesAndAreGivenOnce) {
  EXPECT_EQ(Read<v1::BlockdevBackupRequest>(R"({"job_id":"j"})").job_id(), "j");
  EXPECT_EQ(Read<v1::BlockdevBackupRequest>(R"({"job-id":"j"})").job_id(), "j");
  EXPECT_EQ(RefusedField<v1::BlockdevBackupRequest>(R"({"job-id":"j","job_id":"k"})"), "job-id");
}

TEST(TranscoderTest, TypedWordsBecomeWhatTheFieldWants) {
  const auto request = Read<v1::BlockdevBackupRequest>(
      R"({"speed":"1000","compress":"on","auto-finalize":"false"})", Strictness::kTyped);
  EXPECT_EQ(request.speed(), 1000);
  EXPECT_TRUE(request.compress());
  EXPECT_TRUE(request.has_auto_finalize());
  EXPECT_FALSE(request.auto_finalize());
  EXPECT_EQ(RefusedField<v1::BlockdevBackupRequest>(R"({"compress":"on"})"), "compress");
  EXPECT_EQ(RefusedField<v1::BlockdevBackupRequest>(R"({"compress":"maybe"})", Strictness::kTyped),
            "compress");
}

TEST(TranscoderTest, ATypedListHasCommasBetween) {
  const auto request =
      Read<v1::ListJobsRequest>(R"({"node-names":"a,b","types":"backup"})", Strictness::kTyped);
  EXPECT_EQ(ToJson(request).dump(), R"({"types":["backup"],"node-names":["a","b"]})");
  EXPECT_EQ(RefusedField<v1::ListJobsRequest>(R"({"node-names":"a"})"), "node-names");
}

TEST(TranscoderTest, DurationsAndTimesAreText) {
  auto request = Read<v1::WaitJobRequest>(R"({"id":"j","timeout":"1.5s"})");
  EXPECT_EQ(request.timeout().seconds(), 1);
  EXPECT_EQ(request.timeout().nanos(), 500000000);
  EXPECT_EQ(ToJson(request)["timeout"], "1.500s");
  request = Read<v1::WaitJobRequest>(R"({"id":"j","timeout":"5"})", Strictness::kTyped);
  EXPECT_EQ(request.timeout().seconds(), 5);
  for (const char* timeout : {"\"soon\"", "5", "\"5\"", "\"\"", "\"inf\"", "null"}) {
    EXPECT_EQ(RefusedField<v1::WaitJobRequest>(std::string("{\"timeout\":") + timeout + "}"),
              "timeout")
        << timeout;
  }
  v1::Job job;
  job.mutable_start_time()->set_seconds(1772366400);
  EXPECT_EQ(ToJson(job)["start-time"], "2026-03-01T12:00:00Z");
  EXPECT_EQ(Read<v1::Job>(R"({"start-time":"2026-03-01T12:00:00Z"})").start_time().seconds(),
            1772366400);
}

TEST(TranscoderTest, ZerosAreShownWhenAskedFor) {
  v1::JobInfo info;
  info.set_id("j");
  EXPECT_EQ(ToJson(info).dump(), R"({"id":"j"})");
  EXPECT_EQ(ToJson(info, {.with_zeros = true}).dump(),
            R"({"id":"j","current-progress":0,"total-progress":0})");
}

TEST(TranscoderTest, HostileDepthIsRefused) {
  std::string json = R"("end")";
  for (int i = 0; i < 1000; ++i) json = R"({"driver":"raw","file":)" + json + "}";
  EXPECT_FALSE(RefusedField<v1::BlockdevAddRequest>(json).empty());
}

TEST(TranscoderTest, AMessageMustBeAnObject) {
  for (const char* json : {"[]", "\"x\"", "null", "3"}) {
    v1::JobCancelRequest request;
    EXPECT_FALSE(FromJson(Json::parse(json), Strictness::kRequest, &request).ok()) << json;
  }
}

// Fills messages with legal values by chance.
class Filler {
 public:
  explicit Filler(uint32_t seed) : random_(seed) {}

  void Fill(Message* message, int depth) {
    const Descriptor& type = *message->GetDescriptor();
    if (type.file()->package() == "google.protobuf") return;
    for (int i = 0; i < type.oneof_decl_count(); ++i) {
      const auto& oneof = *type.oneof_decl(i);
      if (oneof.field(0)->real_containing_oneof() == nullptr) continue;
      // The case of least depth when it gets deep: recursion goes through one case only.
      const int chosen = depth > 6 ? 0 : Below(oneof.field_count());
      Set(message, *oneof.field(chosen), depth);
    }
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      if (field.real_containing_oneof() != nullptr) continue;
      if (field.options().GetExtension(::qmp::local) != ::qmp::LOCAL_UNSPECIFIED) continue;
      // Below 6, only what stops: a message beside a union would go on forever.
      const bool message_field = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
      const bool whole = field.options().GetExtension(::qmp::whole);
      if (!whole && (Below(2) == 0 || (message_field && depth > 6))) continue;
      const int count = field.is_repeated() ? 1 + Below(3) : 1;
      for (int j = 0; j < count; ++j) Set(message, field, depth);
    }
  }

 private:
  int Below(int end) { return static_cast<int>(random_() % static_cast<uint64_t>(end)); }

  void Set(Message* message, const FieldDescriptor& field, int depth) {
    const Reflection& r = *message->GetReflection();
    const bool list = field.is_repeated();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Fill(list ? r.AddMessage(message, &field) : r.MutableMessage(message, &field),
                    depth + 1);
      case FieldDescriptor::CPPTYPE_STRING: {
        const std::string text = "text" + std::to_string(random_());
        return list ? r.AddString(message, &field, text) : r.SetString(message, &field, text);
      }
      case FieldDescriptor::CPPTYPE_BOOL:
        return list ? r.AddBool(message, &field, true)
                    : r.SetBool(message, &field, !field.has_presence() || Below(2) == 0);
      case FieldDescriptor::CPPTYPE_ENUM: {
        const auto* const value =
            field.enum_type()->value(1 + Below(field.enum_type()->value_count() - 1));
        return list ? r.AddEnum(message, &field, value) : r.SetEnum(message, &field, value);
      }
      case FieldDescriptor::CPPTYPE_INT32: {
        const auto value = static_cast<int32_t>(random_() | 1);
        return list ? r.AddInt32(message, &field, value) : r.SetInt32(message, &field, value);
      }
      case FieldDescriptor::CPPTYPE_INT64: {
        const auto value = static_cast<int64_t>(random_() | 1);
        return list ? r.AddInt64(message, &field, value) : r.SetInt64(message, &field, value);
      }
      case FieldDescriptor::CPPTYPE_UINT32: {
        const auto value = static_cast<uint32_t>(random_() | 1);
        return list ? r.AddUInt32(message, &field, value) : r.SetUInt32(message, &field, value);
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        const uint64_t value = random_() | 1;
        return list ? r.AddUInt64(message, &field, value) : r.SetUInt64(message, &field, value);
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        const double value = static_cast<double>(random_() % 1000000 + 1) / 64;
        return list ? r.AddDouble(message, &field, value) : r.SetDouble(message, &field, value);
      }
      default:
        FAIL() << field.full_name() << " is of a type that QMP's JSON does not have";
    }
  }

  std::mt19937_64 random_;
};

std::vector<const MethodDescriptor*> Commands() {
  std::vector<const MethodDescriptor*> commands;
  for (const FileDescriptor* file :
       {v1::BlockdevAddRequest::descriptor()->file(), v1::JobCancelRequest::descriptor()->file(),
        DescriptorPool::generated_pool()->FindFileByName("tidemark/block/v1/job.proto"),
        v1::BlockDirtyBitmapAddRequest::descriptor()->file(),
        v1::TransactionRequest::descriptor()->file(),
        v1::NbdServerStartRequest::descriptor()->file(),
        v1::WatchEventsRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        commands.push_back(file->service(i)->method(j));
      }
    }
  }
  return commands;
}

void ExpectRoundTrip(const Descriptor& type, Strictness strictness, uint32_t seed) {
  const Message* const prototype = MessageFactory::generated_factory()->GetPrototype(&type);
  const std::unique_ptr<Message> message(prototype->New());
  Filler(seed).Fill(message.get(), 0);
  const std::string text = ToJson(*message).dump();
  const std::unique_ptr<Message> read(prototype->New());
  const absl::Status status = FromJson(Json::parse(text), strictness, read.get());
  EXPECT_TRUE(status.ok()) << type.full_name() << ": " << status << "\n" << text;
  EXPECT_TRUE(MessageDifferencer::Equals(*message, *read))
      << type.full_name() << " by seed " << seed << "\n"
      << text << "\n"
      << message->DebugString() << read->DebugString();
}

TEST(TranscoderTest, EveryRequestAndEveryReplySurviveTheRoundTrip) {
  const std::vector<const MethodDescriptor*> commands = Commands();
  ASSERT_GT(commands.size(), 40u);
  for (const MethodDescriptor* command : commands) {
    for (uint32_t seed = 0; seed < 50; ++seed) {
      ExpectRoundTrip(*command->input_type(), Strictness::kRequest, seed);
      ExpectRoundTrip(*command->input_type(), Strictness::kTyped, seed);
      ExpectRoundTrip(*command->output_type(), Strictness::kReply, seed);
      if (testing::Test::HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace tidemark::qmp
