#include "engine/native/commands/mirror_commands.h"

#include <memory>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/native/jobs/link_job.h"
#include "engine/native/jobs/mirror_link.h"
#include "engine/native/jobs/target_reservation.h"
#include "engine/native/nodes_instant.h"
#include "engine/transaction/transaction.h"
#include "tidemark/block/v1/mirror.pb.h"

namespace tidemark::native {
namespace {

class MirrorAction final : public transaction::Action {
 public:
  MirrorAction(Engine* engine, MirrorRequest request)
      : engine_(*engine),
        link_(std::make_shared<MirrorLink>(engine, std::move(request))),
        reservation_(engine) {}
  ~MirrorAction() override {
    // Opened, and never linked.
    if (link_->opened_target() != nullptr && !prepared_) link_->Release();
  }

  absl::Status Open() override {
    RETURN_IF_ERROR(link_->OpenTarget());
    reservation_.Take([this] { return link_->FindTarget(); }, link_->TargetUse());
    return absl::OkStatus();
  }

  absl::Status Prepare() override {
    RETURN_IF_ERROR(LinkAndCreateJob(engine_, link_, [this] { return link_->CreateJob(); }));
    prepared_ = true;
    return absl::OkStatus();
  }

  void Commit() override {
    engine_.threads.OnEngine([this] { engine_.scheduler.Start(link_->request().job.id); });
  }

 private:
  Engine& engine_;
  const std::shared_ptr<MirrorLink> link_;
  // Until the job holds them.
  TargetReservation reservation_;
  bool prepared_ = false;
};

template <typename Request, typename Response>
void AddMirror(Engine* engine, Handlers* handlers) {
  handlers->Add<Request, Response>([engine](const Request& request, Response*) {
    std::vector<std::unique_ptr<transaction::Action>> actions;
    actions.push_back(std::make_unique<MirrorAction>(engine, FromProto(request)));
    NodesInstant instant(engine, {request.device()});
    return transaction::Run(actions, instant);
  });
}

}  // namespace

void AddMirrorCommands(Engine* engine, Handlers* handlers) {
  using namespace block::v1;  // NOLINT: a table of requests.
  AddMirror<BlockdevMirrorRequest, BlockdevMirrorResponse>(engine, handlers);
  AddMirror<DriveMirrorRequest, DriveMirrorResponse>(engine, handlers);
}

}  // namespace tidemark::native
