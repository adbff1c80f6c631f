// What is still to be copied, as the background path of a copy sees it: claims stretches, and says
// what became of them. Backup has one that also keeps guests from changing what is claimed
// (copy_truth.h); other copies have their own.
//
// Thread rule: any thread.
#ifndef ENGINE_COPY_COPY_CLAIMS_H_
#define ENGINE_COPY_COPY_CLAIMS_H_

#include <cstdint>
#include <vector>

#include "absl/types/optional.h"
#include "engine/base/range.h"

namespace tidemark::copy {

class CopyClaims {
 public:
  virtual ~CopyClaims() = default;

  virtual uint64_t size_bytes() const = 0;
  // Nothing is left to claim.
  virtual bool IsEmpty() const = 0;
  // The copy was given up: what is read from now on may be new data.
  virtual bool is_open() const = 0;

  // Claims the first stretch to copy at or after `from_bytes`, at most `length_bytes_max` long
  // (but a cluster).
  virtual absl::optional<Range> Claim(uint64_t from_bytes, uint64_t length_bytes_max) = 0;

  // The claimer has read `range`, knows that it need not, or could not: the parts that are still
  // its own, ascending. Somebody else has taken the rest over meanwhile, and what was read of that
  // may be new data: the claimer forgets it. Once for every byte that was claimed.
  virtual std::vector<Range> Settle(Range range) = 0;

  // What the claimer does in the end with what Settle has left it: one of the next four for every
  // byte.
  // Guests may change it: the old data is in memory. Written or Lose follows.
  virtual void Release(Range range) = 0;
  // It is in the target.
  virtual void Written(Range range) = 0;
  // It does not belong to the copy after all.
  virtual void Skip(Range range) = 0;
  // It could not be read or written: to be copied again. Only for what was not released.
  virtual void Unclaim(Range range) = 0;

  // It was released, and will not reach the target.
  virtual void Lose(Range range) = 0;
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_COPY_CLAIMS_H_
