#include "engine/native/command_keys.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::native {
namespace {

using namespace block::v1;  // NOLINT: a test about requests.
using testing::UnorderedElementsAre;

// "node:x", "file:/x", "server" (alone) or "server:shared", ...
std::vector<std::string> Describe(const OrderBook::Keys& keys) {
  constexpr const char* kKinds[] = {"node:", "file:", "export:", "job:", "server"};
  std::vector<std::string> words;
  for (const OrderKey& key : keys) {
    words.push_back(
        absl::StrCat(kKinds[static_cast<int>(key.kind)], key.name, key.shared ? ":shared" : ""));
  }
  return words;
}

template <typename Request>
std::vector<std::string> KeysOfText(const std::string& text) {
  Request request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return Describe(KeysOf(request));
}

TEST(CommandKeys, ANodeToAddNamesItselfItsChildrenAndTheirFiles) {
  EXPECT_THAT(KeysOfText<BlockdevAddRequest>(
                  "options { node_name: 'top' qcow2 {"
                  "  file { definition { node_name: 'f' file { filename: '/a//b/../disk' } } }"
                  "  backing { reference: 'base' } } }"),
              UnorderedElementsAre("node:top", "node:f", "file:/a/disk", "node:base"));
}

TEST(CommandKeys, ABackupNamesItsJobAndItsNodes) {
  EXPECT_THAT(KeysOfText<BlockdevBackupRequest>(
                  "job_id: 'j' device: 's' target: 't' bitmap: 'b' filter_node_name: 'f'"),
              UnorderedElementsAre("job:j", "node:s", "node:t", "node:f"));
  EXPECT_THAT(KeysOfText<DriveBackupRequest>("job_id: 'j' device: 's' target: '/t' format: 'raw'"),
              UnorderedElementsAre("job:j", "node:s", "file:/t"));
}

TEST(CommandKeys, ATransactionNamesWhatItsActionsName) {
  EXPECT_THAT(
      KeysOfText<TransactionRequest>(
          "actions { block_dirty_bitmap_add { node: 'a' name: 'bitmap' } }"
          "actions { block_dirty_bitmap_merge { node: 'b' target: 'bitmap'"
          "          bitmaps { local: 'x' } bitmaps { external { node: 'c' name: 'y' } } } }"),
      UnorderedElementsAre("node:a", "node:b", "node:c"));
}

TEST(CommandKeys, ExportsShareTheServerThatOnlyStartAndStopHaveAlone) {
  EXPECT_THAT(KeysOfText<BlockExportAddRequest>("id: 'e' node_name: 'n' nbd { name: 'x' }"),
              UnorderedElementsAre("export:e", "node:n", "server:shared"));
  EXPECT_THAT(KeysOfText<BlockExportDelRequest>("id: 'e'"),
              UnorderedElementsAre("export:e", "server:shared"));
  EXPECT_THAT(KeysOfText<NbdServerAddRequest>("device: 'n'"),
              UnorderedElementsAre("export:n", "node:n", "server:shared"));
  EXPECT_THAT(KeysOfText<NbdServerRemoveRequest>("name: 'n'"),
              UnorderedElementsAre("export:n", "server:shared"));
  EXPECT_THAT(KeysOfText<NbdServerStartRequest>("addr { unix_socket { path: '/s' } }"),
              UnorderedElementsAre("server"));
  EXPECT_THAT(KeysOfText<NbdServerStopRequest>(""), UnorderedElementsAre("server"));
}

TEST(CommandKeys, BitmapsGoWithTheirNode) {
  EXPECT_THAT(KeysOfText<BlockDirtyBitmapAddRequest>("node: 'n' name: 'b'"),
              UnorderedElementsAre("node:n"));
}

TEST(CommandKeys, AnImageToCreateNamesItsFileAndNotItsBackingFile) {
  EXPECT_THAT(KeysOfText<BlockdevCreateRequest>(
                  "job_id: 'j' options { qcow2 { size: 1 backing_file: '/base'"
                  "  file { definition { file { filename: '/f' } } } } }"),
              UnorderedElementsAre("job:j", "file:/f"));
}

}  // namespace
}  // namespace tidemark::native
