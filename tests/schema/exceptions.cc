#include "tests/schema/exceptions.h"

namespace tidemark::test {
namespace {

constexpr char kConsoles[] = "character devices carry consoles and monitors, not blocks";
constexpr char kService[] = "answered by the service itself: InstanceService";
constexpr char kMonitor[] = "about the monitor's own connection, which is the service's";

constexpr char kOtherObjects[] = "an object that no node, job or export leans on";
constexpr char kExtent[] = "7.2 tells of an extent as of a whole image, and leaves these out";
constexpr char kLoaded[] = "deprecated in 7.2, gone since";
constexpr char kBlkio[] = "only in builds with libblkio, which Debian's are not";

// Why a member of a request needs no presence. Each was tried on both QEMUs, given and left out.
constexpr char kFalse[] = "left out, it is false";
constexpr char kZero[] = "left out, it is 0";
constexpr char kNewName[] = "QEMU takes no empty name; the protos ask for a generated one by it";
constexpr char kEither[] =
    "one of two names is needed, and nothing is called \"\": the other counts";
constexpr char kEmptyText[] = "left out, it is \"\"";
constexpr char kRefusedToo[] = "QEMU refuses it left out as it refuses \"\"";

constexpr Exception kExceptions[] = {
    {Exception::kMissing, "command chardev-*", kConsoles},
    {Exception::kMissing, "command query-chardev*", kConsoles},
    {Exception::kMissing, "command ringbuf-*", kConsoles},
    {Exception::kMissing, "event VSERPORT_CHANGE", kConsoles},
    {Exception::kMissing, "command qom-*", "the object model at large; its block part is typed"},
    {Exception::kMissing, "command qmp_capabilities", kMonitor},
    {Exception::kMissing, "command quit", "ends the process, which belongs to who started it"},
    {Exception::kMissing, "command query-commands", kService},
    {Exception::kMissing, "command query-qmp-schema", kService},
    {Exception::kMissing, "command query-version", kService},
    {Exception::kMissing, "member QueryStatusResponse.singlestep", "gone since QEMU 9.0"},

    // Unions whose tag is a long enumeration of which few values mean something.
    {Exception::kMissing, "empty branch BlockJobChangeRequest.type=*", "only mirrors can change"},
    {Exception::kMissing, "empty branch BlockStatsSpecific.driver=*", "only few drivers tell more"},
    {Exception::kMissing, "empty branch BlockdevAmendOptions.driver=*", "nothing can be amended"},
    {Exception::kMissing, "empty branch BlockdevCreateOptions.driver=*", "cannot be created"},
    {Exception::kMissing, "empty branch QCryptoBlockAmendOptions.format=qcow", "has no key slots"},

    // Objects that block work has no use for.
    {Exception::kMissing, "branch ObjectOptions.qom-type=acpi-*", kOtherObjects},
    {Exception::kMissing, "empty branch ObjectOptions.qom-type=can-bus", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=can-host-socketcan", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=colo-compare", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=cryptodev-*", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=dbus-vmstate", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=filter-*", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=input-*", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=iommufd", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=main-loop", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=memory-backend-*", kOtherObjects},
    {Exception::kMissing, "empty branch ObjectOptions.qom-type=pef-guest", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=qtest", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=rng-*", kOtherObjects},
    {Exception::kMissing, "empty branch ObjectOptions.qom-type=s390-pv-guest", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=sev-*", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=thread-context", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=tls-cipher-suites", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=x-remote-object", kOtherObjects},
    {Exception::kMissing, "branch ObjectOptions.qom-type=x-vfio-user-server", kOtherObjects},

    // Where the versions differ, the newer one is mirrored.
    {Exception::kMissing, "member VmdkExtentInfo.actual-size", kExtent},
    {Exception::kMissing, "member VmdkExtentInfo.backing-*", kExtent},
    {Exception::kMissing, "member VmdkExtentInfo.dirty-flag", kExtent},
    {Exception::kMissing, "member VmdkExtentInfo.encrypted", kExtent},
    {Exception::kMissing, "member VmdkExtentInfo.format-specific", kExtent},
    {Exception::kMissing, "member VmdkExtentInfo.full-backing-filename", kExtent},
    {Exception::kMissing, "member VmdkExtentInfo.snapshots", kExtent},
    {Exception::kDifferent, "member BlockJobInfo.type", "7.2 has the same words as free text"},
    {Exception::kDifferent, "member BlockdevCreateOptionsLUKS.file",
     "7.2 requires it and says so itself; since 9.0 there may be a detached header instead"},
    {Exception::kDifferent, "member BlockdevOptions.node-name", "no node has an empty name"},
    {Exception::kUnknown, "member SecretKeyringProperties.loaded", kLoaded},
    {Exception::kUnknown, "member SecretProperties.loaded", kLoaded},
    {Exception::kUnknown, "member TlsCredsAnonProperties.loaded", kLoaded},
    {Exception::kUnknown, "member TlsCredsPskProperties.loaded", kLoaded},
    {Exception::kUnknown, "member TlsCredsX509Properties.loaded", kLoaded},

    // Where zero means the same as nothing.
    {Exception::kMerged, "member *.force", kFalse},
    {Exception::kMerged, "member *.compress", kFalse},
    {Exception::kMerged, "member *.writable", kFalse},
    {Exception::kMerged, "member *.discard-source", kFalse},
    {Exception::kMerged, "member *.backing-mask-protocol", kFalse},
    {Exception::kMerged, "member *.loaded", kFalse},
    {Exception::kMerged, "member BackupPerf.use-copy-range", kFalse},
    {Exception::kMerged, "member BlockDirtyBitmapAddRequest.disabled", kFalse},
    {Exception::kMerged, "member BlockDirtyBitmapAddRequest.persistent", kFalse},
    {Exception::kMerged, "member BlockExportAddRequest.allow-inactive", kFalse},
    {Exception::kMerged, "member BlockExportAddRequest.fixed-iothread", kFalse},
    {Exception::kMerged, "member BlockExportAddRequest.writethrough", kFalse},
    {Exception::kMerged, "member BlockExportOptionsFuse.growable", kFalse},
    {Exception::kMerged, "member BlockExportOptionsNbd.allocation-depth", kFalse},
    {Exception::kMerged, "member BlockdevCreateOptionsFile.nocow", kFalse},
    {Exception::kMerged, "member BlockdevCreateOptionsQcow2.data-file-raw", kFalse},
    {Exception::kMerged, "member BlockdevCreateOptionsQcow2.extended-l2", kFalse},
    {Exception::kMerged, "member BlockdevCreateOptionsQcow2.lazy-refcounts", kFalse},
    {Exception::kMerged, "member BlockdevCreateOptionsVmdk.zeroed-grain", kFalse},
    {Exception::kMerged, "member BlockdevCreateOptionsVpc.force-size", kFalse},
    {Exception::kMerged, "member QueryBlockstatsRequest.query-nodes", kFalse},
    {Exception::kMerged, "member QueryNamedBlockNodesRequest.flat", kFalse},
    {Exception::kMerged, "member *.speed", kZero},
    {Exception::kMerged, "member *.buf-size", "0 chooses the size, as leaving it out does"},
    {Exception::kMerged, "member *.granularity", "0 chooses it, as leaving it out does"},
    {Exception::kMerged, "member BackupPerf.max-chunk", kZero},
    {Exception::kMerged, "member BackupPerf.min-cluster-size", kZero},
    {Exception::kMerged, "member BlockSetIoThrottleRequest.*_max", kZero},
    {Exception::kMerged, "member BlockSetIoThrottleRequest.iops_size", kZero},
    {Exception::kMerged, "member IothreadProperties.*", kZero},
    {Exception::kMerged, "member ThrottleGroupProperties.x-*", kZero},
    {Exception::kMerged, "member ThrottleLimits.*", kZero},
    {Exception::kMerged, "member *.job-id", kNewName},
    {Exception::kMerged, "member *.filter-node-name", kNewName},
    {Exception::kMerged, "member *.snapshot-node-name", kNewName},
    {Exception::kMerged, "member BlockdevOptions.node-name", kNewName},
    {Exception::kMerged, "member DriveMirrorRequest.node-name", kNewName},
    {Exception::kMerged, "member NbdServerAddRequest.name",
     "QEMU takes no empty name; the protos ask for the device's by it"},
    {Exception::kMerged, "member *.device", kEither},
    {Exception::kMerged, "member BlockResizeRequest.node-name", kEither},
    {Exception::kMerged, "member BlockdevSnapshotSyncRequest.node-name", kEither},
    {Exception::kMerged, "member BlockSetIoThrottleRequest.id", kEither},
    {Exception::kMerged, "member BlockdevChangeMediumRequest.id", kEither},
    {Exception::kMerged, "member BlockdevCloseTrayRequest.id", kEither},
    {Exception::kMerged, "member BlockdevOpenTrayRequest.id", kEither},
    {Exception::kMerged, "member EjectRequest.id", kEither},
    {Exception::kMerged, "member *.description", kEmptyText},
    {Exception::kMerged, "member BlockExportOptionsVduseBlk.serial", kEmptyText},
    {Exception::kMerged, "member BlockdevCreateOptionsQcow.backing-file", kEmptyText},
    {Exception::kMerged, "member BlockdevCreateOptionsQcow2.backing-file", kEmptyText},
    {Exception::kMerged, "member BlockdevCreateOptionsQed.backing-file", kEmptyText},
    {Exception::kMerged, "member BlockdevCreateOptionsVmdk.backing-file", "\"\" ends QEMU"},
    {Exception::kMerged, "member BlockdevCreateOptionsVmdk.hwversion", kEmptyText},
    {Exception::kMerged, "member BlockdevCreateOptionsVmdk.toolsversion", kEmptyText},
    {Exception::kMerged, "member BlockdevCreateOptionsLUKS.key-secret", kRefusedToo},
    {Exception::kMerged, "member QCryptoBlockCreateOptionsLUKS.key-secret", kRefusedToo},
    {Exception::kMerged, "member Secret*Properties.iv", "only with `keyid`, and refused there"},
    {Exception::kMerged, "member TlsCreds*Properties.dir", "to QEMU \"\" is the root folder, '/'"},

    // What depends on how QEMU was built.
    {Exception::kUnknown, "branch BlockdevOptions.driver=io_uring", kBlkio},
    {Exception::kUnknown, "branch BlockdevOptions.driver=nvme-io_uring", kBlkio},
    {Exception::kUnknown, "branch BlockdevOptions.driver=virtio-blk-*", kBlkio},
    {Exception::kUnknown, "value BlockdevDriver.io_uring", kBlkio},
    {Exception::kUnknown, "value BlockdevDriver.nvme-io_uring", kBlkio},
    {Exception::kUnknown, "value BlockdevDriver.virtio-blk-*", kBlkio},
};

}  // namespace

absl::Span<const Exception> Exceptions() { return kExceptions; }

}  // namespace tidemark::test
