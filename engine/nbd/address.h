// Where an NBD server listens. A plain value.
#ifndef ENGINE_NBD_ADDRESS_H_
#define ENGINE_NBD_ADDRESS_H_

#include <string>

#include "absl/types/variant.h"

namespace tidemark::nbd {

struct UnixAddress {
  std::string path;
};

struct TcpAddress {
  std::string host;  // A name or a number; empty for every interface of this machine.
  std::string port;  // A number or the name of a service; "0" lets the kernel choose.
};

using Address = absl::variant<UnixAddress, TcpAddress>;

// For messages: the path, or "host:port".
std::string ToString(const Address& address);

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_ADDRESS_H_
