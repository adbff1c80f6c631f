// zlib clusters are raw deflate streams (no header, no checksum) made with a 4 KiB window, because
// the oldest readers inflate with one. zstd clusters are one frame.
//
// Contexts are a hundred kilobytes to build and cheap to reset, so each thread keeps one of each.
#include "engine/format/qcow2/compression.h"

#include <zlib.h>
#include <zstd.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"

namespace tidemark::qcow2 {
namespace {

// Negative: raw deflate. Writers must keep to 4 KiB; reading with the widest window also accepts
// what a careless writer made.
constexpr int kDeflateWindowBits = -12;
constexpr int kInflateWindowBits = -15;
constexpr int kDeflateMemoryLevel = 9;

absl::Status Broken(absl::string_view algorithm, absl::string_view why) {
  return Error(Reason::kImageCorrupt,
               absl::StrCat("cannot decompress a cluster with ", algorithm, ": ", why));
}

// zlib's interface wants a mutable pointer but does not write through it.
Bytef* ZlibInput(storage::ConstBytes bytes) {
  return const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
}

class Inflater {
 public:
  Inflater() { CHECK(inflateInit2(&stream_, kInflateWindowBits) == Z_OK); }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  absl::Status Run(storage::ConstBytes compressed, storage::Bytes cluster) {
    CHECK(inflateReset(&stream_) == Z_OK);
    stream_.next_in = ZlibInput(compressed);
    stream_.avail_in = compressed.size();
    stream_.next_out = reinterpret_cast<Bytef*>(cluster.data());
    stream_.avail_out = cluster.size();
    const int result = inflate(&stream_, Z_FINISH);
    if (result != Z_STREAM_END && result != Z_BUF_ERROR) {
      return Broken("zlib", stream_.msg != nullptr ? stream_.msg : "not a deflate stream");
    }
    if (stream_.avail_out != 0) {
      return Broken("zlib", absl::StrCat("it ends ", stream_.avail_out, " bytes too early"));
    }
    return absl::OkStatus();
  }

 private:
  z_stream stream_ = {};
};

class Deflater {
 public:
  Deflater() {
    CHECK(deflateInit2(&stream_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kDeflateWindowBits,
                       kDeflateMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK);
  }
  ~Deflater() { deflateEnd(&stream_); }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;

  // How many bytes of `output` were used; absent if it is too small.
  absl::optional<size_t> Run(storage::ConstBytes cluster, storage::Bytes output) {
    CHECK(deflateReset(&stream_) == Z_OK);
    stream_.next_in = ZlibInput(cluster);
    stream_.avail_in = cluster.size();
    stream_.next_out = reinterpret_cast<Bytef*>(output.data());
    stream_.avail_out = output.size();
    if (deflate(&stream_, Z_FINISH) != Z_STREAM_END) return absl::nullopt;
    return output.size() - stream_.avail_out;
  }

 private:
  z_stream stream_ = {};
};

// The one-shot call decodes straight into the cluster, so a frame that declares a window of
// gigabytes makes it allocate nothing.
absl::Status DecompressZstd(storage::ConstBytes compressed, storage::Bytes cluster) {
  thread_local const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                                ZSTD_freeDCtx);
  CHECK(context != nullptr);
  const size_t frame_bytes = ZSTD_findFrameCompressedSize(compressed.data(), compressed.size());
  if (ZSTD_isError(frame_bytes)) return Broken("zstd", ZSTD_getErrorName(frame_bytes));
  const size_t made_bytes = ZSTD_decompressDCtx(context.get(), cluster.data(), cluster.size(),
                                                compressed.data(), frame_bytes);
  if (ZSTD_isError(made_bytes)) return Broken("zstd", ZSTD_getErrorName(made_bytes));
  if (made_bytes != cluster.size()) {
    return Broken("zstd",
                  absl::StrCat("it ends ", cluster.size() - made_bytes, " bytes too early"));
  }
  return absl::OkStatus();
}

absl::optional<size_t> CompressZstd(storage::ConstBytes cluster, storage::Bytes output) {
  thread_local const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(),
                                                                                ZSTD_freeCCtx);
  CHECK(context != nullptr);
  const size_t used_bytes =
      ZSTD_compress2(context.get(), output.data(), output.size(), cluster.data(), cluster.size());
  if (ZSTD_isError(used_bytes)) return absl::nullopt;
  return used_bytes;
}

absl::optional<size_t> CompressZlib(storage::ConstBytes cluster, storage::Bytes output) {
  thread_local Deflater deflater;
  return deflater.Run(cluster, output);
}

absl::Status DecompressZlib(storage::ConstBytes compressed, storage::Bytes cluster) {
  thread_local Inflater inflater;
  return inflater.Run(compressed, cluster);
}

}  // namespace

absl::Status Decompress(CompressionType type, storage::ConstBytes compressed,
                        storage::Bytes cluster) {
  switch (type) {
    case CompressionType::kZlib:
      return DecompressZlib(compressed, cluster);
    case CompressionType::kZstd:
      return DecompressZstd(compressed, cluster);
  }
  return Error(Reason::kFeatureUnsupported,
               absl::StrCat("compression type ", static_cast<int>(type), " is not supported"));
}

absl::optional<std::vector<std::byte>> Compress(CompressionType type, storage::ConstBytes cluster) {
  if (cluster.size() < 2) return absl::nullopt;
  std::vector<std::byte> output(cluster.size() - 1);
  absl::optional<size_t> used_bytes;
  switch (type) {
    case CompressionType::kZlib:
      used_bytes = CompressZlib(cluster, absl::MakeSpan(output));
      break;
    case CompressionType::kZstd:
      used_bytes = CompressZstd(cluster, absl::MakeSpan(output));
      break;
  }
  if (!used_bytes) return absl::nullopt;
  output.resize(*used_bytes);
  return output;
}

}  // namespace tidemark::qcow2
