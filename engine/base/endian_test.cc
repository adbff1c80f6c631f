#include "engine/base/endian.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"

namespace tidemark {
namespace {

TEST(Endian, StoresTheHighestByteFirst) {
  char bytes[9] = {};
  StoreBigEndian<uint64_t>(bytes + 1, 0x0102030405060708);
  EXPECT_EQ(std::string(bytes, 9), std::string("\0\1\2\3\4\5\6\7\10", 9));
  StoreBigEndian<uint16_t>(bytes, 0xabcd);
  EXPECT_EQ(std::string(bytes, 2), "\xab\xcd");
}

TEST(Endian, LoadsWhatItStoredAtAnyAddress) {
  char bytes[16] = {};
  for (int at = 0; at < 8; ++at) {
    StoreBigEndian<uint8_t>(bytes + at, 0x9a);
    EXPECT_EQ(LoadBigEndian<uint8_t>(bytes + at), 0x9a);
    StoreBigEndian<uint16_t>(bytes + at, 0x9abc);
    EXPECT_EQ(LoadBigEndian<uint16_t>(bytes + at), 0x9abc);
    StoreBigEndian<uint32_t>(bytes + at, 0x9abcdef0);
    EXPECT_EQ(LoadBigEndian<uint32_t>(bytes + at), 0x9abcdef0u);
    StoreBigEndian<uint64_t>(bytes + at, 0x9abcdef012345678);
    EXPECT_EQ(LoadBigEndian<uint64_t>(bytes + at), 0x9abcdef012345678u);
  }
}

}  // namespace
}  // namespace tidemark
