#include "engine/graph/permissions.h"

#include <gtest/gtest.h>

#include "engine/base/error.h"

namespace tidemark::graph {
namespace {

using storage::kPermissionAll;
using storage::kPermissionConsistentRead;
using storage::kPermissionNone;
using storage::kPermissionResize;
using storage::kPermissionWrite;
using storage::kPermissionWriteUnchanged;

TEST(Permissions, TwoUsersAgreeExactlyIfEachSharesWhatTheOtherUses) {
  // Every pair of users: 16 uses times 16 shares, twice.
  for (PermissionSet used = 0; used <= kPermissionAll; ++used) {
    for (PermissionSet shared = 0; shared <= kPermissionAll; ++shared) {
      for (PermissionSet other_used = 0; other_used <= kPermissionAll; ++other_used) {
        for (PermissionSet other_shared = 0; other_shared <= kPermissionAll; ++other_shared) {
          bool agree = true;
          for (int bit = 0; bit < storage::kPermissionCount; ++bit) {
            const PermissionSet one = 1u << bit;
            if ((used & one) && !(other_shared & one)) agree = false;
            if ((other_used & one) && !(shared & one)) agree = false;
          }
          const absl::Status status =
              CheckAgreement("n", {{"a", {used, shared}}, {"b", {other_used, other_shared}}});
          ASSERT_EQ(status.ok(), agree) << used << shared << other_used << other_shared;
        }
      }
    }
  }
}

TEST(Permissions, AUserMayUseWhatItDoesNotShareItself) {
  EXPECT_TRUE(CheckAgreement("n", {{"a", {kPermissionAll, kPermissionNone}}}).ok());
  EXPECT_TRUE(CheckAgreement("n", {}).ok());
}

TEST(Permissions, AConflictNamesNodePermissionsAndBothUsers) {
  const absl::Status status = CheckAgreement(
      "disk0", {{"node 'a' (as 'file')", {kPermissionConsistentRead, kPermissionConsistentRead}},
                {"node 'b' (as 'file')", {kPermissionWrite | kPermissionResize, kPermissionAll}}});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kPermissionConflict);
  EXPECT_EQ(status.message(),
            "permission conflict on node 'disk0': 'write, resize' is needed by node 'b' (as "
            "'file') and not shared by node 'a' (as 'file')");
}

TEST(Permissions, AFilterHandsItsUsersPermissionsDown) {
  const Permissions users = {kPermissionWrite, kPermissionConsistentRead | kPermissionWrite};
  EXPECT_EQ(ChildPermissions(ChildPolicy::kFilter, users, true, false, {}), users);
}

TEST(Permissions, AFixedUseStaysAsItWasAttached) {
  const Permissions fixed = {kPermissionWrite, kPermissionConsistentRead};
  EXPECT_EQ(ChildPermissions(ChildPolicy::kFixed, {kPermissionAll, 0}, true, false, fixed), fixed);
}

TEST(Permissions, AWritableFormatAlwaysWritesAndResizesItsFile) {
  const Permissions idle = ChildPermissions(ChildPolicy::kFormatFile, {}, false, false, {});
  EXPECT_EQ(idle.used, kPermissionConsistentRead | kPermissionWrite | kPermissionResize);
  EXPECT_EQ(idle.shared, kPermissionConsistentRead | kPermissionWriteUnchanged);
}

TEST(Permissions, AReadOnlyFormatReadsItsFileAndLetsNobodyChangeIt) {
  const Permissions idle = ChildPermissions(ChildPolicy::kFormatFile, {}, false, true, {});
  EXPECT_EQ(idle.used, kPermissionConsistentRead);
  EXPECT_EQ(idle.shared, kPermissionConsistentRead | kPermissionWriteUnchanged);
}

TEST(Permissions, ABackingImageMayChangeOnlyIfTheOverlaysUsersCanLiveWithIt) {
  const Permissions strict = {kPermissionConsistentRead, kPermissionConsistentRead};
  EXPECT_EQ(ChildPermissions(ChildPolicy::kBacking, strict, true, false, {}).shared,
            kPermissionConsistentRead | kPermissionWriteUnchanged);
  const Permissions lenient = {kPermissionWrite | kPermissionConsistentRead, kPermissionAll};
  const Permissions backing = ChildPermissions(ChildPolicy::kBacking, lenient, true, false, {});
  EXPECT_EQ(backing.shared, kPermissionAll);
  EXPECT_EQ(backing.used, kPermissionConsistentRead);
}

TEST(Permissions, ACopyBeforeWriteForbidsWritesPastIt) {
  const Permissions users = {kPermissionWrite, kPermissionAll};
  const Permissions below = ChildPermissions(ChildPolicy::kCopyBeforeWrite, users, true, false, {});
  EXPECT_EQ(below.used, kPermissionWrite | kPermissionConsistentRead);
  EXPECT_EQ(below.shared, kPermissionConsistentRead | kPermissionWriteUnchanged);
  EXPECT_EQ(ChildPermissions(ChildPolicy::kCopyBeforeWrite, {}, false, false, {}), Permissions());
}

}  // namespace
}  // namespace tidemark::graph
