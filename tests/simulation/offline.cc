#include "tests/simulation/offline.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/check.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "tests/simulation/machine.h"

namespace tidemark::simulation {
namespace {

absl::StatusOr<std::shared_ptr<storage::Storage>> OpenDurable(const Disks& disks,
                                                              const std::string& path,
                                                              const std::string& driver) {
  if (!disks.Has(path)) return absl::NotFoundError(absl::StrCat("there is no file ", path));
  std::shared_ptr<storage::Storage> file = disks.DurableContents(path);
  if (driver != "qcow2") return file;
  ASSIGN_OR_RETURN(std::unique_ptr<qcow2::Image> image,
                   qcow2::Image::Open(std::move(file), {.read_only = true}));
  const qcow2::Header header = image->header();
  if (!header.backing_file.empty()) {
    ASSIGN_OR_RETURN(
        std::shared_ptr<storage::Storage> backing,
        OpenDurable(disks, header.backing_file, header.backing_format.value_or("raw")));
    image->SetBacking(std::move(backing));
  }
  return std::shared_ptr<storage::Storage>(std::move(image));
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> ReadDurableImage(const Disks& disks, const std::string& path,
                                                        const std::string& driver,
                                                        uint64_t size_bytes) {
  ASSIGN_OR_RETURN(const std::shared_ptr<storage::Storage> image, OpenDurable(disks, path, driver));
  std::vector<std::byte> data(size_bytes);
  const uint64_t length = std::min(size_bytes, image->size_bytes());
  RETURN_IF_ERROR(image->Read(0, storage::Bytes(data.data(), length)));
  return data;
}

std::string CheckQcow2(const Disks& disks, const std::string& path) {
  const std::shared_ptr<storage::MemoryStorage> file = disks.Contents(path);
  const absl::StatusOr<qcow2::CheckResult> result = qcow2::Check(*file);
  if (!result.ok()) return absl::StrCat(path, " cannot be checked: ", result.status().ToString());
  if (result->corruptions == 0) return "";
  std::string text = absl::StrCat(path, " is corrupt in ", result->corruptions, " places");
  for (const std::string& finding : result->findings) absl::StrAppend(&text, "\n    ", finding);
  return text;
}

void MakeImage(Disks& disks, const std::string& path, const NewImage& image) {
  storage::MemoryStorage file(image.driver == "qcow2" ? 0 : image.size_bytes);
  if (image.driver == "qcow2") {
    qcow2::CreateOptions options;
    options.size_bytes = image.size_bytes;
    options.cluster_size_bytes = image.cluster_bytes;
    options.refcount_bits = image.refcount_bits;
    options.backing_file = image.backing;
    if (!image.backing.empty()) options.backing_format = image.backing_driver;
    const absl::Status status = qcow2::Create(file, options);
    if (!status.ok()) Fail(absl::StrCat("cannot make ", path, ": ", status.ToString()));
  }
  disks.Put(path, file);
}

}  // namespace tidemark::simulation
