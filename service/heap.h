// Keeps the C library from holding memory that nobody uses any more. Each thread that allocates may
// get an arena of its own, which never shrinks in the middle: after a day of odd images the process
// would hold ten times what it uses.
#ifndef SERVICE_HEAP_H_
#define SERVICE_HEAP_H_

#include "engine/base/executor.h"

namespace tidemark {

// Few arenas, and large blocks given back as soon as they are freed. Before the first thread.
void BoundHeap();

// Gives back what is free in the middle of the arenas, from time to time, as long as the executor
// runs, and only where there is enough to be worth it.
void TrimHeapFromTimeToTime(Executor& executor);

}  // namespace tidemark

#endif  // SERVICE_HEAP_H_
