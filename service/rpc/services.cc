#include "service/rpc/services.h"

#include <utility>

#include "engine/backend/command.h"
#include "engine/backend/validate.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/rpc/error_status.h"
#include "service/rpc/event_stream.h"
#include "service/rpc/instance_service.h"
#include "service/rpc/job_stream.h"
#include "tidemark/block/v1/bitmap.grpc.pb.h"
#include "tidemark/block/v1/device.grpc.pb.h"
#include "tidemark/block/v1/event.grpc.pb.h"
#include "tidemark/block/v1/export.grpc.pb.h"
#include "tidemark/block/v1/job.grpc.pb.h"
#include "tidemark/block/v1/machine.grpc.pb.h"
#include "tidemark/block/v1/node.grpc.pb.h"
#include "tidemark/block/v1/object.grpc.pb.h"
#include "tidemark/block/v1/transaction.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

// Sends a command on its way; the reply goes out when the engine has answered.
ServerUnaryReactor* Forward(const Front& front, CallbackServerContext* context,
                            const google::protobuf::Message& request,
                            google::protobuf::Message* response) {
  const backend::Command& command =
      *backend::CommandIndex::Get().ByRequest(request.GetDescriptor());
  ServerUnaryReactor* const reactor = context->DefaultReactor();
  front.dispatcher.Call(command, request, response,
                        [&front, &command, &request, context, reactor](absl::Status status) {
                          AddSequence(front.log.position(), context);
                          reactor->Finish(ToGrpcStatus(status, InstanceOf(command, request)));
                        });
  return reactor;
}

// A method of the mirror; says only that it exists.
#define TIDEMARK_FORWARD(method)                                                                 \
  ServerUnaryReactor* method(CallbackServerContext* context, const v1::method##Request* request, \
                             v1::method##Response* response) override {                          \
    return Forward(front_, context, *request, response);                                         \
  }

class NodeService final : public v1::NodeService::CallbackService {
 public:
  explicit NodeService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(BlockdevAdd)
  TIDEMARK_FORWARD(BlockdevDel)
  TIDEMARK_FORWARD(BlockdevCreate)
  TIDEMARK_FORWARD(BlockResize)
  TIDEMARK_FORWARD(BlockdevAmend)
  TIDEMARK_FORWARD(BlockdevReopen)
  TIDEMARK_FORWARD(BlockdevSnapshot)
  TIDEMARK_FORWARD(BlockdevSnapshotSync)
  TIDEMARK_FORWARD(BlockdevSnapshotInternalSync)
  TIDEMARK_FORWARD(BlockdevSnapshotDeleteInternalSync)
  TIDEMARK_FORWARD(ChangeBackingFile)
  TIDEMARK_FORWARD(BlockSetWriteThreshold)
  TIDEMARK_FORWARD(BlockdevSetActive)
  TIDEMARK_FORWARD(BlockdevChange)
  TIDEMARK_FORWARD(BlockdevSetIothread)
  TIDEMARK_FORWARD(DebugQueryBlockGraph)
  TIDEMARK_FORWARD(QueryNamedBlockNodes)

 private:
  const Front& front_;
};

class BitmapService final : public v1::BitmapService::CallbackService {
 public:
  explicit BitmapService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(BlockDirtyBitmapAdd)
  TIDEMARK_FORWARD(BlockDirtyBitmapRemove)
  TIDEMARK_FORWARD(BlockDirtyBitmapClear)
  TIDEMARK_FORWARD(BlockDirtyBitmapEnable)
  TIDEMARK_FORWARD(BlockDirtyBitmapDisable)
  TIDEMARK_FORWARD(BlockDirtyBitmapMerge)
  TIDEMARK_FORWARD(DebugBlockDirtyBitmapSha256)

 private:
  const Front& front_;
};

class TransactionService final : public v1::TransactionService::CallbackService {
 public:
  explicit TransactionService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(Transaction)

 private:
  const Front& front_;
};

class ExportService final : public v1::ExportService::CallbackService {
 public:
  explicit ExportService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(NbdServerStart)
  TIDEMARK_FORWARD(NbdServerStop)
  TIDEMARK_FORWARD(NbdServerAdd)
  TIDEMARK_FORWARD(NbdServerRemove)
  TIDEMARK_FORWARD(BlockExportAdd)
  TIDEMARK_FORWARD(BlockExportDel)
  TIDEMARK_FORWARD(QueryBlockExports)

 private:
  const Front& front_;
};

class DeviceService final : public v1::DeviceService::CallbackService {
 public:
  explicit DeviceService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(BlockdevChangeMedium)
  TIDEMARK_FORWARD(BlockdevInsertMedium)
  TIDEMARK_FORWARD(BlockdevRemoveMedium)
  TIDEMARK_FORWARD(BlockdevOpenTray)
  TIDEMARK_FORWARD(BlockdevCloseTray)
  TIDEMARK_FORWARD(Eject)
  TIDEMARK_FORWARD(BlockSetIoThrottle)
  TIDEMARK_FORWARD(BlockLatencyHistogramSet)
  TIDEMARK_FORWARD(QueryBlock)
  TIDEMARK_FORWARD(QueryBlockstats)

