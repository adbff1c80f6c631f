// What a user of a disk does with it, and what it lets others do meanwhile. The numbers are QEMU's,
// because its image locks put them into byte offsets (image_lock.h). Plain values; any thread.
#ifndef ENGINE_STORAGE_PERMISSION_H_
#define ENGINE_STORAGE_PERMISSION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace tidemark::storage {

// Any union of the constants below.
using PermissionSet = uint32_t;

// Reads see what a guest wrote, at one time.
inline constexpr PermissionSet kPermissionConsistentRead = 1u << 0;
inline constexpr PermissionSet kPermissionWrite = 1u << 1;
// Writes that do not change what is read (a stream job's copying up).
inline constexpr PermissionSet kPermissionWriteUnchanged = 1u << 2;
inline constexpr PermissionSet kPermissionResize = 1u << 3;

inline constexpr int kPermissionCount = 4;
inline constexpr PermissionSet kPermissionNone = 0;
inline constexpr PermissionSet kPermissionAll = (1u << kPermissionCount) - 1;

// QEMU's word for permission number `index`: "consistent read", "write", ...
constexpr absl::string_view NameOfPermission(int index) {
  constexpr absl::string_view kNames[kPermissionCount] = {"consistent read", "write",
                                                          "write unchanged", "resize"};
  return kNames[index];
}

// "consistent read, write".
inline std::string NamesOfPermissions(PermissionSet permissions) {
  std::vector<absl::string_view> names;
  for (int i = 0; i < kPermissionCount; ++i) {
    if ((permissions & (1u << i)) != 0) names.push_back(NameOfPermission(i));
  }
  return absl::StrJoin(names, ", ");
}

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_PERMISSION_H_
