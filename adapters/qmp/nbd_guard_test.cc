#include "adapters/qmp/nbd_guard.h"

#include <string>

#include "engine/base/error.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/export.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

absl::Status Check(const std::string& text) {
  v1::NbdServerStartRequest request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return CheckNbdAddress(request);
}

std::string Inet(const std::string& host) {
  return "addr { inet { host: \"" + host + "\" port: \"10809\" } }";
}

TEST(NbdGuard, WhereOnlyItsOwnMachineReachesItQemuMayListen) {
  for (const char* host :
       {"127.0.0.1", "127.1.2.3", "::1", "localhost", "Localhost", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(Check(Inet(host)).ok()) << host;
  }
  EXPECT_TRUE(Check("addr { unix_socket { path: '/s' } }").ok());
  EXPECT_TRUE(Check("addr { fd { str: '3' } }").ok());
  EXPECT_TRUE(CheckNbdAddress(v1::NbdServerStopRequest()).ok());
}

TEST(NbdGuard, ElsewhereItNeedsTls) {
  for (const char* host : {"0.0.0.0", "::", "", "10.0.0.1", "example.org", "localhost.example.org",
                           "::ffff:10.0.0.1", "128.0.0.1", "127.1", "127.0.0.1\\000"}) {
    const absl::Status status = Check(Inet(host));
    EXPECT_TRUE(HasReason(status, Reason::kPathForbidden)) << host << ": " << status;
    EXPECT_NE(status.message().find(":10809'"), std::string::npos) << status;
    EXPECT_NE(status.message().find("tls-creds"), std::string::npos) << status;
    EXPECT_TRUE(Check(Inet(host) + " tls_creds: 'tls0'").ok()) << host;
  }
  EXPECT_FALSE(Check("addr { vsock { cid: '2' port: '1' } }").ok());
  EXPECT_TRUE(Check("addr { vsock { cid: '2' port: '1' } } tls_creds: 't'").ok());
}

}  // namespace
}  // namespace tidemark::qmp
