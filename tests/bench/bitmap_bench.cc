// What a bitmap costs, in nanoseconds: marks on the way of guest writes, and what happens at the
// instant of a backup of a huge disk. Prints a table; nothing is tested. Run with --config=opt.
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "engine/bitmap/dirty_bitmap.h"

namespace tidemark::bitmap {
namespace {

constexpr uint64_t kTebibyte = uint64_t{1} << 40;
constexpr uint64_t kGranularity = 65536;

// Of this thread's CPU: other processes do not count.
double NowNanoseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// Nanoseconds a call of `work`, the best of several rounds.
template <typename Work>
double Nanoseconds(int calls, Work work) {
  double best = 0;
  for (int round = 0; round < 7; ++round) {
    const double begin = NowNanoseconds();
    for (int i = 0; i < calls; ++i) work(i);
    const double each = (NowNanoseconds() - begin) / calls;
    if (round == 0 || each < best) best = each;
  }
  return best;
}

void Print(const char* what, double nanoseconds) {
  std::printf("%-52s %14.1f ns\n", what, nanoseconds);
}

std::unique_ptr<DirtyBitmap> Mixed(uint64_t size_bytes) {
  auto bitmap = std::make_unique<DirtyBitmap>(size_bytes, kGranularity);
  for (uint64_t at = 0; at < size_bytes; at += 2 * kGranularity) bitmap->Set({at, 1});
  return bitmap;
}

void Marks() {
  constexpr int kCalls = 1000000;
  std::mt19937_64 random(1);
  std::vector<uint64_t> offsets(kCalls);
  for (uint64_t& offset : offsets) offset = random() % (kTebibyte / 16);
  DirtyBitmap again(kTebibyte, kGranularity);
  again.Set({0, 1});
  Print("mark what is dirty, one place", Nanoseconds(kCalls, [&](int) { again.Set({0, 4096}); }));
  for (const uint64_t offset : offsets) again.Set({offset, 4096});
  Print("mark what is dirty, random in 64 GiB", Nanoseconds(kCalls, [&](int i) {
          again.Set({offsets[i], 4096});
        }));
  DirtyBitmap fresh(uint64_t{64} * kTebibyte, kGranularity);
  uint64_t at = 0;
  Print("mark what is clean, in order", Nanoseconds(kCalls, [&](int) {
          fresh.Set({at, 4096});
          at += 2 * kGranularity;
        }));
  Print("is it dirty", Nanoseconds(kCalls, [&](int i) { again.IsDirty(offsets[i]); }));
  DirtyBitmap taken(kTebibyte, kGranularity);
  uint64_t from = 0;
  Print("take the next 1 MiB of all", Nanoseconds(200000, [&](int i) {
          if (i == 0) taken.SetAll();
          from = i == 0 ? 0 : from + (1 << 20);
          taken.TakeNextDirty(from, 1 << 20);
        }));
}

void Instants() {
  for (const uint64_t tebibytes : {64, 512}) {
    const uint64_t size_bytes = tebibytes * kTebibyte;
    std::printf("%llu TiB\n", static_cast<unsigned long long>(tebibytes));
    Print("  make, set all, destroy", Nanoseconds(3, [&](int) {
            DirtyBitmap bitmap(size_bytes, kGranularity);
            bitmap.SetAll();
          }));
    DirtyBitmap all(size_bytes, kGranularity);
    all.SetAll();
    Print("  merge one that is all dirty", Nanoseconds(3, [&](int) {
            DirtyBitmap bitmap(size_bytes, kGranularity);
            (void)bitmap.Merge(all);
          }));
    Print("  count, find nothing clean", Nanoseconds(3, [&](int) {
            all.CountBytes();
            all.NextClean(0);
          }));
  }
  const std::unique_ptr<DirtyBitmap> mixed = Mixed(64 * kTebibyte);
  std::printf("64 TiB, every second granule\n");
  Print("  merge into one of 1 MiB", Nanoseconds(1, [&](int) {
          DirtyBitmap bitmap(64 * kTebibyte, 1 << 20);
          (void)bitmap.Merge(*mixed);
        }));
}

}  // namespace
}  // namespace tidemark::bitmap

int main() {
  tidemark::bitmap::Marks();
  tidemark::bitmap::Instants();
  return 0;
}
