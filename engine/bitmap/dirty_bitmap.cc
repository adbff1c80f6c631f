#include "engine/bitmap/dirty_bitmap.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/bitmap/limits.h"
#include "engine/bitmap/scaling.h"
#include "engine/bitmap/words.h"

namespace tidemark::bitmap {
namespace {

static_assert(std::endian::native == std::endian::little,
              "Serialize takes the words' bytes as they lie in memory");

using Stretch = SparseBits::Stretch;

bool IsGranularity(uint64_t bytes) {
  return std::has_single_bit(bytes) && bytes >= kGranularityBytesMin &&
         bytes <= kGranularityBytesMax;
}

}  // namespace

uint64_t DirtyBitmap::GranuleCount(uint64_t size_bytes, uint64_t granularity_bytes) {
  return size_bytes / granularity_bytes + (size_bytes % granularity_bytes != 0 ? 1 : 0);
}

uint64_t DirtyBitmap::WordCount(uint64_t size_bytes, uint64_t granularity_bytes) {
  return WordsFor(GranuleCount(size_bytes, granularity_bytes));
}

DirtyBitmap::DirtyBitmap(uint64_t size_bytes, uint64_t granularity_bytes,
                         std::unique_ptr<SparseBits> bits)
    : granularity_bytes_(granularity_bytes),
      granularity_shift_(std::countr_zero(granularity_bytes)),
      bits_(std::move(bits)),
      size_bytes_(size_bytes) {
  CHECK(IsGranularity(granularity_bytes));
}

DirtyBitmap::DirtyBitmap(uint64_t size_bytes, uint64_t granularity_bytes)
    : DirtyBitmap(size_bytes, granularity_bytes,
                  std::make_unique<SparseBits>(GranuleCount(size_bytes, granularity_bytes))) {}

DirtyBitmap::DirtyBitmap(uint64_t size_bytes, uint64_t granularity_bytes,
                         absl::Span<uint64_t> words)
    : DirtyBitmap(
          size_bytes, granularity_bytes,
          std::make_unique<SparseBits>(GranuleCount(size_bytes, granularity_bytes), words)) {}

// ---- Copies ----

std::unique_ptr<DirtyBitmap> DirtyBitmap::Copy() const {
  // In this order: a disk that grows meanwhile has more bits than bytes, never fewer.
  const uint64_t size_bytes = size_bytes_;
  std::unique_ptr<SparseBits> bits = bits_->Copy();
  bits->Resize(GranuleCount(size_bytes, granularity_bytes_));
  // Not make_unique: the constructor is private.
  return std::unique_ptr<DirtyBitmap>(
      new DirtyBitmap(size_bytes, granularity_bytes_, std::move(bits)));
}

std::unique_ptr<DirtyBitmap> DirtyBitmap::Empty() const {
  const uint64_t size_bytes = size_bytes_;
  std::unique_ptr<SparseBits> bits = bits_->Empty();
  bits->Resize(GranuleCount(size_bytes, granularity_bytes_));
  return std::unique_ptr<DirtyBitmap>(
      new DirtyBitmap(size_bytes, granularity_bytes_, std::move(bits)));
}

absl::StatusOr<std::unique_ptr<DirtyBitmap>> DirtyBitmap::CopyWithGranularity(
    uint64_t granularity_bytes) const {
  if (granularity_bytes == granularity_bytes_) return Copy();
  const uint64_t size_bytes = size_bytes_;
  if (!IsGranularity(granularity_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("granularity ", granularity_bytes, " is not a power of two from ",
                     kGranularityBytesMin, " to ", kGranularityBytesMax));
  }
  if (GranuleCount(size_bytes, granularity_bytes) > kGranuleCountMax) {
    return absl::ResourceExhaustedError(absl::StrCat("granularity ", granularity_bytes,
                                                     " is too small for ", size_bytes, " bytes"));
  }
  auto copy = std::make_unique<DirtyBitmap>(size_bytes, granularity_bytes);
  const int shift = copy->granularity_shift_ - granularity_shift_;
  if (shift > 0) {
    OrCoarser(*bits_, shift, copy->bits_.get());
  } else {
    OrFiner(*bits_, -shift, copy->bits_.get());
  }
  return copy;
}

absl::Status DirtyBitmap::Merge(const DirtyBitmap& source) {
  if (size_bytes() != source.size_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("bitmaps of ", source.size_bytes(), " and ",
                                                   size_bytes(), " bytes cannot be merged"));
  }
  const int shift = granularity_shift_ - source.granularity_shift_;
  if (shift == 0) {
    bits_->Or(*source.bits_);
  } else if (shift > 0) {
    OrCoarser(*source.bits_, shift, bits_.get());
  } else {
    OrFiner(*source.bits_, -shift, bits_.get());
  }
  return absl::OkStatus();
}

