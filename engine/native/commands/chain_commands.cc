#include "engine/native/commands/chain_commands.h"

#include <memory>
#include <utility>
#include <vector>

#include "engine/native/jobs/link_job.h"
#include "engine/native/jobs/stream_link.h"
#include "engine/native/nodes_instant.h"
#include "engine/transaction/transaction.h"
#include "tidemark/block/v1/chain.pb.h"

namespace tidemark::native {
namespace {

class StreamAction final : public transaction::Action {
 public:
  StreamAction(Engine* engine, StreamRequest request)
      : engine_(*engine), link_(std::make_shared<StreamLink>(engine, std::move(request))) {}

  absl::Status Prepare() override {
    return LinkAndCreateJob(engine_, link_, [this] { return link_->CreateJob(); });
  }

  void Commit() override {
    engine_.threads.OnEngine([this] { engine_.scheduler.Start(link_->request().job.id); });
  }

 private:
  Engine& engine_;
  const std::shared_ptr<StreamLink> link_;
};

}  // namespace

void AddChainCommands(Engine* engine, Handlers* handlers) {
  using namespace block::v1;  // NOLINT: a table of requests.
  handlers->Add<BlockStreamRequest, BlockStreamResponse>(
      [engine](const BlockStreamRequest& request, BlockStreamResponse*) {
        std::vector<std::unique_ptr<transaction::Action>> actions;
        actions.push_back(std::make_unique<StreamAction>(engine, FromProto(request)));
        NodesInstant instant(engine, {request.device()});
        return transaction::Run(actions, instant);
      });
}

}  // namespace tidemark::native
