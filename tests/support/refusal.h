// From gRPC's status to a Refusal. Apart from client.h, so that scenarios need no gRPC headers.
#ifndef TESTS_SUPPORT_REFUSAL_H_
#define TESTS_SUPPORT_REFUSAL_H_

#include <grpcpp/support/status.h>

#include "tests/support/client.h"

namespace tidemark::test {

Refusal RefusalOf(const grpc::Status& status);

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_REFUSAL_H_
