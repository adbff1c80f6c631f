#include "engine/graph/permissions.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark::graph {

using storage::kPermissionAll;
using storage::kPermissionConsistentRead;
using storage::kPermissionNone;
using storage::kPermissionResize;
using storage::kPermissionWrite;
using storage::kPermissionWriteUnchanged;

absl::Status CheckAgreement(absl::string_view node_name, absl::Span<const PermissionUser> users) {
  for (const PermissionUser& user : users) {
    for (const PermissionUser& other : users) {
      if (&user == &other) continue;
      const PermissionSet missing = user.permissions.used & ~other.permissions.shared;
      if (missing == kPermissionNone) continue;
      const std::string names = storage::NamesOfPermissions(missing);
      return Error(
          Reason::kPermissionConflict,
          absl::StrCat("permission conflict on node '", node_name, "': '", names, "' is needed by ",
                       user.description, " and not shared by ", other.description),
          {{"node", node_name},
           {"permissions", names},
           {"user", user.description},
           {"other_user", other.description}});
    }
  }
  return absl::OkStatus();
}

namespace {

Permissions BackingPermissions(const Permissions& users) {
  Permissions result;
  result.used = users.used & kPermissionConsistentRead;
  result.shared = kPermissionConsistentRead | kPermissionWriteUnchanged;
  if ((users.shared & kPermissionWrite) != 0) {
    result.shared |= kPermissionWrite | kPermissionResize;
  }
  return result;
}

Permissions FormatFilePermissions(const Permissions& users, bool read_only) {
  Permissions result = users;
  result.used |= kPermissionConsistentRead;
  if (!read_only) result.used |= kPermissionWrite | kPermissionResize;
  result.shared &= ~(kPermissionWrite | kPermissionResize);
  return result;
}

Permissions WindowPermissions(const Permissions& users) {
  Permissions result = users;
  result.shared &= ~kPermissionResize;
  return result;
}

Permissions CopyBeforeWritePermissions(const Permissions& users, bool has_users) {
  Permissions result = users;
  if (!has_users) return result;
  if ((users.used & kPermissionWrite) != 0) result.used |= kPermissionConsistentRead;
  result.shared &= ~(kPermissionWrite | kPermissionResize);
  return result;
}

}  // namespace

Permissions ChildPermissions(ChildPolicy policy, const Permissions& users, bool has_users,
                             bool read_only, const Permissions& fixed) {
  switch (policy) {
    case ChildPolicy::kFixed:
      return fixed;
    case ChildPolicy::kFilter:
      return users;
    case ChildPolicy::kWindow:
      return WindowPermissions(users);
    case ChildPolicy::kCopyBeforeWrite:
      return CopyBeforeWritePermissions(users, has_users);
    case ChildPolicy::kFormatFile:
      return FormatFilePermissions(users, read_only);
    case ChildPolicy::kBacking:
      return BackingPermissions(users);
  }
  return fixed;
}

}  // namespace tidemark::graph
