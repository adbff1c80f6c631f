// Every RPC of the API by the type of its request: its path, and the type of its response.
// Request types are unique, so a call is Invoke(request).
#ifndef TESTS_SUPPORT_RPC_H_
#define TESTS_SUPPORT_RPC_H_

#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/device.pb.h"
#include "tidemark/block/v1/event.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/instance.pb.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/machine.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/object.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::test {

namespace v1 = ::tidemark::block::v1;

template <class Request>
struct RpcOf;

#define TIDEMARK_RPC(Service, Rpc)                                           \
  template <>                                                                \
  struct RpcOf<v1::Rpc##Request> {                                           \
    using Response = v1::Rpc##Response;                                      \
    static constexpr char kPath[] = "/tidemark.block.v1." #Service "/" #Rpc; \
  };

TIDEMARK_RPC(NodeService, BlockdevAdd)
TIDEMARK_RPC(NodeService, BlockdevDel)
TIDEMARK_RPC(NodeService, BlockdevCreate)
TIDEMARK_RPC(NodeService, BlockResize)
TIDEMARK_RPC(NodeService, BlockdevAmend)
TIDEMARK_RPC(NodeService, BlockdevReopen)
TIDEMARK_RPC(NodeService, BlockdevSnapshot)
TIDEMARK_RPC(NodeService, BlockdevSnapshotSync)
TIDEMARK_RPC(NodeService, BlockdevSnapshotInternalSync)
TIDEMARK_RPC(NodeService, BlockdevSnapshotDeleteInternalSync)
TIDEMARK_RPC(NodeService, ChangeBackingFile)
TIDEMARK_RPC(NodeService, BlockSetWriteThreshold)
TIDEMARK_RPC(NodeService, BlockdevSetActive)
TIDEMARK_RPC(NodeService, BlockdevChange)
TIDEMARK_RPC(NodeService, BlockdevSetIothread)
TIDEMARK_RPC(NodeService, DebugQueryBlockGraph)
TIDEMARK_RPC(NodeService, QueryNamedBlockNodes)
TIDEMARK_RPC(BitmapService, BlockDirtyBitmapAdd)
TIDEMARK_RPC(BitmapService, BlockDirtyBitmapRemove)
TIDEMARK_RPC(BitmapService, BlockDirtyBitmapClear)
TIDEMARK_RPC(BitmapService, BlockDirtyBitmapEnable)
TIDEMARK_RPC(BitmapService, BlockDirtyBitmapDisable)
TIDEMARK_RPC(BitmapService, BlockDirtyBitmapMerge)
TIDEMARK_RPC(BitmapService, DebugBlockDirtyBitmapSha256)
TIDEMARK_RPC(JobService, BlockdevBackup)
TIDEMARK_RPC(JobService, DriveBackup)
TIDEMARK_RPC(JobService, BlockdevMirror)
TIDEMARK_RPC(JobService, DriveMirror)
TIDEMARK_RPC(JobService, BlockStream)
TIDEMARK_RPC(JobService, BlockCommit)
TIDEMARK_RPC(JobService, JobPause)
TIDEMARK_RPC(JobService, JobResume)
TIDEMARK_RPC(JobService, JobCancel)
TIDEMARK_RPC(JobService, JobComplete)
TIDEMARK_RPC(JobService, JobFinalize)
TIDEMARK_RPC(JobService, JobDismiss)
TIDEMARK_RPC(JobService, BlockJobSetSpeed)
TIDEMARK_RPC(JobService, BlockJobPause)
TIDEMARK_RPC(JobService, BlockJobResume)
TIDEMARK_RPC(JobService, BlockJobCancel)
TIDEMARK_RPC(JobService, BlockJobComplete)
TIDEMARK_RPC(JobService, BlockJobFinalize)
TIDEMARK_RPC(JobService, BlockJobDismiss)
TIDEMARK_RPC(JobService, BlockJobChange)
TIDEMARK_RPC(JobService, QueryJobs)
TIDEMARK_RPC(JobService, QueryBlockJobs)
TIDEMARK_RPC(JobService, GetJob)
TIDEMARK_RPC(JobService, ListJobs)
TIDEMARK_RPC(JobService, WaitJob)
TIDEMARK_RPC(TransactionService, Transaction)
TIDEMARK_RPC(ExportService, NbdServerStart)
TIDEMARK_RPC(ExportService, NbdServerStop)
TIDEMARK_RPC(ExportService, NbdServerAdd)
TIDEMARK_RPC(ExportService, NbdServerRemove)
TIDEMARK_RPC(ExportService, BlockExportAdd)
TIDEMARK_RPC(ExportService, BlockExportDel)
TIDEMARK_RPC(ExportService, QueryBlockExports)
TIDEMARK_RPC(DeviceService, BlockdevChangeMedium)
TIDEMARK_RPC(DeviceService, BlockdevInsertMedium)
TIDEMARK_RPC(DeviceService, BlockdevRemoveMedium)
TIDEMARK_RPC(DeviceService, BlockdevOpenTray)
TIDEMARK_RPC(DeviceService, BlockdevCloseTray)
TIDEMARK_RPC(DeviceService, Eject)
TIDEMARK_RPC(DeviceService, BlockSetIoThrottle)
TIDEMARK_RPC(DeviceService, BlockLatencyHistogramSet)
TIDEMARK_RPC(DeviceService, QueryBlock)
TIDEMARK_RPC(DeviceService, QueryBlockstats)
TIDEMARK_RPC(MachineService, QueryStatus)
TIDEMARK_RPC(MachineService, Stop)
TIDEMARK_RPC(MachineService, Cont)
TIDEMARK_RPC(MachineService, SnapshotSave)
TIDEMARK_RPC(MachineService, SnapshotLoad)
TIDEMARK_RPC(MachineService, SnapshotDelete)
TIDEMARK_RPC(ObjectService, ObjectAdd)
TIDEMARK_RPC(ObjectService, ObjectDel)
TIDEMARK_RPC(InstanceService, CreateInstance)
TIDEMARK_RPC(InstanceService, GetInstance)
TIDEMARK_RPC(InstanceService, ListInstances)
TIDEMARK_RPC(InstanceService, DeleteInstance)
TIDEMARK_RPC(InstanceService, GetCapabilities)

#undef TIDEMARK_RPC

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_RPC_H_
