#include "adapters/qmp/nbd_guard.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "tidemark/block/v1/export.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

bool IsLoopback(const std::string& host) {
  if (absl::EqualsIgnoreCase(host, "localhost")) return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
  }
  in6_addr v6;
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return false;
  return IN6_IS_ADDR_LOOPBACK(&v6) ||
         (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == IN_LOOPBACKNET);
}

}  // namespace

absl::Status CheckNbdAddress(const google::protobuf::Message& request) {
  if (request.GetDescriptor() != v1::NbdServerStartRequest::descriptor()) return absl::OkStatus();
  const auto& start = static_cast<const v1::NbdServerStartRequest&>(request);
  if (!start.tls_creds().empty()) return absl::OkStatus();
  std::string address;
  switch (start.addr().type_case()) {
    case v1::SocketAddressLegacy::kUnixSocket:
    case v1::SocketAddressLegacy::kFd:
    case v1::SocketAddressLegacy::TYPE_NOT_SET:
      return absl::OkStatus();
    case v1::SocketAddressLegacy::kInet:
      // A NUL would end the name where QEMU reads it.
      if (IsLoopback(start.addr().inet().host()) &&
          !absl::StrContains(start.addr().inet().host(), '\0')) {
        return absl::OkStatus();
      }
      address = absl::StrCat(start.addr().inet().host(), ":", start.addr().inet().port());
      break;
    case v1::SocketAddressLegacy::kVsock:
      address =
          absl::StrCat("vsock:", start.addr().vsock().cid(), ":", start.addr().vsock().port());
      break;
  }
  return Error(Reason::kPathForbidden,
               absl::StrCat("QEMU is not told to listen for NBD clients at '", address,
                            "': others than its own machine would reach it, and without TLS "
                            "nothing guards the disks there; give tls-creds, use a unix socket or "
                            "127.0.0.1, or start the service with --insecure"),
               {{"address", address}});
}

}  // namespace tidemark::qmp
