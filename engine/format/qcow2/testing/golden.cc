#include "engine/format/qcow2/testing/golden.h"

#include <openssl/sha.h>
#include <zlib.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"

namespace tidemark::qcow2 {
namespace {

std::string ReadGoldenFile(absl::string_view name) {
  const char* root = std::getenv("TEST_SRCDIR");
  const char* workspace = std::getenv("TEST_WORKSPACE");
  CHECK(root != nullptr && workspace != nullptr);
  std::ifstream file(absl::StrCat(root, "/", workspace, "/tests/golden/", name));
  CHECK(file.good());
  std::stringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

std::vector<std::vector<std::string>> ReadTable(absl::string_view name) {
  std::vector<std::vector<std::string>> rows;
  for (absl::string_view line : absl::StrSplit(ReadGoldenFile(name), '\n', absl::SkipEmpty())) {
    rows.push_back(absl::StrSplit(line, '\t'));
  }
  return rows;
}

uint64_t Number(absl::string_view text) {
  uint64_t number = 0;
  CHECK(absl::SimpleAtoi(text, &number));
  return number;
}

std::string Unpack(const std::string& packed) {
  z_stream stream = {};
  CHECK(inflateInit(&stream) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = packed.size();
  std::string contents;
  std::string piece(1 << 20, '\0');
  int result = Z_OK;
  while (result == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = piece.size();
    result = inflate(&stream, Z_NO_FLUSH);
    contents.append(piece, 0, piece.size() - stream.avail_out);
  }
  CHECK(result == Z_STREAM_END);
  inflateEnd(&stream);
  return contents;
}

}  // namespace

std::vector<GoldenImage> GoldenImages() {
  std::vector<GoldenImage> images;
  for (const std::vector<std::string>& row : ReadTable("golden.txt")) {
    CHECK(row.size() == 5);
    GoldenImage& image = images.emplace_back();
    image.name = row[0];
    image.opens = row[1] != "-";
    if (!image.opens) continue;
    image.corruptions = Number(row[1]);
    image.leaks = Number(row[2]);
    image.virtual_bytes = Number(row[3]);
    image.contents_sha256 = row[4];
  }
  return images;
}

std::vector<GoldenBitmap> GoldenBitmaps() {
  std::vector<GoldenBitmap> bitmaps;
  for (const std::vector<std::string>& row : ReadTable("bitmaps.txt")) {
    CHECK(row.size() == 5);
    GoldenBitmap& bitmap = bitmaps.emplace_back();
    bitmap.image = row[0];
    bitmap.name = absl::HexStringToBytes(row[1]);
    bitmap.granularity_bytes = Number(row[2]);
    for (absl::string_view flag : absl::StrSplit(row[3], ',')) {
      if (flag == "in-use") bitmap.in_use = true;
      if (flag == "auto") bitmap.enabled = true;
    }
    bitmap.sha256 = row[4];
  }
  return bitmaps;
}

std::shared_ptr<storage::MemoryStorage> LoadGolden(absl::string_view name) {
  return storage::MemoryStorage::Of(Unpack(ReadGoldenFile(absl::StrCat(name, ".qcow2.z"))));
}

std::string Sha256(absl::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return absl::BytesToHexString(digest);
}

}  // namespace tidemark::qcow2