std::vector<Range> DirtyBitmap::ChangedSince(const DirtyBitmap& then) const {
  const uint64_t size_bytes = size_bytes_;
  std::vector<Range> changed;
  for (const Stretch& stretch : bits_->ChangedSince(*then.bits_)) {
    const uint64_t begin = stretch.begin << granularity_shift_;
    if (begin >= size_bytes) break;
    changed.push_back(
        Range::FromTo(begin, std::min(stretch.end << granularity_shift_, size_bytes)));
  }
  return changed;
}

// ---- Granules ----

uint64_t DirtyBitmap::size_bytes() const { return size_bytes_; }

uint64_t DirtyBitmap::granule_count() const {
  return GranuleCount(size_bytes_, granularity_bytes_);
}

Stretch DirtyBitmap::Touched(Range range) const {
  const uint64_t size_bytes = size_bytes_;
  if (range.empty() || range.offset_bytes >= size_bytes) return {0, 0};
  const uint64_t last_byte =
      range.offset_bytes + std::min(range.length_bytes, size_bytes - range.offset_bytes) - 1;
  return {range.offset_bytes >> granularity_shift_, (last_byte >> granularity_shift_) + 1};
}

void DirtyBitmap::Set(Range range) { bits_->Set(Touched(range)); }

void DirtyBitmap::Clear(Range range) { bits_->Clear(Touched(range)); }

void DirtyBitmap::SetAll() { bits_->Set({0, granule_count()}); }

void DirtyBitmap::ClearAll() { bits_->Clear({0, granule_count()}); }

bool DirtyBitmap::IsDirty(uint64_t offset_bytes) const {
  if (offset_bytes >= size_bytes_) return false;
  const uint64_t granule = offset_bytes >> granularity_shift_;
  return (bits_->Word(granule / kWordBits) >> (granule % kWordBits) & 1) != 0;
}

bool DirtyBitmap::IsEmpty() const { return bits_->ones() == 0; }

uint64_t DirtyBitmap::CountBytes() const { return bits_->ones() << granularity_shift_; }

absl::optional<Range> DirtyBitmap::NextDirty(uint64_t from_bytes, uint64_t length_bytes_max) const {
  const uint64_t size_bytes = size_bytes_;
  if (from_bytes >= size_bytes || length_bytes_max == 0) return absl::nullopt;
  const uint64_t granule_count = GranuleCount(size_bytes, granularity_bytes_);
  const uint64_t begin = bits_->FindOne(from_bytes >> granularity_shift_, granule_count);
  if (begin == granule_count) return absl::nullopt;
  const uint64_t begin_bytes = std::max(from_bytes, begin << granularity_shift_);
  const uint64_t limit_bytes = begin_bytes + std::min(length_bytes_max, size_bytes - begin_bytes);
  const uint64_t limit = GranuleCount(limit_bytes, granularity_bytes_);
  const uint64_t end = bits_->FindZero(begin + 1, limit);
  return Range::FromTo(begin_bytes, std::min(limit_bytes, end << granularity_shift_));
}

uint64_t DirtyBitmap::NextClean(uint64_t from_bytes) const {
  const uint64_t size_bytes = size_bytes_;
  if (from_bytes >= size_bytes) return size_bytes;
  const uint64_t granule = bits_->FindZero(from_bytes >> granularity_shift_,
                                           GranuleCount(size_bytes, granularity_bytes_));
  return std::min(size_bytes, std::max(from_bytes, granule << granularity_shift_));
}

