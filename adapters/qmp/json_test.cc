#include "adapters/qmp/json.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

using ::testing::HasSubstr;

std::string WhyNot(absl::string_view text, const JsonLimits& limits = JsonLimits()) {
  const absl::StatusOr<Json> json = ParseJson(text, limits);
  return json.ok() ? "accepted: " + json->dump() : std::string(json.status().message());
}

std::string Repeated(absl::string_view text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all.append(text.data(), text.size());
  return all;
}

TEST(JsonTest, ReadsEveryKindOfValueInOrder) {
  const char* const text =
      R"({"z":[1,-2,3.5,true,false,null,"t\u00e9\ud83d\ude00"],"a":{"b":{}},"e":[]})";
  const absl::StatusOr<Json> json = ParseJson(text);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->dump(), R"({"z":[1,-2,3.5,true,false,null,"té😀"],"a":{"b":{}},"e":[]})");
}

TEST(JsonTest, IntegersAreExactToTheirLastBit) {
  const absl::StatusOr<Json> json =
      ParseJson("[18446744073709551615, -9223372036854775808, 9007199254740993]");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ((*json)[0].get<uint64_t>(), UINT64_MAX);
  EXPECT_EQ((*json)[1].get<int64_t>(), INT64_MIN);
  EXPECT_EQ((*json)[2].get<int64_t>(), 9007199254740993);
}

TEST(JsonTest, AnIntegerBeyond64BitsIsRefusedNotRounded) {
  EXPECT_THAT(WhyNot("18446744073709551616"), "an integer that does not fit 64 bits");
  EXPECT_THAT(WhyNot("[-9223372036854775809]"), "an integer that does not fit 64 bits");
}

TEST(JsonTest, WhatIsNoJsonIsRefusedWithItsPlace) {
  for (const char* text :
       {"",         " ",     "{",        "[1,",   "{\"a\"}", "{\"a\":}",    "nul",
        "1 2",      "{} {}", "[1]]",     "'a'",   "\"a",     "\"\\ud800\"", "\"\xff\"",
        "\"\x01\"", "01",    "1e999999", "{1:2}", "NaN",     "\xef\xbb"}) {
    EXPECT_FALSE(ParseJson(text).ok()) << text;
  }
  EXPECT_THAT(WhyNot("[1,2,x]"), HasSubstr("byte 6"));
}

TEST(JsonTest, DepthIsCountedNotRisked) {
  JsonLimits limits;
  limits.depth_max = 3;
  EXPECT_TRUE(ParseJson("[[{\"a\":1}]]", limits).ok());
  EXPECT_THAT(WhyNot("[[[[1]]]]", limits), HasSubstr("nested deeper than 3"));
  EXPECT_THAT(WhyNot(Repeated("[", 10'000'000)), HasSubstr("nested deeper"));
  EXPECT_THAT(WhyNot(Repeated("{\"a\":", 1'000'000)), HasSubstr("nested deeper"));
}

TEST(JsonTest, ADeepValueWithinTheLimitIsCopiedAndWrittenAndDropped) {
  const int depth = static_cast<int>(kJsonDepthMax);
  const std::string text = Repeated("[", depth) + Repeated("]", depth);
  const absl::StatusOr<Json> json = ParseJson(text);
  ASSERT_TRUE(json.ok()) << json.status();
  const Json copy = *json;
  EXPECT_EQ(copy.dump(), text);
}

TEST(JsonTest, ValuesAreCounted) {
  JsonLimits limits;
  limits.values_max = 4;
  EXPECT_TRUE(ParseJson("[1,2,3]", limits).ok());
  EXPECT_THAT(WhyNot("[1,2,3,4]", limits), HasSubstr("more than 4 values"));
  EXPECT_THAT(WhyNot("[[],[],[],[]]", limits), HasSubstr("more than 4 values"));
}

TEST(JsonTest, AnObjectOfVeryManyMembersTakesLinearTime) {
  // A search among those before it, for each, would take minutes.
  std::string text = "{\"m\":0";
  for (int i = 0; i < 200'000; ++i) text += ",\"m" + std::to_string(i) + "\":1";
  const absl::StatusOr<Json> json = ParseJson(text + "}");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->size(), 200'001U);
}

TEST(JsonTest, OfEqualNamesTheFirstIsFound) {
  const absl::StatusOr<Json> json = ParseJson(R"({"a":1,"a":2})");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(*Member(*json, "a"), 1);
}

TEST(JsonTest, MembersAreLookedForOnlyInObjects) {
  EXPECT_EQ(Member(Json::array({1}), "a"), nullptr);
  EXPECT_EQ(Member(Json(), "a"), nullptr);
  EXPECT_EQ(StringMember(Json{{"a", 1}}, "a"), nullptr);
  EXPECT_EQ(*StringMember(Json{{"a", "x"}}, "a"), "x");
}

TEST(JsonTest, APrefixEndsBetweenCharacters) {
  const std::string text = "ab\xc3\xa9z";
  EXPECT_EQ(Utf8Prefix(text, 5), text);
  EXPECT_EQ(Utf8Prefix(text, 4), "ab\xc3\xa9");
  EXPECT_EQ(Utf8Prefix(text, 3), "ab");
  EXPECT_EQ(Utf8Prefix(text, 2), "ab");
  EXPECT_EQ(Utf8Prefix("\xe2\x82\xac", 2), "");
}

}  // namespace
}  // namespace tidemark::qmp
