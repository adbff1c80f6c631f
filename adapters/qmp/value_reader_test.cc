#include "adapters/qmp/value_reader.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

using ::testing::ElementsAre;

// The values that come out when `bytes` go in, in pieces of `piece`; "!" when it is refused.
std::vector<std::string> Values(ValueReader* reader, absl::string_view bytes, size_t piece) {
  std::vector<std::string> values;
  while (!bytes.empty()) {
    absl::string_view part = bytes.substr(0, piece);
    bytes.remove_prefix(part.size());
    for (;;) {
      const auto value = reader->Next(&part);
      if (!value.ok()) {
        values.push_back("!");
        return values;
      }
      if (!value->has_value()) break;
      values.emplace_back(**value);
      EXPECT_EQ(reader->half_bytes(), 0U);
      EXPECT_EQ(reader->count(), values.size());
    }
    EXPECT_TRUE(part.empty());
  }
  return values;
}

TEST(ValueReaderTest, ValuesComeOutWholeHoweverTheyWereCut) {
  const std::string bytes =
      "{\"a\": 1}\r\n{}\n\n\r\n  {\"b\": [{}, \"}\\\"{\"]}{\"c\": 2}\nno object\n{\"d";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    ValueReader reader;
    EXPECT_THAT(
        Values(&reader, bytes, piece),
        ElementsAre("{\"a\": 1}", "{}", "{\"b\": [{}, \"}\\\"{\"]}", "{\"c\": 2}", "no object"))
        << piece;
    EXPECT_EQ(reader.half_bytes(), 3U);
  }
}

TEST(ValueReaderTest, AValueMayLieOverManyLines) {
  const std::string first =
      "{\r\n    \"QMP\": {\r\n        \"version\": [\r\n        ]\r\n    }\r\n}";
  const std::string second = "{\n    \"return\": {\n    }\n}";
  for (size_t piece = 1; piece <= first.size(); ++piece) {
    ValueReader reader;
    EXPECT_THAT(Values(&reader, first + "\r\n" + second + "\n", piece), ElementsAre(first, second));
  }
}

TEST(ValueReaderTest, WhatIsTornDoesNotHideWhatComesNext) {
  for (const std::string torn :
       {"{\"return\": {", "{\"return\": \"text", "{\"return\": [1, 2", "}]"}) {
    for (size_t piece = 1; piece <= torn.size(); ++piece) {
      ValueReader reader;
      EXPECT_THAT(Values(&reader, torn + "\n{\"event\": 1}\n", piece),
                  ElementsAre(torn, "{\"event\": 1}"));
    }
  }
}

TEST(ValueReaderTest, AValueIsNotLongerThanItsLimit) {
  for (size_t piece = 1; piece <= 12; ++piece) {
    ValueReader within(5);
    EXPECT_THAT(Values(&within, "{123}\n{123}\n", piece), ElementsAre("{123}", "{123}"));
    ValueReader beyond(5);
    EXPECT_THAT(Values(&beyond, "{123}\n{1234}\n", piece), ElementsAre("{123}", "!"));
    ValueReader endless(5);
    EXPECT_THAT(Values(&endless, "123456789012", piece), ElementsAre("!"));
  }
}

TEST(ValueReaderTest, AValueIsTakenAway) {
  ValueReader reader;
  absl::string_view bytes = "{\"whole\": 1}\r\n{\"ha";
  ASSERT_TRUE(reader.Next(&bytes).value().has_value());
  EXPECT_EQ(reader.Take(), "{\"whole\": 1}");
  ASSERT_FALSE(reader.Next(&bytes).value().has_value());
  bytes = "lf\": 1}\r\n{}\n";
  ASSERT_TRUE(reader.Next(&bytes).value().has_value());
  EXPECT_EQ(reader.Take(), "{\"half\": 1}");
  EXPECT_EQ(reader.Next(&bytes).value(), absl::string_view("{}"));
}

}  // namespace
}  // namespace tidemark::qmp
