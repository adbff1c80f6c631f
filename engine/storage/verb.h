// The verbs of a Storage as values, so that fault-injecting storages can be told which to touch.
#ifndef ENGINE_STORAGE_VERB_H_
#define ENGINE_STORAGE_VERB_H_

namespace tidemark::storage {

enum class Verb {
  kRead,
  kWrite,
  kWriteZeroes,
  kDiscard,
  kFlush,
  kResize,
  kMap,
  kPlaceRead,
  kPlaceWrite,
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_VERB_H_
