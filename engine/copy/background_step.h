// The background path of a copy as part of a job's steps: what those who drive it have in common.
// Any thread.
#ifndef ENGINE_COPY_BACKGROUND_STEP_H_
#define ENGINE_COPY_BACKGROUND_STEP_H_

#include <functional>

#include "engine/copy/background_copy.h"
#include "engine/copy/copier.h"
#include "engine/copy/copy_lane.h"
#include "engine/copy/step.h"

namespace tidemark::copy {

// Who works for the background path; `ready` is told what ends.
LaneWorkers BackgroundWorkers(const CopyWorkers& workers, std::function<void()> ready);

// What a step tells of a move.
StepResult ResultOf(BackgroundCopy::Moved moved);

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_BACKGROUND_STEP_H_
