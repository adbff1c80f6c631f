// The protos as the manual: descriptors with their comments, which are built into the program.
#ifndef SERVICE_CLI_MANUAL_H_
#define SERVICE_CLI_MANUAL_H_

#include <string>

#include "google/protobuf/descriptor.h"
#include "service/cli/methods.h"

namespace tidemark::cli {

// Thread-compatible. Its descriptors live as long as it.
class Manual {
 public:
  // Reads what is built in; takes some milliseconds.
  Manual();

  // The descriptor with comments for one of those that the program itself uses.
  const google::protobuf::MethodDescriptor& Find(
      const google::protobuf::MethodDescriptor& method) const;

  // Any descriptor's comment, without slashes and indentation; lines end with '\n'. Empty if it has
  // none.
  template <typename Descriptor>
  std::string CommentOf(const Descriptor& descriptor) const {
    google::protobuf::SourceLocation location;
    if (!descriptor.GetSourceLocation(&location)) return "";
    return Clean(location.leading_comments + location.trailing_comments);
  }

 private:
  static std::string Clean(const std::string& comment);

  google::protobuf::DescriptorPool pool_;
};

// The first sentence of a comment, on one line.
std::string FirstSentence(const std::string& comment);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_MANUAL_H_
