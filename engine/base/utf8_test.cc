#include "engine/base/utf8.h"

#include <string>

#include "gtest/gtest.h"

namespace tidemark {
namespace {

TEST(Utf8, GoodTextStaysAsItIs) {
  for (const std::string& text :
       {std::string(), std::string("plain"), std::string("a\0b", 3),
        std::string("\xc3\xa0 \xe2\x82\xac \xf0\x9f\x8c\x8a \xef\xbf\xbd"),
        std::string("\xc2\x80\xdf\xbf\xe0\xa0\x80\xf4\x8f\xbf\xbf")}) {
    EXPECT_TRUE(IsUtf8(text));
    EXPECT_EQ(ToUtf8(text), text);
  }
}

// As both QEMU 7.2 and 10.0.2 show such names.
TEST(Utf8, EachBrokenSequenceBecomesOneReplacementCharacter) {
  const std::string r = "\xef\xbf\xbd";
  EXPECT_EQ(ToUtf8("mise \xe0 jour"), "mise " + r + " jour") << "Latin-1";
  EXPECT_EQ(ToUtf8("\xe9\xe8"), r + r);
  EXPECT_EQ(ToUtf8("\xe9t\xe9"), r + "t" + r);
  EXPECT_EQ(ToUtf8("\x80\xbf"), r + r) << "bytes from the middle of characters";
  EXPECT_EQ(ToUtf8("\xff\xfe"), r + r) << "bytes of no character";
  EXPECT_EQ(ToUtf8("a\xe2\x82"), "a" + r) << "cut short";
  EXPECT_EQ(ToUtf8("\xe2\x82z"), r + "z");
  EXPECT_EQ(ToUtf8("\xc0\x80"), r) << "an overlong form";
  EXPECT_EQ(ToUtf8("\xed\xa0\x80"), r) << "a surrogate";
  EXPECT_EQ(ToUtf8("\xf4\x90\x80\x80"), r) << "beyond Unicode";
  EXPECT_EQ(ToUtf8("\xf8\x88\x80\x80\x80"), r);
}

TEST(Utf8, WhateverComesOutIsUtf8) {
  std::string all;
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; second += 5) {
      all += static_cast<char>(first);
      all += static_cast<char>(second);
      EXPECT_TRUE(IsUtf8(ToUtf8(std::string{static_cast<char>(first), static_cast<char>(second)})));
    }
  }
  EXPECT_TRUE(IsUtf8(ToUtf8(all)));
}

}  // namespace
}  // namespace tidemark
