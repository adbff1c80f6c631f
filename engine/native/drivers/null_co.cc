#include <memory>
#include <utility>

#include "engine/native/drivers/file_driver.h"
#include "engine/native/drivers/latency_storage.h"
#include "engine/native/drivers/openings.h"
#include "engine/storage/limits.h"
#include "engine/storage/null_storage.h"

namespace tidemark::native {
namespace {

constexpr uint64_t kNullDefaultBytes = uint64_t{1} << 30;

}  // namespace

absl::StatusOr<graph::Node*> OpenNullCo(NodeOpening& opening,
                                        const block::v1::BlockdevOptions& options,
                                        graph::NodeSpec spec) {
  const auto& null = options.null_co();
  std::shared_ptr<storage::Storage> storage = std::make_shared<storage::NullStorage>(
      null.has_size() ? storage::WholeSectors(null.size()) : kNullDefaultBytes,
      storage::NullStorage::Options{.read_zeroes = null.read_zeroes(),
                                    .read_only = spec.options.read_only});
  if (null.latency_ns() != 0) {
    storage =
        std::make_shared<LatencyStorage>(std::move(storage), absl::Nanoseconds(null.latency_ns()));
  }
  spec.driver = std::make_shared<PlainDriver>("null-co", "null-co://", std::move(storage));
  return opening.Add(std::move(spec));
}

}  // namespace tidemark::native
