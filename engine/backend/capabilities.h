// What a Backend can do, told to clients by GetCapabilities and used by the front to refuse early.
#ifndef ENGINE_BACKEND_CAPABILITIES_H_
#define ENGINE_BACKEND_CAPABILITIES_H_

#include <set>
#include <string>

#include "tidemark/block/v1/instance.pb.h"

namespace tidemark::backend {

// The two kinds of block layer that stand behind the seam. A field marked (qmp.only) is confined to
// one of them.
enum class EngineKind { kNative, kQemu };

// A plain value, constant while a backend is connected.
struct Capabilities {
  EngineKind engine = EngineKind::kNative;
  // Of Tidemark or of QEMU: "10.0.2".
  std::string version;
  // Commands that work, by QMP's names: "blockdev-backup". Any other is refused before it reaches
  // the engine.
  std::set<std::string> commands;
  // What else GetCapabilities tells. The engine fills drivers, events, job_types, export_types, the
  // limits that are its own (jobs, nodes, exports), and commands if more fields than those confined
  // to other engines are refused; the front fills the rest.
  ::tidemark::block::v1::GetCapabilitiesResponse details;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_CAPABILITIES_H_
