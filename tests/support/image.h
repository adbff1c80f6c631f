// The judge: what QEMU's own tools say about an image file that nobody has open. One thread.
#ifndef TESTS_SUPPORT_IMAGE_H_
#define TESTS_SUPPORT_IMAGE_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "tests/support/byte_model.h"

namespace tidemark::test {

// A bitmap as an image's own tables list it.
struct StoredBitmap {
  std::string name;
  uint64_t granularity_bytes = 0;
  // Sorted: "auto", "in-use".
  std::vector<std::string> flags;

  friend bool operator==(const StoredBitmap&, const StoredBitmap&) = default;
  friend std::ostream& operator<<(std::ostream& out, const StoredBitmap& bitmap);
};

class Image {
 public:
  explicit Image(std::string path, std::string format = "qcow2")
      : path_(std::move(path)), format_(std::move(format)) {}

  // Makes a file with qemu-img; `options` as for its -o, empty for none. Fails the running test if
  // that does not work.
  static Image Create(const std::string& path, uint64_t size_bytes,
                      const std::string& format = "qcow2", const std::string& options = "");

  const std::string& path() const { return path_; }
  const std::string& format() const { return format_; }

  // What `qemu-img check` objects to, leaks included; empty if it is content.
  std::string Complaints() const;
  // All bytes of the disk, read through the whole chain.
  std::string Contents() const;
  // What lies in this file itself, not in its backing chain: data, and clusters that say zero.
  Ranges Allocated() const;
  // Of these, the ranges with data.
  Ranges Data() const;
  std::vector<StoredBitmap> Bitmaps() const;
  // A member of what `qemu-img info` tells, by its JSON pointer ("/virtual-size"); "" if missing.
  std::string Info(const std::string& pointer) const;

  // Records `base` as this image's backing file, as somebody would who restores; returns *this.
  const Image& Over(const Image& base) const;
  // Empty if both disks hold the same, else what `qemu-img compare` says.
  std::string DifferenceFrom(const Image& other) const;

 private:
  Ranges Map(bool data_only) const;

  std::string path_;
  std::string format_;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_IMAGE_H_
