#include "tests/support/image.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {
namespace {

using Json = nlohmann::json;

// Runs a tool that should succeed; its output.
std::string Output(const std::vector<std::string>& command) {
  const ToolResult result = RunTool(command);
  EXPECT_EQ(result.exit_status, 0) << absl::StrJoin(command, " ") << "\n"
                                   << result.output << result.errors;
  return result.output;
}

Json OutputJson(const std::vector<std::string>& command) {
  return Json::parse(Output(command), nullptr, /*allow_exceptions=*/false);
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const StoredBitmap& bitmap) {
  return out << bitmap.name << "/" << bitmap.granularity_bytes << "["
             << absl::StrJoin(bitmap.flags, ",") << "]";
}

Image Image::Create(const std::string& path, uint64_t size_bytes, const std::string& format,
                    const std::string& options) {
  std::vector<std::string> command = {"qemu-img", "create", "-q", "-f", format};
  if (!options.empty()) command.insert(command.end(), {"-o", options});
  command.insert(command.end(), {path, absl::StrCat(size_bytes)});
  Output(command);
  return Image(path, format);
}

std::string Image::Complaints() const {
  const ToolResult result = RunTool({"qemu-img", "check", "-f", format_, path_});
  // A raw file has nothing to check: status 63.
  if (result.exit_status == 0 || (format_ == "raw" && result.exit_status == 63)) return "";
  return absl::StrCat("qemu-img check ", path_, " gives ", result.exit_status, ": ", result.output,
                      result.errors);
}

std::string Image::Contents() const {
  TempFolder folder;
  const std::string raw = folder.File("raw");
  Output({"qemu-img", "convert", "-f", format_, "-O", "raw", path_, raw});
  return ReadFile(raw);
}

Ranges Image::Map(bool data_only) const {
  const Json map = OutputJson({"qemu-img", "map", "--output=json", "-f", format_, path_});
  Ranges ranges;
  for (const Json& entry : map) {
    if (!entry.is_object() || entry.value("depth", 1) != 0) continue;
    if (data_only ? !entry.value("data", false) : !entry.value("present", true)) continue;
    ranges.push_back({entry.value("start", uint64_t{0}), entry.value("length", uint64_t{0})});
  }
  return Merged(std::move(ranges));
}

Ranges Image::Allocated() const { return Map(/*data_only=*/false); }
Ranges Image::Data() const { return Map(/*data_only=*/true); }

std::vector<StoredBitmap> Image::Bitmaps() const {
  const Json info = OutputJson({"qemu-img", "info", "--output=json", "-f", format_, path_});
  std::vector<StoredBitmap> bitmaps;
  const Json::json_pointer where("/format-specific/data/bitmaps");
  if (!info.contains(where)) return bitmaps;
  for (const Json& entry : info.at(where)) {
    StoredBitmap bitmap{entry.value("name", ""), entry.value("granularity", uint64_t{0}), {}};
    for (const Json& flag : entry.at("flags")) bitmap.flags.push_back(flag.get<std::string>());
    std::sort(bitmap.flags.begin(), bitmap.flags.end());
    bitmaps.push_back(std::move(bitmap));
  }
  std::sort(bitmaps.begin(), bitmaps.end(),
            [](const auto& left, const auto& right) { return left.name < right.name; });
  return bitmaps;
}

std::string Image::Info(const std::string& pointer) const {
  const Json info = OutputJson({"qemu-img", "info", "--output=json", "-f", format_, path_});
  const Json::json_pointer where(pointer);
  if (!info.contains(where)) return "";
  const Json& member = info.at(where);
  return member.is_string() ? member.get<std::string>() : member.dump();
}

const Image& Image::Over(const Image& base) const {
  Output(
      {"qemu-img", "rebase", "-u", "-f", format_, "-b", base.path(), "-F", base.format(), path_});
  return *this;
}

std::string Image::DifferenceFrom(const Image& other) const {
  const ToolResult result =
      RunTool({"qemu-img", "compare", "-f", format_, "-F", other.format(), path_, other.path()});
  return result.exit_status == 0 ? "" : absl::StrCat(result.output, result.errors);
}

}  // namespace tidemark::test
