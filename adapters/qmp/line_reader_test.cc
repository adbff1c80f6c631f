#include "adapters/qmp/line_reader.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

using ::testing::ElementsAre;

// The lines that come out when `bytes` go in, in pieces of `piece`; "!" when it is refused.
std::vector<std::string> Lines(LineReader* reader, absl::string_view bytes, size_t piece) {
  std::vector<std::string> lines;
  while (!bytes.empty()) {
    absl::string_view part = bytes.substr(0, piece);
    bytes.remove_prefix(part.size());
    for (;;) {
      const auto line = reader->Next(&part);
      if (!line.ok()) {
        lines.push_back("!");
        return lines;
      }
      if (!line->has_value()) break;
      lines.emplace_back(**line);
      EXPECT_EQ(reader->half_bytes(), 0U);
    }
    EXPECT_TRUE(part.empty());
  }
  return lines;
}

TEST(LineReaderTest, LinesComeOutWholeHoweverTheyWereCut) {
  const std::string bytes = "one\r\ntwo\n\n\r\nfour and more\nhalf";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    LineReader reader;
    EXPECT_THAT(Lines(&reader, bytes, piece), ElementsAre("one", "two", "", "", "four and more"))
        << piece;
    EXPECT_EQ(reader.half_bytes(), 4U);
  }
}

TEST(LineReaderTest, ALineIsNotLongerThanItsLimit) {
  for (size_t piece = 1; piece <= 12; ++piece) {
    LineReader within(5);
    EXPECT_THAT(Lines(&within, "12345\n12345\n", piece), ElementsAre("12345", "12345"));
    LineReader beyond(5);
    EXPECT_THAT(Lines(&beyond, "12345\n123456\n", piece), ElementsAre("12345", "!"));
    LineReader endless(5);
    EXPECT_THAT(Lines(&endless, "123456789012", piece), ElementsAre("!"));
  }
}

TEST(LineReaderTest, ALineIsTakenAwayWithoutItsEnd) {
  LineReader reader;
  absl::string_view bytes = "whole\r\nha";
  ASSERT_TRUE(reader.Next(&bytes).value().has_value());
  EXPECT_EQ(reader.TakeLine(), "whole");
  ASSERT_FALSE(reader.Next(&bytes).value().has_value());
  bytes = "lf\r\nnext\n";
  ASSERT_TRUE(reader.Next(&bytes).value().has_value());
  EXPECT_EQ(reader.TakeLine(), "half");
  EXPECT_EQ(reader.Next(&bytes).value(), absl::string_view("next"));
}

}  // namespace
}  // namespace tidemark::qmp
