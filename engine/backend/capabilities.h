// What a Backend can do, told to clients by GetCapabilities and used by the front to refuse early.
#ifndef ENGINE_BACKEND_CAPABILITIES_H_
#define ENGINE_BACKEND_CAPABILITIES_H_

#include <set>
#include <string>

namespace tidemark::backend {

// The two kinds of block layer that stand behind the seam. A field marked (qmp.only) is confined to
// one of them.
enum class EngineKind { kNative, kQemu };

// A plain value, constant while a backend is connected. Names are QMP's.
struct Capabilities {
  EngineKind engine = EngineKind::kNative;
  // Of Tidemark or of QEMU: "10.0.2".
  std::string version;
  // Commands that work: "blockdev-backup". Any other is refused before it reaches the engine.
  std::set<std::string> commands;
  // Drivers that blockdev-add opens: "qcow2".
  std::set<std::string> drivers;
  // Drivers that blockdev-create makes.
  std::set<std::string> create_drivers;
  // Actions that a transaction takes: "blockdev-backup".
  std::set<std::string> transaction_actions;
  // Export types of block-export-add: "nbd".
  std::set<std::string> export_types;
  // Types of jobs: "backup".
  std::set<std::string> job_types;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_CAPABILITIES_H_
