#include "engine/nbd/context.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tidemark::nbd {

namespace {

constexpr absl::string_view kAllocationName = "base:allocation";
constexpr absl::string_view kDepthName = "qemu:allocation-depth";
constexpr absl::string_view kBitmapPrefix = "qemu:dirty-bitmap:";

bool IsWildcard(absl::string_view query) {
  return query == "base:" || query == "qemu:" || query == kBitmapPrefix;
}

}  // namespace

std::vector<Context> AllContexts(const Export& exported) {
  std::vector<Context> contexts = {{Context::Kind::kAllocation}};
  if (exported.allocation_depth) contexts.push_back({Context::Kind::kDepth});
  for (size_t i = 0; i < exported.bitmaps.size(); ++i) {
    contexts.push_back({Context::Kind::kBitmap, i});
  }
  return contexts;
}

std::string NameOf(const Export& exported, const Context& context) {
  switch (context.kind) {
    case Context::Kind::kAllocation:
      return std::string(kAllocationName);
    case Context::Kind::kDepth:
      return std::string(kDepthName);
    case Context::Kind::kBitmap:
      break;
  }
  return absl::StrCat(kBitmapPrefix, exported.bitmaps[context.bitmap_index].name);
}

std::vector<Context> MatchingContexts(const Export& exported, absl::string_view query, bool lists) {
  std::vector<Context> matching;
  for (const Context& context : AllContexts(exported)) {
    const std::string name = NameOf(exported, context);
    if (name == query || (lists && IsWildcard(query) && absl::StartsWith(name, query))) {
      matching.push_back(context);
    }
  }
  return matching;
}

}  // namespace tidemark::nbd
