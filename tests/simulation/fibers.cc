#include "tests/simulation/fibers.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <csetjmp>
#include <utility>

#include "absl/debugging/stacktrace.h"
#include "absl/debugging/symbolize.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace tidemark::simulation {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 1 << 20;
#else
constexpr size_t kStackBytes = 256 << 10;
#endif
// Behind each stack, so that an overflow is seen.
constexpr size_t kGuardBytes = 4096;
// How far the clock creeps in each turn.
constexpr absl::Duration kTurn = absl::Microseconds(1);

constexpr int kTraceDepthMax = 24;

// Stacks are used again by later fibers of this thread of the machine.
thread_local std::vector<void*>* spare_stacks = nullptr;

void* TakeStack() {
  if (spare_stacks == nullptr) spare_stacks = new std::vector<void*>;
  if (!spare_stacks->empty()) {
    void* const stack = spare_stacks->back();
    spare_stacks->pop_back();
    return stack;
  }
  void* const memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(memory != MAP_FAILED);
  CHECK(mprotect(memory, kGuardBytes, PROT_NONE) == 0);
  return static_cast<char*>(memory) + kGuardBytes;
}

#if !defined(__SANITIZE_ADDRESS__)
// Leaves off here, and goes on at `to` or, if that is null, begins `first`. A jump needs no system
// call, unlike swapcontext.
[[gnu::noinline]] void Jump(jmp_buf* left_off, jmp_buf* to, const ucontext_t* first) {
  if (_setjmp(*left_off) != 0) return;
  if (to != nullptr) _longjmp(*to, 1);
  setcontext(first);
}
#endif

}  // namespace

struct Fibers::Fiber {
  uint64_t number = 0;
  std::string name;
  std::function<void()> body;
  void* stack = nullptr;
  ucontext_t context = {};
  // Where it left off, once it has begun.
  jmp_buf left_off = {};
  bool begun = false;
  bool ended = false;

  // While it sleeps.
  const void* place = nullptr;
  bool has_alarm = false;
  std::multimap<absl::Duration, Fiber*>::iterator alarm;
  bool woken = false;
  int trace_depth = 0;
  void* trace[kTraceDepthMax] = {};

  // What AddressSanitizer wants to know.
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  size_t stack_bytes = 0;
};

Fibers::Fibers(const Options& options) : options_(options), chance_(options.seed, "switch") {}

Fibers::~Fibers() {
  for (const std::unique_ptr<Fiber>& fiber : fibers_) {
    // The stack of one that was given up is left as it stands: it holds what others may point to.
    if (fiber->stack != nullptr && fiber->ended) spare_stacks->push_back(fiber->stack);
  }
}

const std::string& Fibers::running_name() const { return running_->name; }

bool Fibers::Run(std::function<void()> body) {
  SetCurrent(this);
  machine_ = std::make_unique<Fiber>();
  machine_->name = "machine";
  machine_->begun = true;
  running_ = machine_.get();
  Spawn("world", std::move(body));
  GiveWay();
  SetCurrent(nullptr);
  return !gave_up_;
}

uint64_t Fibers::Spawn(std::string name, std::function<void()> body) {
  auto fiber = std::make_unique<Fiber>();
  fiber->number = fibers_.size();
  fiber->name = std::move(name);
  fiber->body = std::move(body);
  fiber->stack = TakeStack();
  fiber->stack_bottom = fiber->stack;
  fiber->stack_bytes = kStackBytes;
  CHECK(getcontext(&fiber->context) == 0);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = kStackBytes;
  fiber->context.uc_link = nullptr;
  const auto self = reinterpret_cast<uintptr_t>(this);
  // makecontext hands on only ints.
  makecontext(&fiber->context, reinterpret_cast<void (*)()>(&Fibers::Enter), 2,
              static_cast<unsigned int>(self), static_cast<unsigned int>(self >> 32));
  ready_.push_back(fiber.get());
  fibers_.push_back(std::move(fiber));
  return fibers_.size() - 1;
}

void Fibers::Enter(unsigned int low, unsigned int high) {
  auto* const fibers =
      reinterpret_cast<Fibers*>(static_cast<uintptr_t>(high) << 32 | static_cast<uintptr_t>(low));
  Fiber* const self = fibers->running_;
#if defined(__SANITIZE_ADDRESS__)
  // Where the machine's own stack is, is known only now.
  __sanitizer_finish_switch_fiber(nullptr, &fibers->previous_->stack_bottom,
                                  &fibers->previous_->stack_bytes);
#endif
  self->body();
  self->body = nullptr;
  self->ended = true;
  fibers->Wake(self, /*all=*/true);
  fibers->GiveWay();
  CHECK(false);  // Nobody chooses one that has ended.
}

void Fibers::Join(uint64_t thread) {
  Fiber* const fiber = fibers_[thread].get();
  while (!fiber->ended) Sleep(fiber, absl::InfiniteDuration());
}

