// The part of a manual page that tells the members of a message.
#ifndef SERVICE_CLI_MEMBER_HELP_H_
#define SERVICE_CLI_MEMBER_HELP_H_

#include <string>

#include "google/protobuf/descriptor.h"
#include "service/cli/manual.h"

namespace tidemark::cli {

enum class MemberSide {
  // As typed: "file.driver=NAME".
  kRequest,
  // As printed: "driver: NAME".
  kResponse,
};

// The members of `type`, a descriptor of `manual`; each nested message is told once, where it is
// first met. A member that is the whole request of another command is told on that one's page.
std::string MemberHelp(const Manual& manual, const google::protobuf::Descriptor& type,
                       MemberSide side);

// Each line that is not empty with `columns` spaces before it.
std::string Indented(const std::string& text, int columns);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_MEMBER_HELP_H_
