// What a client sees of an error: always what is meant, however long or strange the names in it
// are.
#include "service/rpc/error_status.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "gtest/gtest.h"
#include "service/rpc/front_world.h"
#include "service/rpc/limits.h"
#include "tidemark/block/v1/node.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

std::string Repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

// A status that is too long for HTTP/2 reaches its client as RESOURCE_EXHAUSTED, without a word of
// what it said.
TEST(ErrorStatus, NoErrorIsTooLongForItsClient) {
  FrontWorld world;
  const auto stub = v1::NodeService::NewStub(world.channel);
  for (const std::string& name :
       {std::string("n"), Repeated("\xc3\xa9", 904), Repeated("\xf0\x9f\x98\x80", 2'000),
        Repeated("%", 5'000), Repeated("\xff", 5'000), Repeated("x", 100'000)}) {
    world.fake->SetAnswer([&name](const auto&, const auto&, auto*) {
      return Error(Reason::kNodeNotFound, absl::StrCat("No node '", name, "' is there"),
                   {{"a", name},
                    {"b", name},
                    {"c", name},
                    {"d", name},
                    {"e", name},
                    {"f", name},
                    {"g", name},
                    {"h", name},
                    {"i", name}});
    });
    grpc::ClientContext context;
    v1::BlockdevDelRequest request;
    request.set_node_name("n");
    v1::BlockdevDelResponse response;
    const grpc::Status status = stub->BlockdevDel(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND) << name.substr(0, 8);
    EXPECT_TRUE(absl::StartsWith(status.error_message(), "No node '"));
    EXPECT_EQ(InfoOf(status).reason(), "NODE_NOT_FOUND");
    EXPECT_GE(InfoOf(status).metadata().count("a"), 1u);
  }
}

TEST(ErrorStatus, ALongMessageIsCutBetweenCharacters) {
  for (size_t shift = 0; shift < 4; ++shift) {
    const std::string text = std::string(shift, 'x') + Repeated("\xe2\x82\xac", 2'000);
    const std::string message = ToGrpcStatus(Error(Reason::kIoError, text)).error_message();
    ASSERT_TRUE(absl::EndsWith(message, "..."));
    const std::string whole = message.substr(0, message.size() - 3);
    EXPECT_EQ((whole.size() - shift) % 3, 0u);
    EXPECT_EQ(whole, text.substr(0, whole.size()));
    EXPECT_GT(whole.size(), kErrorMessageEncodedBytesMax / 4) << "no more is cut than must be";
  }
}

// QEMU's reason stands behind the name, which may be as long as a path can be; and the names that
// the message repeats must not push it out.
TEST(ErrorStatus, OfQemusWordsTheReasonBehindALongNameStays) {
  for (size_t shift = 0; shift < 4; ++shift) {
    const std::string path = "/" + std::string(shift, 'x') + Repeated("\xe2\x82\xac", 4'095 / 3);
    const std::string said = absl::StrCat("Could not open '", path, "': No such file or directory");
    const grpc::Status status =
        ToGrpcStatus(Error(Reason::kFileNotFound, absl::StrCat("QEMU refused: ", said),
                           {{"file", path}, {"node", path}, {"qmp_desc", said}}),
                     "vm1");
    const google::rpc::ErrorInfo info = InfoOf(status);
    const auto& metadata = info.metadata();
    ASSERT_EQ(metadata.count("qmp_desc"), 1u);
    const std::string shown = metadata.at("qmp_desc");
    EXPECT_TRUE(absl::StartsWith(shown, "Could not open '/")) << shown;
    EXPECT_TRUE(absl::EndsWith(shown, "\xe2\x82\xac': No such file or directory")) << shown;
    EXPECT_TRUE(absl::StrContains(shown, "...")) << shown;
    EXPECT_FALSE(absl::StrContains(shown, "?")) << "cut within a character: " << shown;
    EXPECT_LE(shown.size(), kErrorValueBytesMax);
    EXPECT_LE(status.error_details().size(), kErrorDetailsBytesMax);
  }
}

TEST(ErrorStatus, HostileTextBecomesShortUtf8) {
  const std::string hostile = std::string("\xff\xc0\xaf\xed\xa0\x80") + std::string(100'000, 'x');
  const grpc::Status status =
      ToGrpcStatus(Error(Reason::kNodeNotFound, hostile, {{"node", hostile}}));
  EXPECT_LE(status.error_message().size(), kErrorMessageEncodedBytesMax);
  EXPECT_TRUE(absl::StartsWith(status.error_message(), "??????xx"));
  EXPECT_LE(InfoOf(status).metadata().at("node").size(), kErrorValueBytesMax);
  EXPECT_LE(status.error_details().size(), kErrorDetailsBytesMax);
}

TEST(ErrorStatus, GoodUtf8Stays) {
  const std::string text = "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80";
  EXPECT_EQ(ToGrpcStatus(Error(Reason::kNodeNotFound, text)).error_message(), text);
}

TEST(ErrorStatus, AStatusWithoutReasonNamesItsCode) {
  const grpc::Status status = ToGrpcStatus(absl::InternalError("oops"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(InfoOf(status).reason(), "INTERNAL");
}

}  // namespace
}  // namespace tidemark::rpc