 private:
  const Front& front_;
};

class MachineService final : public v1::MachineService::CallbackService {
 public:
  explicit MachineService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(QueryStatus)
  TIDEMARK_FORWARD(Stop)
  TIDEMARK_FORWARD(Cont)
  TIDEMARK_FORWARD(SnapshotSave)
  TIDEMARK_FORWARD(SnapshotLoad)
  TIDEMARK_FORWARD(SnapshotDelete)

 private:
  const Front& front_;
};

class ObjectService final : public v1::ObjectService::CallbackService {
 public:
  explicit ObjectService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(ObjectAdd)
  TIDEMARK_FORWARD(ObjectDel)

 private:
  const Front& front_;
};

class JobService final : public v1::JobService::CallbackService {
 public:
  explicit JobService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(BlockdevBackup)
  TIDEMARK_FORWARD(DriveBackup)
  TIDEMARK_FORWARD(BlockdevMirror)
  TIDEMARK_FORWARD(DriveMirror)
  TIDEMARK_FORWARD(BlockStream)
  TIDEMARK_FORWARD(BlockCommit)
  TIDEMARK_FORWARD(JobPause)
  TIDEMARK_FORWARD(JobResume)
  TIDEMARK_FORWARD(JobCancel)
  TIDEMARK_FORWARD(JobComplete)
  TIDEMARK_FORWARD(JobFinalize)
  TIDEMARK_FORWARD(JobDismiss)
  TIDEMARK_FORWARD(BlockJobSetSpeed)
  TIDEMARK_FORWARD(BlockJobPause)
  TIDEMARK_FORWARD(BlockJobResume)
  TIDEMARK_FORWARD(BlockJobCancel)
  TIDEMARK_FORWARD(BlockJobComplete)
  TIDEMARK_FORWARD(BlockJobFinalize)
  TIDEMARK_FORWARD(BlockJobDismiss)
  TIDEMARK_FORWARD(BlockJobChange)
  TIDEMARK_FORWARD(QueryJobs)
  TIDEMARK_FORWARD(QueryBlockJobs)

  ServerUnaryReactor* GetJob(CallbackServerContext* context, const v1::GetJobRequest* request,
                             v1::GetJobResponse* response) override {
    const uint64_t position = front_.log.position();
    absl::Status status = backend::Validate(*request);
    if (status.ok()) {
      auto entry = front_.jobs.Find(request->instance(), request->id());
      status = entry.status();
      if (status.ok()) {
        *response->mutable_job() = entry->view.job();
      } else {
        status = ExplainNoJob(front_, request->instance(), status);
      }
    }
    return FinishUnary(position, context, status, request->instance());
  }

  ServerUnaryReactor* ListJobs(CallbackServerContext* context, const v1::ListJobsRequest* request,
                               v1::ListJobsResponse* response) override {
    const uint64_t position = front_.log.position();
    absl::Status status = backend::Validate(*request);
    if (status.ok()) {
      auto page = front_.jobs.List(*request);
      status = page.status();
      if (status.ok()) *response = *std::move(page);
    }
    return FinishUnary(position, context, status, "");
  }

  ServerUnaryReactor* WaitJob(CallbackServerContext* context, const v1::WaitJobRequest* request,
                              v1::WaitJobResponse* response) override {
    return new JobWait(front_, context, *request, response);
  }

  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      CallbackServerContext* context, const v1::WatchJobRequest* request) override {
    return new JobStream(front_, context, *request);
  }

 private:
  const Front& front_;
};

class EventService final : public v1::EventService::CallbackService {
 public:
  explicit EventService(const Front& front) : front_(front) {}

  grpc::ServerWriteReactor<v1::WatchEventsResponse>* WatchEvents(
      CallbackServerContext* context, const v1::WatchEventsRequest* request) override {
    return new EventStream(front_, context, *request);
  }

 private:
  const Front& front_;
};

#undef TIDEMARK_FORWARD

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> MakeServices(const Front& front) {
  std::vector<std::unique_ptr<grpc::Service>> services;
  services.push_back(std::make_unique<NodeService>(front));
  services.push_back(std::make_unique<BitmapService>(front));
  services.push_back(std::make_unique<JobService>(front));
  services.push_back(std::make_unique<TransactionService>(front));
  services.push_back(std::make_unique<ExportService>(front));
  services.push_back(std::make_unique<DeviceService>(front));
  services.push_back(std::make_unique<MachineService>(front));
  services.push_back(std::make_unique<ObjectService>(front));
  services.push_back(std::make_unique<EventService>(front));
  services.push_back(std::make_unique<InstanceService>(front));
  return services;
}

}  // namespace tidemark::rpc