void Fibers::Yield() {
  ++turns_;
  elapsed_ += kTurn;
  if (turns_ <= options_.turns_max) {
    if (ready_.empty() && alarms_.empty()) return;
    if (!chance_.OneIn(options_.switch_one_in)) return;
  }
  ready_.push_back(running_);
  GiveWay();
}

bool Fibers::Sleep(const void* place, absl::Duration timeout) {
  running_->place = place;
  running_->woken = false;
  asleep_[place].push_back(running_);
  if (timeout != absl::InfiniteDuration()) {
    running_->has_alarm = true;
    running_->alarm = alarms_.emplace(elapsed_ + std::max(timeout, kTurn), running_);
  }
  if (options_.traces) {
    running_->trace_depth = absl::GetStackTrace(running_->trace, kTraceDepthMax, 1);
  }
  GiveWay();
  return running_->woken;
}

void Fibers::MakeReady(Fiber* fiber, bool woken) {
  fiber->woken = woken;
  fiber->place = nullptr;
  if (fiber->has_alarm) alarms_.erase(fiber->alarm);
  fiber->has_alarm = false;
  ready_.push_back(fiber);
}

void Fibers::Wake(const void* place, bool all) {
  const auto found = asleep_.find(place);
  if (found == asleep_.end()) return;
  std::vector<Fiber*>& sleepers = found->second;
  if (all) {
    for (Fiber* const fiber : sleepers) MakeReady(fiber, true);
    sleepers.clear();
  } else {
    const size_t chosen = chance_.Below(sleepers.size());
    MakeReady(sleepers[chosen], true);
    sleepers.erase(sleepers.begin() + chosen);
  }
  if (sleepers.empty()) asleep_.erase(found);
}

bool Fibers::RingAlarms(bool leap) {
  if (alarms_.empty()) return false;
  if (leap) elapsed_ = std::max(elapsed_, alarms_.begin()->first);
  bool rang = false;
  while (!alarms_.empty() && alarms_.begin()->first <= elapsed_) {
    Fiber* const fiber = alarms_.begin()->second;
    std::vector<Fiber*>& sleepers = asleep_[fiber->place];
    sleepers.erase(std::find(sleepers.begin(), sleepers.end(), fiber));
    if (sleepers.empty()) asleep_.erase(fiber->place);
    MakeReady(fiber, false);
    rang = true;
  }
  return rang;
}

Fibers::Fiber* Fibers::Choose() {
  RingAlarms(/*leap=*/false);
  if (ready_.empty()) RingAlarms(/*leap=*/true);
  if (ready_.empty()) {
    // All have ended if the first has: else they wait for one another.
    if (!std::all_of(fibers_.begin(), fibers_.end(), [](const auto& f) { return f->ended; })) {
      GiveUp("nobody can go on");
    }
    return machine_.get();
  }
  if (turns_ > options_.turns_max) {
    GiveUp("it does not end");
    return machine_.get();
  }
  const size_t chosen = options_.switch_one_in == 0 ? 0 : chance_.Below(ready_.size());
  Fiber* const fiber = ready_[chosen];
  ready_.erase(ready_.begin() + chosen);
  return fiber;
}

void Fibers::GiveWay() {
  ++turns_;
  elapsed_ += kTurn;
  Fiber* const next = Choose();
  if (next != running_) SwitchTo(next);
}

void Fibers::SwitchTo(Fiber* next) {
  ++switches_;
  previous_ = running_;
  running_ = next;
  Fiber* const self = previous_;
  const bool begun = std::exchange(next->begun, true);
#if defined(__SANITIZE_ADDRESS__)
  (void)begun;
  __sanitizer_start_switch_fiber(self->ended ? nullptr : &self->fake_stack, next->stack_bottom,
                                 next->stack_bytes);
  swapcontext(&self->context, &next->context);
  __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
#else
  Jump(&self->left_off, begun ? &next->left_off : nullptr, &next->context);
#endif
}

void Fibers::GiveUp(const std::string& why) {
  gave_up_ = true;
  stuck_ = absl::StrCat(why, " after ", turns_, " turns, at ", absl::FormatDuration(elapsed_));
  for (const std::unique_ptr<Fiber>& fiber : fibers_) {
    if (fiber->ended) continue;
    absl::StrAppend(&stuck_, "\n  ", fiber->number, " ", fiber->name,
                    fiber->place == nullptr ? " runs" : " sleeps",
                    fiber->has_alarm ? " for a time" : "");
    for (int i = 0; fiber->place != nullptr && i < fiber->trace_depth; ++i) {
      char name[256] = "?";
      absl::Symbolize(fiber->trace[i], name, sizeof(name));
      absl::StrAppend(&stuck_, "\n      ", name);
    }
  }
}

}  // namespace tidemark::simulation
