#include "tests/conformance/differences.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tidemark::test {
namespace {

constexpr Difference kDifferences[] = {
    {"BackupErrors.ATargetErrorEndsTheJobAndTheGuestGoesOn", "Qemu",
     "QEMU fails the guest's write if the old data cannot be saved to the target; ours ends the "
     "job "
     "instead"},
    {"BackupErrors.AGuestIsNeverFailedByATargetThatStays", "Qemu",
     "QEMU fails the guest's write if the old data cannot be saved to the target; ours keeps them "
     "until the job is resumed"},
    {"BitmapPersistence.BitmapsSurviveAResizeToNothing", "Qemu",
     "QEMU loses stored bitmaps of an image of size 0"},
    {"BitmapPersistence.AnImageOfNothingStaysReadable", "Qemu",
     "QEMU loses stored bitmaps of an image of size 0"},
    {"JobScenarios.ABackupCannotBeChangedIntoAnotherKindOfCopy", "Qemu72",
     "QEMU 7.2 has no block-job-change"},
    {"JobScenarios.AnUnknownJobCannotBeChanged", "Qemu72", "QEMU 7.2 has no block-job-change"},
    {"SnapshotScenarios.AFleecingTargetShowsTheOldDiskAlsoAfterASnapshot", "Qemu",
     "QEMU takes no snapshot of a node that is below a fleecing target"},
    {"BackupRefusals.WhatOnlyQemuKnowsIsRefusedByName", "Qemu100",
     "QEMU 10.0 knows the field, unlike 7.2 and the native engine"},
    {"ResizeScenarios.ANodeAboveAResizedFileFollowsWithItsBitmaps", "Qemu",
     "QEMU leaves the bitmaps above a resized file behind, and their next use ends it; the bridge "
     "refuses the resize"},
    {"ResizeScenarios.NoImageIsMadeInAFileThatANodeShows", "Qemu",
     "QEMU makes an image in a file whatever shows it, and leaves the bitmaps above behind"},
    {"ServiceScenarios.StoppingLeavesNoSocketBehind", "Qemu",
     "QEMU leaves the socket of its NBD server behind when it is told to end"},
    {"ServiceScenarios.ABackingChainDoesNotLeadOut", "Qemu",
     "QEMU opens what an image names as its backing file by itself: confine its process, or give "
     "`backing` in the request"},
    {"DurableBackupScenarios.WhatACancelledBackupHasClearedSurvivesTheDeathOfTheService", "Qemu",
     "QEMU does not flush the target of a cancelled backup before it says what was copied"},
    {"FleecingScenarios.ReadersSeeThemThroughARawNodeOverTheTargetToo", "Qemu",
     "QEMU keeps readers and copies apart only if the target's own backing file is the source: "
     "through a raw node a reader sees new data now and then"},
    {"TargetScenarios.TheSourcesOwnFileIsNoTarget", "Qemu",
     "QEMU empties or writes to a file that an idle raw node has open"},
    {"TargetScenarios.TheFileOfAnotherNodeIsNoTarget", "Qemu",
     "QEMU empties or writes to a file that an idle raw node has open"},
    {"TargetScenarios.OneRawFileIsNoTargetTwice", "Qemu",
     "QEMU empties or writes to a file that an idle raw node has open"},
    {"TargetScenarios.NothingIsCreatedOverADiskThatIsOpen", "Qemu",
     "QEMU empties or writes to a file that an idle raw node has open"},
    {"TargetScenarios.AnImageOfAnOddSizeIsRoundedUp", "Qemu",
     "QEMU rounds the size in a qcow2 header down to a sector, that of a file up"},
    {"FormatScenarios.ABackingFileThatLooksLikeAnImageIsNotGuessedAt", "Qemu",
     "QEMU opens what a file looks like"},
    {"FormatScenarios.ATargetThatLooksLikeAnImageIsNotGuessedAt", "Qemu",
     "QEMU opens what a file looks like"},
    {"ProbedFormatScenarios.WhatAGuessedImageNamesIsNotOpened", "Qemu",
     "QEMU opens what a file looks like, and what that names"},
    {"ProbedFormatScenarios.WhatTheEngineDoesNotHaveIsRefusedByName", "Qemu",
     "QEMU opens what a file looks like, and what that names"},
    {"TargetScenarios.AChainThatIsTooDeepIsRefusedInFewWords", "Qemu",
     "QEMU has no limit of its own here"},
    {"DescriptorScenarios.WhenTheyRunOutClientsStillConnectAndCloseImages", "Qemu",
     "QEMU's images take QEMU's own descriptors"},
    {"TransactionScenarios.ARefusalNamesTheActionAtFault", "Qemu",
     "QEMU does not tell which action it refused"},
};

}  // namespace

absl::Span<const Difference> Differences() { return kDifferences; }

std::string DifferenceOf(absl::string_view test, absl::string_view backend) {
  for (const Difference& difference : kDifferences) {
    if (absl::StartsWith(backend, difference.backends) &&
        absl::StrContains(test, absl::StrCat("/", difference.scenario, "/"))) {
      return difference.reason;
    }
  }
  return "";
}

}  // namespace tidemark::test
