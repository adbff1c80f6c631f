#include "adapters/qmp/message.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

using ::testing::HasSubstr;

TEST(MessageTest, AGreetingTellsTheVersion) {
  const auto message = ReadMessage(
      R"({"QMP":{"version":{"qemu":{"micro":19,"minor":2,"major":7},"package":"Debian 1:7.2"},)"
      R"("capabilities":["x","oob"]}})");
  ASSERT_TRUE(message.ok()) << message.status();
  const Greeting& greeting = absl::get<Greeting>(*message);
  EXPECT_EQ(greeting.version, "7.2.19");
  EXPECT_EQ(greeting.package, "Debian 1:7.2");
  EXPECT_TRUE(greeting.oob);
}

TEST(MessageTest, AnEventIsKeptWhole) {
  const auto message = ReadMessage(R"({"timestamp":{"seconds":5},"event":"E","data":{"a":1}})");
  ASSERT_TRUE(message.ok());
  const Json& event = absl::get<Event>(*message).object;
  EXPECT_EQ(event["event"], "E");
  EXPECT_EQ(event["data"]["a"], 1);
  EXPECT_EQ(event["timestamp"]["seconds"], 5);
}

TEST(MessageTest, AReplyHasAValueOrAnErrorAndAnId) {
  const auto value = ReadMessage(R"({"return":[1,2],"id":7})");
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(absl::get<Answer>(*value).id, 7U);
  EXPECT_TRUE(absl::get<Answer>(*value).reply.ok());
  EXPECT_EQ(absl::get<Answer>(*value).reply.value, Json::array({1, 2}));

  const auto error = ReadMessage(R"({"id":8,"error":{"class":"GenericError","desc":"no"}})");
  ASSERT_TRUE(error.ok());
  EXPECT_EQ(absl::get<Answer>(*error).id, 8U);
  EXPECT_FALSE(absl::get<Answer>(*error).reply.ok());
  EXPECT_EQ(absl::get<Answer>(*error).reply.error->desc, "no");
}

TEST(MessageTest, AnIdOfAnotherKindIsNobodys) {
  for (const char* id : {"\"a\"", "-1", "null", "{}", "1.5"}) {
    const auto message = ReadMessage(std::string("{\"return\":{},\"id\":") + id + "}");
    ASSERT_TRUE(message.ok()) << id;
    EXPECT_FALSE(absl::get<Answer>(*message).id.has_value()) << id;
  }
}

TEST(MessageTest, OtherLinesAreRefusedWithTheReason) {
  const std::pair<const char*, const char*> cases[] = {
      {"hello", "no valid JSON"},
      {"[]", "no object"},
      {"3", "no object"},
      {"{}", "neither greeting, event nor reply"},
      {R"({"return":{}})", "reply for no command"},
      {R"({"error":{"class":"GenericError","desc":"JSON parse error"}})",
       "an error for no command"},
      {R"({"error":{"class":"GenericError"},"id":1})", "without class or desc"},
      {R"({"error":{"desc":"x"},"id":1})", "without class or desc"},
      {R"({"error":"x","id":1})", "without class or desc"},
      {R"({"error":{"class":1,"desc":2},"id":1})", "without class or desc"},
      {R"({"event":5})", "name is no string"},
      {R"({"event":"E","data":[]})", "data is no object"},
      {R"({"QMP":5})", "without QEMU's version"},
      {R"({"QMP":{"version":{}}})", "without QEMU's version"},
      {R"({"QMP":{"version":{"qemu":{"major":"7"}}}})", "strange version"},
      {R"({"QMP":{"version":{"qemu":{"major":7,"minor":-2,"micro":0}}}})", "strange version"},
  };
  for (const auto& [line, why] : cases) {
    const auto message = ReadMessage(line);
    ASSERT_FALSE(message.ok()) << line;
    EXPECT_THAT(std::string(message.status().message()), HasSubstr(why)) << line;
  }
}

TEST(MessageTest, ACommandIsOneLine) {
  EXPECT_EQ(*CommandLine("query-jobs", Json()) + EndOfLine(3),
            "{\"execute\":\"query-jobs\",\"id\":3}\n");
  EXPECT_EQ(*CommandLine("a", {{"text", "x\ny"}}) + EndOfLine(4),
            "{\"execute\":\"a\",\"arguments\":{\"text\":\"x\\ny\"},\"id\":4}\n");
  EXPECT_FALSE(CommandLine("a", {{"text", "\xff"}}).ok());
}

TEST(MessageTest, NoArgumentsAreNotSent) {
  EXPECT_EQ(*CommandLine("query-jobs", Json::object()), *CommandLine("query-jobs", Json()));
}

}  // namespace
}  // namespace tidemark::qmp
