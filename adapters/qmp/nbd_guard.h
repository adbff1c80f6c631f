// Where QEMU's NBD server may listen without TLS, which is where only its own machine reaches it.
// Pure functions; any thread.
#ifndef ADAPTERS_QMP_NBD_GUARD_H_
#define ADAPTERS_QMP_NBD_GUARD_H_

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace tidemark::qmp {

// Of an nbd-server-start: PERMISSION_DENIED (kPathForbidden), naming the address, unless it has TLS
// credentials or listens at a unix socket, a descriptor that QEMU was given, "localhost" or a
// numeric loopback address. Other names are refused whatever they stand for: QEMU looks them up
// itself, later. OK for every other request.
absl::Status CheckNbdAddress(const google::protobuf::Message& request);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_NBD_GUARD_H_
