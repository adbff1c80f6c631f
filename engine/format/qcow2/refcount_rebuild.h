// Makes the refcounts of an image right again: for images that a program with lazy refcounts left
// marked dirty.
#ifndef ENGINE_FORMAT_QCOW2_REFCOUNT_REBUILD_H_
#define ENGINE_FORMAT_QCOW2_REFCOUNT_REBUILD_H_

#include "absl/status/status.h"
#include "engine/format/qcow2/header.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

// Counts what every cluster of the file is used for, writes new refcounts behind the end of the
// file, and durably makes them those of the image, which then is no longer marked dirty. Until the
// last moment the image is as it was. Nobody else uses the file meanwhile. Blocks for as long as it
// takes to read all tables. kImageCorrupt if a table refers to something that cannot be;
// kFeatureUnsupported if the file is so large that the counts would take too much memory.
absl::Status RebuildRefcounts(storage::Storage& file, const Header& header);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_REFCOUNT_REBUILD_H_
