#include "engine/native/commands/export_commands.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "tidemark/block/v1/export.pb.h"

namespace tidemark::native {
namespace {

// QEMU's, too.
constexpr uint32_t kConnectionsDefault = 100;

using namespace block::v1;  // NOLINT: a file about requests.

absl::Status StartServer(Engine& engine, bool allow_remote, const NbdServerStartRequest& request) {
  nbd::Server::Options options;
  options.allow_remote = allow_remote;
  switch (request.addr().type_case()) {
    case SocketAddressLegacy::kUnixSocket:
      RETURN_IF_ERROR(engine.policy.CheckPath(request.addr().unix_socket().path()));
      options.address = nbd::UnixAddress{request.addr().unix_socket().path()};
      break;
    case SocketAddressLegacy::kInet:
      options.address = nbd::TcpAddress{request.addr().inet().host(), request.addr().inet().port()};
      break;
    default:
      return Error(Reason::kFieldUnsupported,
                   "the NBD server of this engine listens on unix sockets and TCP only",
                   {{"field", "addr"}});
  }
  options.connections_max = static_cast<int>(std::min<uint32_t>(
      request.has_max_connections() ? request.max_connections() : kConnectionsDefault,
      nbd::kConnectionsMax));
  constexpr uint32_t kHandshakeDefaultSeconds = 10;
  const uint32_t handshake_seconds = request.has_handshake_max_seconds()
                                         ? request.handshake_max_seconds()
                                         : kHandshakeDefaultSeconds;
  options.handshake_timeout =
      handshake_seconds == 0 ? absl::InfiniteDuration() : absl::Seconds(handshake_seconds);
  options.memory = &engine.budgets.nbd_memory;
  options.helpers = &engine.budgets.nbd_helpers;
  return engine.exports.StartServer(std::move(options));
}

absl::Status AddExport(Engine& engine, const BlockExportAddRequest& request) {
  if (!request.has_nbd()) {
    return Error(Reason::kFieldUnsupported,
                 absl::StrCat("export \"", request.id(), "\": this engine exports by NBD only"),
                 {{"field", "type"}});
  }
  ExportRequest wanted;
  wanted.id = request.id();
  wanted.node_name = request.node_name();
  wanted.name = request.nbd().has_name() ? request.nbd().name() : request.node_name();
  wanted.description = request.nbd().description();
  wanted.writable = request.writable();
  wanted.writethrough = request.writethrough();
  wanted.allocation_depth = request.nbd().allocation_depth();
  for (const BlockDirtyBitmapOrStr& bitmap : request.nbd().bitmaps()) {
    if (bitmap.has_external()) {
      wanted.bitmaps.push_back({bitmap.external().node(), bitmap.external().name()});
    } else {
      wanted.bitmaps.push_back({"", bitmap.local()});
    }
  }
  return engine.exports.Add(wanted);
}

absl::Status AddNbdExport(Engine& engine, const NbdServerAddRequest& request) {
  ExportRequest wanted;
  wanted.id = request.name().empty() ? request.device() : request.name();
  wanted.node_name = request.device();
  wanted.name = wanted.id;
  wanted.description = request.description();
  wanted.writable = request.writable();
  if (!request.bitmap().empty()) wanted.bitmaps.push_back({"", request.bitmap()});
  return engine.exports.Add(wanted);
}

bool IsHard(BlockExportRemoveMode mode) { return mode == BLOCK_EXPORT_REMOVE_MODE_HARD; }

}  // namespace

void AddExportCommands(Engine* engine, bool allow_remote_nbd, Handlers* handlers) {
  handlers->Add<NbdServerStartRequest, NbdServerStartResponse>(
      [engine, allow_remote_nbd](const NbdServerStartRequest& request, NbdServerStartResponse*) {
        return StartServer(*engine, allow_remote_nbd, request);
      });
  handlers->Add<NbdServerStopRequest, NbdServerStopResponse>(
      [engine](const NbdServerStopRequest&, NbdServerStopResponse*) {
        return engine->exports.StopServer();
      });
  handlers->Add<NbdServerAddRequest, NbdServerAddResponse>(
      [engine](const NbdServerAddRequest& request, NbdServerAddResponse*) {
        return AddNbdExport(*engine, request);
      });
  handlers->Add<NbdServerRemoveRequest, NbdServerRemoveResponse>(
      [engine](const NbdServerRemoveRequest& request, NbdServerRemoveResponse*) {
        return engine->exports.Remove(request.name(), IsHard(request.mode()));
      });
  handlers->Add<BlockExportAddRequest, BlockExportAddResponse>(
      [engine](const BlockExportAddRequest& request, BlockExportAddResponse*) {
        return AddExport(*engine, request);
      });
  handlers->Add<BlockExportDelRequest, BlockExportDelResponse>(
      [engine](const BlockExportDelRequest& request, BlockExportDelResponse*) {
        return engine->exports.Remove(request.id(), IsHard(request.mode()));
      });
  handlers->Add<QueryBlockExportsRequest, QueryBlockExportsResponse>(
      [engine](const QueryBlockExportsRequest&, QueryBlockExportsResponse* response) {
        for (const ExportInfo& exported : engine->exports.List()) {
          BlockExportInfo* const info = response->add_exports();
          info->set_id(exported.id);
          info->set_type(BLOCK_EXPORT_TYPE_NBD);
          info->set_node_name(exported.node_name);
          info->set_shutting_down(exported.shutting_down);
        }
        return absl::OkStatus();
      });
}

}  // namespace tidemark::native