absl::optional<Range> DirtyBitmap::TakeNextDirty(uint64_t from_bytes, uint64_t length_bytes_max) {
  const absl::optional<Stretch> taken =
      bits_->TakeOnes(from_bytes >> granularity_shift_,
                      std::max<uint64_t>(length_bytes_max >> granularity_shift_, 1));
  if (!taken.has_value()) return absl::nullopt;
  return Range::FromTo(taken->begin << granularity_shift_,
                       std::min<uint64_t>(size_bytes_, taken->end << granularity_shift_));
}

absl::Status DirtyBitmap::Resize(uint64_t size_bytes) {
  const uint64_t granules = GranuleCount(size_bytes, granularity_bytes_);
  if (granules > bits_->bit_count_max()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a bitmap of granularity ", granularity_bytes_, " cannot follow to ",
                     size_bytes, " bytes: it has room for ", bits_->bit_count_max(), " granules"));
  }
  if (size_bytes < size_bytes_) size_bytes_ = size_bytes;
  bits_->Resize(granules);
  size_bytes_ = size_bytes;
  return absl::OkStatus();
}

// ---- Bytes ----

uint64_t DirtyBitmap::SerializedLength() const { return (granule_count() + 7) / 8; }

std::string DirtyBitmap::Serialize() const { return SerializePart(0, SerializedLength()); }

std::string DirtyBitmap::SerializePart(uint64_t offset, uint64_t length) const {
  const uint64_t total = SerializedLength();
  const uint64_t begin = std::min(offset, total);
  const uint64_t end = begin + std::min(length, total - begin);
  std::string bits(end - begin, '\0');
  for (uint64_t at = begin; at < end;) {
    const uint64_t word = bits_->Word(at / 8);
    const uint64_t part = std::min(end - at, 8 - at % 8);
    std::memcpy(&bits[at - begin], reinterpret_cast<const char*>(&word) + at % 8, part);
    at += part;
  }
  return bits;
}

absl::Status DirtyBitmap::Deserialize(absl::string_view bits) {
  if (bits.size() != SerializedLength()) {
    return absl::InvalidArgumentError(absl::StrCat("bitmap of ", bits.size(), " bytes for ",
                                                   granule_count(), " granules, which need ",
                                                   SerializedLength()));
  }
  return DeserializePart(0, bits);
}

absl::Status DirtyBitmap::DeserializePart(uint64_t offset, absl::string_view bits) {
  if (!Range{offset, bits.size()}.FitsIn(SerializedLength())) {
    return absl::InvalidArgumentError(absl::StrCat("piece of ", bits.size(), " bytes at ", offset,
                                                   " of a bitmap of ", SerializedLength(),
                                                   " bytes"));
  }
  std::vector<uint64_t> words;
  const uint64_t end = offset + bits.size();
  for (uint64_t at = offset; at < end;) {
    // As far as the chunk goes. Of the outermost words the piece may have some bytes only.
    const uint64_t stop = std::min(end, (at / kChunkBytes + 1) * kChunkBytes);
    const uint64_t first = at / 8;
    words.assign(WordsFor(stop * 8) - first, 0);
    std::memcpy(reinterpret_cast<char*>(words.data()) + at % 8, bits.data() + (at - offset),
                stop - at);
    bits_->ReplaceWords(first * kWordBits, words, {at * 8, stop * 8});
    at = stop;
  }
  return absl::OkStatus();
}

std::string DirtyBitmap::Sha256() const {
  // QEMU hashes whole 64-bit words, at least one.
  constexpr uint64_t kPieceWords = 8192;
  const uint64_t word_count = std::max<uint64_t>(WordsFor(granule_count()), 1);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  std::vector<uint64_t> piece;
  for (uint64_t i = 0; i < word_count; i += piece.size()) {
    piece.resize(std::min(kPieceWords, word_count - i));
    for (uint64_t k = 0; k < piece.size(); ++k) piece[k] = bits_->Word(i + k);
    CHECK(EVP_DigestUpdate(context.get(), piece.data(), piece.size() * sizeof(uint64_t)) == 1);
  }
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned int digest_bytes = 0;
  CHECK(EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest.data()),
                           &digest_bytes) == 1);
  return absl::BytesToHexString(absl::string_view(digest).substr(0, digest_bytes));
}

}  // namespace tidemark::bitmap
